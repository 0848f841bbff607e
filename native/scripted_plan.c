/* What a run will say: the script's text cut into tokens, with the faults that sit in the text itself. */
#include <stdlib.h>
#include <string.h>

#include "scripted.h"

static void add(Plan* plan, const char* text, size_t length, int32_t id, LLMCallState state) {
    if (plan->n == plan->room) {
        plan->room = plan->room ? 2 * plan->room : 64;
        plan->pieces = realloc(plan->pieces, (size_t)plan->room * sizeof *plan->pieces);
    }
    plan->pieces[plan->n++] = (Piece){text ? strndup(text, length) : NULL, id, state};
}

static size_t first_long_character(const char* text, size_t length) {
    size_t at = 0;
    while (at < length && (unsigned char)text[at] < 0xC0) at++;
    return at;
}

/* One token, or, when characters are to be split, several that each end after a character's first byte; or each byte. */
static void add_token(Plan* plan, const char* text, size_t length, const char* split) {
    if (!strcmp(split, "single")) {
        for (size_t i = 0; i < length; i++) add(plan, text + i, 1, token_id(text + i, 1), RKLLM_RUN_NORMAL);
        return;
    }
    bool bytes = !strcmp(split, "bytes"), partial = !strcmp(split, "partial");
    size_t held = 0; /* bytes at the front of `text` that an earlier piece has had but not shown */
    while (length && strcmp(split, "no")) {
        size_t at = held + first_long_character(text + held, length - held) + 1;
        if (at >= length) break;
        int32_t id = token_id(text, at);
        if (bytes) {
            add(plan, text, at, id, RKLLM_RUN_NORMAL);
            text += at;
            length -= at;
        } else {
            if (at > 1) add(plan, text, at - 1, token_id(text, at - 1), RKLLM_RUN_NORMAL);
            add(plan, partial ? text + at - 1 : NULL, 1, id, RKLLM_RUN_WAITING);
            text += at - 1;
            length -= at - 1;
            held = 1;
        }
    }
    if (length) add(plan, text, length, token_id(text, length), RKLLM_RUN_NORMAL);
}

/* The text between the prompt's last "[[" and "]]". */
static char* echoed(const char* prompt) {
    const char *start = NULL, *end = NULL;
    for (const char* at = prompt; (at = strstr(at, "]]")); at++) end = at;
    for (const char* at = prompt; end && (at = strstr(at, "[[")) && at < end; at++) start = at + 2;
    return start && start <= end ? strndup(start, (size_t)(end - start)) : strdup("");
}

static char* numbered_words(int count) {
    size_t room = (size_t)count * 13 + 1, n = 0;
    char* text = malloc(room);
    *text = 0;
    for (int i = 0; i < count; i++) n += (size_t)snprintf(text + n, room - n, i ? " w%d" : "w%d", i);
    return text;
}

static char* sentence(uint32_t hash) {
    static const char* words[] = {"amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron",
                                  "inlet", "jetty", "knoll", "larch", "marsh", "north", "ocean", "plain"};
    char text[128];
    snprintf(text, sizeof text, "Prompt %08x leads to %s, %s and %s.", hash, words[hash & 15], words[hash >> 4 & 15],
             words[hash >> 8 & 15]);
    return strdup(text);
}

static char* repeated(char* text, int times) {
    size_t length = strlen(text), n = 0;
    char* all = malloc((length + 1) * (size_t)times + 1);
    for (int i = 0; i < times; i++) {
        if (i) all[n++] = ' ';
        memcpy(all + n, text, length);
        n += length;
    }
    all[n] = 0;
    free(text);
    return all;
}

static char* answer(const Script* script, const char* prompt, uint32_t prompt_hash) {
    char* text = script->echo            ? echoed(prompt)
                 : script->text          ? strdup(script->text)
                 : script->tokens >= 0   ? numbered_words(script->tokens)
                                         : sentence(prompt_hash);
    return script->repeat > 1 ? repeated(text, script->repeat) : text;
}

Plan plan_make(const Script* script, const char* prompt, uint32_t prompt_hash, int limit, bool past_eos,
               bool skip_special) {
    Plan plan = {0};
    char* text = answer(script, prompt, prompt_hash);
    const char* rest = text;
    for (int n = 1; plan.n < limit; n++) {
        if (n == script->null_at) add(&plan, NULL, 0, ID_INSERTED, RKLLM_RUN_NORMAL);
        if (n == script->empty_at) add(&plan, "", 0, ID_INSERTED, RKLLM_RUN_NORMAL);
        if (n == script->waiting_at) add(&plan, NULL, 0, ID_INSERTED, RKLLM_RUN_WAITING);
        if (n == script->invalid_at) add(&plan, "\xff\xfe", 2, ID_INSERTED, RKLLM_RUN_NORMAL);
        size_t length = token_length(rest);
        if (!length) break;
        add_token(&plan, rest, length, script->split);
        rest += length;
    }
    free(text);
    if (past_eos && plan.n < limit) {
        const char* shown = skip_special ? "" : "</s>";
        add(&plan, shown, strlen(shown), script->eos, RKLLM_RUN_NORMAL);
        while (plan.n < limit) add(&plan, " on", 3, token_id(" on", 3), RKLLM_RUN_NORMAL);
    }
    while (plan.n > limit) free(plan.pieces[--plan.n].text);
    return plan;
}

void plan_free(Plan* plan) {
    for (int i = 0; i < plan->n; i++) free(plan->pieces[i].text);
    free(plan->pieces);
}
