#include "cpu_runtime_kv.h"

#include <algorithm>
#include <cstring>

#include "cpu_runtime_log.h"

namespace cpu_runtime {
namespace {

/* Tokens computed together. On some machines a sum's last bits depend on how many rows are multiplied at once: there a
 * token's state is only the same each time if it is always computed in the same company, that of its block, and only
 * whole blocks are reused. From 64 rows on it differs everywhere. */
constexpr size_t BLOCK = 16;

/* From this many positions on llama.cpp's attention shares a single row among threads and sums in another order. */
constexpr size_t SHARED_ROW = 256;

constexpr size_t BATCH = 64;
constexpr int32_t SEQUENCE = 0;
constexpr size_t EVERY_ROW = SIZE_MAX;

/* The pooling type has moved between releases; it stands between the RoPE and the attention type, which are both
 * "unspecified" by default as it is itself. */
void ask_for_every_row(ParameterBlob& parameters) {
    constexpr size_t COUNTS = 4;
    constexpr int32_t UNSPECIFIED = -1;
    constexpr int32_t NO_POOLING = 0;
    int32_t numbers[sizeof parameters / sizeof(int32_t)];
    std::memcpy(numbers, &parameters, sizeof parameters);
    for (size_t i = COUNTS; i < 16; ++i) {
        if (numbers[i] != UNSPECIFIED || numbers[i + 1] != UNSPECIFIED || numbers[i + 2] != UNSPECIFIED) continue;
        numbers[i + 1] = NO_POOLING;
        break;
    }
    std::memcpy(&parameters, numbers, sizeof parameters);
}

}  // namespace

std::unique_ptr<Kv> Kv::make(const Model& model, size_t length, int threads) {
    const Engine& engine = model.engine;
    ParameterBlob parameters = engine.context_default_params();
    const auto context_length = static_cast<uint32_t>(length);
    const uint32_t batch = model.sees_everything() ? context_length : static_cast<uint32_t>(BATCH);
    const uint32_t counts[] = {context_length, batch, batch, 1}; /* n_ctx, n_batch, n_ubatch, n_seq_max */
    std::memcpy(&parameters, counts, sizeof counts);
    ask_for_every_row(parameters);
    forget_complaint();
    llama_context* context = engine.init_from_model(model.handle, parameters);
    if (!context) {
        say('E', "no context of %zu tokens: %s", length, complaint().c_str());
        return nullptr;
    }
    engine.set_n_threads(context, threads, threads);
    std::unique_ptr<Kv> kv(new Kv(model, context, length, threads));
    kv->indifferent_ = !model.recurrent() && !model.sees_everything() && kv->indifferent_to_company();
    return kv;
}

Kv::Kv(const Model& model, llama_context* context, size_t capacity, int threads)
    : model_(model),
      engine_(model.engine),
      context_(context),
      memory_(engine_.get_memory(context)),
      capacity_(capacity),
      threaded_(threads > 1 && !model.recurrent()) {}

Kv::~Kv() { engine_.free(context_); }

/* Whether six tokens come out the same at once as in three parts. It differs with the processor, the quantisation and
 * the number of threads; an adapter's matrices would have to be tried for themselves. */
bool Kv::indifferent_to_company() {
    constexpr size_t PARTS[][3] = {{6}, {3, 2, 1}};
    std::vector<uint8_t> results[2];
    for (int way = 0; way < 2; ++way) {
        clear();
        for (size_t count : PARTS[way]) {
            const Token probe[] = {1, 2, 3, 4, 5, 6};
            if (count && !evaluate(probe + size(), count)) return false;
        }
        results[way] = state();
        const auto* scores = reinterpret_cast<const uint8_t*>(logits_);
        results[way].insert(results[way].end(), scores, scores + model_.vocabulary() * sizeof *logits_);
    }
    clear();
    return results[0] == results[1];
}

/* How many of the cached tokens begin the prompt and are, bit for bit, what computing them again would give. */
size_t Kv::reusable(const std::vector<Token>& prompt) const {
    const auto differs = std::mismatch(prompt.begin(), prompt.end(), tokens_.begin(), tokens_.end()).first;
    const auto common = static_cast<size_t>(differs - prompt.begin());
    if (common == prompt.size() && prompt_ == prompt.size()) return common;
    const size_t most = std::min(common, prompt.size() - 1); /* the last one's scores are wanted */
    if (indifferent_ && !adapter_) return most;
    return std::min(most, in_blocks_) / BLOCK * BLOCK;
}

Kv::Outcome Kv::prefill(const std::vector<Token>& prompt, const std::atomic<bool>* stop) {
    computed_ = 0;
    keep(reusable(prompt));
    say('I', "kv cache matches %zu / %zu tokens of prompt", size(), prompt.size());
    if (size() == prompt.size()) {
        logits_ = prompt_logits_.data();
        return Outcome::done;
    }
    prompt_ = 0;
    while (size() < prompt.size()) {
        if (stop && *stop) return Outcome::stopped;
        const size_t count = std::min(BLOCK, prompt.size() - size());
        if (!evaluate(&prompt[size()], count)) return Outcome::failed;
        computed_ += count;
        in_blocks_ = size();
    }
    prompt_ = prompt.size();
    prompt_logits_.assign(logits_, logits_ + model_.vocabulary());
    return Outcome::done;
}

bool Kv::evaluate(const Token* tokens, size_t count) {
    /* A second row, thrown away at once, keeps a late single token on the path that prefill takes. */
    const size_t position = size();
    const bool pair = threaded_ && count == 1 && position >= SHARED_ROW && position + 2 <= engine_.n_ctx(context_);
    const Token doubled[] = {tokens[0], tokens[0]};
    const size_t last = count - 1;
    if (!decode(pair ? doubled : tokens, pair ? 2 : count, last)) {
        clear();
        return false;
    }
    if (pair) engine_.memory_seq_rm(memory_, SEQUENCE, static_cast<int32_t>(position + 1), -1);
    tokens_.insert(tokens_.end(), tokens, tokens + count);
    logits_ = engine_.get_logits_ith(context_, static_cast<int32_t>(last));
    return logits_ != nullptr;
}

/* Compute tokens at the end of the cache, with the results of one row or of all. */
bool Kv::decode(const Token* tokens, size_t count, size_t row) {
    std::vector<Token> ids(tokens, tokens + count);
    std::vector<int32_t> positions(count);
    std::vector<int32_t> sequence_counts(count, 1);
    int32_t sequence = SEQUENCE;
    std::vector<int32_t*> sequences(count, &sequence);
    std::vector<int8_t> wanted(count, row == EVERY_ROW);
    for (size_t i = 0; i < count; ++i) positions[i] = static_cast<int32_t>(size() + i);
    if (row != EVERY_ROW) wanted[row] = 1;
    const Batch batch{static_cast<int32_t>(count), ids.data(),       nullptr,      positions.data(),
                      sequence_counts.data(),      sequences.data(), wanted.data()};
    forget_complaint();
    const int32_t failure = engine_.decode(context_, batch);
    if (failure) say('E', "llama_decode failed (%d) %s", failure, complaint().c_str());
    return failure == 0;
}

std::vector<float> Kv::hidden_states(const std::vector<Token>& text) {
    clear();
    const auto width = static_cast<size_t>(model_.width());
    const size_t block = model_.sees_everything() ? text.size() : BLOCK;
    std::vector<float> rows;
    rows.reserve(text.size() * width);
    engine_.set_embeddings(context_, true);
    while (size() < text.size()) {
        const size_t count = std::min(block, text.size() - size());
        if (!decode(&text[size()], count, EVERY_ROW)) break;
        for (size_t i = 0; i < count; ++i) {
            const float* row = engine_.get_embeddings_ith(context_, static_cast<int32_t>(i));
            if (row) rows.insert(rows.end(), row, row + width);
        }
        tokens_.insert(tokens_.end(), &text[size()], &text[size()] + count);
    }
    engine_.set_embeddings(context_, false);
    computed_ = size();
    clear();
    return rows.size() == text.size() * width ? rows : std::vector<float>();
}

void Kv::clear() {
    if (memory_) engine_.memory_clear(memory_, false);
    tokens_.clear();
    in_blocks_ = prompt_ = 0;
}

void Kv::keep(size_t count) {
    if (count >= size()) return;
    if (!engine_.memory_seq_rm(memory_, SEQUENCE, static_cast<int32_t>(count), -1)) {
        clear();
        return;
    }
    tokens_.resize(count);
    in_blocks_ = std::min(in_blocks_, count);
    if (count < prompt_) prompt_ = 0;
}

void Kv::use_adapter(llama_adapter_lora* adapter, float scale, uint64_t identity) {
    if (identity != adapter_) clear();
    adapter_ = identity;
    engine_.set_adapters_lora(context_, &adapter, adapter ? 1 : 0, &scale);
}

std::vector<uint8_t> Kv::state() const {
    std::vector<uint8_t> bytes(engine_.state_seq_get_size(context_, SEQUENCE));
    bytes.resize(engine_.state_seq_get_data(context_, bytes.data(), bytes.size(), SEQUENCE));
    return bytes;
}

bool Kv::restore(const std::vector<Token>& tokens, uint64_t adapter, const std::vector<uint8_t>& state) {
    clear();
    if (!engine_.state_seq_set_data(context_, state.data(), state.size(), SEQUENCE)) {
        clear();
        return false;
    }
    tokens_ = tokens;
    in_blocks_ = tokens.size();
    adapter_ = adapter;
    return true;
}

}  // namespace cpu_runtime
