// Lloyd's whole loop in one call, for problems so small that calls would cost more than the work.
#pragma once

#include "search.h"

namespace gpukmeans::GPUKMEANS_ISA {

// Local centres and their norms, infinite for a copy of an earlier centre, as passes._seen makes them.
inline void see(const Loop &l, double *local, double *norms) {
    const i64 k = l.search.targets.k, d = l.search.rows.d;
    const Frame &frame = l.search.frame;
    for (i64 j = 0; j < k; j++) {
        norms[j] = 0;
        for (i64 q = 0; q < d; q++) {
            const double x = (l.centers[j * d + q] - frame.shift[q]) * frame.scale;
            local[j * d + q] = x;
            norms[j] += x * x;
        }
        for (i64 i = 0; i < j; i++) {
            bool same = true;
            for (i64 q = 0; same && q < d; q++) same = l.centers[i * d + q] == l.centers[j * d + q];
            if (same) {
                norms[j] = __builtin_inf();
                break;
            }
        }
    }
}

inline double reach_of(const double *norms, i64 k) {
    double most = 0;
    for (i64 j = 0; j < k; j++)
        if (norms[j] < __builtin_inf() && norms[j] > most) most = norms[j];
    return root(most < far_norm ? most : far_norm);
}

// Moves the centres to the means of their rows; the sum of their squared moves, or -1 where a cluster is
// empty: then nothing is moved. Lanes are added in their order.
inline double update(const Loop &l, i64 lanes, double *moved) {
    const i64 k = l.search.targets.k, d = l.search.rows.d;
    const Sums &sums = l.search.sums;
    double squared = 0;
    for (i64 j = 0; j < k; j++) {
        double mass = 0;
        i64 count = 0;
        for (i64 lane = 0; lane < lanes; lane++) mass += sums.masses[lane * k + j], count += sums.counts[lane * k + j];
        if (count == 0 || !(mass > 0)) return -1;
        for (i64 q = 0; q < d; q++) {
            double sum = 0;
            for (i64 lane = 0; lane < lanes; lane++) sum += sums.sums[(lane * k + j) * d + q];
            moved[j * d + q] = l.search.frame.shift[q] + sum / mass;
            const double step = moved[j * d + q] - l.centers[j * d + q];
            squared += rounded(step * step);
        }
    }
    for (i64 i = 0; i < k * d; i++) l.centers[i] = moved[i];
    return squared;
}

template <class Row, class T> i64 loop_scratch(const Loop &l) {
    const i64 k = l.search.targets.k, d = l.search.rows.d;
    const i64 own = (2 * k * d + k) * 8 + k * static_cast<i64>(sizeof(T)) + targets_bytes<T>(k, d) + l.search.rows.n * 4;
    return Lane<Row, T>::scratch_bytes(l.search) + own + 6 * 64;
}

template <class Row, class T> class Looping {
  public:
    Looping(const Loop &l, i64 lanes, void *scratch) : l_(l), s_(l.search), lanes_(lanes) {
        const i64 k = s_.targets.k, d = s_.rows.d;
        Pieces pieces{reinterpret_cast<std::uintptr_t>(scratch)};
        local_ = pieces.take<double>(k * d), norms_ = pieces.take<double>(k), moved_ = pieces.take<double>(k * d);
        before_ = pieces.take<i32>(s_.rows.n);
        groups_ = reinterpret_cast<T *>(pieces.take<char>(targets_bytes<T>(k, d))), group_norms_ = pieces.take<T>(k);
        rest_ = reinterpret_cast<char *>(pieces.next);
        s_.targets.groups = groups_, s_.targets.norms = group_norms_, s_.targets.exact = l.centers;
    }

    // Iterates until convergence, `max_iter`, or a cluster that is empty: that iteration is taken back, for
    // the caller to do. Returns the number of iterations done.
    i64 iterate() {
        const i64 k = s_.targets.k, d = s_.rows.d, n = s_.rows.n;
        s_.add = Add::all;
        s_.inertia = nullptr;
        for (i64 iteration = 0; iteration < l_.max_iter; iteration++) {
            for (i64 i = 0; i < n; i++) before_[i] = s_.labels[i];
            for (i64 i = 0; i < lanes_ * k * d; i++) s_.sums.sums[i] = 0;
            for (i64 i = 0; i < lanes_ * k; i++) s_.sums.masses[i] = 0, s_.sums.counts[i] = 0;
            const i64 changed = pass();
            const double shift = update(l_, lanes_, moved_);
            if (shift < 0) {
                for (i64 i = 0; i < n; i++) s_.labels[i] = before_[i];
                left_ = true;
                return iteration;
            }
            if (changed == 0 || shift <= l_.tol) return iteration + 1;
        }
        return l_.max_iter;
    }

    // Whether the next iteration is left to the caller.
    bool left() const { return left_; }

    // Rounds the centres to the type of the rows and labels the rows for these; the inertia, lanes in their order.
    double judge() {
        for (i64 i = 0; i < s_.targets.k * s_.rows.d; i++) l_.centers[i] = static_cast<Row>(l_.centers[i]);
        s_.add = Add::nothing;
        s_.inertia = l_.search.inertia;
        double total = 0;
        for (i64 lane = 0; lane < lanes_; lane++) s_.inertia[lane] = 0;
        pass();
        for (i64 lane = 0; lane < lanes_; lane++) total += s_.inertia[lane];
        return total;
    }

  private:
    // One pass over all rows; how many changed their label.
    i64 pass() {
        see(l_, local_, norms_);
        s_.targets.reach = reach_of(norms_, s_.targets.k);
        arrange<T>(local_, norms_, s_.targets.k, s_.rows.d, groups_, group_norms_);
        i64 changed = 0;
        for (i64 lane = 0; lane < lanes_; lane++) {
            s_.facts[3 * lane] = 0;
            Lane<Row, T>(s_, rest_).run(lane);
            changed += s_.facts[3 * lane];
        }
        return changed;
    }

    const Loop &l_;
    Search s_;
    const i64 lanes_;
    bool left_ = false;
    double *local_, *norms_, *moved_;
    i32 *before_;
    T *groups_, *group_norms_;
    char *rest_;
};

// Lloyd's loop, and where no cluster got empty on the way the last assignment, on the centres as published.
// Returns the iterations done, and the inertia or, for an iteration left to the caller, -1.
template <class Row, class T> Looped loop(const Loop &l, i64 lanes, void *scratch) {
    Looping<Row, T> looping(l, lanes, scratch);
    const i64 done = looping.iterate();
    return {done, looping.left() ? -1.0 : looping.judge()};
}

} // namespace gpukmeans::GPUKMEANS_ISA
