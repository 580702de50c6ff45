// Adding rows to the sums of their clusters, in the order of the calls, or a few of them by clusters.
#pragma once

#include "rows.h"

namespace gpukmeans::GPUKMEANS_ISA {

constexpr i64 added_rows = 64; // that are added up at once, from the first row of a lane on

// Rows of any number of features.
template <class Row> class Wide {
    static constexpr i64 most_clusters = added_rows / 2, least_features = 32; // to add rows by clusters

  public:
    static constexpr int features = 0; // any number
    Wide(const Sums &to, i64 lane, i64 k, const Rows &rows, const double *weights)
        : to_(to), first_(lane * k), k_(k), rows_(rows), weights_(weights) {}

    // Adds row i to cluster j, or takes it away (sign -1).
    void add(i64 i, i64 j, double sign) {
        const double w = weights_ ? weights_[i] : 1.0, part = sign * w;
        const i64 d = rows_.d, cluster = first_ + j;
        double *sums = to_.sums + cluster * d;
        if (to_.rests) {
            double *rests = to_.rests + cluster * (d + 1);
            add_with_rests(i, part, sums, rests);
            add_exactly(to_.masses[cluster], rests[d], part);
        } else {
            add_plainly(i, part, sums);
            to_.masses[cluster] += part;
        }
        to_.counts[cluster] += w > 0 ? static_cast<i64>(sign) : 0;
    }

    // Takes row i from one cluster to another.
    void move(i64 i, i64 from, i64 to) {
        add(i, to, 1.0);
        add(i, from, -1.0);
    }

    // Adds rows a to b - 1 to the clusters of their labels, `added_rows` at a time: so many rows, times anything, lie
    // between the first row of the lane and row a, and row b unless it is the end of the lane.
    void add_all(i64 a, i64 b, const i32 *labels) {
        const bool by_cluster = sizeof(Row) == 4 && to_.rests && !weights_ && rows_.column_step == 1 &&
                                k_ <= most_clusters && rows_.d >= least_features;
        for (i64 i = a; by_cluster && i < b; i += added_rows) add_by_cluster(i, smallest(i + added_rows, b), labels);
        for (i64 i = a; !by_cluster && i < b; i++) add(i, labels[i], 1.0);
    }

  private:
    // The same of a few rows of float: those of a cluster are first added up among themselves.
    void add_by_cluster(i64 a, i64 b, const i32 *labels) {
        i64 ends[most_clusters + 1] = {};
        const Row *sorted[added_rows];
        for (i64 i = a; i < b; i++) ends[labels[i] + 1]++;
        for (i64 j = 0; j < k_; j++) ends[j + 1] += ends[j];
        for (i64 i = a; i < b; i++) sorted[ends[labels[i]]++] = row_of<Row>(rows_, i);
        for (i64 j = 0, begin = 0; j < k_; begin = ends[j], j++)
            if (ends[j] > begin) add_together(sorted + begin, ends[j] - begin, j);
    }

    // Adds m rows to cluster j.
    void add_together(const Row *const *rows, i64 m, i64 j) {
        constexpr int L = lanes<double>, vectors = 2 * lanes<float> / L;
        const i64 d = rows_.d, cluster = first_ + j;
        const double size = static_cast<double>(m);
        double *sums = to_.sums + cluster * d, *rests = to_.rests + cluster * (d + 1);
        i64 q = 0;
        for (; q + vectors * L <= d; q += vectors * L) {
            Range range;
            Vec<double> together[vectors] = {};
            for (i64 r = 0; r < m; r++) {
                for (int v = 0; v < 2; v++) range.add(rows[r] + q + v * lanes<float>);
                for (int v = 0; v < vectors; v++) together[v] += load_as<double>(rows[r] + q + v * L);
            }
            for (int v = 0; v < vectors; v++) {
                const i64 at = q + v * L;
                const Vec<double> shift = load(to_.shift + at);
                Vec<double> sum = load(sums + at), rest = load(rests + at);
                if (range.is_narrow()) {
                    add_exactly(sum, rest, together[v]);
                    add_exactly(sum, rest, rounded(-size * shift));
                } else
                    for (i64 r = 0; r < m; r++) add_exactly(sum, rest, load_as<double>(rows[r] + at) - shift);
                store(sums + at, sum);
                store(rests + at, rest);
            }
        }
        for (; q < d; q++)
            for (i64 r = 0; r < m; r++)
                add_exactly(sums[q], rests[q], static_cast<double>(rows[r][q]) - to_.shift[q]);
        add_exactly(to_.masses[cluster], rests[d], size);
        to_.counts[cluster] += m;
    }

    // The magnitudes of some floats, other than zero, lane by lane: their bits are integers in the same order.
    class Range {
      public:
        GPUKMEANS_INLINE void add(const void *values) {
            const Vec<i32> bits = load(static_cast<const i32 *>(values)) & 0x7fffffff;
            most_ = higher(most_, bits);
            least_ = lower(least_, (bits - 1) & 0x7fffffff); // zero comes to be above all
        }

        // Whether `added_rows` of them are summed in double without rounding: 24 digits, 6 for the number of rows, and
        // 23 for how the values differ.
        bool is_narrow() const {
            const Vec<i32> spread = (most_ >> 23) - ((least_ + 1) >> 23);
            return !bits_of((spread > 23) & (most_ > 0));
        }

      private:
        Vec<i32> most_ = fill(0), least_ = fill(0x7ffffffe);
    };

    void add_plainly(i64 i, double factor, double *sums) const {
        const Row *x = row_of<Row>(rows_, i);
        const i64 d = rows_.d, step = rows_.column_step;
        if (step == 1)
            for (i64 q = 0; q < d; q++) sums[q] += factor * (static_cast<double>(x[q]) - to_.shift[q]);
        else
            for (i64 q = 0; q < d; q++) sums[q] += factor * (static_cast<double>(x[q * step]) - to_.shift[q]);
    }

    void add_with_rests(i64 i, double factor, double *sums, double *rests) const {
        constexpr int L = lanes<double>;
        const Row *x = row_of<Row>(rows_, i);
        const i64 d = rows_.d, step = rows_.column_step;
        i64 q = 0;
        for (; step == 1 && q + L <= d; q += L) {
            Vec<double> sum = load(sums + q), rest = load(rests + q);
            add_exactly(sum, rest, rounded(factor * (load_as<double>(x + q) - load(to_.shift + q))));
            store(sums + q, sum);
            store(rests + q, rest);
        }
        for (; q < d; q++)
            add_exactly(sums[q], rests[q], rounded(factor * (static_cast<double>(x[q * step]) - to_.shift[q])));
    }

    const Sums &to_;
    const i64 first_, k_;
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
    static constexpr int features = D;
    static constexpr int width = D < 4 ? 4 : 8; // sums, mass, and what fills up a register
    using Line = typename RunOf<double, width>::type;

    Narrow(const Sums &to, i64 lane, i64 k, const Rows &rows, i64 end, const double *weights, void *memory)
        : sums_(to.sums + lane * k * D), masses_(to.masses + lane * k), counts_(to.counts + lane * k),
          rests_(to.rests ? to.rests + lane * k * (D + 1) : nullptr), k_(k), rows_(rows), weights_(weights),
          lines_(static_cast<Line *>(memory)), lost_(lines_ + k),
          together_(rows.column_step == 1 && rows.row_step == D ? end - (width + D - 1) / D : -1) {
        for (int q = 0; q < D; q++) shift_[q] = to.shift[q], kept_[q] = -1;
        shift_[D] = -1;
        for (i64 j = 0; j < k_; j++) {
            lines_[j] = lost_[j] = Line{};
            for (int q = 0; q < D; q++) lines_[j][q] = sums_[j * D + q];
            lines_[j][D] = masses_[j];
            for (int q = 0; rests_ && q <= D; q++) lost_[j][q] = rests_[j * (D + 1) + q];
        }
    }

    ~Narrow() {
        for (i64 j = 0; j < k_; j++) {
            for (int q = 0; q < D; q++) sums_[j * D + q] = lines_[j][q];
            if (!weights_) counts_[j] += static_cast<i64>(lines_[j][D] - masses_[j]);
            masses_[j] = lines_[j][D];
            for (int q = 0; rests_ && q <= D; q++) rests_[j * (D + 1) + q] = lost_[j][q];
        }
    }

    GPUKMEANS_INLINE void add(i64 i, i64 j, double sign) {
        Line line = sign * line_of(i);
        if (weights_) {
            line *= weights_[i];
            asm("" : "+m"(line)); // see rounded(), which has no registers of this width everywhere
            counts_[j] += weights_[i] > 0 ? static_cast<i64>(sign) : 0;
        }
        if (rests_)
            add_exactly(lines_[j], lost_[j], line);
        else
            lines_[j] += line;
    }

    // Takes row i from one cluster to another.
    GPUKMEANS_INLINE void move(i64 i, i64 from, i64 to) {
        if (rests_ && !weights_) { // the usual case
            const Line line = line_of(i);
            add_exactly(lines_[to], lost_[to], line);
            add_exactly(lines_[from], lost_[from], -line);
        } else {
            add(i, to, 1.0);
            add(i, from, -1.0);
        }
    }

    // Adds rows a to b - 1 to the clusters of their labels.
    void add_all(i64 a, i64 b, const i32 *labels) {
        i64 i = a;
        if (rests_ && !weights_) { // the usual case, with all it needs in registers
            Line *const lines = lines_, *const lost = lost_;
            const Line shift = shift_;
            const Kept kept = kept_;
            const Row *x = row_of<Row>(rows_, i);
            for (const i64 end = smallest(b, together_ + 1); i < end; i++, x += D)
                add_exactly(lines[labels[i]], lost[labels[i]], line_at(x, kept, shift));
        }
        for (; i < b; i++) add(i, labels[i], 1.0);
    }

  private:
    using Part = typename RunOf<Row, width>::type;
    using Kept = typename RunOf<Index<Row>, width>::type;

    // The row about the shift, and 1, where a register may be read.
    static GPUKMEANS_INLINE Line line_at(const Row *x, Kept kept, Line shift) {
        const Part read = *reinterpret_cast<const typename RunOf<Row, width>::loose *>(x);
        return widened(reinterpret_cast<Part>(reinterpret_cast<Kept>(read) & kept)) - shift;
    }

    GPUKMEANS_INLINE Line line_of(i64 i) const {
        const Row *x = row_of<Row>(rows_, i);
        if (i <= together_) return line_at(x, kept_, shift_); // the rows after it fill up the register
        Line line{};
        for (int q = 0; q < D; q++) line[q] = static_cast<double>(x[q * rows_.column_step]) - shift_[q];
        line[D] = 1;
        return line;
    }

    double *sums_, *masses_;
    i64 *counts_;
    double *rests_;
    const i64 k_;
    const Rows &rows_;
    const double *weights_;
    Line *lines_, *lost_, shift_{}; // -1 in the place of the mass: nothing less that is 1
    Kept kept_{}; // the bits of the features
    const i64 together_; // the last row that may be read a register at a time, with what follows it in the lane
};

inline i64 adder_bytes(i64 k, i64 d) { return d > 4 ? 0 : 2 * k * 8 * static_cast<i64>(sizeof(double)); }

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
