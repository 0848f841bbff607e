#include "cpu_runtime_sampler.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace cpu_runtime {
namespace {

constexpr size_t PENALTY_WINDOW = 64; /* what the real library looks back, by its ancestry from llama.cpp */
constexpr size_t ZIPF_SAMPLE = 100;   /* the most likely tokens from which mirostat 1 estimates the distribution */

}  // namespace

void Sampler::begin(const Sampling& sampling) {
    sampling_ = sampling;
    surprise_limit_ = 2 * sampling.mirostat_tau;
    recent_.clear();
}

Token Sampler::pick(const float* logits, size_t vocabulary) {
    candidates_.resize(vocabulary);
    for (size_t i = 0; i < vocabulary; ++i) candidates_[i] = {static_cast<Token>(i), logits[i], 0};
    penalise();

    size_t chosen = 0;
    if (sampling_.greedy()) {
        const auto best = std::max_element(candidates_.begin(), candidates_.end(),
                                           [](const Candidate& a, const Candidate& b) { return a.score < b.score; });
        chosen = static_cast<size_t>(best - candidates_.begin());
    } else if (sampling_.mirostat == 1 || sampling_.mirostat == 2) {
        keep_best(vocabulary);
        apply_temperature();
        chosen = draw_by_surprise(vocabulary);
    } else {
        keep_best(sampling_.top_k > 0 ? static_cast<size_t>(sampling_.top_k) : vocabulary);
        cut_to_top_p();
        apply_temperature();
        normalise();
        chosen = draw();
    }

    const Token token = candidates_[chosen].id;
    recent_.push_back(token);
    if (recent_.size() > PENALTY_WINDOW) recent_.pop_front();
    return token;
}

void Sampler::penalise() {
    std::map<Token, int> seen;
    for (Token token : recent_) ++seen[token];
    for (const auto& [token, times] : seen) {
        if (token < 0 || static_cast<size_t>(token) >= candidates_.size()) continue;
        float& score = candidates_[static_cast<size_t>(token)].score;
        score = score > 0 ? score / sampling_.repeat_penalty : score * sampling_.repeat_penalty;
        score -= static_cast<float>(times) * sampling_.frequency_penalty + sampling_.presence_penalty;
    }
}

void Sampler::keep_best(size_t count) {
    count = std::min(count, candidates_.size());
    std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(count), candidates_.end(),
                      [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
    candidates_.resize(count);
}

void Sampler::cut_to_top_p() {
    if (sampling_.top_p >= 1) return;
    normalise();
    float sum = 0;
    for (size_t i = 0; i < candidates_.size(); ++i) {
        sum += candidates_[i].probability;
        if (sum >= sampling_.top_p) {
            candidates_.resize(i + 1);
            return;
        }
    }
}

void Sampler::apply_temperature() {
    for (Candidate& candidate : candidates_) candidate.score /= sampling_.temperature;
}

void Sampler::normalise() {
    const float highest = candidates_.front().score;
    float sum = 0;
    for (Candidate& candidate : candidates_) sum += candidate.probability = std::exp(candidate.score - highest);
    for (Candidate& candidate : candidates_) candidate.probability /= sum;
}

size_t Sampler::draw() {
    float left = std::uniform_real_distribution<float>(0, 1)(random_);
    for (size_t i = 0; i < candidates_.size(); ++i) {
        left -= candidates_[i].probability;
        if (left < 0) return i;
    }
    return candidates_.size() - 1;
}

/* Mirostat (Basu et al., 2020): keep the surprise of each token, in bits, near tau by moving a limit. */
size_t Sampler::draw_by_surprise(size_t vocabulary) {
    normalise();
    size_t kept = 0;
    if (sampling_.mirostat == 1) {
        kept = likely_candidates(vocabulary);
    } else {
        while (kept < candidates_.size() && -std::log2(candidates_[kept].probability) <= surprise_limit_) ++kept;
    }
    candidates_.resize(std::clamp<size_t>(kept, 1, candidates_.size()));
    normalise();
    const size_t chosen = draw();
    const float surprise = -std::log2(candidates_[chosen].probability);
    surprise_limit_ -= sampling_.mirostat_eta * (surprise - sampling_.mirostat_tau);
    return chosen;
}

/* Mirostat 1: how many tokens lie below the limit if probabilities fall as a power of the rank. */
size_t Sampler::likely_candidates(size_t vocabulary) const {
    const size_t sample = std::min(ZIPF_SAMPLE, candidates_.size() - 1);
    float weighted = 0;
    float weights = 0;
    for (size_t i = 0; i < sample && candidates_[i + 1].probability > 0; ++i) {
        const float rank = std::log(static_cast<float>(i + 2) / static_cast<float>(i + 1));
        weighted += rank * std::log(candidates_[i].probability / candidates_[i + 1].probability);
        weights += rank * rank;
    }
    const float exponent = weights > 0 ? weighted / weights : 1;
    const float excess = exponent - 1;
    const float count = std::pow(excess * std::exp2(surprise_limit_) / (1 - std::pow(static_cast<float>(vocabulary), -excess)),
                                 1 / exponent);
    return count >= 1 && count < static_cast<float>(vocabulary) ? static_cast<size_t>(count) : count < 1 ? 1 : vocabulary;
}

}  // namespace cpu_runtime
