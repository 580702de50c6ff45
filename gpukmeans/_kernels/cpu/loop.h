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

// Iterates until convergence, `max_iter`, or a cluster that is empty: that iteration is taken back, for
// the caller to do. Returns the number of iterations done; `outcome` says why it ended.
template <class Row, class T> i64 loop(const Loop &l, i64 lanes, void *scratch) {
    Search s = l.search;
    const i64 k = s.targets.k, d = s.rows.d, n = s.rows.n;
    Pieces pieces{reinterpret_cast<std::uintptr_t>(scratch)};
    double *local = pieces.take<double>(k * d), *norms = pieces.take<double>(k), *moved = pieces.take<double>(k * d);
    i32 *before = pieces.take<i32>(n);
    T *groups = reinterpret_cast<T *>(pieces.take<char>(targets_bytes<T>(k, d))), *group_norms = pieces.take<T>(k);
    char *rest = reinterpret_cast<char *>(pieces.next);
    s.targets.groups = groups, s.targets.norms = group_norms, s.targets.exact = l.centers;
    s.add = Add::all;
    *l.outcome = Outcome::limit;
    for (i64 iteration = 0; iteration < l.max_iter; iteration++) {
        see(l, local, norms);
        s.targets.reach = reach_of(norms, k);
        arrange<T>(local, norms, k, d, groups, group_norms);
        for (i64 i = 0; i < n; i++) before[i] = s.labels[i];
        for (i64 i = 0; i < lanes * k * d; i++) s.sums.sums[i] = 0;
        for (i64 i = 0; i < lanes * k; i++) s.sums.masses[i] = 0, s.sums.counts[i] = 0;
        i64 changed = 0;
        for (i64 lane = 0; lane < lanes; lane++) {
            s.facts[3 * lane] = 0;
            Lane<Row, T>(s, rest).run(lane);
            changed += s.facts[3 * lane];
        }
        const double shift = update(l, lanes, moved);
        if (shift < 0) {
            for (i64 i = 0; i < n; i++) s.labels[i] = before[i];
            *l.outcome = Outcome::empty;
            return iteration;
        }
        if (changed == 0 || shift <= l.tol) {
            *l.outcome = Outcome::converged;
            return iteration + 1;
        }
    }
    return l.max_iter;
}

} // namespace gpukmeans::GPUKMEANS_ISA
