/* What is not known of the real board, one switch each, named alike in the CPU runtime and in the scripted one.
 *
 * Each is an environment variable, "0" or "1", read when it is asked for; tests run both settings.
 *
 * | variable | 1 means | default, and why |
 * |---|---|---|
 * | RKLLM_GUESS_ABORT_IN_PREFILL | an abort takes effect during prefill, not only between decode steps
 *   | 0: seen on 1.2.x |
 * | RKLLM_GUESS_KEEP_OWN_TOKENS | generated tokens stay in the KV cache after a keep_history = 0 run and can be reused
 *   | 0: the slower one, so nobody relies on it |
 * | RKLLM_GUESS_CACHE_ON_ABORT | an aborted run still writes its prompt cache file | 1: reported for 1.2.3 |
 * | RKLLM_GUESS_LOAD_AFTER_ABORT_CRASHES | loading a prompt cache directly after an aborted run crashes
 *   | 1 in family 1.2, 0 in 1.3: reported for 1.2.3 only |
 * | RKLLM_GUESS_SECOND_INIT_CRASHES | an init crashes, instead of failing, while another handle lives; so does every
 *   init of a process in which one has failed | 0: the first half is reported for 1.3.0, when NPU memory ran out; tests
 *   that share a process with the library would not survive it |
 */
#ifndef BOARD_GUESSES_H
#define BOARD_GUESSES_H

#include <stdbool.h>
#include <stdlib.h>

#include "rkllm.h"

#define GUESS_ABORT_IN_PREFILL "RKLLM_GUESS_ABORT_IN_PREFILL", false
#define GUESS_KEEP_OWN_TOKENS "RKLLM_GUESS_KEEP_OWN_TOKENS", false
#define GUESS_CACHE_ON_ABORT "RKLLM_GUESS_CACHE_ON_ABORT", true
#define GUESS_LOAD_AFTER_ABORT_CRASHES "RKLLM_GUESS_LOAD_AFTER_ABORT_CRASHES", (RKLLM_ABI < 13)
#define GUESS_SECOND_INIT_CRASHES "RKLLM_GUESS_SECOND_INIT_CRASHES", false

/* Use: board_guess(GUESS_CACHE_ON_ABORT). */
static inline bool board_guess(const char* variable, bool otherwise) {
    const char* value = getenv(variable);
    return value && *value ? *value != '0' : otherwise;
}

#endif
