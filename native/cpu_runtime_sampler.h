/* Choosing the next token from the model's scores, by the runtime's nine knobs. */
#ifndef CPU_RUNTIME_SAMPLER_H
#define CPU_RUNTIME_SAMPLER_H

#include <cstddef>
#include <deque>
#include <random>
#include <vector>

#include "cpu_runtime_engine.h"

namespace cpu_runtime {

struct Sampling {
    int top_k;
    float top_p;
    float temperature;
    float repeat_penalty;
    float frequency_penalty;
    float presence_penalty;
    int mirostat;
    float mirostat_tau;
    float mirostat_eta;

    bool greedy() const { return temperature <= 0 || top_k == 1; }
};

class Sampler {
public:
    /* A new run. The penalties count its own tokens alone: counting the prompt's makes small models avoid the very words
     * they are asked about. */
    void begin(const Sampling& sampling);

    /* The token that follows, from one score per token of the vocabulary. */
    Token pick(const float* logits, size_t vocabulary);

private:
    struct Candidate {
        Token id;
        float score;
        float probability;
    };

    void penalise();
    void keep_best(size_t count);
    void cut_to_top_p();
    void apply_temperature();
    void normalise();
    size_t draw();
    size_t draw_by_surprise(size_t vocabulary);
    size_t likely_candidates(size_t vocabulary) const;

    Sampling sampling_{};
    std::deque<Token> recent_;
    float surprise_limit_ = 0;
    std::mt19937 random_{std::random_device{}()};
    std::vector<Candidate> candidates_; /* while picking; after keep_best() in falling order */
};

}  // namespace cpu_runtime

#endif
