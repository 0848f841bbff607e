/* The C interface of Rockchip's LLM runtime, written down from a description of its binary layout.
 *
 * RKLLM_ABI chooses the family: 12 for the libraries 1.2.1 to 1.2.3, 13 (default) for 1.3.0, 131 for 1.3.1, which adds
 * `audio` to RKLLMMultiModalInput, so that every input is 48 bytes longer. The families differ in RKLLMParam, RKLLMMultiModalInput, RKLLMInferParam and in the third argument of rkllm_init; every size and offset is
 * asserted in rkllm_layout.h, so that a compiler that lays them out otherwise refuses to build. Text is UTF-8, times are
 * milliseconds, sizes are counted in tokens unless a name says bytes or mb.
 */
#ifndef RKLLM_H
#define RKLLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef RKLLM_ABI
#define RKLLM_ABI 13
#endif

#if RKLLM_ABI == 12
#define RKLLM_VERSION "1.2.3"
#elif RKLLM_ABI == 13
#define RKLLM_VERSION "1.3.0"
#elif RKLLM_ABI == 131
#define RKLLM_VERSION "1.3.1"
#else
#error "RKLLM_ABI must be 12, 13 or 131"
#endif

/* The text by which a library's family is found without loading it; `build` names who made the library. */
#define RKLLM_MARKER(build) "RKLLM SDK (version: " RKLLM_VERSION " | target: Linux | build: " build ")"

#define RKLLM_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* Bits of RKLLMExtendParam.enabled_cpus_mask. */
#define CPU0 (1u << 0)
#define CPU1 (1u << 1)
#define CPU2 (1u << 2)
#define CPU3 (1u << 3)
#define CPU4 (1u << 4)
#define CPU5 (1u << 5)
#define CPU6 (1u << 6)
#define CPU7 (1u << 7)

typedef void* LLMHandle;

typedef enum {
    RKLLM_RUN_NORMAL = 0,  /* a token whose bytes complete at least one character */
    RKLLM_RUN_WAITING = 1, /* a token that leaves a character unfinished */
    RKLLM_RUN_FINISH = 2,  /* the run is over; `perf` is valid only here */
    RKLLM_RUN_ERROR = 3
} LLMCallState;

typedef enum {
    RKLLM_INPUT_PROMPT = 0,
    RKLLM_INPUT_TOKEN = 1,
    RKLLM_INPUT_EMBED = 2,
    RKLLM_INPUT_MULTIMODAL = 3
} RKLLMInputType;

typedef enum {
    RKLLM_INFER_GENERATE = 0,
    RKLLM_INFER_GET_LAST_HIDDEN_LAYER = 1,
    RKLLM_INFER_GET_LOGITS = 2
} RKLLMInferMode;

typedef struct {
    int32_t base_domain_id;     /* NPU memory domain where allocation starts */
    int8_t embed_flash;         /* 1: embedding rows are read from the file on demand */
    int8_t enabled_cpus_num;    /* must equal the number of bits in the mask */
    uint32_t enabled_cpus_mask;
    uint8_t n_batch;            /* inputs per run; 0 is not a neutral value, set 1 */
    int8_t use_cross_attn;
    uint8_t reserved[104];
} RKLLMExtendParam;

typedef struct {
    const char* model_path;
    int32_t max_context_len;    /* at most the limit compiled into the model */
    int32_t max_new_tokens;     /* -1: until end of text or of the context */
    int32_t top_k;
    int32_t n_keep;             /* positions that survive when old ones are dropped */
    float top_p;
    float temperature;
    float repeat_penalty;
    float frequency_penalty;
    float presence_penalty;
    int32_t mirostat;
    float mirostat_tau;
    float mirostat_eta;
    bool skip_special_token;    /* special tokens give no text (their id is reported anyway) */
#if RKLLM_ABI >= 13
    bool ignore_eos_token;
    bool is_async;
#else
    bool is_async;
    const char* img_start;      /* the three image tags must not be NULL */
    const char* img_end;
    const char* img_content;
#endif
    RKLLMExtendParam extend_param;
} RKLLMParam;

typedef struct {
    float* embed;               /* n_tokens rows of the model's width */
    size_t n_tokens;
} RKLLMEmbedInput;

typedef struct {
    int32_t* input_ids;
    size_t n_tokens;
} RKLLMTokenInput;

#if RKLLM_ABI >= 13
typedef struct {
    char* prompt;
    struct {
        float* image_embed;
        size_t n_image_tokens;
        size_t n_image;
        const char* image_start;
        const char* image_end;
        const char* image_content;
        size_t image_width;
        size_t image_height;
    } image;
    struct {
        float* video_embed;
        size_t n_frame_tokens;
        size_t n_frame_per_video;
        size_t n_video;
        const char* video_start;
        const char* video_end;
        const char* video_content;
        size_t frame_width;
        size_t frame_height;
    } video;
#if RKLLM_ABI >= 131
    struct {
        float* audio_embed;
        size_t n_audio_tokens;
        size_t n_audio;
        const char* audio_start;
        const char* audio_end;
        const char* audio_content;
    } audio;
#endif
} RKLLMMultiModalInput;
#else
typedef struct {
    char* prompt;
    float* image_embed;
    size_t n_image_tokens;
    size_t n_image;
    size_t image_width;
    size_t image_height;
} RKLLMMultiModalInput;
#endif

typedef struct {
    const char* role;           /* "user" or "tool"; matters only while the automatic template is on */
    bool enable_thinking;       /* likewise */
    RKLLMInputType input_type;  /* says which member of the union is meant */
    union {
        const char* prompt_input;
        RKLLMEmbedInput embed_input;
        RKLLMTokenInput token_input;
        RKLLMMultiModalInput multimodal_input;
    };
} RKLLMInput;

typedef struct {
    const char* lora_adapter_path;
    const char* lora_adapter_name;
    float scale;
} RKLLMLoraAdapter;

typedef struct {
    const char* lora_adapter_name;
} RKLLMLoraParam;

typedef struct {
    int save_prompt_cache;         /* 1: write the file at the end of the run */
    const char* prompt_cache_path; /* NULL: ./prompt_cache.bin */
} RKLLMPromptCacheParam;

#if RKLLM_ABI >= 13
typedef struct {
    int32_t top_k;
    float top_p;
    float temperature;
    float repeat_penalty;
    float frequency_penalty;
    float presence_penalty;
    int32_t mirostat;
    float mirostat_tau;
    float mirostat_eta;
} RKLLMSamplingParam;
#endif

typedef struct {
    RKLLMInferMode mode;
    RKLLMLoraParam* lora_params;                /* NULL: the base model */
    RKLLMPromptCacheParam* prompt_cache_params; /* NULL: nothing is saved */
#if RKLLM_ABI >= 13
    RKLLMSamplingParam* sampling_params;        /* NULL: as at init; else all nine count */
#endif
    int keep_history;                           /* 0: one turn; 1: append to the cache */
#if RKLLM_ABI >= 13
    int32_t max_new_tokens;                     /* 0 or less: as at init */
#endif
} RKLLMInferParam;

typedef struct {
    float* encoder_k_cache;
    float* encoder_v_cache;
    float* encoder_mask;
    int32_t* encoder_pos;
    int num_tokens;
} RKLLMCrossAttnParam;

typedef struct {
    const float* hidden_states; /* num_tokens rows of embd_size */
    int embd_size;
    int num_tokens;
} RKLLMResultLastHiddenLayer;

typedef struct {
    const float* logits;        /* num_tokens rows of vocab_size */
    int vocab_size;
    int num_tokens;
} RKLLMResultLogits;

typedef struct {
    float prefill_time_ms;
    int prefill_tokens;         /* only those computed: a reused prefix does not count */
    float generate_time_ms;
    int generate_tokens;
    float memory_usage_mb;      /* the process's highest resident size so far */
} RKLLMPerfStat;

/* Everything it points to dies when the callback returns. */
typedef struct {
    const char* text;           /* may be NULL */
    int32_t token_id;
    RKLLMResultLastHiddenLayer last_hidden_layer;
    RKLLMResultLogits logits;
    RKLLMPerfStat perf;
} RKLLMResult;

/* Called once per token on the thread of rkllm_run. Answers 0: go on, 1: pause, 2 (1.3): free the output buffer now. */
typedef int (*LLMResultCallback)(RKLLMResult* result, void* userdata, LLMCallState state);

#if RKLLM_ABI >= 13
typedef int (*LLMTokenizerCallback)(void* userdata, const char* text, int32_t text_len, int32_t* tokens,
                                    int32_t n_tokens_max);
typedef int (*LLMGetEmbedCallback)(void* userdata, int32_t* tokens, uint64_t num_tokens, void* embed,
                                   uint64_t len_bytes);

typedef struct {
    LLMResultCallback result_callback;
    void* result_userdata;
    LLMTokenizerCallback tokenizer_callback; /* these two: only for models exported without the part */
    void* tokenizer_userdata;
    LLMGetEmbedCallback embed_callback;
    void* embed_userdata;
} RKLLMCallback;
#endif

/* Functions answer 0, or -1 when they failed; the reason is only printed. */
RKLLM_API RKLLMParam rkllm_createDefaultParam(void);
#if RKLLM_ABI >= 13
RKLLM_API int rkllm_init(LLMHandle* handle, RKLLMParam* param, RKLLMCallback* callback);
#else
RKLLM_API int rkllm_init(LLMHandle* handle, RKLLMParam* param, LLMResultCallback callback);
#endif
RKLLM_API int rkllm_load_lora(LLMHandle handle, RKLLMLoraAdapter* adapter);
RKLLM_API int rkllm_load_prompt_cache(LLMHandle handle, const char* path);
RKLLM_API int rkllm_release_prompt_cache(LLMHandle handle);
RKLLM_API int rkllm_destroy(LLMHandle handle);
RKLLM_API int rkllm_run(LLMHandle handle, RKLLMInput* input, RKLLMInferParam* infer, void* userdata);
RKLLM_API int rkllm_run_async(LLMHandle handle, RKLLMInput* input, RKLLMInferParam* infer, void* userdata);
RKLLM_API int rkllm_abort(LLMHandle handle);
RKLLM_API int rkllm_is_running(LLMHandle handle);
RKLLM_API int rkllm_clear_kv_cache(LLMHandle handle, int keep_system_prompt, int* start_pos, int* end_pos);
RKLLM_API int rkllm_get_kv_cache_size(LLMHandle handle, int* sizes);
RKLLM_API int rkllm_set_chat_template(LLMHandle handle, const char* system, const char* prefix, const char* postfix);
RKLLM_API int rkllm_set_function_tools(LLMHandle handle, const char* system, const char* tools,
                                       const char* tool_response);
RKLLM_API int rkllm_set_cross_attn_params(LLMHandle handle, RKLLMCrossAttnParam* param);

#include "rkllm_layout.h"

#ifdef __cplusplus
}
#endif

#endif
