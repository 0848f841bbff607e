/* Prompt-cache files: three words and the token ids as in the real file, then a stand-in for the keys and values. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "scripted.h"

enum { FORMAT = 0, HEADS = 8 };

typedef struct {
    char mark[4]; /* "nseg" */
    uint32_t arch, n_tokens, check;
} Footer;

static Footer footer_of(const Script* script, const Ids* ids) {
    Footer footer = {{'n', 's', 'e', 'g'}, hash_bytes(0, script->arch, strlen(script->arch)), (uint32_t)ids->n, 0};
    footer.check = hash_bytes(footer.arch, ids->ids, (size_t)ids->n * sizeof *ids->ids);
    return footer;
}

static bool write_file(FILE* file, const Script* script, const Ids* kv) {
    int32_t head[] = {FORMAT, HEADS, kv->n};
    Footer footer = footer_of(script, kv);
    size_t per_token = script->cache_bytes_per_token > 0 ? (size_t)script->cache_bytes_per_token : 1;
    char* block = malloc(per_token);
    bool good = fwrite(head, sizeof head, 1, file) == 1;
    good = good && fwrite(kv->ids, sizeof *kv->ids, (size_t)kv->n, file) == (size_t)kv->n;
    for (int i = 0; good && i < kv->n; i++) {
        memset(block, kv->ids[i] & 0xff, per_token);
        good = fwrite(block, per_token, 1, file) == 1;
    }
    free(block);
    return good && fwrite(&footer, sizeof footer, 1, file) == 1;
}

static bool refused(const Script* script) {
    if (strncmp(script->arch, "rwkv", 4)) return false;
    say('W', "The rwkv model does not support saving/loading prompt cache!");
    return true;
}

void cache_save(const Context* context, const Script* script, const char* path) {
    if (refused(script)) return;
    strike(script, AT_SAVE);
    FILE* file = fault(script, "fail", script->fail, AT_SAVE) ? (errno = ENOSPC, NULL) : fopen(path, "wb");
    bool good = file && write_file(file, script, &context->kv);
    int reason = errno;
    if (file && fclose(file)) good = false;
    if (!good) say('E', "failed to save prompt cache to %s: %s", path, strerror(reason));
    journal("save", "path=%s tokens=%d ret=%d", path, context->kv.n, good ? 0 : -1);
}

typedef enum { WHOLE, EMPTY, FOREIGN, DAMAGED } State;

static State read_file(FILE* file, const Script* script, Ids* ids) {
    int32_t head[3];
    Footer footer;
    struct stat facts;
    if (fstat(fileno(file), &facts)) return DAMAGED;
    if (!facts.st_size) return EMPTY;
    if (fread(head, sizeof head, 1, file) != 1 || head[0] != FORMAT || head[1] != HEADS || head[2] < 0) return DAMAGED;
    for (int i = 0; i < head[2]; i++) {
        int32_t id;
        if (fread(&id, sizeof id, 1, file) != 1) return DAMAGED;
        ids_add(ids, id);
    }
    if (fseek(file, -(long)sizeof footer, SEEK_END) || fread(&footer, sizeof footer, 1, file) != 1) return DAMAGED;
    Footer right = footer_of(script, ids);
    if (memcmp(footer.mark, right.mark, sizeof right.mark) || footer.n_tokens != right.n_tokens) return DAMAGED;
    if (footer.arch != right.arch) return FOREIGN;
    return footer.check == right.check ? WHOLE : DAMAGED;
}

int cache_load(Context* context, const char* path) {
    const Script* script = &context->script;
    if (refused(script)) return -1;
    strike(script, AT_LOAD);
    if (context->last_run_aborted && board_guess(GUESS_LOAD_AFTER_ABORT_CRASHES)) crash();
    if (fault(script, "fail", script->fail, AT_LOAD)) {
        say('E', "failed to load prompt cache from %s", path);
        return -1;
    }
    if (context->cache_loaded) return misuse("a prompt cache is loaded before the last one was released");
    FILE* file = fopen(path, "rb");
    if (!file) {
        say('E', "prompt cache file '%s' does not exist", path);
        return -1;
    }
    Ids ids = {0};
    State state = read_file(file, script, &ids);
    fclose(file);
    if (state == WHOLE) {
        free(context->kv.ids);
        context->kv = ids;
        context->cache_loaded = true;
        say('I', "loaded a prompt cache with prompt size of %d tokens", ids.n);
        return 0;
    }
    free(ids.ids);
    if (state == EMPTY) say('E', "prompt cache file '%s' is empty", path);
    if (state == FOREIGN) say('E', "the prompt dose not match the current model[%s]", script->arch);
    if (state == DAMAGED) say('E', "failed to load prompt cache from %s", path);
    return -1;
}
