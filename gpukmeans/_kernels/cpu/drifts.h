// How far the centres have moved, and what the bounds of the rows are tested by for that: see _bounds.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "arrays.h"

namespace gpukmeans {
namespace {

// All that comes out is rounded so that the tests stay proofs. The arrays are those of `_bounds.Drifts`.
class Drifting {
  public:
    Drifting(Out<double> moved, Out<double> drift, Out<double> spread, In<double> separation, In<double> separated,
             Out<float> near_, Out<float> far_, Out<float> slack)
        : k_(static_cast<i64>(drift.size())), moved_(moved.data()), drift_(drift.data()), spread_(spread.data()),
          separation_(separation.data()), separated_(separated.data()), near_(near_.data()), far_(far_.data()),
          slack_(slack.data()), blocks_(static_cast<i64>(slack.size())),
          kept_(nb::make_tuple(moved, drift, spread, separation, separated, near_, far_, slack)) {}

    // The centres, (k, d), have moved on. The farthest other one is that of _second_look.farthest_others.
    void move(const double *before, const double *now, i64 d, double scale) {
        double farthest = 0, second = 0;
        i64 who = 0;
        for (i64 j = 0; j < k_; j++) {
            double squared = 0;
            for (i64 q = j * d; q < (j + 1) * d; q++) squared += (now[q] - before[q]) * (now[q] - before[q]);
            const double way = std::sqrt(squared) * (scale * (up + static_cast<double>(d) * 0x1p-52));
            moved_[j] = way;
            // a way that is no number stays the farthest: then nothing is held
            if (!(way <= farthest) && farthest == farthest) second = farthest, farthest = way, who = j;
            else second = std::max(second, way);
        }
        for (i64 j = 0; j < k_; j++) {
            drift_[j] = (drift_[j] + moved_[j]) * up;
            spread_[j] = (spread_[j] + moved_[j] + (j == who ? second : farthest)) * up;
        }
    }

    void move_to(In<double> before, In<double> now, double scale) {
        move(before.data(), now.data(), static_cast<i64>(now.shape(1)), scale);
    }

    // What `near_` is to be.
    float nearness(i64 j) const {
        const double half = separation_[j] - 0.5 * (spread_[j] - separated_[j]);
        const double least = half * (1 - to_float) - drift_[j];
        return static_cast<float>(least - to_float * (std::fabs(least) + drift_[j]));
    }

    // Makes the tests of the next pass. Whether blocks of rows can be held in it, where they are to be.
    bool tighten(bool blocks) {
        constexpr double none = -std::numeric_limits<double>::infinity();
        double tighter = none;
        for (i64 j = 0; j < k_; j++) {
            const float most = above(spread_[j] * (1 + to_float)), within = nearness(j);
            // Where nothing was near, and is not now, that did not become tighter: not a number, which loses.
            tighter = std::fmax(tighter, static_cast<double>(most) - far_[j]);
            tighter = std::fmax(tighter, static_cast<double>(near_[j]) - within);
            far_[j] = most, near_[j] = within;
        }
        const bool first = blocks && !held_;
        if (first) std::fill_n(slack_, blocks_, -std::numeric_limits<float>::infinity());
        tightened_ = first || !blocks ? 0 : above(tightened_ + tighter * up);
        held_ = blocks && std::isfinite(tightened_); // else a far centre has come near, and all begins anew
        return held_;
    }

    // Whether the centres have moved so much of the distances between them that these tell little.
    bool is_loose(double share) const {
        double sum = 0, most = 0;
        for (i64 j = 0; j < k_; j++) sum += separation_[j], most = std::max(most, spread_[j] - separated_[j]);
        return most > share * sum / static_cast<double>(k_);
    }

    float tightened() const { return tightened_; }
    float *slack() const { return held_ ? slack_ : nullptr; }

  private:
    static constexpr double up = 1 + 1e-12;  // rounding of float64 sums and roots
    static constexpr double to_float = 2e-7; // rounding to float32, and a little

    static float above(double value) {
        return std::nextafter(static_cast<float>(value), std::numeric_limits<float>::infinity());
    }

    const i64 k_;
    double *const moved_, *const drift_, *const spread_;
    const double *const separation_, *const separated_;
    float *const near_, *const far_, *const slack_;
    const i64 blocks_;
    bool held_ = false; // blocks of rows, in the pass before
    float tightened_ = 0;
    nb::object kept_; // the arrays
};

} // namespace
} // namespace gpukmeans
