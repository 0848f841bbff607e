/* Tokens: an optional leading space and up to 16 bytes that are not white, never half a character. */
#include <stdlib.h>
#include <string.h>

#include "scripted.h"

enum { RUN_MAX = 16 };

static bool white(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
static bool continues(char c) { return ((unsigned char)c & 0xC0) == 0x80; }

/* FNV-1a. */
uint32_t hash_bytes(uint32_t seed, const void* bytes, size_t length) {
    uint32_t hash = seed ? seed : 2166136261u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ ((const unsigned char*)bytes)[i]) * 16777619u;
    return hash;
}

size_t token_length(const char* text) {
    if (!*text) return 0;
    size_t start = *text == ' ' && text[1] && !white(text[1]);
    if (white(text[start])) return 1;
    size_t n = 0;
    while (n < RUN_MAX && text[start + n] && !white(text[start + n])) n++;
    size_t whole = n;
    while (whole && continues(text[start + whole])) whole--;
    return start + (whole ? whole : n);
}

int32_t token_id(const char* bytes, size_t length) {
    return (int32_t)(ID_TEXT + hash_bytes(0, bytes, length) % (INT32_MAX - ID_TEXT));
}

void ids_add(Ids* ids, int32_t id) {
    if (ids->n == ids->room) {
        ids->room = ids->room ? 2 * ids->room : 256;
        ids->ids = realloc(ids->ids, (size_t)ids->room * sizeof *ids->ids);
    }
    ids->ids[ids->n++] = id;
}

void ids_add_text(Ids* ids, const char* text) {
    for (size_t n; (n = token_length(text)); text += n) ids_add(ids, token_id(text, n));
}

int ids_common_prefix(const Ids* a, const Ids* b) {
    int n = 0;
    while (n < a->n && n < b->n && a->ids[n] == b->ids[n]) n++;
    return n;
}

char* ids_text(const Ids* ids) {
    char* text = malloc((size_t)ids->n + 1);
    size_t n = 0;
    for (int i = 0; i < ids->n; i++)
        if (ids->ids[i] > ID_BYTE && ids->ids[i] < ID_BYTE + 256) text[n++] = (char)(ids->ids[i] - ID_BYTE);
    text[n] = 0;
    return text;
}
