/* What a run tells its caller through the callback. */
#ifndef CPU_RUNTIME_REPORT_H
#define CPU_RUNTIME_REPORT_H

#include <sys/resource.h>

#include <chrono>
#include <string>
#include <vector>

#include "cpu_runtime_utf8.h"
#include "rkllm.h"

namespace cpu_runtime {

class Report {
public:
    Report(LLMResultCallback callback, void* userdata) : callback_(callback), userdata_(userdata) {}

    /* One callback per token: its text, or WAITING while it leaves a character unfinished. */
    void token(int32_t id, const std::string& piece) {
        ++generated_;
        pending_ += piece;
        const size_t whole = whole_characters(pending_);
        const std::string text = pending_.substr(0, whole);
        pending_.erase(0, whole);
        RKLLMResult result{};
        result.token_id = id;
        result.text = text.empty() && !pending_.empty() ? nullptr : text.c_str();
        callback_(&result, userdata_, result.text ? RKLLM_RUN_NORMAL : RKLLM_RUN_WAITING);
    }

    void hidden_states(const std::vector<float>& rows, int width) {
        RKLLMResult result{};
        result.last_hidden_layer = {rows.data(), width, static_cast<int>(rows.size()) / width};
        callback_(&result, userdata_, RKLLM_RUN_NORMAL);
    }

    void prefilled(size_t computed) {
        computed_ = computed;
        prefilled_ = Clock::now();
    }

    void finish() {
        struct rusage usage {};
        getrusage(RUSAGE_SELF, &usage);
        RKLLMResult result{};
        result.perf.prefill_time_ms = milliseconds(started_, prefilled_);
        result.perf.prefill_tokens = static_cast<int>(computed_);
        result.perf.generate_time_ms = milliseconds(prefilled_, Clock::now());
        result.perf.generate_tokens = generated_;
        result.perf.memory_usage_mb = static_cast<float>(usage.ru_maxrss) / 1024;
        callback_(&result, userdata_, RKLLM_RUN_FINISH);
    }

    int fail() {
        RKLLMResult result{};
        callback_(&result, userdata_, RKLLM_RUN_ERROR);
        return -1;
    }

    int generated() const { return generated_; }

private:
    using Clock = std::chrono::steady_clock;

    static float milliseconds(Clock::time_point from, Clock::time_point to) {
        return std::chrono::duration<float, std::milli>(to - from).count();
    }

    const LLMResultCallback callback_;
    void* const userdata_;
    const Clock::time_point started_ = Clock::now();
    Clock::time_point prefilled_ = started_;
    size_t computed_ = 0;
    int generated_ = 0;
    std::string pending_;
};

}  // namespace cpu_runtime

#endif
