// Adding rows to the sums of their clusters, in the order of the calls.
#pragma once

#include "rows.h"

namespace gpukmeans::GPUKMEANS_ISA {

// Rows of any number of features.
template <class Row> class Wide {
  public:
    Wide(const Sums &to, i64 lane, i64 k, const Rows &rows, const double *weights)
        : to_(to), first_(lane * k), rows_(rows), weights_(weights) {}

    // Adds row i to cluster j, or takes it away (sign -1).
    void add(i64 i, i64 j, double sign) {
        const double w = weights_ ? weights_[i] : 1.0, part = sign * w;
        const i64 d = rows_.d, step = rows_.column_step, cluster = first_ + j;
        const Row *x = row_of<Row>(rows_, i);
        double *sums = to_.sums + cluster * d;
        if (step == 1)
            for (i64 q = 0; q < d; q++) sums[q] += part * (static_cast<double>(x[q]) - to_.shift[q]);
        else
            for (i64 q = 0; q < d; q++) sums[q] += part * (static_cast<double>(x[q * step]) - to_.shift[q]);
        to_.masses[cluster] += part;
        to_.counts[cluster] += w > 0 ? static_cast<i64>(sign) : 0;
    }

  private:
    const Sums &to_;
    const i64 first_;
    const Rows &rows_;
    const double *weights_;
};

// So many values of a type side by side.
template <class T, int count> struct RunOf;
template <class T> struct RunOf<T, 4> {
    typedef T type __attribute__((vector_size(4 * sizeof(T))));
    typedef T loose __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));
};
template <class T> struct RunOf<T, 8> {
    typedef T type __attribute__((vector_size(8 * sizeof(T))));
    typedef T loose __attribute__((vector_size(8 * sizeof(T)), aligned(sizeof(T)), may_alias));
};

// Rows of at most four features: a cluster's sums and mass lie side by side, so that a row is added by one
// load, one sum and one store. The sums are taken from one lane, and put back when all is added.
template <class Row, int D> class Narrow {
  public:
    static constexpr int width = D < 4 ? 4 : 8; // sums, mass, and what fills up a register
    using Line = typename RunOf<double, width>::type;

    Narrow(const Sums &to, i64 lane, i64 k, const Rows &rows, i64 end, const double *weights, void *memory)
        : sums_(to.sums + lane * k * D), masses_(to.masses + lane * k), counts_(to.counts + lane * k), k_(k),
          rows_(rows), weights_(weights), lines_(static_cast<Line *>(memory)),
          together_(rows.column_step == 1 && rows.row_step == D ? end - (width + D - 1) / D : -1) {
        for (int q = 0; q < D; q++) shift_[q] = to.shift[q];
        for (i64 j = 0; j < k_; j++) {
            lines_[j] = Line{};
            for (int q = 0; q < D; q++) lines_[j][q] = sums_[j * D + q];
            lines_[j][D] = masses_[j];
        }
    }

    ~Narrow() {
        for (i64 j = 0; j < k_; j++) {
            for (int q = 0; q < D; q++) sums_[j * D + q] = lines_[j][q];
            if (!weights_) counts_[j] += static_cast<i64>(lines_[j][D] - masses_[j]);
            masses_[j] = lines_[j][D];
        }
    }

    GPUKMEANS_INLINE void add(i64 i, i64 j, double sign) {
        const Line line = line_of(i);
        if (!weights_) {
            lines_[j] += sign * line;
            return;
        }
        lines_[j] += sign * weights_[i] * line;
        counts_[j] += weights_[i] > 0 ? static_cast<i64>(sign) : 0;
    }

  private:
    // The row about the shift, and 1.
    GPUKMEANS_INLINE Line line_of(i64 i) const {
        const Row *x = row_of<Row>(rows_, i);
        Line line{};
        if (i <= together_) { // the rows after it fill up the register
            using Part = typename RunOf<Row, width>::loose;
            line = __builtin_convertvector(*reinterpret_cast<const Part *>(x), Line) - shift_;
            for (int q = D + 1; q < width; q++) line[q] = 0;
        } else
            for (int q = 0; q < D; q++) line[q] = static_cast<double>(x[q * rows_.column_step]) - shift_[q];
        line[D] = 1;
        return line;
    }

    double *sums_, *masses_;
    i64 *counts_;
    const i64 k_;
    const Rows &rows_;
    const double *weights_;
    Line *lines_, shift_{};
    const i64 together_; // the last row that may be read a register at a time, with what follows it in the lane
};

inline i64 adder_bytes(i64 k, i64 d) { return d > 4 ? 0 : k * 8 * static_cast<i64>(sizeof(double)); }

// Has `use` add rows before `end` to the sums of one lane; `memory` is of adder_bytes(), aligned to a register.
template <class Row, class Use>
void add_with(const Sums &to, i64 lane, i64 k, const Rows &rows, i64 end, const double *weights, void *memory, Use use) {
    with_features(rows.d, [&](auto d) {
        if constexpr (d.count > 0)
            use(Narrow<Row, d.count>(to, lane, k, rows, end, weights, memory));
        else
            use(Wide<Row>(to, lane, k, rows, weights));
    });
}

} // namespace gpukmeans::GPUKMEANS_ISA
