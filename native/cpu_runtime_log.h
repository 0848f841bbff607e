/* The lines the real library prints: a severity letter, its name, the text. */
#ifndef CPU_RUNTIME_LOG_H
#define CPU_RUNTIME_LOG_H

#include <cstdarg>
#include <cstdio>

namespace cpu_runtime {

/* Print one line and flush it, so that a reader at the other end of a pipe never waits for it. */
__attribute__((format(printf, 2, 3))) inline void say(char severity, const char* format, ...) {
    va_list values;
    va_start(values, format);
    flockfile(stdout);
    std::printf("%c rkllm: ", severity);
    std::vprintf(format, values);
    std::printf("\n");
    std::fflush(stdout);
    funlockfile(stdout);
    va_end(values);
}

}  // namespace cpu_runtime

#endif
