/* A quick check sum: finds damage and tells things apart, resists nobody. */
#ifndef CPU_RUNTIME_HASH_H
#define CPU_RUNTIME_HASH_H

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace cpu_runtime {

inline uint64_t mixed(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
    return hash ^ (hash >> 29);
}

inline uint64_t hashed(uint64_t hash, const void* data, size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    hash = mixed(hash, size);
    for (; size >= sizeof hash; bytes += sizeof hash, size -= sizeof hash) {
        uint64_t word;
        std::memcpy(&word, bytes, sizeof word);
        hash = mixed(hash, word);
    }
    for (; size; ++bytes, --size) hash = mixed(hash, *bytes);
    return hash;
}

}  // namespace cpu_runtime

#endif
