/* Where a text's last whole character ends. */
#ifndef CPU_RUNTIME_UTF8_H
#define CPU_RUNTIME_UTF8_H

#include <cstddef>
#include <string>

namespace cpu_runtime {

/* The length of `bytes` without a UTF-8 character at the end that further bytes can still complete. Bytes that can
 * never become one count as whole: what the model says is passed on. */
inline size_t whole_characters(const std::string& bytes) {
    for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
        const auto byte = static_cast<unsigned char>(bytes[bytes.size() - back]);
        if ((byte & 0xC0) == 0x80) continue;
        const size_t length = byte >= 0xF0 && byte < 0xF5 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC2 ? 2 : 1;
        return byte < 0xF5 && back < length ? bytes.size() - back : bytes.size();
    }
    return bytes.size();
}

}  // namespace cpu_runtime

#endif
