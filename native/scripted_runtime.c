/* The scripted runtime: a librkllmrt.so for tests that says what it is told, when it is told, and breaks where told.
 *
 * One source for both families (-DRKLLM_ABI). It keeps a KV cache of token ids, reuses prefixes, refuses what the real
 * library refuses with the same printed sentences, and writes down every call.
 *
 * A script is a set of keys. Each has a default; the environment (RKLLM_SCRIPT_<KEY>), the model's file (one key=value a
 * line) and the last directive in the prompt, <<script key=value key=value>>, override it in this order. Values are
 * percent-encoded. Any existing file is a model; a binary one, or a line that is not key=value, says nothing.
 *
 * | key | means (default) |
 * |---|---|
 * | load_ms, prefill_ms, prefill_us_per_token, decode_ms | how long init, a prefill, each computed token of it, each generated token takes (0) |
 * | finish_ms, return_ms | wait before FINISH, and after it before rkllm_run returns (0) |
 * | text | the answer (a sentence that depends on the prompt and the adapter) |
 * | tokens | N: answer "w0 w1 …" of N tokens |
 * | echo | 1: answer with the prompt's last [[text in double brackets]] |
 * | repeat | the answer so many times, joined by a space (1) |
 * | context_limit, npu_cores, platform, dtype, toolkit_version, driver_version, arch | what the log says of the model (4096, 3, RK3588 …); arch also binds prompt caches |
 * | eos | id of the end-of-text token (2) |
 * | embd_size | width of hidden states (64) |
 * | cache_bytes_per_token | size of prompt-cache files (256) |
 * | reuse | which input may reuse a prefix: all, text, none (all) |
 * | residue | at least so many prompt tokens are computed again (0) |
 * | segv, abrt, hang | SIGSEGV, abort(), endless wait at: init, prefill, load, save, destroy or N, before the Nth token |
 * | fail | -1 without FINISH at: prefill, load, save, N; `reason` is printed |
 * | error | ERROR state, then -1, at: prefill, N |
 * | fail_init | init prints this text and answers -1 |
 * | fail_init_from | the Nth init of the process and all later ones fail for want of NPU memory |
 * | once | a path: segv, abrt, hang, fail, error and fail_init happen only if it does not exist, and create it |
 * | null_at, empty_at, waiting_at, invalid_at | before the Nth token one more: NULL text, "", WAITING, bytes that are no UTF-8 |
 * | split | long characters are cut after their first byte: bytes (two NORMAL), single (all text byte by byte), waiting (WAITING without text, then whole), partial (WAITING with the byte, then whole) |
 * | finish | 0: no FINISH (1) |
 * | after_finish | so many tokens after FINISH (0) |
 * | wrong_perf | 1: nonsense figures (0) |
 * | miss_eos | 1: the end-of-text id comes as an ordinary token and the answer runs on to the limit (0) |
 * | lose_aborts | the run's first N aborts are lost (0) |
 * | late_abort | an abort takes effect N tokens late (0) |
 * | remember_abort | 1: an abort while nothing runs ends the next run (0) |
 * | abort_returns | what rkllm_run answers after an abort (0) |
 *
 * Not a key: RKLLM_SCRIPT_LOG names the journal (see scripted_journal.c), RKLLM_GUESS_* are in board_guesses.h.
 *
 * Tokens: text is cut as scripted_tokens.c says, ids are hashes from 1000 on. In token input the ids 256 to 511 spell
 * bytes, so that a byte-level tokenizer can carry a directive; other ids are only compared.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scripted.h"

__attribute__((used)) static const char MARKER[] = RKLLM_MARKER("scripted");

static atomic_int inits, failed_inits, living;

/* ChatML, as a model's stored template would be: one turn, and in the way of whoever renders the prompt himself. */
static const char SYSTEM[] = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n";
static const char PREFIX[] = "<|im_start|>user\n";
static const char POSTFIX[] = "<|im_end|>\n<|im_start|>assistant\n";

RKLLMParam rkllm_createDefaultParam(void) {
    bool eight = sysconf(_SC_NPROCESSORS_ONLN) >= 8;
    RKLLMParam p;
    memset(&p, 0, sizeof p);
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
    p.extend_param.enabled_cpus_mask = eight ? CPU4 | CPU5 | CPU6 | CPU7 : CPU0 | CPU1 | CPU2 | CPU3;
    p.extend_param.n_batch = 1;
    return p;
}

/* The library's own checks, in its words; true if the parameters pass. */
static bool parameters_pass(const RKLLMParam* p, const Script* script) {
    const RKLLMExtendParam* e = &p->extend_param;
    const char* wrong = NULL;
    if (p->max_context_len > script->context_limit) {
        say('E', "max_context[%d] must be less than the model's max_context_limit[%d]", p->max_context_len,
            script->context_limit);
        return false;
    }
    if (p->n_keep >= p->max_context_len) wrong = "The n_keep must be less than the max_context_len";
    if (e->base_domain_id < 0) wrong = "base_domain_id must >= 0";
    if (e->enabled_cpus_num < 1 || e->enabled_cpus_num > 8)
        wrong = "Expected The number of enabled CPUs between 1 and 8";
    else if (__builtin_popcount(e->enabled_cpus_mask) != e->enabled_cpus_num)
        wrong = "Mismatch between enabled CPUs mask and expected count";
    else if (e->enabled_cpus_num < script->npu_cores)
        wrong = "The number of enabled CPUs must be greater than or equal to the number of NPU cores.";
    if (wrong) say('E', "%s", wrong);
    return !wrong;
}

static bool model_opens(const RKLLMParam* p, const Script* script) {
    if (access(p->model_path, R_OK)) {
        say('E', "failed to open '%s': '%s'", p->model_path, strerror(errno));
        return false;
    }
    strike(script, AT_INIT);
    sleep_until(now_ns() + ms_to_ns(script->load_ms), NULL);
    if (script->fail_init && fault(script, "fail", AT_INIT, AT_INIT)) {
        say('E', "%s", script->fail_init);
        return false;
    }
    if (script->fail_init_from && atomic_load(&inits) >= script->fail_init_from) {
        fputs("failed to malloc npu memory, size: 1073741824, flags: 0x2\n", stderr);
        return false;
    }
    return true;
}

static void print_facts(const RKLLMParam* p, const Script* script) {
    say('I', "rkllm-toolkit version: %s, max_context_limit: %d, npu_core_num: %d, target_platform: %s, model_dtype: %s",
        script->toolkit_version, script->context_limit, script->npu_cores, script->platform, script->dtype);
    char list[64];
    size_t n = 0;
    for (int cpu = 0; cpu < 8; cpu++)
        if (p->extend_param.enabled_cpus_mask >> cpu & 1)
            n += (size_t)snprintf(list + n, sizeof list - n, n ? ", %d" : "%d", cpu);
    say('I', "Enabled cpus: [%s]", list);
    say('I', "Enabled cpus num: %d", p->extend_param.enabled_cpus_num);
}

static int open_context(LLMHandle* handle, const RKLLMParam* p, LLMResultCallback callback, void* userdata) {
    journal_open();
    journal("init",
            "path=%s context=%d max_new_tokens=%d top_k=%d top_p=%f temperature=%f repeat_penalty=%f "
            "frequency_penalty=%f presence_penalty=%f mirostat=%d mirostat_tau=%f mirostat_eta=%f "
            "cpus=%x domain=%d embed_flash=%d",
            p->model_path, p->max_context_len, p->max_new_tokens, p->top_k, p->top_p, p->temperature, p->repeat_penalty,
            p->frequency_penalty, p->presence_penalty, p->mirostat, p->mirostat_tau, p->mirostat_eta,
            p->extend_param.enabled_cpus_mask, p->extend_param.base_domain_id, p->extend_param.embed_flash);
    bool fragile = board_guess(GUESS_SECOND_INIT_CRASHES);
    atomic_fetch_add(&inits, 1);
    if (fragile && atomic_load(&failed_inits)) crash();
#if RKLLM_ABI < 13
    if (!p->img_start || !p->img_end || !p->img_content) crash();
#endif
    Script script;
    script_defaults(&script);
    bool understood = script_read_model(&script, p->model_path);
    say('I', "rkllm-runtime version: %s, rknpu driver version: %s, platform: %s", RKLLM_VERSION, script.driver_version,
        script.platform);
    say('I', "loading rkllm model from %s", p->model_path);
    if (!understood || !model_opens(p, &script) || !parameters_pass(p, &script)) {
        script_free(&script);
        atomic_fetch_add(&failed_inits, 1);
        journal("init_end", "ret=%d", -1);
        if (fragile && atomic_load(&living)) crash();
        return -1;
    }
    print_facts(p, &script);
    Context* context = calloc(1, sizeof *context);
    context->script = script;
    context->param = *p;
    context->callback = callback;
    context->userdata = userdata;
    context->system = strdup(SYSTEM);
    context->prefix = strdup(PREFIX);
    context->postfix = strdup(POSTFIX);
    context->kv_lora = strdup("");
    atomic_fetch_add(&living, 1);
    *handle = context;
    journal("init_end", "ret=%d", 0);
    return 0;
}

#if RKLLM_ABI >= 13
int rkllm_init(LLMHandle* handle, RKLLMParam* param, RKLLMCallback* callback) {
    if (!handle || !param || !callback || !param->model_path) return misuse("init with a NULL");
    return open_context(handle, param, callback->result_callback, callback->result_userdata);
}
#else
int rkllm_init(LLMHandle* handle, RKLLMParam* param, LLMResultCallback callback) {
    if (!handle || !param || !callback || !param->model_path) return misuse("init with a NULL");
    return open_context(handle, param, callback, NULL);
}
#endif

int rkllm_destroy(LLMHandle handle) {
    Context* context = handle;
    if (!context) return -1;
    journal("destroy", "kv=%d", context->kv.n);
    if (atomic_load(&context->running)) {
        misuse("destroy during a run");
        crash();
    }
    strike(&context->script, AT_DESTROY);
    atomic_fetch_sub(&living, 1);
    for (int i = 0; i < context->n_loras; i++) {
        free(context->loras[i].path);
        free(context->loras[i].name);
    }
    free(context->loras);
    free(context->system);
    free(context->prefix);
    free(context->postfix);
    free(context->kv_lora);
    free(context->kv.ids);
    script_free(&context->script);
    free(context);
    return 0;
}

int rkllm_run(LLMHandle handle, RKLLMInput* input, RKLLMInferParam* infer, void* userdata) {
    Context* context = handle;
    if (!context || !input || !infer) return -1;
    if (context->param.extend_param.n_batch != 1) crash();
    if (atomic_exchange(&context->running, 1)) return misuse("run during a run");
    int ret = run_scripted(context, input, infer, userdata ? userdata : context->userdata);
    atomic_store(&context->running, 0);
    return ret;
}

int rkllm_run_async(LLMHandle handle, RKLLMInput* input, RKLLMInferParam* infer, void* userdata) {
    (void)input, (void)infer, (void)userdata;
    return handle ? misuse("run_async is not scripted") : -1;
}

int rkllm_abort(LLMHandle handle) {
    Context* context = handle;
    if (!context) return -1;
    bool lost = atomic_load(&context->lose_aborts) > 0;
    if (lost) atomic_fetch_sub(&context->lose_aborts, 1);
    else atomic_fetch_add(&context->aborts, 1);
    journal("abort", "running=%d lost=%d", atomic_load(&context->running), lost);
    return 0;
}

int rkllm_is_running(LLMHandle handle) {
    Context* context = handle;
    return context ? atomic_load(&context->running) : -1;
}

int rkllm_load_lora(LLMHandle handle, RKLLMLoraAdapter* adapter) {
    Context* context = handle;
    if (!context || !adapter) return -1;
    int ret = 0;
    if (access(adapter->lora_adapter_path, R_OK)) {
        say('E', "Lora adapter path does not exist!");
        ret = -1;
    }
    for (int i = 0; !ret && i < context->n_loras; i++) {
        if (strcmp(context->loras[i].name, adapter->lora_adapter_name)) continue;
        say('E', "Lora adapter '%s' is already initialized!", adapter->lora_adapter_name);
        ret = -1;
    }
    journal("load_lora", "path=%s name=%s scale=%f ret=%d", adapter->lora_adapter_path, adapter->lora_adapter_name,
            adapter->scale, ret);
    if (ret) return ret;
    context->loras = realloc(context->loras, (size_t)(context->n_loras + 1) * sizeof *context->loras);
    context->loras[context->n_loras++] = (Lora){strdup(adapter->lora_adapter_path), strdup(adapter->lora_adapter_name)};
    return 0;
}

int rkllm_load_prompt_cache(LLMHandle handle, const char* path) {
    Context* context = handle;
    if (!context || !path) return -1;
    if (atomic_load(&context->running)) return misuse("load_prompt_cache during a run");
    journal("load_prompt_cache", "path=%s", path);
    int ret = cache_load(context, path);
    journal("load_prompt_cache_end", "ret=%d tokens=%d", ret, ret ? 0 : context->kv.n);
    return ret;
}

/* What the file brought goes with it: the pessimistic reading. */
int rkllm_release_prompt_cache(LLMHandle handle) {
    Context* context = handle;
    if (!context) return -1;
    if (atomic_load(&context->running)) return misuse("release_prompt_cache during a run");
    journal("release_prompt_cache", "loaded=%d", context->cache_loaded);
    if (context->cache_loaded) context->kv.n = 0;
    context->cache_loaded = false;
    return 0;
}

/* Ranges count only while a run is paused, which is not scripted; so they are ignored, as the library ignores them. */
int rkllm_clear_kv_cache(LLMHandle handle, int keep_system_prompt, int* start_pos, int* end_pos) {
    Context* context = handle;
    if (!context) return -1;
    if (atomic_load(&context->running)) return misuse("clear_kv_cache during a run");
    bool ranges = start_pos && end_pos;
    int kept = keep_system_prompt ? context->system_tokens : 0;
    if (!ranges && kept < context->kv.n) context->kv.n = kept;
    context->last_run_aborted = false;
    journal("clear_kv_cache", "keep=%d ranges=%d kv=%d", keep_system_prompt, ranges, context->kv.n);
    return 0;
}

int rkllm_get_kv_cache_size(LLMHandle handle, int* sizes) {
    Context* context = handle;
    if (!context || !sizes) return -1;
    sizes[0] = context->kv.n;
    return 0;
}

int rkllm_set_chat_template(LLMHandle handle, const char* system, const char* prefix, const char* postfix) {
    Context* context = handle;
    if (!context || !system || !prefix || !postfix) return -1;
    if (atomic_load(&context->running)) return misuse("set_chat_template during a run");
    journal("set_chat_template", "system=%s prefix=%s postfix=%s", system, prefix, postfix);
    char** fields[] = {&context->system, &context->prefix, &context->postfix};
    const char* values[] = {system, prefix, postfix};
    for (int i = 0; i < 3; i++) {
        free(*fields[i]);
        *fields[i] = strdup(values[i]);
    }
    context->template_is_ours = true;
    context->kv.n = 0;
    say('I', "All kv caches have been deleted!");
    return 0;
}

int rkllm_set_function_tools(LLMHandle handle, const char* system, const char* tools, const char* tool_response) {
    Context* context = handle;
    if (!context || !system || !tools || !tool_response) return -1;
    journal("set_function_tools", "tools=%s", tools);
    if (!context->template_is_ours) return 0;
    say('E', "Failed to set function tools, possibly because the chat_template is empty.");
    return -1;
}

int rkllm_set_cross_attn_params(LLMHandle handle, RKLLMCrossAttnParam* param) {
    (void)param;
    return handle ? misuse("cross attention is not scripted") : -1;
}
