/* Prompt cache files: a head that says what they belong to, the prompt's tokens, their states. */
#ifndef CPU_RUNTIME_CACHE_FILE_H
#define CPU_RUNTIME_CACHE_FILE_H

#include <string>

#include "cpu_runtime_kv.h"

namespace cpu_runtime {

/* Write what the cache holds; the file appears whole or not at all. False, with the reason said in the log. */
bool save_cache(const std::string& path, const Model& model, const Kv& kv);

/* Fill the cache from a file; whatever is wrong with it is found before anything changes. False, with the reason said. */
bool load_cache(const std::string& path, const Model& model, Kv& kv);

}  // namespace cpu_runtime

#endif
