/* llama.cpp as a table of functions, found by name in xllamacpp's shared library.
 *
 * That package ships no headers, so the prototypes stand here. Parameter structs that change from release to release
 * are never spelled out: the library fills them and takes them back by value, and what is written between lies at
 * places that have not moved.
 */
#ifndef CPU_RUNTIME_ENGINE_H
#define CPU_RUNTIME_ENGINE_H

#include <cstddef>
#include <cstdint>
#include <string>

struct llama_model;
struct llama_context;
struct llama_vocab;
struct llama_memory_i;
struct llama_adapter_lora;

namespace cpu_runtime {

using Token = int32_t;

/* Larger than any release's model or context parameters; only the library knows what is inside. */
struct ParameterBlob {
    uint64_t words[128];
};

struct Batch {
    int32_t n_tokens;
    Token* token;
    float* embd;
    int32_t* pos;
    int32_t* n_seq_id;
    int32_t** seq_id;
    int8_t* logits;
};

using LogCallback = void (*)(int level, const char* text, void* user);

#define CPU_RUNTIME_ENGINE_FUNCTIONS(F)                                                                              \
    F(backend_init, void, ())                                                                                        \
    F(log_set, void, (LogCallback, void*))                                                                           \
    F(model_default_params, ParameterBlob, ())                                                                       \
    F(context_default_params, ParameterBlob, ())                                                                     \
    F(model_load_from_file, llama_model*, (const char*, ParameterBlob))                                              \
    F(model_free, void, (llama_model*))                                                                              \
    F(init_from_model, llama_context*, (llama_model*, ParameterBlob))                                                \
    F(free, void, (llama_context*))                                                                                  \
    F(n_ctx, uint32_t, (const llama_context*))                                                                       \
    F(set_n_threads, void, (llama_context*, int32_t, int32_t))                                                       \
    F(set_embeddings, void, (llama_context*, bool))                                                                  \
    F(model_get_vocab, const llama_vocab*, (const llama_model*))                                                     \
    F(model_n_ctx_train, int32_t, (const llama_model*))                                                              \
    F(model_n_embd, int32_t, (const llama_model*))                                                                   \
    F(model_is_recurrent, bool, (const llama_model*))                                                                \
    F(model_is_hybrid, bool, (const llama_model*))                                                                   \
    F(model_desc, int32_t, (const llama_model*, char*, size_t))                                                      \
    F(model_meta_val_str, int32_t, (const llama_model*, const char*, char*, size_t))                                 \
    F(vocab_n_tokens, int32_t, (const llama_vocab*))                                                                 \
    F(vocab_is_eog, bool, (const llama_vocab*, Token))                                                               \
    F(vocab_bos, Token, (const llama_vocab*))                                                                        \
    F(tokenize, int32_t, (const llama_vocab*, const char*, int32_t, Token*, int32_t, bool, bool))                    \
    F(token_to_piece, int32_t, (const llama_vocab*, Token, char*, int32_t, int32_t, bool))                           \
    F(decode, int32_t, (llama_context*, Batch))                                                                      \
    F(get_logits_ith, float*, (llama_context*, int32_t))                                                             \
    F(get_embeddings_ith, float*, (llama_context*, int32_t))                                                         \
    F(get_memory, llama_memory_i*, (const llama_context*))                                                           \
    F(memory_clear, void, (llama_memory_i*, bool))                                                                   \
    F(memory_seq_rm, bool, (llama_memory_i*, int32_t, int32_t, int32_t))                                             \
    F(state_seq_get_size, size_t, (llama_context*, int32_t))                                                         \
    F(state_seq_get_data, size_t, (llama_context*, uint8_t*, size_t, int32_t))                                       \
    F(state_seq_set_data, size_t, (llama_context*, const uint8_t*, size_t, int32_t))                                 \
    F(adapter_lora_init, llama_adapter_lora*, (llama_model*, const char*))                                           \
    F(set_adapters_lora, int32_t, (llama_context*, llama_adapter_lora**, size_t, float*))

struct Engine {
#define CPU_RUNTIME_DECLARE(name, result, arguments) result(*name) arguments;
    CPU_RUNTIME_ENGINE_FUNCTIONS(CPU_RUNTIME_DECLARE)
#undef CPU_RUNTIME_DECLARE
    uint64_t library_bytes; /* size of the library's file: tells one release from another */
};

/* The engine, opened at the first call; nullptr, with the reason said in the log, where it can't be.
 *
 * The library is that of the environment variable RKLLM_CPU_ENGINE. */
const Engine* open_engine();

/* What llama.cpp complained of first since forget_complaint(), in this thread; empty if of nothing. Its first error
 * names the cause, the later ones only the functions that passed it on. */
std::string complaint();
void forget_complaint();

}  // namespace cpu_runtime

#endif
