/* The C interface: what a caller of Rockchip's library finds here, answered by llama.cpp. */
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <exception>
#include <mutex>

#include "board_guesses.h"
#include "cpu_runtime_handle.h"
#include "cpu_runtime_log.h"
#include "rkllm.h"

using cpu_runtime::Handle;
using cpu_runtime::say;

/* Callers look for this text in the file before they load it. */
extern "C" RKLLM_API __attribute__((used)) const char rkllm_cpu_runtime_marker[] = RKLLM_MARKER("cpu");

namespace {

std::mutex handles_mutex;
int living_handles = 0;
bool an_init_failed = false;

/* No exception may leave through C: whatever `work` throws becomes -1 and a line in the log. */
template <typename Work>
int guarded(Work work) {
    try {
        return work();
    } catch (const std::exception& error) {
        say('E', "%s", error.what());
        return -1;
    }
}

int unsupported(const char* function) {
    say('E', "the CPU runtime does not support %s", function);
    return -1;
}

int init(LLMHandle* out, const RKLLMParam* parameters, LLMResultCallback callback, void* userdata) {
    if (!out || !parameters || !callback) return -1;
    const std::lock_guard<std::mutex> lock(handles_mutex);
    if ((living_handles || an_init_failed) && board_guess(GUESS_SECOND_INIT_CRASHES)) std::raise(SIGSEGV);
    *out = nullptr;
    const int result = guarded([&] {
        *out = Handle::open(*parameters, callback, userdata).release();
        return *out ? 0 : -1;
    });
    if (result == 0) ++living_handles;
    else an_init_failed = true;
    return result;
}

}  // namespace

extern "C" {

RKLLMParam rkllm_createDefaultParam(void) {
    RKLLMParam p{};
    p.max_context_len = 512;
    p.max_new_tokens = -1;
    p.top_k = 40;
    p.n_keep = -1;
    p.top_p = 0.9f;
    p.temperature = 0.8f;
    p.repeat_penalty = 1.1f;
    p.mirostat_tau = 5.0f;
    p.mirostat_eta = 0.1f;
    p.skip_special_token = true;
#if RKLLM_ABI < 13
    p.img_start = p.img_end = p.img_content = "";
#endif
    p.extend_param.embed_flash = 1;
    p.extend_param.enabled_cpus_num = 4;
    p.extend_param.enabled_cpus_mask = sysconf(_SC_NPROCESSORS_ONLN) >= 8 ? 0xF0 : 0x0F;
    p.extend_param.n_batch = 1;
    return p;
}

#if RKLLM_ABI >= 13
int rkllm_init(LLMHandle* handle, RKLLMParam* param, RKLLMCallback* callback) {
    return callback ? init(handle, param, callback->result_callback, callback->result_userdata) : -1;
}
#else
int rkllm_init(LLMHandle* handle, RKLLMParam* param, LLMResultCallback callback) {
    return init(handle, param, callback, nullptr);
}
#endif

int rkllm_destroy(LLMHandle handle) {
    if (!handle) return -1;
    const std::lock_guard<std::mutex> lock(handles_mutex);
    --living_handles;
    delete static_cast<Handle*>(handle);
    return 0;
}

int rkllm_run(LLMHandle handle, RKLLMInput* input, RKLLMInferParam* infer, void* userdata) {
    if (!handle || !input || !infer) return -1;
    return guarded([&] { return static_cast<Handle*>(handle)->run(*input, *infer, userdata); });
}

int rkllm_abort(LLMHandle handle) {
    if (!handle) return -1;
    static_cast<Handle*>(handle)->abort();
    return 0;
}

int rkllm_is_running(LLMHandle handle) { return handle ? static_cast<Handle*>(handle)->running() : -1; }

int rkllm_load_lora(LLMHandle handle, RKLLMLoraAdapter* adapter) {
    if (!handle || !adapter) return -1;
    return guarded([&] { return static_cast<Handle*>(handle)->load_adapter(*adapter); });
}

int rkllm_load_prompt_cache(LLMHandle handle, const char* path) {
    if (!handle || !path) return -1;
    return guarded([&] { return static_cast<Handle*>(handle)->load_prompt_cache(path); });
}

/* A loaded cache is part of the KV cache, where the next prompt takes its place: there is nothing to give back. */
int rkllm_release_prompt_cache(LLMHandle handle) { return handle ? 0 : -1; }

/* Ranges count only while a run is paused, which never happens here, and no template's system prompt is ever kept. */
int rkllm_clear_kv_cache(LLMHandle handle, int, int* start_pos, int* end_pos) {
    if (!handle) return -1;
    return start_pos && end_pos ? 0 : static_cast<Handle*>(handle)->clear();
}

int rkllm_get_kv_cache_size(LLMHandle handle, int* sizes) {
    if (!handle || !sizes) return -1;
    *sizes = static_cast<Handle*>(handle)->cached();
    return 0;
}

/* Prompts are always taken as they come; switching the template off is all that can be asked for. */
int rkllm_set_chat_template(LLMHandle handle, const char* system, const char* prefix, const char* postfix) {
    if (!handle) return -1;
    const char* parts[] = {system, prefix, postfix};
    if (std::any_of(std::begin(parts), std::end(parts), [](const char* part) { return part && *part; }))
        return unsupported("a chat template");
    if (static_cast<Handle*>(handle)->clear() != 0) return -1;
    say('I', "All kv caches have been deleted!");
    return 0;
}

int rkllm_run_async(LLMHandle, RKLLMInput*, RKLLMInferParam*, void*) { return unsupported("rkllm_run_async"); }

int rkllm_set_function_tools(LLMHandle, const char*, const char*, const char*) {
    return unsupported("rkllm_set_function_tools");
}

int rkllm_set_cross_attn_params(LLMHandle, RKLLMCrossAttnParam*) { return unsupported("rkllm_set_cross_attn_params"); }

}  // extern "C"
