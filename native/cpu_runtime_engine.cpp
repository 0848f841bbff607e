#include "cpu_runtime_engine.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <cstdlib>
#include <mutex>

#include "cpu_runtime_log.h"

namespace cpu_runtime {
namespace {

constexpr int LEVEL_ERROR = 4;

thread_local std::string first_error;

void listen(int level, const char* text, void*) {
    if (level != LEVEL_ERROR || !first_error.empty()) return;
    first_error = text;
    while (!first_error.empty() && (first_error.back() == '\n' || first_error.back() == ' ')) first_error.pop_back();
}

bool fill(Engine& engine, void* library) {
#define CPU_RUNTIME_RESOLVE(name, result, arguments)                                                     \
    engine.name = reinterpret_cast<result(*) arguments>(dlsym(library, "llama_" #name));                 \
    if (!engine.name) {                                                                                  \
        say('E', "the CPU engine has no function llama_%s; this release of xllamacpp can't be used", #name); \
        return false;                                                                                    \
    }
    CPU_RUNTIME_ENGINE_FUNCTIONS(CPU_RUNTIME_RESOLVE)
#undef CPU_RUNTIME_RESOLVE
    return true;
}

}  // namespace

std::string complaint() { return first_error; }
void forget_complaint() { first_error.clear(); }

const Engine* open_engine() {
    static std::mutex mutex;
    static Engine engine;
    static bool ready = false;
    const std::lock_guard<std::mutex> lock(mutex);
    if (ready) return &engine;
    const char* path = std::getenv("RKLLM_CPU_ENGINE");
    if (!path || !*path) {
        say('E', "the CPU engine can't be opened: RKLLM_CPU_ENGINE does not name it (pip install xllamacpp)");
        return nullptr;
    }
    /* libgomp reads this when it is loaded; by default its threads spin so long at each barrier that decoding beside
     * other work falls to a tenth. */
    setenv("GOMP_SPINCOUNT", "1000", 0);
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        say('E', "the CPU engine can't be opened: %s", dlerror());
        return nullptr;
    }
    if (!fill(engine, library)) {
        dlclose(library);
        return nullptr;
    }
    struct stat facts;
    engine.library_bytes = stat(path, &facts) == 0 ? static_cast<uint64_t>(facts.st_size) : 0;
    engine.log_set(listen, nullptr);
    engine.backend_init();
    ready = true;
    return &engine;
}

}  // namespace cpu_runtime
