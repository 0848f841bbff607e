#include "cpu_runtime_handle.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include "board_guesses.h"
#include "cpu_runtime_cache_file.h"
#include "cpu_runtime_hash.h"
#include "cpu_runtime_log.h"

namespace cpu_runtime {
namespace {

/* The runtime keeps this many positions free behind a prompt. */
constexpr size_t PROMPT_RESERVE = 4;
constexpr long MOST_THREADS = 4;

/* Who runs models on a CPU wants them to answer, so where the board is unknown the kinder guess is the default here. */
bool keeps_own_tokens() { return board_guess("RKLLM_GUESS_KEEP_OWN_TOKENS", true); }
bool load_after_abort_crashes() { return board_guess("RKLLM_GUESS_LOAD_AFTER_ABORT_CRASHES", false); }

int threads() {
    const char* chosen = std::getenv("RKLLM_CPU_THREADS");
    const long count = chosen ? std::strtol(chosen, nullptr, 10) : 0;
    return static_cast<int>(count > 0 ? count : std::clamp(sysconf(_SC_NPROCESSORS_ONLN), 1L, MOST_THREADS));
}

Sampling initial_sampling(const RKLLMParam& p) {
    return {p.top_k,           p.top_p,    p.temperature,  p.repeat_penalty, p.frequency_penalty,
            p.presence_penalty, p.mirostat, p.mirostat_tau, p.mirostat_eta};
}

/* 1.3 takes sampling and a token limit with each run; before, those of init hold. */
Sampling sampling_of(const RKLLMInferParam& infer, const Sampling& initial) {
#if RKLLM_ABI >= 13
    if (const RKLLMSamplingParam* p = infer.sampling_params)
        return {p->top_k,           p->top_p,    p->temperature,  p->repeat_penalty, p->frequency_penalty,
                p->presence_penalty, p->mirostat, p->mirostat_tau, p->mirostat_eta};
#else
    static_cast<void>(infer);
#endif
    return initial;
}

int token_limit(const RKLLMInferParam& infer, int initial) {
#if RKLLM_ABI >= 13
    if (infer.max_new_tokens > 0) return infer.max_new_tokens;
#else
    static_cast<void>(infer);
#endif
    return initial;
}

bool refused(const char* reason) {
    say('E', "%s", reason);
    return false;
}

bool acceptable(const RKLLMParam& p) {
    if (!p.model_path) return refused("the model_path is not set");
    if (p.max_context_len <= static_cast<int>(PROMPT_RESERVE)) return refused("the max_context_len is too small");
    if (p.n_keep >= p.max_context_len) return refused("The n_keep must be less than the max_context_len");
    if (p.extend_param.base_domain_id < 0) return refused("base_domain_id must >= 0");
    if (p.extend_param.n_batch != 1) return refused("the CPU runtime answers one input at a time: n_batch must be 1");
    return true;
}

/* Says that a run is under way until it ends, however that may be. */
class Running {
public:
    explicit Running(std::atomic<bool>& flag) : flag_(flag) { flag_ = true; }
    ~Running() { flag_ = false; }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

private:
    std::atomic<bool>& flag_;
};

}  // namespace

std::unique_ptr<Handle> Handle::open(const RKLLMParam& parameters, LLMResultCallback callback, void* userdata) {
    say('I', "rkllm-runtime version: %s, rknpu driver version: none, platform: CPU", RKLLM_VERSION);
    if (!acceptable(parameters)) return nullptr;
    const Engine* engine = open_engine();
    if (!engine) return nullptr;
    say('I', "loading rkllm model from %s", parameters.model_path);
    std::unique_ptr<Model> model = Model::load(*engine, parameters.model_path);
    if (!model) return nullptr;
    say('I', "rkllm-toolkit version: unknown, max_context_limit: %d, npu_core_num: 0, target_platform: CPU, model_dtype: %s",
        model->context_limit(), model->quantisation().c_str());
    if (parameters.max_context_len > model->context_limit()) {
        say('E', "max_context[%d] must be less than the model's max_context_limit[%d]", parameters.max_context_len,
            model->context_limit());
        return nullptr;
    }
    const int workers = threads();
    std::unique_ptr<Kv> kv = Kv::make(*model, static_cast<size_t>(parameters.max_context_len), workers);
    if (!kv) return nullptr;
    say('I', "Enabled cpus num: %d", workers);
    return std::unique_ptr<Handle>(new Handle(std::move(model), std::move(kv), parameters, callback, userdata));
}

Handle::Handle(std::unique_ptr<Model> model, std::unique_ptr<Kv> kv, const RKLLMParam& parameters,
               LLMResultCallback callback, void* userdata)
    : model_(std::move(model)),
      kv_(std::move(kv)),
      sampling_(initial_sampling(parameters)),
      max_new_tokens_(parameters.max_new_tokens),
      skip_special_(parameters.skip_special_token),
#if RKLLM_ABI >= 13
      ignore_end_(parameters.ignore_eos_token),
#else
      ignore_end_(false),
#endif
      callback_(callback),
      userdata_(userdata) {
}

int Handle::run(const RKLLMInput& input, const RKLLMInferParam& infer, void* userdata) {
    if (running_) {
        say('E', "rkllm_run is already running on this handle");
        return -1;
    }
    abort_ = false; /* before it runs: an abort that sees it running counts */
    const Running running(running_);
    was_aborted_ = false;
    if (infer.keep_history) {
        say('E', "the CPU runtime does not support keep_history");
        return -1;
    }
    std::vector<Token> prompt;
    if (!read_prompt(input, prompt)) return -1;
    const size_t longest = kv_->capacity() - PROMPT_RESERVE;
    if (prompt.size() > longest) {
        say('E', "the length of prompt is greater than max context (prompt: %zu tokens, max context: %zu)",
            prompt.size(), longest);
        return -1;
    }
    if (!choose_adapter(infer.lora_params)) return -1;
    Report report(callback_, userdata ? userdata : userdata_);
    switch (infer.mode) {
        case RKLLM_INFER_GENERATE: return generate(prompt, infer, report);
        case RKLLM_INFER_GET_LAST_HIDDEN_LAYER: return hidden_states(prompt, report);
        default: say('E', "the CPU runtime does not support this inference mode"); return -1;
    }
}

bool Handle::read_prompt(const RKLLMInput& input, std::vector<Token>& prompt) const {
    if (input.input_type == RKLLM_INPUT_PROMPT && input.prompt_input) {
        prompt = model_->tokenize(input.prompt_input);
    } else if (input.input_type == RKLLM_INPUT_TOKEN && input.token_input.input_ids) {
        prompt.assign(input.token_input.input_ids, input.token_input.input_ids + input.token_input.n_tokens);
    } else {
        return refused("the CPU runtime takes text and token input only");
    }
    if (prompt.empty()) return refused("the prompt is empty");
    const auto vocabulary = static_cast<Token>(model_->vocabulary());
    for (Token token : prompt) {
        if (token >= 0 && token < vocabulary) continue;
        say('E', "the prompt's token %d is not in the model's vocabulary of %d", token, vocabulary);
        return false;
    }
    return true;
}

bool Handle::choose_adapter(const RKLLMLoraParam* wanted) {
    if (!wanted || !wanted->lora_adapter_name) {
        kv_->use_adapter(nullptr, 0, 0);
        return true;
    }
    const auto found = adapters_.find(wanted->lora_adapter_name);
    if (found == adapters_.end()) {
        say('E', "Not Found Lora adapter named: %s", wanted->lora_adapter_name);
        return false;
    }
    const Adapter& adapter = found->second;
    kv_->use_adapter(adapter.handle, adapter.scale, adapter.identity);
    return true;
}

int Handle::generate(const std::vector<Token>& prompt, const RKLLMInferParam& infer, Report& report) {
    if (model_->sees_everything()) {
        say('E', "the model is a sentence encoder: it can't generate text");
        return -1;
    }
    sampler_.begin(sampling_of(infer, sampling_));
    const int limit = token_limit(infer, max_new_tokens_);
    const bool stoppable = board_guess(GUESS_ABORT_IN_PREFILL);
    const Kv::Outcome outcome = kv_->prefill(prompt, stoppable ? &abort_ : nullptr);
    if (outcome == Kv::Outcome::failed) return report.fail();
    report.prefilled(kv_->computed());
    while (outcome == Kv::Outcome::done && !abort_) {
        const Token token = sampler_.pick(kv_->logits(), model_->vocabulary());
        const bool end = model_->ends_text(token) && !ignore_end_;
        if (end && skip_special_) break;
        report.token(token, model_->piece(token, !skip_special_));
        if (end || report.generated() == limit || kv_->size() == kv_->capacity()) break;
        if (!abort_ && !kv_->step(token)) return report.fail();
    }
    was_aborted_ = abort_;
    say('I', "%s", was_aborted_ ? "rkllm_run was aborted" : "rkllm_run ended");
    const bool finished = finish_cache(infer, prompt.size());
    report.finish();
    return finished ? 0 : -1;
}

/* What remains in the cache, and its file if one was asked for: that holds the prompt alone. */
bool Handle::finish_cache(const RKLLMInferParam& infer, size_t prompt) {
    const RKLLMPromptCacheParam* file = infer.prompt_cache_params;
    const bool saving = file && file->save_prompt_cache && kv_->size() >= prompt &&
                        (!was_aborted_ || board_guess(GUESS_CACHE_ON_ABORT));
    if (saving || !keeps_own_tokens()) kv_->keep(prompt);
    if (!saving) return true;
    return save_cache(file->prompt_cache_path ? file->prompt_cache_path : "./prompt_cache.bin", *model_, *kv_);
}

int Handle::hidden_states(const std::vector<Token>& prompt, Report& report) {
    const std::vector<float> rows = kv_->hidden_states(prompt);
    if (rows.empty()) return report.fail();
    report.prefilled(kv_->computed());
    report.hidden_states(rows, model_->width());
    say('I', "rkllm_run ended");
    report.finish();
    return 0;
}

int Handle::load_adapter(const RKLLMLoraAdapter& adapter) {
    if (!adapter.lora_adapter_path || !adapter.lora_adapter_name) {
        say('E', "a Lora adapter needs a path and a name");
        return -1;
    }
    const std::string path = adapter.lora_adapter_path;
    const std::string name = adapter.lora_adapter_name;
    struct stat facts;
    if (adapters_.count(name)) {
        say('E', "Lora adapter '%s' is already initialized!", name.c_str());
        return -1;
    }
    if (stat(path.c_str(), &facts) != 0) {
        say('E', "Lora adapter path does not exist!");
        return -1;
    }
    forget_complaint();
    llama_adapter_lora* loaded = model_->engine.adapter_lora_init(model_->handle, path.c_str());
    if (!loaded) {
        say('E', "failed to load Lora adapter '%s': %s", name.c_str(), complaint().c_str());
        return -1;
    }
    uint64_t identity = hashed(1, path.data(), path.size());
    identity = mixed(identity, static_cast<uint64_t>(facts.st_size));
    identity = mixed(identity, static_cast<uint64_t>(facts.st_mtime));
    identity = hashed(identity, &adapter.scale, sizeof adapter.scale);
    adapters_[name] = {loaded, adapter.scale, identity};
    return 0;
}

int Handle::load_prompt_cache(const char* path) {
    if (was_aborted_ && load_after_abort_crashes()) std::raise(SIGSEGV);
    return load_cache(path, *model_, *kv_) ? 0 : -1;
}

int Handle::clear() {
    if (running_) return -1;
    kv_->clear();
    return 0;
}

}  // namespace cpu_runtime
