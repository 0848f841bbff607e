/* Every size and offset of rkllm.h on machines with 64-bit pointers, in bytes; included by it, never alone. */
#ifdef __cplusplus
#define RKLLM_ASSERT(condition) static_assert(condition, #condition)
#else
#define RKLLM_ASSERT(condition) _Static_assert(condition, #condition)
#endif

#if UINTPTR_MAX == UINT64_MAX
#define RKLLM_SIZE(type, size) RKLLM_ASSERT(sizeof(type) == (size))
#define RKLLM_AT(type, member, offset) RKLLM_ASSERT(offsetof(type, member) == (offset))
/* What the families share. */
RKLLM_SIZE(bool, 1);
RKLLM_SIZE(LLMCallState, 4);
RKLLM_SIZE(RKLLMInputType, 4);
RKLLM_SIZE(RKLLMInferMode, 4);
RKLLM_SIZE(RKLLMExtendParam, 120);
RKLLM_AT(RKLLMExtendParam, base_domain_id, 0);
RKLLM_AT(RKLLMExtendParam, embed_flash, 4);
RKLLM_AT(RKLLMExtendParam, enabled_cpus_num, 5);
RKLLM_AT(RKLLMExtendParam, enabled_cpus_mask, 8);
RKLLM_AT(RKLLMExtendParam, n_batch, 12);
RKLLM_AT(RKLLMExtendParam, use_cross_attn, 13);
RKLLM_AT(RKLLMExtendParam, reserved, 14);
RKLLM_AT(RKLLMParam, model_path, 0);
RKLLM_AT(RKLLMParam, max_context_len, 8);
RKLLM_AT(RKLLMParam, max_new_tokens, 12);
RKLLM_AT(RKLLMParam, top_k, 16);
RKLLM_AT(RKLLMParam, n_keep, 20);
RKLLM_AT(RKLLMParam, top_p, 24);
RKLLM_AT(RKLLMParam, temperature, 28);
RKLLM_AT(RKLLMParam, repeat_penalty, 32);
RKLLM_AT(RKLLMParam, frequency_penalty, 36);
RKLLM_AT(RKLLMParam, presence_penalty, 40);
RKLLM_AT(RKLLMParam, mirostat, 44);
RKLLM_AT(RKLLMParam, mirostat_tau, 48);
RKLLM_AT(RKLLMParam, mirostat_eta, 52);
RKLLM_AT(RKLLMParam, skip_special_token, 56);
RKLLM_SIZE(RKLLMEmbedInput, 16);
RKLLM_AT(RKLLMEmbedInput, embed, 0);
RKLLM_AT(RKLLMEmbedInput, n_tokens, 8);
RKLLM_SIZE(RKLLMTokenInput, 16);
RKLLM_AT(RKLLMTokenInput, input_ids, 0);
RKLLM_AT(RKLLMTokenInput, n_tokens, 8);
RKLLM_AT(RKLLMInput, role, 0);
RKLLM_AT(RKLLMInput, enable_thinking, 8);
RKLLM_AT(RKLLMInput, input_type, 12);
RKLLM_AT(RKLLMInput, prompt_input, 16);
RKLLM_AT(RKLLMInput, embed_input, 16);
RKLLM_AT(RKLLMInput, token_input, 16);
RKLLM_AT(RKLLMInput, multimodal_input, 16);
RKLLM_AT(RKLLMMultiModalInput, prompt, 0);
RKLLM_SIZE(RKLLMLoraAdapter, 24);
RKLLM_AT(RKLLMLoraAdapter, lora_adapter_path, 0);
RKLLM_AT(RKLLMLoraAdapter, lora_adapter_name, 8);
RKLLM_AT(RKLLMLoraAdapter, scale, 16);
RKLLM_SIZE(RKLLMLoraParam, 8);
RKLLM_AT(RKLLMLoraParam, lora_adapter_name, 0);
RKLLM_SIZE(RKLLMPromptCacheParam, 16);
RKLLM_AT(RKLLMPromptCacheParam, save_prompt_cache, 0);
RKLLM_AT(RKLLMPromptCacheParam, prompt_cache_path, 8);
RKLLM_AT(RKLLMInferParam, mode, 0);
RKLLM_AT(RKLLMInferParam, lora_params, 8);
RKLLM_AT(RKLLMInferParam, prompt_cache_params, 16);
RKLLM_SIZE(RKLLMCrossAttnParam, 40);
RKLLM_AT(RKLLMCrossAttnParam, encoder_k_cache, 0);
RKLLM_AT(RKLLMCrossAttnParam, encoder_v_cache, 8);
RKLLM_AT(RKLLMCrossAttnParam, encoder_mask, 16);
RKLLM_AT(RKLLMCrossAttnParam, encoder_pos, 24);
RKLLM_AT(RKLLMCrossAttnParam, num_tokens, 32);
RKLLM_SIZE(RKLLMResultLastHiddenLayer, 16);
RKLLM_AT(RKLLMResultLastHiddenLayer, hidden_states, 0);
RKLLM_AT(RKLLMResultLastHiddenLayer, embd_size, 8);
RKLLM_AT(RKLLMResultLastHiddenLayer, num_tokens, 12);
RKLLM_SIZE(RKLLMResultLogits, 16);
RKLLM_AT(RKLLMResultLogits, logits, 0);
RKLLM_AT(RKLLMResultLogits, vocab_size, 8);
RKLLM_AT(RKLLMResultLogits, num_tokens, 12);
RKLLM_SIZE(RKLLMPerfStat, 20);
RKLLM_AT(RKLLMPerfStat, prefill_time_ms, 0);
RKLLM_AT(RKLLMPerfStat, prefill_tokens, 4);
RKLLM_AT(RKLLMPerfStat, generate_time_ms, 8);
RKLLM_AT(RKLLMPerfStat, generate_tokens, 12);
RKLLM_AT(RKLLMPerfStat, memory_usage_mb, 16);
RKLLM_SIZE(RKLLMResult, 72);
RKLLM_AT(RKLLMResult, text, 0);
RKLLM_AT(RKLLMResult, token_id, 8);
RKLLM_AT(RKLLMResult, last_hidden_layer, 16);
RKLLM_AT(RKLLMResult, logits, 32);
RKLLM_AT(RKLLMResult, perf, 48);
#if RKLLM_ABI >= 13
RKLLM_SIZE(RKLLMParam, 184);
RKLLM_AT(RKLLMParam, ignore_eos_token, 57);
RKLLM_AT(RKLLMParam, is_async, 58);
RKLLM_AT(RKLLMParam, extend_param, 60);
#if RKLLM_ABI >= 131
RKLLM_SIZE(RKLLMInput, 208);
RKLLM_SIZE(RKLLMMultiModalInput, 192);
RKLLM_AT(RKLLMMultiModalInput, audio.audio_embed, 144);
RKLLM_AT(RKLLMMultiModalInput, audio.n_audio_tokens, 152);
RKLLM_AT(RKLLMMultiModalInput, audio.n_audio, 160);
RKLLM_AT(RKLLMMultiModalInput, audio.audio_start, 168);
RKLLM_AT(RKLLMMultiModalInput, audio.audio_end, 176);
RKLLM_AT(RKLLMMultiModalInput, audio.audio_content, 184);
#else
RKLLM_SIZE(RKLLMInput, 160);
RKLLM_SIZE(RKLLMMultiModalInput, 144);
#endif
RKLLM_AT(RKLLMMultiModalInput, image.image_embed, 8);
RKLLM_AT(RKLLMMultiModalInput, image.n_image_tokens, 16);
RKLLM_AT(RKLLMMultiModalInput, image.n_image, 24);
RKLLM_AT(RKLLMMultiModalInput, image.image_start, 32);
RKLLM_AT(RKLLMMultiModalInput, image.image_end, 40);
RKLLM_AT(RKLLMMultiModalInput, image.image_content, 48);
RKLLM_AT(RKLLMMultiModalInput, image.image_width, 56);
RKLLM_AT(RKLLMMultiModalInput, image.image_height, 64);
RKLLM_AT(RKLLMMultiModalInput, video.video_embed, 72);
RKLLM_AT(RKLLMMultiModalInput, video.n_frame_tokens, 80);
RKLLM_AT(RKLLMMultiModalInput, video.n_frame_per_video, 88);
RKLLM_AT(RKLLMMultiModalInput, video.n_video, 96);
RKLLM_AT(RKLLMMultiModalInput, video.video_start, 104);
RKLLM_AT(RKLLMMultiModalInput, video.video_end, 112);
RKLLM_AT(RKLLMMultiModalInput, video.video_content, 120);
RKLLM_AT(RKLLMMultiModalInput, video.frame_width, 128);
RKLLM_AT(RKLLMMultiModalInput, video.frame_height, 136);
RKLLM_SIZE(RKLLMInferParam, 40);
RKLLM_AT(RKLLMInferParam, sampling_params, 24);
RKLLM_AT(RKLLMInferParam, keep_history, 32);
RKLLM_AT(RKLLMInferParam, max_new_tokens, 36);
RKLLM_SIZE(RKLLMSamplingParam, 36);
RKLLM_AT(RKLLMSamplingParam, top_k, 0);
RKLLM_AT(RKLLMSamplingParam, top_p, 4);
RKLLM_AT(RKLLMSamplingParam, temperature, 8);
RKLLM_AT(RKLLMSamplingParam, repeat_penalty, 12);
RKLLM_AT(RKLLMSamplingParam, frequency_penalty, 16);
RKLLM_AT(RKLLMSamplingParam, presence_penalty, 20);
RKLLM_AT(RKLLMSamplingParam, mirostat, 24);
RKLLM_AT(RKLLMSamplingParam, mirostat_tau, 28);
RKLLM_AT(RKLLMSamplingParam, mirostat_eta, 32);
RKLLM_SIZE(RKLLMCallback, 48);
RKLLM_AT(RKLLMCallback, result_callback, 0);
RKLLM_AT(RKLLMCallback, result_userdata, 8);
RKLLM_AT(RKLLMCallback, tokenizer_callback, 16);
RKLLM_AT(RKLLMCallback, tokenizer_userdata, 24);
RKLLM_AT(RKLLMCallback, embed_callback, 32);
RKLLM_AT(RKLLMCallback, embed_userdata, 40);
#else
RKLLM_SIZE(RKLLMParam, 208);
RKLLM_AT(RKLLMParam, is_async, 57);
RKLLM_AT(RKLLMParam, img_start, 64);
RKLLM_AT(RKLLMParam, img_end, 72);
RKLLM_AT(RKLLMParam, img_content, 80);
RKLLM_AT(RKLLMParam, extend_param, 88);
RKLLM_SIZE(RKLLMInput, 64);
RKLLM_SIZE(RKLLMMultiModalInput, 48);
RKLLM_AT(RKLLMMultiModalInput, image_embed, 8);
RKLLM_AT(RKLLMMultiModalInput, n_image_tokens, 16);
RKLLM_AT(RKLLMMultiModalInput, n_image, 24);
RKLLM_AT(RKLLMMultiModalInput, image_width, 32);
RKLLM_AT(RKLLMMultiModalInput, image_height, 40);
RKLLM_SIZE(RKLLMInferParam, 32);
RKLLM_AT(RKLLMInferParam, keep_history, 24);
#endif
#undef RKLLM_SIZE
#undef RKLLM_AT
#endif
#undef RKLLM_ASSERT
