/* What the files of the scripted runtime share. The head of scripted_runtime.c tells the story and lists the keys. */
#ifndef SCRIPTED_H
#define SCRIPTED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "board_guesses.h"
#include "rkllm.h"

enum { EOS_DEFAULT = 2, ID_INSERTED = 15, ID_BYTE = 256, ID_TEXT = 1000, CONTEXT_RESERVE = 4 };

/* Where a fault strikes: a token's number, counted from 1, or one of these. */
enum { NOWHERE = 0, AT_INIT = -1, AT_PREFILL = -2, AT_DESTROY = -3, AT_LOAD = -4, AT_SAVE = -5 };

typedef struct {
    /* Time, milliseconds unless the name says otherwise. */
    double load_ms, prefill_ms, prefill_us_per_token, decode_ms, finish_ms, return_ms;
    /* What is said. */
    char* text;
    int tokens, echo, repeat;
    /* The model. */
    int context_limit, npu_cores, eos, embd_size, cache_bytes_per_token;
    char *arch, *platform, *dtype, *toolkit_version, *driver_version;
    /* What is reused. */
    char* reuse;
    int residue;
    /* Faults. */
    int segv, abrt, hang, fail, error;
    char *reason, *fail_init, *once;
    int fail_init_from;
    int null_at, empty_at, waiting_at, invalid_at, after_finish;
    char* split;
    int finish, wrong_perf, miss_eos, lose_aborts, late_abort, remember_abort, abort_returns;
} Script;

/* scripted_script.c */
void script_defaults(Script* script); /* the built-in values, then RKLLM_SCRIPT_* of the environment */
void script_copy(Script* to, const Script* from);
void script_free(Script* script);
bool script_read_model(Script* script, const char* path);      /* false, and printed, for a key that does not exist */
bool script_read_directive(Script* script, const char* prompt); /* likewise */

/* scripted_tokens.c */
typedef struct {
    int32_t* ids;
    int n, room;
} Ids;

uint32_t hash_bytes(uint32_t seed, const void* bytes, size_t length);
size_t token_length(const char* text); /* bytes of the first token, 0 at the end */
int32_t token_id(const char* bytes, size_t length);
void ids_add(Ids* ids, int32_t id);
void ids_add_text(Ids* ids, const char* text);
int ids_common_prefix(const Ids* a, const Ids* b);
char* ids_text(const Ids* ids); /* the text of ids that stand for single bytes; to be freed */

/* scripted_plan.c: what a run will say, piece by piece */
typedef struct {
    char* text; /* may be NULL */
    int32_t id;
    LLMCallState state;
} Piece;

typedef struct {
    Piece* pieces;
    int n, room;
} Plan;

Plan plan_make(const Script* script, const char* prompt, uint32_t prompt_hash, int limit, bool past_eos,
               bool skip_special);
void plan_free(Plan* plan);

/* scripted_journal.c */
int64_t now_ns(void);
void journal_open(void); /* opens what RKLLM_SCRIPT_LOG names now; each init calls it */
/* One line "<ns> <pid> <tid> <what> key=value …"; `format` is a list of pairs such as "path=%s n=%d". %s values are
 * percent-encoded, a NULL is written as %00. */
void journal(const char* what, const char* format, ...) __attribute__((format(printf, 2, 3)));

typedef struct {
    char *path, *name;
} Lora;

typedef struct {
    Script script;
    RKLLMParam param;
    LLMResultCallback callback;
    void* userdata;
    char *system, *prefix, *postfix; /* the chat template; three empty strings switch it off */
    bool template_is_ours;           /* set by rkllm_set_chat_template */
    Ids kv;
    char* kv_lora;     /* the adapter the cache was computed with, "" for none */
    int system_tokens; /* positions at the front that the template's system text fills */
    bool cache_loaded, last_run_aborted;
    Lora* loras;
    int n_loras;
    atomic_int running, aborts, lose_aborts;
} Context;

/* scripted_faults.c */
bool sleep_until(int64_t deadline_ns, Context* interrupted_by); /* NULL: by nothing; false: an abort cut it short */
int64_t ms_to_ns(double ms);
/* Whether a fault set for `where` happens here; with the key `once`, only while its marker file is missing. */
bool fault(const Script* script, const char* kind, int where, int place);
void strike(const Script* script, int place); /* crashes or hangs if the script says so for this place */
void crash(void) __attribute__((noreturn));
int misuse(const char* what); /* a call that must never be made; -1 */
void say(char severity, const char* format, ...) __attribute__((format(printf, 2, 3)));

/* scripted_cache.c */
void cache_save(const Context* context, const Script* script, const char* path);
int cache_load(Context* context, const char* path);

/* scripted_run.c */
int run_scripted(Context* context, const RKLLMInput* input, const RKLLMInferParam* infer, void* userdata);

#endif
