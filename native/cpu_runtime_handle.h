/* What stands behind an LLMHandle: a model, its cache, its adapters, and the one run it can have at a time. */
#ifndef CPU_RUNTIME_HANDLE_H
#define CPU_RUNTIME_HANDLE_H

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "cpu_runtime_kv.h"
#include "cpu_runtime_model.h"
#include "cpu_runtime_report.h"
#include "cpu_runtime_sampler.h"
#include "rkllm.h"

namespace cpu_runtime {

class Handle {
public:
    /* nullptr, with the reason said in the log, if the parameters or the file won't do. */
    static std::unique_ptr<Handle> open(const RKLLMParam& parameters, LLMResultCallback callback, void* userdata);

    /* Each answers 0 or -1, with the reason said in the log. */
    int run(const RKLLMInput& input, const RKLLMInferParam& infer, void* userdata);
    int load_adapter(const RKLLMLoraAdapter& adapter);
    int load_prompt_cache(const char* path);
    int clear();

    void abort() { abort_ = true; }
    bool running() const { return running_; }
    int cached() const { return static_cast<int>(kv_->size()); }

private:
    struct Adapter {
        llama_adapter_lora* handle;
        float scale;
        uint64_t identity;
    };

    Handle(std::unique_ptr<Model> model, std::unique_ptr<Kv> kv, const RKLLMParam& parameters,
           LLMResultCallback callback, void* userdata);

    bool read_prompt(const RKLLMInput& input, std::vector<Token>& prompt) const;
    bool choose_adapter(const RKLLMLoraParam* wanted);
    int generate(const std::vector<Token>& prompt, const RKLLMInferParam& infer, Report& report);
    int hidden_states(const std::vector<Token>& prompt, Report& report);
    bool finish_cache(const RKLLMInferParam& infer, size_t prompt);

    const std::unique_ptr<Model> model_;
    const std::unique_ptr<Kv> kv_;
    const Sampling sampling_;
    const int max_new_tokens_;
    const bool skip_special_;
    const bool ignore_end_;
    const LLMResultCallback callback_;
    void* const userdata_;

    Sampler sampler_;
    std::map<std::string, Adapter> adapters_;
    std::atomic<bool> abort_{false};
    std::atomic<bool> running_{false};
    bool was_aborted_ = false;
};

}  // namespace cpu_runtime

#endif
