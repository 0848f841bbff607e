/* The handle's one KV cache: which tokens it holds, and how the next prompt uses what is already there. */
#ifndef CPU_RUNTIME_KV_H
#define CPU_RUNTIME_KV_H

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "cpu_runtime_model.h"

namespace cpu_runtime {

class Kv {
public:
    /* A cache for `length` tokens; nullptr, with the reason said in the log, if there is no room for it. */
    static std::unique_ptr<Kv> make(const Model& model, size_t length, int threads);
    ~Kv();
    Kv(const Kv&) = delete;
    Kv& operator=(const Kv&) = delete;

    enum class Outcome { done, stopped, failed };

    /* Drop what differs from the prompt and compute the rest, so that every bit is as if nothing had been reused.
     * Between blocks of tokens `stop`, if given, is looked at. */
    Outcome prefill(const std::vector<Token>& prompt, const std::atomic<bool>* stop);
    /* How many tokens the last prefill computed. */
    size_t computed() const { return computed_; }

    /* Append a token. */
    bool step(Token token) { return evaluate(&token, 1); }
    /* The scores of the token that follows, after prefill() or step(); valid until the next of them. */
    const float* logits() const { return logits_; }

    /* The last layer's state of each token, row after row; the cache is empty afterwards. Empty if it failed. */
    std::vector<float> hidden_states(const std::vector<Token>& text);

    const std::vector<Token>& tokens() const { return tokens_; }
    size_t size() const { return tokens_.size(); }
    size_t capacity() const { return capacity_; }
    void clear();
    /* Cut back to the first `count` tokens; to none where the model can't be cut. */
    void keep(size_t count);

    /* LoRA adapters change every state: choosing another than the one the cache was computed with clears it. nullptr
     * with the identity 0 is the base model. */
    void use_adapter(llama_adapter_lora* adapter, float scale, uint64_t identity);
    uint64_t adapter() const { return adapter_; }

    /* The states as bytes, and back. A failed restore leaves the cache empty. */
    std::vector<uint8_t> state() const;
    bool restore(const std::vector<Token>& tokens, uint64_t adapter, const std::vector<uint8_t>& state);

private:
    Kv(const Model& model, llama_context* context, size_t capacity, int threads);
    size_t reusable(const std::vector<Token>& prompt) const;
    bool indifferent_to_company();
    bool evaluate(const Token* tokens, size_t count);
    bool decode(const Token* tokens, size_t count, size_t row);

    const Model& model_;
    const Engine& engine_;
    llama_context* const context_;
    llama_memory_i* const memory_;
    const size_t capacity_;
    const bool threaded_;
    bool indifferent_ = false; /* for the base model: a token's state is the same whichever are computed with it */

    std::vector<Token> tokens_;
    size_t in_blocks_ = 0; /* of these, how many were computed by prefill */
    uint64_t adapter_ = 0;
    size_t computed_ = 0;
    const float* logits_ = nullptr;
    /* The scores after the last prompt, so that the same prompt again computes nothing; `prompt_` is its length, 0 once
     * any of its tokens has been dropped. */
    std::vector<float> prompt_logits_;
    size_t prompt_ = 0;
};

}  // namespace cpu_runtime

#endif
