/* Time, log lines, and what goes wrong on purpose. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "scripted.h"

enum { ABORT_CHECK_NS = 1000000 };

int64_t ms_to_ns(double ms) { return (int64_t)(ms * 1e6); }

static void sleep_whole(int64_t deadline_ns) {
    struct timespec until = {deadline_ns / 1000000000, deadline_ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) continue;
}

bool sleep_until(int64_t deadline_ns, Context* interrupted_by) {
    int64_t now = now_ns();
    while (now < deadline_ns) {
        if (interrupted_by && atomic_load(&interrupted_by->aborts)) return false;
        int64_t step = now + ABORT_CHECK_NS;
        sleep_whole(interrupted_by && step < deadline_ns ? step : deadline_ns);
        now = now_ns();
    }
    return true;
}

/* Not flushed: whoever reads the log through a pipe has to ask the C library for it, as with the real one. */
void say(char severity, const char* format, ...) {
    va_list values;
    va_start(values, format);
    printf("%c rkllm: ", severity);
    vprintf(format, values);
    putchar('\n');
    va_end(values);
}

void crash(void) {
    raise(SIGSEGV);
    abort();
}

int misuse(const char* what) {
    journal("misuse", "what=%s", what);
    say('E', "misuse: %s", what);
    return -1;
}

bool fault(const Script* script, const char* kind, int where, int place) {
    if (where != place || place == NOWHERE) return false;
    if (script->once) {
        int marker = open(script->once, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (marker < 0) return false;
        close(marker);
    }
    journal("fault", "kind=%s place=%d", kind, place);
    return true;
}

void strike(const Script* script, int place) {
    if (fault(script, "segv", script->segv, place)) crash();
    if (fault(script, "abrt", script->abrt, place)) {
        fputs("GGML_ASSERT(scripted) failed\n", stderr);
        abort();
    }
    if (fault(script, "hang", script->hang, place))
        for (;;) pause();
}
