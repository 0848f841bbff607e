/* The journal: every call and callback, one line each, in the file that RKLLM_SCRIPT_LOG names. */
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "scripted.h"

static atomic_int descriptor = -1;
static char open_path[4096];
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

typedef struct {
    char* text;
    size_t n, room;
} Line;

int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* An old descriptor stays open: another thread may be writing to it. */
void journal_open(void) {
    const char* path = getenv("RKLLM_SCRIPT_LOG");
    if (!path) path = "";
    pthread_mutex_lock(&opening);
    if (strcmp(path, open_path)) {
        snprintf(open_path, sizeof open_path, "%s", path);
        descriptor = *path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    }
    pthread_mutex_unlock(&opening);
}

static void append(Line* line, const char* bytes, size_t length) {
    if (line->n + length > line->room) {
        line->room = 2 * (line->n + length) + 256;
        line->text = realloc(line->text, line->room);
    }
    memcpy(line->text + line->n, bytes, length);
    line->n += length;
}

static void append_encoded(Line* line, const char* text) {
    if (!text) {
        append(line, "%00", 3);
        return;
    }
    for (; *text; text++) {
        char code[4];
        unsigned char c = (unsigned char)*text;
        bool plain = c > ' ' && c < 0x7f && c != '%' && c != '=';
        append(line, code, (size_t)snprintf(code, sizeof code, plain ? "%c" : "%%%02X", c));
    }
}

/* A single write of a whole line: lines of several processes never mix, and a crash loses nothing. */
void journal(const char* what, const char* format, ...) {
    if (descriptor < 0) return;
    Line line = {0};
    char part[96];
    append(&line, part,
           (size_t)snprintf(part, sizeof part, "%lld %d %ld %s", (long long)now_ns(), (int)getpid(),
                            syscall(SYS_gettid), what));
    append(&line, " ", 1);
    va_list values;
    va_start(values, format);
    for (const char* c = format; *c; c++) {
        if (*c != '%') {
            append(&line, c, 1);
            continue;
        }
        switch (*++c) {
        case 's': append_encoded(&line, va_arg(values, const char*)); break;
        case 'd': append(&line, part, (size_t)snprintf(part, sizeof part, "%d", va_arg(values, int))); break;
        case 'x': append(&line, part, (size_t)snprintf(part, sizeof part, "%08x", va_arg(values, unsigned))); break;
        default: append(&line, part, (size_t)snprintf(part, sizeof part, "%g", va_arg(values, double)));
        }
    }
    va_end(values);
    append(&line, "\n", 1);
    if (write(descriptor, line.text, line.n) < 0) perror("RKLLM_SCRIPT_LOG");
    free(line.text);
}
