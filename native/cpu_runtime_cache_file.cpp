#include "cpu_runtime_cache_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "cpu_runtime_hash.h"
#include "cpu_runtime_log.h"

namespace cpu_runtime {
namespace {

constexpr char MAGIC[8] = {'R', 'K', 'L', 'L', 'M', 'C', 'P', 'U'};
constexpr uint32_t VERSION = 1;

struct Head {
    char magic[8];
    uint32_t version;
    uint32_t token_count;
    uint64_t model;
    uint64_t adapter;
    uint64_t state_bytes;
    uint64_t checksum; /* over the head with this field 0, the tokens and the state */
};
static_assert(sizeof(Head) == 48, "the head is written as it lies in memory");

struct Close {
    void operator()(FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<FILE, Close>;

uint64_t checksum(Head head, const std::vector<Token>& tokens, const std::vector<uint8_t>& state) {
    head.checksum = 0;
    uint64_t hash = hashed(0, &head, sizeof head);
    hash = hashed(hash, tokens.data(), tokens.size() * sizeof(Token));
    return hashed(hash, state.data(), state.size());
}

template <typename Item>
bool put(FILE* file, const std::vector<Item>& items) {
    return std::fwrite(items.data(), sizeof(Item), items.size(), file) == items.size();
}

template <typename Item>
bool get(FILE* file, std::vector<Item>& items) {
    return std::fread(items.data(), sizeof(Item), items.size(), file) == items.size();
}

bool failed(const char* what, const std::string& path, const char* reason) {
    say('E', "failed to %s prompt cache %s: %s", what, path.c_str(), reason);
    return false;
}

}  // namespace

bool save_cache(const std::string& path, const Model& model, const Kv& kv) {
    if (model.recurrent()) {
        say('W', "The %s model does not support saving/loading prompt cache!", model.architecture().c_str());
        return false;
    }
    const std::vector<uint8_t> state = kv.state();
    Head head{};
    std::memcpy(head.magic, MAGIC, sizeof MAGIC);
    head.version = VERSION;
    head.token_count = static_cast<uint32_t>(kv.size());
    head.model = model.identity();
    head.adapter = kv.adapter();
    head.state_bytes = state.size();
    head.checksum = checksum(head, kv.tokens(), state);

    const std::string partial = path + ".part" + std::to_string(getpid());
    FILE* file = std::fopen(partial.c_str(), "wb");
    if (!file) return failed("save", "to " + path, std::strerror(errno));
    errno = 0;
    bool whole = std::fwrite(&head, sizeof head, 1, file) == 1 && put(file, kv.tokens()) && put(file, state) &&
                 std::fflush(file) == 0 && fsync(fileno(file)) == 0;
    whole = std::fclose(file) == 0 && whole && std::rename(partial.c_str(), path.c_str()) == 0;
    if (whole) return true;
    const int reason = errno ? errno : EIO;
    unlink(partial.c_str());
    return failed("save", "to " + path, std::strerror(reason));
}

bool load_cache(const std::string& path, const Model& model, Kv& kv) {
    if (model.recurrent()) {
        say('W', "The %s model does not support saving/loading prompt cache!", model.architecture().c_str());
        return false;
    }
    struct stat facts;
    const File file(std::fopen(path.c_str(), "rb"));
    if (!file || fstat(fileno(file.get()), &facts) != 0) {
        if (errno == ENOENT) say('E', "prompt cache file '%s' does not exist", path.c_str());
        else failed("load", "from " + path, std::strerror(errno));
        return false;
    }
    if (facts.st_size == 0) {
        say('E', "prompt cache file '%s' is empty", path.c_str());
        return false;
    }
    Head head{};
    const auto size = static_cast<uint64_t>(facts.st_size);
    if (std::fread(&head, sizeof head, 1, file.get()) != 1 || std::memcmp(head.magic, MAGIC, sizeof MAGIC) != 0)
        return failed("load", "from " + path, "it is no prompt cache of the CPU runtime");
    if (head.version != VERSION) return failed("load", "from " + path, "it was written by another version");
    if (head.model != model.identity()) {
        say('E', "the prompt dose not match the current model[%s]", model.architecture().c_str());
        return false;
    }
    const uint64_t rest = size - sizeof head;
    if (head.state_bytes > rest || head.token_count * sizeof(Token) != rest - head.state_bytes)
        return failed("load", "from " + path, "it is not whole");
    if (head.token_count > kv.capacity()) return failed("load", "from " + path, "it is longer than the context");
    std::vector<Token> tokens(head.token_count);
    std::vector<uint8_t> state(head.state_bytes);
    if (!get(file.get(), tokens) || !get(file.get(), state)) return failed("load", "from " + path, "it can't be read");
    if (checksum(head, tokens, state) != head.checksum) return failed("load", "from " + path, "it is damaged");
    forget_complaint();
    if (!kv.restore(tokens, head.adapter, state)) return failed("load", "from " + path, complaint().c_str());
    say('I', "loaded a prompt cache with prompt size of %zu tokens", tokens.size());
    return true;
}

}  // namespace cpu_runtime
