// Lloyd's whole loop in one call, for problems so small that calls would cost more than the work.
#pragma once

#include "centers.h"
#include "search.h"

namespace gpukmeans::GPUKMEANS_ISA {

template <class Row, class T> i64 loop_scratch(const Loop &l) {
    const i64 k = l.search.targets.k, d = l.search.rows.d;
    return Lane<Row, T>::scratch_bytes(l.search) + k * (d + 1) * 8 + targets_bytes<T>(k, d) + l.search.rows.n * 4 + 5 * 64;
}

template <class Row, class T> class Looping {
  public:
    Looping(const Loop &l, i64 lanes, void *scratch) : l_(l), s_(l.search), lanes_(lanes) {
        const i64 k = s_.targets.k, d = s_.rows.d;
        Pieces pieces{reinterpret_cast<std::uintptr_t>(scratch)};
        moved_ = pieces.take<double>(k * d), ways_ = pieces.take<double>(k);
        before_ = pieces.take<i32>(s_.rows.n);
        targets_ = pieces.take<char>(targets_bytes<T>(k, d));
        rest_ = reinterpret_cast<char *>(pieces.next);
    }

    // Iterates until convergence, `max_iter`, or a cluster that is empty: that iteration is taken back, for
    // the caller to do. Returns the number of iterations done.
    i64 iterate() {
        const i64 k = s_.targets.k, d = s_.rows.d, n = s_.rows.n;
        i64 moved = n;
        s_.inertia = nullptr;
        for (i64 iteration = 0; iteration < l_.max_iter; iteration++) {
            for (i64 i = 0; i < n; i++) before_[i] = s_.labels[i];
            // as in Plan.step; without rests moves would cost digits
            s_.add = s_.sums.rests && moved < n / 4 ? Add::moves : Add::all;
            if (s_.add == Add::all) clear_sums();
            const i64 changed = pass();
            moved = iteration == 0 ? 0 : changed;
            move(s_.sums, lanes_, l_.centers, k, d, 0, k, moved_, ways_);
            const Moved to = arrive(s_.sums, lanes_, l_.centers, k, d, moved_, ways_);
            if (to.empty) {
                for (i64 i = 0; i < n; i++) s_.labels[i] = before_[i];
                left_ = true;
                return iteration;
            }
            for (i64 i = 0; i < k * d; i++) l_.centers[i] = moved_[i];
            if (changed == 0 || to.squared <= l_.tol) return iteration + 1;
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
    void clear_sums() {
        const i64 clusters = lanes_ * s_.targets.k, d = s_.rows.d;
        for (i64 i = 0; i < clusters * d; i++) s_.sums.sums[i] = 0;
        for (i64 i = 0; s_.sums.rests && i < clusters * (d + 1); i++) s_.sums.rests[i] = 0;
        for (i64 i = 0; i < clusters; i++) s_.sums.masses[i] = 0, s_.sums.counts[i] = 0;
    }

    // One pass over all rows; how many changed their label.
    i64 pass() {
        const Targets &before = s_.targets;
        s_.targets = make_targets<T>(l_.centers, s_.frame, before.k, s_.rows.d, before.trust, targets_);
        i64 changed = 0;
        for (i64 lane = 0; lane < lanes_; lane++) {
            s_.facts[4 * lane] = 0;
            Lane<Row, T>(s_, rest_).run(lane);
            changed += s_.facts[4 * lane];
        }
        return changed;
    }

    const Loop &l_;
    Search s_;
    const i64 lanes_;
    bool left_ = false;
    double *moved_, *ways_;
    i32 *before_;
    char *targets_, *rest_;
};

// Lloyd's loop, and where no cluster got empty on the way the last assignment, on the centres as published.
// Returns the iterations done, and the inertia or, for an iteration left to the caller, -1.
template <class Row, class T> Looped loop(const Loop &l, i64 lanes, void *scratch) {
    Looping<Row, T> looping(l, lanes, scratch);
    const i64 done = looping.iterate();
    return {done, looping.left() ? -1.0 : looping.judge()};
}

} // namespace gpukmeans::GPUKMEANS_ISA
