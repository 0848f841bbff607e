/* The script: keys with values, from the environment, the model's file and the prompt. */
#include <stdlib.h>
#include <string.h>

#include "scripted.h"

typedef enum { INTEGER, NUMBER, TEXT, PLACE } Kind;

typedef struct {
    const char* name;
    Kind kind;
    size_t offset;
    const char* initial;
    const char* choices; /* NULL, or the words allowed, each between two spaces */
} Key;

#define CHOICE(name, kind, initial, choices) {#name, kind, offsetof(Script, name), initial, choices}
#define KEY(name, kind, initial) CHOICE(name, kind, initial, NULL)
#define FAULT(name, choices) CHOICE(name, PLACE, "0", choices)
static const Key KEYS[] = {
    KEY(load_ms, NUMBER, "0"),
    KEY(prefill_ms, NUMBER, "0"),
    KEY(prefill_us_per_token, NUMBER, "0"),
    KEY(decode_ms, NUMBER, "0"),
    KEY(finish_ms, NUMBER, "0"),
    KEY(return_ms, NUMBER, "0"),
    KEY(text, TEXT, NULL),
    KEY(tokens, INTEGER, "-1"),
    KEY(echo, INTEGER, "0"),
    KEY(repeat, INTEGER, "1"),
    KEY(context_limit, INTEGER, "4096"),
    KEY(npu_cores, INTEGER, "3"),
    KEY(eos, INTEGER, "2"),
    KEY(embd_size, INTEGER, "64"),
    KEY(cache_bytes_per_token, INTEGER, "256"),
    KEY(arch, TEXT, "scripted"),
    KEY(platform, TEXT, "RK3588"),
    KEY(dtype, TEXT, "W8A8"),
    KEY(toolkit_version, TEXT, RKLLM_VERSION),
    KEY(driver_version, TEXT, "0.9.8"),
    CHOICE(reuse, TEXT, "all", " all text none "),
    KEY(residue, INTEGER, "0"),
    FAULT(segv, " init prefill load save destroy "),
    FAULT(abrt, " init prefill load save destroy "),
    FAULT(hang, " init prefill load save destroy "),
    FAULT(fail, " prefill load save "),
    FAULT(error, " prefill "),
    KEY(reason, TEXT, "matmul(w8a8) run failed"),
    KEY(fail_init, TEXT, NULL),
    KEY(fail_init_from, INTEGER, "0"),
    KEY(once, TEXT, NULL),
    KEY(null_at, INTEGER, "0"),
    KEY(empty_at, INTEGER, "0"),
    KEY(waiting_at, INTEGER, "0"),
    KEY(invalid_at, INTEGER, "0"),
    KEY(after_finish, INTEGER, "0"),
    CHOICE(split, TEXT, "no", " no bytes single waiting partial "),
    KEY(finish, INTEGER, "1"),
    KEY(wrong_perf, INTEGER, "0"),
    KEY(miss_eos, INTEGER, "0"),
    KEY(lose_aborts, INTEGER, "0"),
    KEY(late_abort, INTEGER, "0"),
    KEY(remember_abort, INTEGER, "0"),
    KEY(abort_returns, INTEGER, "0"),
};
#undef KEY
#undef CHOICE
#undef FAULT
enum { N_KEYS = sizeof KEYS / sizeof KEYS[0], MODEL_TEXT_MAX = 65536 };

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static char* percent_decode(const char* from, size_t length) {
    char* text = malloc(length + 1);
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        if (from[i] == '%' && i + 2 < length && hex(from[i + 1]) >= 0 && hex(from[i + 2]) >= 0) {
            text[n++] = (char)(hex(from[i + 1]) << 4 | hex(from[i + 2]));
            i += 2;
        } else {
            text[n++] = from[i];
        }
    }
    text[n] = 0;
    return text;
}

static int place(const char* word) {
    static const struct { const char* word; int place; } places[] = {
        {"init", AT_INIT}, {"prefill", AT_PREFILL}, {"destroy", AT_DESTROY}, {"load", AT_LOAD}, {"save", AT_SAVE}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (!strcmp(word, places[i].word)) return places[i].place;
    return atoi(word);
}

static bool allowed(const Key* key, const char* value) {
    char word[32];
    if (!key->choices || (key->kind == PLACE && atoi(value) > 0)) return true;
    snprintf(word, sizeof word, " %s ", value);
    return strstr(key->choices, word);
}

static void set(Script* script, const Key* key, const char* value) {
    void* field = (char*)script + key->offset;
    switch (key->kind) {
    case INTEGER: *(int*)field = atoi(value); break;
    case NUMBER: *(double*)field = atof(value); break;
    case PLACE: *(int*)field = place(value); break;
    case TEXT:
        free(*(char**)field);
        *(char**)field = value ? strdup(value) : NULL;
        break;
    }
}

/* One word "key=value", the value percent-encoded. */
static bool set_word(Script* script, const char* word, size_t length) {
    const char* equals = memchr(word, '=', length);
    size_t name = equals ? (size_t)(equals - word) : length;
    for (int k = 0; equals && k < N_KEYS; k++) {
        if (strlen(KEYS[k].name) != name || memcmp(KEYS[k].name, word, name)) continue;
        char* value = percent_decode(equals + 1, length - name - 1);
        bool good = allowed(&KEYS[k], value);
        if (good) set(script, &KEYS[k], value);
        else say('E', "the script's key '%s' can't be '%s'", KEYS[k].name, value);
        free(value);
        return good;
    }
    say('E', "the script has no key '%.*s'", (int)name, word);
    return false;
}

void script_defaults(Script* script) {
    memset(script, 0, sizeof *script);
    for (int k = 0; k < N_KEYS; k++) {
        char variable[64] = "RKLLM_SCRIPT_";
        size_t n = strlen(variable);
        for (const char* c = KEYS[k].name; *c; c++) variable[n++] = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
        variable[n] = 0;
        const char* value = getenv(variable);
        if (KEYS[k].initial) set(script, &KEYS[k], KEYS[k].initial);
        if (value && *value) {
            char* decoded = percent_decode(value, strlen(value));
            set(script, &KEYS[k], decoded);
            free(decoded);
        }
    }
}

void script_copy(Script* to, const Script* from) {
    *to = *from;
    for (int k = 0; k < N_KEYS; k++) {
        if (KEYS[k].kind != TEXT) continue;
        char** field = (char**)((char*)to + KEYS[k].offset);
        *field = *field ? strdup(*field) : NULL;
    }
}

void script_free(Script* script) {
    for (int k = 0; k < N_KEYS; k++)
        if (KEYS[k].kind == TEXT) set(script, &KEYS[k], NULL);
}

/* A file with a NUL in it, or a long one, is taken for a real model and says nothing; so does a line without "=". */
bool script_read_model(Script* script, const char* path) {
    static const char blank[] = " \t\r";
    FILE* file = fopen(path, "rb");
    char* bytes = malloc(MODEL_TEXT_MAX + 1);
    size_t length = file ? fread(bytes, 1, MODEL_TEXT_MAX, file) : 0;
    if (file) fclose(file);
    bytes[length] = 0;
    bool good = true;
    if (length < MODEL_TEXT_MAX && !memchr(bytes, 0, length)) {
        char* rest = bytes;
        for (char* line; good && (line = strsep(&rest, "\n"));) {
            line += strspn(line, blank);
            size_t n = strlen(line);
            while (n && strchr(blank, line[n - 1])) n--;
            if (*line != '#' && memchr(line, '=', n)) good = set_word(script, line, n);
        }
    }
    free(bytes);
    return good;
}

bool script_read_directive(Script* script, const char* prompt) {
    static const char opening[] = "<<script";
    const char* last = NULL;
    for (const char* at = prompt; (at = strstr(at, opening)); at++) last = at;
    if (!last) return true;
    const char* word = last + strlen(opening);
    const char* end = strstr(word, ">>");
    if (!end) {
        say('E', "the script's directive has no end");
        return false;
    }
    while (word < end) {
        size_t length = strcspn(word, " \n");
        if (word + length > end) length = (size_t)(end - word);
        if (length && !set_word(script, word, length)) return false;
        word += length + 1;
    }
    return true;
}
