/* One run: prompt, prefix reuse, prefill, tokens, end. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "scripted.h"

static const RKLLMPerfStat NONSENSE = {NAN, -7, -1.0f, INT32_MAX, -1.0f};

/* A run in the making. */
typedef struct {
    Context* context;
    const RKLLMInferParam* infer;
    Script script;
    void* userdata;
    char* text; /* the prompt as text: with the template around it, or what token ids spell */
    Ids prompt; /* only what this input adds */
    uint32_t hash;
    const char* lora;
    int matched, computed, delivered;
    int limit;
    bool aborted, failed, paused;
    int64_t started, prefilled;
} Run;

enum { ENDED = 0, FAILED = -1 };

static int emit(Run* run, RKLLMResult* result, LLMCallState state) {
    static const char* names[] = {"NORMAL", "WAITING", "FINISH", "ERROR"};
    journal("callback", "n=%d state=%s id=%d text=%s", run->delivered, names[state], result->token_id, result->text);
    int answer = run->context->callback(result, run->userdata, state);
    if (answer) journal("answer", "value=%d", answer);
    return answer;
}

static int emit_piece(Run* run, const char* text, int32_t id, LLMCallState state) {
    RKLLMResult result = {0};
    result.text = text;
    result.token_id = id;
    return emit(run, &result, state);
}

static int fail(Run* run) {
    say('E', "%s", run->script.reason);
    run->failed = true;
    return FAILED;
}

static bool read_input(Run* run, const RKLLMInput* input) {
    Context* context = run->context;
    if (input->input_type == RKLLM_INPUT_TOKEN) {
        for (size_t i = 0; i < input->token_input.n_tokens; i++) ids_add(&run->prompt, input->token_input.input_ids[i]);
        run->text = ids_text(&run->prompt);
        run->hash = hash_bytes(0, run->prompt.ids, (size_t)run->prompt.n * sizeof *run->prompt.ids);
        context->system_tokens = 0;
        return true;
    }
    if (input->input_type != RKLLM_INPUT_PROMPT) {
        say('E', "the scripted runtime plays text and token input only");
        return false;
    }
    const char* system = run->infer->keep_history && context->kv.n ? "" : context->system;
    if (asprintf(&run->text, "%s%s%s%s", system, context->prefix, input->prompt_input, context->postfix) < 0) abort();
    ids_add_text(&run->prompt, run->text);
    run->hash = hash_bytes(0, run->text, strlen(run->text));
    Ids of_system = {0};
    ids_add_text(&of_system, context->system);
    context->system_tokens = of_system.n;
    free(of_system.ids);
    return true;
}

static bool choose_lora(Run* run) {
    const RKLLMLoraParam* wanted = run->infer->lora_params;
    run->lora = "";
    if (!wanted || !wanted->lora_adapter_name) return true;
    for (int i = 0; i < run->context->n_loras; i++)
        if (!strcmp(run->context->loras[i].name, wanted->lora_adapter_name)) run->lora = run->context->loras[i].name;
    if (*run->lora) run->hash = hash_bytes(run->hash, run->lora, strlen(run->lora));
    else say('E', "Not Found Lora adapter named: %s", wanted->lora_adapter_name);
    return *run->lora;
}

static const char* save_path(const Run* run) {
    const RKLLMPromptCacheParam* cache = run->infer->prompt_cache_params;
    if (!cache || !cache->save_prompt_cache) return "";
    return cache->prompt_cache_path ? cache->prompt_cache_path : "./prompt_cache.bin";
}

static void record(const Run* run, const RKLLMInput* input) {
    const RKLLMParam* p = &run->context->param;
    int max_new = p->max_new_tokens;
#if RKLLM_ABI >= 13
    RKLLMSamplingParam s = {p->top_k, p->top_p, p->temperature, p->repeat_penalty, p->frequency_penalty,
                            p->presence_penalty, p->mirostat, p->mirostat_tau, p->mirostat_eta};
    if (run->infer->sampling_params) s = *run->infer->sampling_params;
    if (run->infer->max_new_tokens > 0) max_new = run->infer->max_new_tokens;
    const RKLLMSamplingParam* sampling = &s;
#else
    const RKLLMParam* sampling = p;
#endif
    journal("run",
            "mode=%d input=%d role=%s thinking=%d keep_history=%d max_new_tokens=%d top_k=%d top_p=%f temperature=%f "
            "repeat_penalty=%f frequency_penalty=%f presence_penalty=%f mirostat=%d mirostat_tau=%f mirostat_eta=%f "
            "lora=%s save=%s prompt_tokens=%d hash=%x prompt=%s",
            (int)run->infer->mode, (int)input->input_type, input->role, input->enable_thinking,
            run->infer->keep_history, max_new, sampling->top_k, sampling->top_p, sampling->temperature,
            sampling->repeat_penalty, sampling->frequency_penalty, sampling->presence_penalty, sampling->mirostat, sampling->mirostat_tau,
            sampling->mirostat_eta, run->lora, save_path(run), run->prompt.n, run->hash, run->text);
}

static int token_limit(const Run* run, int positions) {
    int limit = run->context->param.max_context_len - positions;
    int wanted = run->context->param.max_new_tokens;
#if RKLLM_ABI >= 13
    if (run->infer->max_new_tokens > 0) wanted = run->infer->max_new_tokens;
#endif
    return wanted > 0 && wanted < limit ? wanted : limit;
}

/* The full sequence this run evaluates is what stays of the cache, `matched`, and `computed` new tokens. */
static bool fits(Run* run) {
    int usable = run->context->param.max_context_len - CONTEXT_RESERVE;
    int history = run->infer->keep_history ? run->context->kv.n : 0;
    if (run->prompt.n > usable) {
        say('E', "the length of prompt is greater than max context (prompt: %d tokens, max context: %d)", run->prompt.n,
            usable);
        return false;
    }
    if (history + run->prompt.n > usable) {
        say('E', "the context is not enough! history_s: %d, cur_input_s: %d, discard_s: 0, max_context: %d", history,
            run->prompt.n, usable);
        return false;
    }
    run->limit = token_limit(run, history + run->prompt.n);
    return true;
}

static void match(Run* run, const RKLLMInput* input) {
    Context* context = run->context;
    const char* reuse = run->script.reuse;
    bool may = !strcmp(reuse, "all") || (!strcmp(reuse, "text") && input->input_type == RKLLM_INPUT_PROMPT);
    bool stale = context->kv.n && strcmp(context->kv_lora, run->lora);
    if (run->infer->keep_history) {
        say('I', "keep history status: 1, current kv cache size: %d", context->kv.n);
        run->computed = run->prompt.n;
        run->matched = context->kv.n;
    } else {
        run->matched = may ? ids_common_prefix(&context->kv, &run->prompt) : 0;
        int most = run->prompt.n - run->script.residue;
        if (run->matched > most) run->matched = most > 0 ? most : 0;
        run->computed = run->prompt.n - run->matched;
        say('I', "kv cache matches %d / %d tokens of prompt", run->matched, run->prompt.n);
    }
    journal("prefill", "matched=%d computed=%d other_lora=%d", run->matched, run->computed, run->matched && stale);
    free(context->kv_lora);
    context->kv_lora = strdup(run->lora);
}

static void keep_prompt(Run* run, int computed) {
    Ids* kv = &run->context->kv;
    kv->n = run->matched;
    for (int i = 0; i < computed; i++) ids_add(kv, run->prompt.ids[run->prompt.n - run->computed + i]);
}

static int prefill(Run* run) {
    Context* context = run->context;
    const Script* script = &run->script;
    strike(script, AT_PREFILL);
    if (fault(script, "fail", script->fail, AT_PREFILL)) return fail(run);
    if (fault(script, "error", script->error, AT_PREFILL)) {
        emit_piece(run, NULL, -1, RKLLM_RUN_ERROR);
        return fail(run);
    }
    int64_t length = ms_to_ns(script->prefill_ms + script->prefill_us_per_token * run->computed / 1000.0);
    bool whole = sleep_until(run->started + length, board_guess(GUESS_ABORT_IN_PREFILL) ? context : NULL);
    run->prefilled = now_ns();
    double done = whole ? 1.0 : (double)(run->prefilled - run->started) / (double)length;
    keep_prompt(run, (int)(run->computed * done));
    return ENDED;
}

static int generate(Run* run) {
    Context* context = run->context;
    const Script* script = &run->script;
    bool past_eos = script->miss_eos;
#if RKLLM_ABI >= 13
    past_eos = past_eos || context->param.ignore_eos_token;
#endif
    Plan plan = plan_make(script, run->text, run->hash, run->limit, past_eos, context->param.skip_special_token);
    int64_t step = ms_to_ns(script->decode_ms), deadline = run->prefilled;
    int further = -1; /* tokens until a seen abort takes effect */
    bool keep = run->infer->keep_history || board_guess(GUESS_KEEP_OWN_TOKENS);
    int ret = ENDED;
    for (int i = 0; i < plan.n; i++) {
        if (further < 0 && atomic_load(&context->aborts)) further = script->late_abort;
        if (further >= 0 && further-- == 0) {
            run->aborted = true;
            break;
        }
        strike(script, i + 1);
        if (fault(script, "fail", script->fail, i + 1)) {
            ret = fail(run);
            break;
        }
        if (fault(script, "error", script->error, i + 1)) {
            emit_piece(run, NULL, -1, RKLLM_RUN_ERROR);
            ret = fail(run);
            break;
        }
        sleep_until(deadline += step, NULL);
        int64_t before = now_ns();
        const Piece* piece = &plan.pieces[i];
        run->delivered++;
        run->paused = emit_piece(run, piece->text, piece->id, piece->state) == 1;
        deadline += now_ns() - before;
        if (keep && i) ids_add(&context->kv, plan.pieces[i - 1].id);
        if (run->paused) break;
    }
    if (ret == ENDED && !run->aborted && !run->paused && plan.n < run->limit) {
        /* Finding the end costs one more step. */
        sleep_until(deadline + step, NULL);
        if (keep && plan.n) ids_add(&context->kv, plan.pieces[plan.n - 1].id);
    }
    plan_free(&plan);
    return ret;
}

/* One row per computed token: each token's own vector, fading into the rows after it. */
static void hidden_states(Run* run) {
    int width = run->script.embd_size;
    float* rows = calloc((size_t)run->computed * (size_t)width + 1, sizeof *rows);
    float* state = calloc((size_t)width, sizeof *state);
    for (int i = 0; i < run->prompt.n; i++) {
        int row = i - (run->prompt.n - run->computed);
        for (int j = 0; j < width; j++) {
            int32_t seed[] = {run->prompt.ids[i], j};
            float own = (float)(hash_bytes(0, seed, sizeof seed) >> 8) / (1 << 23) - 1.0f;
            state[j] = 0.5f * state[j] + own;
            if (row >= 0) rows[row * width + j] = state[j];
        }
    }
    RKLLMResult result = {0};
    result.token_id = -1;
    result.last_hidden_layer.hidden_states = run->computed ? rows : NULL;
    result.last_hidden_layer.embd_size = width;
    result.last_hidden_layer.num_tokens = run->computed;
    emit(run, &result, RKLLM_RUN_NORMAL);
    free(state);
    free(rows);
}

static void print_table(const RKLLMPerfStat* perf) {
    const char* level = getenv("RKLLM_LOG_LEVEL");
    if (!level || atoi(level) < 1) return;
    say('I', "Stage       Total Time (ms)    Tokens    Time per Token (ms)    Tokens per Second");
    const struct {
        const char* stage;
        double ms;
        int n;
    } rows[] = {{"Prefill", perf->prefill_time_ms, perf->prefill_tokens},
                {"Generate", perf->generate_time_ms, perf->generate_tokens}};
    for (int i = 0; i < 2; i++)
        say('I', "%-10s %16.2f %9d %22.2f %20.2f", rows[i].stage, rows[i].ms, rows[i].n,
            rows[i].n ? rows[i].ms / rows[i].n : 0, rows[i].ms > 0 ? rows[i].n * 1e3 / rows[i].ms : 0);
    say('I', "Peak Memory Usage: %.2f GB", perf->memory_usage_mb / 1024);
}

static void finish(Run* run) {
    const Script* script = &run->script;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    RKLLMResult result = {0};
    result.token_id = -1;
    result.perf.prefill_time_ms = (float)((double)(run->prefilled - run->started) / 1e6);
    result.perf.prefill_tokens = run->computed;
    result.perf.generate_time_ms = (float)((double)(now_ns() - run->prefilled) / 1e6);
    result.perf.generate_tokens = run->delivered;
    result.perf.memory_usage_mb = (float)usage.ru_maxrss / 1024.0f;
    print_table(&result.perf);
    say('I', run->aborted ? "rkllm_run was aborted" : "rkllm_run ended");
    if (run->infer->keep_history)
        say('I', "newly added user cache size is %d; system cache size is %d", run->prompt.n,
            run->context->system_tokens);
    if (script->wrong_perf) result.perf = NONSENSE;
    sleep_until(now_ns() + ms_to_ns(script->finish_ms), NULL);
    if (script->finish) emit(run, &result, RKLLM_RUN_FINISH);
    for (int i = 0; i < script->after_finish; i++) emit_piece(run, " late", token_id(" late", 5), RKLLM_RUN_NORMAL);
    sleep_until(now_ns() + ms_to_ns(script->return_ms), NULL);
}

#if RKLLM_ABI >= 131
/* 1.3.1 copies the whole input, which has grown: behind the member that is meant there must be nothing but zeros. */
static bool ends_in_zeros(const RKLLMInput* input) {
    RKLLMInput copy;
    memcpy(&copy, input, sizeof copy);
    size_t used = copy.input_type == RKLLM_INPUT_PROMPT ? sizeof copy.prompt_input : sizeof copy.token_input;
    if (copy.input_type == RKLLM_INPUT_MULTIMODAL) return true;
    const unsigned char* bytes = (const unsigned char*)&copy;
    for (size_t at = offsetof(RKLLMInput, prompt_input) + used; at < sizeof copy; at++)
        if (bytes[at]) return false;
    return true;
}
#endif

static int play(Run* run, const RKLLMInput* input) {
    Context* context = run->context;
#if RKLLM_ABI >= 131
    if (!ends_in_zeros(input)) return misuse("the input is no 208 bytes that end in zeros");
#endif
    if (!read_input(run, input)) return FAILED;
    bool found = choose_lora(run);
    record(run, input);
    if (!found || !script_read_directive(&run->script, run->text) || !fits(run)) return FAILED;
    atomic_store(&context->lose_aborts, run->script.lose_aborts);
    run->started = now_ns();
    match(run, input);
    if (prefill(run) == FAILED) return FAILED;
    if (run->infer->mode == RKLLM_INFER_GET_LAST_HIDDEN_LAYER) hidden_states(run);
    else if (run->infer->mode != RKLLM_INFER_GENERATE) return misuse("logits are not scripted");
    else if (generate(run) == FAILED) return FAILED;
    if (run->paused) return ENDED;
    finish(run);
    if (*save_path(run) && (!run->aborted || board_guess(GUESS_CACHE_ON_ABORT)))
        cache_save(context, &run->script, save_path(run));
    return run->aborted ? run->script.abort_returns : ENDED;
}

int run_scripted(Context* context, const RKLLMInput* input, const RKLLMInferParam* infer, void* userdata) {
    Run run = {.context = context, .infer = infer, .userdata = userdata};
    script_copy(&run.script, &context->script);
    if (!run.script.remember_abort) atomic_store(&context->aborts, 0);
    int ret = play(&run, input);
    context->last_run_aborted = run.aborted;
    if (run.aborted) atomic_store(&context->aborts, 0);
    journal("run_end", "ret=%d tokens=%d aborted=%d kv=%d", ret, run.delivered, run.aborted, context->kv.n);
    script_free(&run.script);
    free(run.text);
    free(run.prompt.ids);
    return ret;
}
