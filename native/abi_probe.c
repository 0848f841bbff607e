/* Prints the compiled layout as JSON: {"RKLLMParam": {"size": 184, "fields": {"model_path": [0, 8], …}}, …}, each
 * field with offset and size in bytes, so that a test can hold it against the table. */
#include <stdio.h>

#include "rkllm.h"

static const char* separator = "";

static void open_struct(const char* name, size_t size) {
    printf("%s\n\"%s\": {\"size\": %zu, \"fields\": {", separator, name, size);
    separator = "";
}

static void field(const char* name, size_t offset, size_t size) {
    printf("%s\"%s\": [%zu, %zu]", separator, name, offset, size);
    separator = ", ";
}

static void close_struct(void) {
    printf("}}");
    separator = ",";
}

#define STRUCT(type) open_struct(#type, sizeof(type))
#define FIELD_AS(name, type, member) field(name, offsetof(type, member), sizeof(((type*)0)->member))
#define FIELD(type, member) FIELD_AS(#member, type, member)

int main(void) {
    printf("{");
    STRUCT(RKLLMParam);
    FIELD(RKLLMParam, model_path);
    FIELD(RKLLMParam, max_context_len);
    FIELD(RKLLMParam, max_new_tokens);
    FIELD(RKLLMParam, top_k);
    FIELD(RKLLMParam, n_keep);
    FIELD(RKLLMParam, top_p);
    FIELD(RKLLMParam, temperature);
    FIELD(RKLLMParam, repeat_penalty);
    FIELD(RKLLMParam, frequency_penalty);
    FIELD(RKLLMParam, presence_penalty);
    FIELD(RKLLMParam, mirostat);
    FIELD(RKLLMParam, mirostat_tau);
    FIELD(RKLLMParam, mirostat_eta);
    FIELD(RKLLMParam, skip_special_token);
#if RKLLM_ABI >= 13
    FIELD(RKLLMParam, ignore_eos_token);
#else
    FIELD(RKLLMParam, img_start);
    FIELD(RKLLMParam, img_end);
    FIELD(RKLLMParam, img_content);
#endif
    FIELD(RKLLMParam, is_async);
    FIELD(RKLLMParam, extend_param);
    close_struct();
    STRUCT(RKLLMExtendParam);
    FIELD(RKLLMExtendParam, base_domain_id);
    FIELD(RKLLMExtendParam, embed_flash);
    FIELD(RKLLMExtendParam, enabled_cpus_num);
    FIELD(RKLLMExtendParam, enabled_cpus_mask);
    FIELD(RKLLMExtendParam, n_batch);
    FIELD(RKLLMExtendParam, use_cross_attn);
    FIELD(RKLLMExtendParam, reserved);
    close_struct();
    STRUCT(RKLLMInput);
    FIELD(RKLLMInput, role);
    FIELD(RKLLMInput, enable_thinking);
    FIELD(RKLLMInput, input_type);
    FIELD(RKLLMInput, prompt_input);
    FIELD(RKLLMInput, embed_input);
    FIELD(RKLLMInput, token_input);
    FIELD(RKLLMInput, multimodal_input);
    close_struct();
    STRUCT(RKLLMEmbedInput);
    FIELD(RKLLMEmbedInput, embed);
    FIELD(RKLLMEmbedInput, n_tokens);
    close_struct();
    STRUCT(RKLLMTokenInput);
    FIELD(RKLLMTokenInput, input_ids);
    FIELD(RKLLMTokenInput, n_tokens);
    close_struct();
    STRUCT(RKLLMMultiModalInput);
    FIELD(RKLLMMultiModalInput, prompt);
#if RKLLM_ABI >= 13
#define NESTED(group, member) FIELD_AS(#member, RKLLMMultiModalInput, group.member)
    NESTED(image, image_embed);
    NESTED(image, n_image_tokens);
    NESTED(image, n_image);
    NESTED(image, image_start);
    NESTED(image, image_end);
    NESTED(image, image_content);
    NESTED(image, image_width);
    NESTED(image, image_height);
    NESTED(video, video_embed);
    NESTED(video, n_frame_tokens);
    NESTED(video, n_frame_per_video);
    NESTED(video, n_video);
    NESTED(video, video_start);
    NESTED(video, video_end);
    NESTED(video, video_content);
    NESTED(video, frame_width);
    NESTED(video, frame_height);
#if RKLLM_ABI >= 131
    NESTED(audio, audio_embed);
    NESTED(audio, n_audio_tokens);
    NESTED(audio, n_audio);
    NESTED(audio, audio_start);
    NESTED(audio, audio_end);
    NESTED(audio, audio_content);
#endif
#else
    FIELD(RKLLMMultiModalInput, image_embed);
    FIELD(RKLLMMultiModalInput, n_image_tokens);
    FIELD(RKLLMMultiModalInput, n_image);
    FIELD(RKLLMMultiModalInput, image_width);
    FIELD(RKLLMMultiModalInput, image_height);
#endif
    close_struct();
    STRUCT(RKLLMInferParam);
    FIELD(RKLLMInferParam, mode);
    FIELD(RKLLMInferParam, lora_params);
    FIELD(RKLLMInferParam, prompt_cache_params);
    FIELD(RKLLMInferParam, keep_history);
#if RKLLM_ABI >= 13
    FIELD(RKLLMInferParam, sampling_params);
    FIELD(RKLLMInferParam, max_new_tokens);
    close_struct();
    STRUCT(RKLLMSamplingParam);
    FIELD(RKLLMSamplingParam, top_k);
    FIELD(RKLLMSamplingParam, top_p);
    FIELD(RKLLMSamplingParam, temperature);
    FIELD(RKLLMSamplingParam, repeat_penalty);
    FIELD(RKLLMSamplingParam, frequency_penalty);
    FIELD(RKLLMSamplingParam, presence_penalty);
    FIELD(RKLLMSamplingParam, mirostat);
    FIELD(RKLLMSamplingParam, mirostat_tau);
    FIELD(RKLLMSamplingParam, mirostat_eta);
    close_struct();
    STRUCT(RKLLMCallback);
    FIELD(RKLLMCallback, result_callback);
    FIELD(RKLLMCallback, result_userdata);
    FIELD(RKLLMCallback, tokenizer_callback);
    FIELD(RKLLMCallback, tokenizer_userdata);
    FIELD(RKLLMCallback, embed_callback);
    FIELD(RKLLMCallback, embed_userdata);
#endif
    close_struct();
    STRUCT(RKLLMLoraAdapter);
    FIELD(RKLLMLoraAdapter, lora_adapter_path);
    FIELD(RKLLMLoraAdapter, lora_adapter_name);
    FIELD(RKLLMLoraAdapter, scale);
    close_struct();
    STRUCT(RKLLMLoraParam);
    FIELD(RKLLMLoraParam, lora_adapter_name);
    close_struct();
    STRUCT(RKLLMPromptCacheParam);
    FIELD(RKLLMPromptCacheParam, save_prompt_cache);
    FIELD(RKLLMPromptCacheParam, prompt_cache_path);
    close_struct();
    STRUCT(RKLLMCrossAttnParam);
    FIELD(RKLLMCrossAttnParam, encoder_k_cache);
    FIELD(RKLLMCrossAttnParam, encoder_v_cache);
    FIELD(RKLLMCrossAttnParam, encoder_mask);
    FIELD(RKLLMCrossAttnParam, encoder_pos);
    FIELD(RKLLMCrossAttnParam, num_tokens);
    close_struct();
    STRUCT(RKLLMResult);
    FIELD(RKLLMResult, text);
    FIELD(RKLLMResult, token_id);
    FIELD(RKLLMResult, last_hidden_layer);
    FIELD(RKLLMResult, logits);
    FIELD(RKLLMResult, perf);
    close_struct();
    STRUCT(RKLLMResultLastHiddenLayer);
    FIELD(RKLLMResultLastHiddenLayer, hidden_states);
    FIELD(RKLLMResultLastHiddenLayer, embd_size);
    FIELD(RKLLMResultLastHiddenLayer, num_tokens);
    close_struct();
    STRUCT(RKLLMResultLogits);
    FIELD(RKLLMResultLogits, logits);
    FIELD(RKLLMResultLogits, vocab_size);
    FIELD(RKLLMResultLogits, num_tokens);
    close_struct();
    STRUCT(RKLLMPerfStat);
    FIELD(RKLLMPerfStat, prefill_time_ms);
    FIELD(RKLLMPerfStat, prefill_tokens);
    FIELD(RKLLMPerfStat, generate_time_ms);
    FIELD(RKLLMPerfStat, generate_tokens);
    FIELD(RKLLMPerfStat, memory_usage_mb);
    close_struct();
    printf("\n}\n");
    return 0;
}
