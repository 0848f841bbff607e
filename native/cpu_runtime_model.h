/* A GGUF file with its vocabulary: what the library wants to know of a model apart from running it. */
#ifndef CPU_RUNTIME_MODEL_H
#define CPU_RUNTIME_MODEL_H

#include <memory>
#include <string>
#include <vector>

#include "cpu_runtime_engine.h"

namespace cpu_runtime {

class Model {
public:
    /* The model of a file; nullptr, with the reason said in the log, if it can't be read. */
    static std::unique_ptr<Model> load(const Engine& engine, const std::string& path);
    ~Model();
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;

    const Engine& engine;
    llama_model* const handle;

    int context_limit() const { return engine.model_n_ctx_train(handle); }
    int width() const { return engine.model_n_embd(handle); }
    size_t vocabulary() const { return static_cast<size_t>(engine.vocab_n_tokens(vocab_)); }
    bool ends_text(Token token) const { return engine.vocab_is_eog(vocab_, token); }

    /* The state can't be cut back to an earlier token (RWKV, Mamba and their hybrids). */
    bool recurrent() const { return engine.model_is_recurrent(handle) || engine.model_is_hybrid(handle); }
    /* Each token sees the whole text, also what follows it (sentence encoders). */
    bool sees_everything() const;

    std::string architecture() const { return metadata("general.architecture"); }
    std::string quantisation() const;
    /* Tells this model from another one of the same build; equal for a copy of the file. */
    uint64_t identity() const { return identity_; }

    /* Special tokens' text becomes special tokens, as in the real library; BOS comes first where the metadata says so,
     * but never twice. */
    std::vector<Token> tokenize(const std::string& text) const;
    /* A token's bytes; nothing for a special token unless those are asked for. */
    std::string piece(Token token, bool with_special) const;

private:
    Model(const Engine& engine, llama_model* handle, uint64_t identity);
    std::string metadata(const std::string& key) const;

    const llama_vocab* const vocab_;
    const uint64_t identity_;
};

}  // namespace cpu_runtime

#endif
