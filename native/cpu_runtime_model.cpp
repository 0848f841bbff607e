#include "cpu_runtime_model.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "cpu_runtime_hash.h"
#include "cpu_runtime_log.h"

namespace cpu_runtime {
namespace {

constexpr size_t SAMPLES = 64;
constexpr size_t SAMPLE_BYTES = 4096;
constexpr char GGUF_MAGIC[] = {'G', 'G', 'U', 'F'};
/* Rockchip's container is GGUF 3 with a scrambled magic: the version number behind it stays readable. */
constexpr char ROCKCHIP_VERSION[] = {3, 0, 0, 0};

/* Whether a file begins as GGUF; else the reason is said. */
bool looks_like_gguf(std::ifstream& file, const std::string& path) {
    char head[8] = {};
    file.read(head, sizeof head);
    if (std::memcmp(head, GGUF_MAGIC, sizeof GGUF_MAGIC) == 0) return true;
    if (std::memcmp(head + 4, ROCKCHIP_VERSION, sizeof ROCKCHIP_VERSION) == 0)
        say('E', "'%s' is made for Rockchip's NPU (.rkllm); the CPU runtime reads GGUF files only", path.c_str());
    else
        say('E', "'%s' is not a GGUF file, which is all the CPU runtime reads", path.c_str());
    return false;
}

/* From the size and blocks spread over the file: a fine-tuned sibling has the same head and other weights. */
uint64_t identify(std::ifstream& file, uint64_t release) {
    file.clear();
    file.seekg(0, std::ios::end);
    const auto size = static_cast<uint64_t>(file.tellg());
    uint64_t hash = mixed(release, size);
    char block[SAMPLE_BYTES];
    for (size_t i = 0; i < SAMPLES; ++i) {
        file.clear();
        file.seekg(static_cast<std::streamoff>(size / SAMPLES * i));
        file.read(block, sizeof block);
        hash = hashed(hash, block, static_cast<size_t>(file.gcount()));
    }
    return hash;
}

/* Why llama.cpp refused a file, in the real library's words as far as it has some. */
void explain(const std::string& reason) {
    const std::string unknown = "unknown model architecture: '";
    const size_t at = reason.find(unknown);
    if (at == std::string::npos) return say('E', "invalid rkllm model! %s", reason.c_str());
    const std::string name = reason.substr(at + unknown.size(), reason.find('\'', at + unknown.size()) - at - unknown.size());
    say('E', "the model architecture %s is not supported by rkllm", name.c_str());
}

}  // namespace

std::unique_ptr<Model> Model::load(const Engine& engine, const std::string& path) {
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        say('E', "failed to open '%s': '%s'", path.c_str(), std::strerror(errno ? errno : EIO));
        return nullptr;
    }
    if (!looks_like_gguf(file, path)) return nullptr;
    const uint64_t identity = identify(file, engine.library_bytes);
    forget_complaint();
    llama_model* handle = engine.model_load_from_file(path.c_str(), engine.model_default_params());
    if (!handle) {
        explain(complaint());
        return nullptr;
    }
    return std::unique_ptr<Model>(new Model(engine, handle, identity));
}

Model::Model(const Engine& with, llama_model* loaded, uint64_t identity)
    : engine(with), handle(loaded), vocab_(with.model_get_vocab(loaded)), identity_(identity) {}

Model::~Model() { engine.model_free(handle); }

std::string Model::metadata(const std::string& key) const {
    char value[128];
    return engine.model_meta_val_str(handle, key.c_str(), value, sizeof value) >= 0 ? value : "";
}

bool Model::sees_everything() const { return metadata(architecture() + ".attention.causal") == "false"; }

/* llama.cpp describes a model as "llama 135M Q4_1", "qwen2 1.5B Q4_K - Medium", "llama 1B all F32". */
std::string Model::quantisation() const {
    char description[256] = "";
    engine.model_desc(handle, description, sizeof description);
    std::istringstream words(description);
    std::string word;
    words >> word >> word >> word;
    if (word == "all" || word == "mostly") words >> word;
    return word.empty() ? "unknown" : word;
}

std::vector<Token> Model::tokenize(const std::string& text) const {
    const auto length = static_cast<int32_t>(text.size());
    std::vector<Token> tokens(text.size() + 8);
    const auto room = static_cast<int32_t>(tokens.size());
    int32_t count = engine.tokenize(vocab_, text.data(), length, tokens.data(), room, true, true);
    if (count < 0) {
        tokens.resize(static_cast<size_t>(-count));
        count = engine.tokenize(vocab_, text.data(), length, tokens.data(), -count, true, true);
    }
    tokens.resize(count > 0 ? static_cast<size_t>(count) : 0);
    const Token bos = engine.vocab_bos(vocab_);
    if (tokens.size() > 1 && tokens[0] == bos && tokens[1] == bos) tokens.erase(tokens.begin());
    return tokens;
}

std::string Model::piece(Token token, bool with_special) const {
    std::string bytes(64, '\0');
    int32_t length = engine.token_to_piece(vocab_, token, &bytes[0], static_cast<int32_t>(bytes.size()), 0, with_special);
    if (length < 0) {
        bytes.resize(static_cast<size_t>(-length));
        length = engine.token_to_piece(vocab_, token, &bytes[0], -length, 0, with_special);
    }
    bytes.resize(length > 0 ? static_cast<size_t>(length) : 0);
    return bytes;
}

}  // namespace cpu_runtime
