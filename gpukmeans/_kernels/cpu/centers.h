// Centres: made ready for a pass, and moved by the sums of one.
#pragma once

#include "coarse.h"

namespace gpukmeans::GPUKMEANS_ISA {

// --- made ready -----------------------------------------------------------------------------------

// Finds the centres that equal an earlier one, in a table of their keys: equal centres have equal keys. Such
// a copy gets an infinite norm, and both of them 1 in `copied`. slots: (size,), a power of two.
inline void find_copies(const double *centers, const double *keys, i64 k, i64 d, double *norms, double *copied,
                        i32 *slots, i64 size) {
    for (i64 s = 0; s < size; s++) slots[s] = -1;
    for (i64 j = 0; j < k; j++) {
        std::uint64_t bits;
        __builtin_memcpy(&bits, keys + j, sizeof bits);
        i64 s = static_cast<i64>((bits ^ bits >> 32) * 0x9E3779B97F4A7C15u >> 32) & (size - 1);
        for (; slots[s] >= 0; s = (s + 1) & (size - 1)) {
            const i64 i = slots[s];
            bool same = keys[i] == keys[j];
            for (i64 q = 0; same && q < d; q++) same = centers[i * d + q] == centers[j * d + q];
            if (!same) continue;
            copied[i] = copied[j] = 1;
            norms[j] = __builtin_inf();
            break;
        }
        if (slots[s] < 0) slots[s] = static_cast<i32>(j);
    }
}

inline i64 slots_for(i64 k) {
    i64 size = 4;
    while (size < 2 * k) size *= 2;
    return size;
}

// Memory that make_targets() needs.
template <class T> i64 targets_bytes(i64 k, i64 d) {
    const i64 line = is_few(d) ? line_size(d) : 0;
    const i64 bytes = 8 * (d + 3 * k) + 4 * slots_for(k) + static_cast<i64>(sizeof(T)) * k * (d + 1 + line);
    return bytes + 8 * 64 + coarse_bytes<T>(k, d); // each piece begins at a register
}

// Centres (k, d), in original coordinates, made ready for a pass.
template <class T>
Targets make_targets(const double *centers, const Frame &frame, i64 k, i64 d, double trust, void *memory) {
    Pieces pieces{reinterpret_cast<std::uintptr_t>(memory)};
    double *local = pieces.take<double>(d), *norms = pieces.take<double>(k), *keys = pieces.take<double>(k);
    double *copied = pieces.take<double>(k);
    i32 *slots = pieces.take<i32>(slots_for(k));
    T *groups = pieces.take<T>(k * d), *group_norms = pieces.take<T>(k);
    T *lines = is_few(d) ? pieces.take<T>(k * line_size(d)) : nullptr;
    CoarseTargets coarse{};
    if (coarse_pays<T>(k, d)) coarse = {pieces.take<i32>(k * pairs_of(d)), pieces.take<float>(k), pieces.take<float>(k)};
    auto localize = [&](i64 j) {
        for (i64 q = 0; q < d; q++) local[q] = (centers[j * d + q] - frame.shift[q]) * frame.scale;
    };
    double reach = 0;
    for (i64 j = 0; j < k; j++) {
        localize(j);
        Vec<double> norm{}, key{};
        double rest = 0, rest_key = 0;
        i64 q = 0;
        for (; q + lanes<double> <= d; q += lanes<double>) {
            const Vec<double> x = load(local + q);
            norm += x * x;
            key += x * static_cast<double>(q + 1);
        }
        for (; q < d; q++) rest += local[q] * local[q], rest_key += local[q] * static_cast<double>(q + 1);
        norms[j] = total<double>(norm) + rest, keys[j] = total<double>(key) + rest_key, copied[j] = 0;
        reach = norms[j] > reach ? norms[j] : reach; // infinite where squares overflow: that is no copy
    }
    find_copies(centers, keys, k, d, norms, copied, slots, slots_for(k));
    for (i64 j = 0; j < k; j++) {
        localize(j);
        arrange<T>(local, norms[j], j, k, d, groups, group_norms);
        if (coarse.pairs) arrange_coarse(local, norms[j], j, k, d, coarse);
        if (lines) arrange_line<T>(local, norms[j], j, d, lines);
    }
    return {k, centers, groups, group_norms, lines, copied, trust, root(reach < far_norm ? reach : far_norm), coarse};
}

// --- moved ----------------------------------------------------------------------------------------

struct Mass {
    double weight;
    i64 count; // rows of positive weight
    bool empty() const { return !(count > 0 && weight > 0); }
};

// Of cluster j, all lanes in their order.
inline Mass mass_of(const Sums &of, i64 n_lanes, i64 k, i64 d, i64 j) {
    Mass mass{0, 0};
    double rest = 0;
    for (i64 lane = 0; lane < n_lanes; lane++) {
        mass.weight += of.masses[lane * k + j], mass.count += of.counts[lane * k + j];
        if (of.rests) rest += of.rests[(lane * k + j) * (d + 1) + d];
    }
    mass.weight += rest;
    return mass;
}

// The sums of cluster j, likewise; so many features at a time that they stay in registers.
inline void join(const Sums &of, i64 n_lanes, i64 k, i64 d, i64 j, double *sums) {
    constexpr i64 width = 32;
    for (i64 q = 0; q < d; q += width) {
        const i64 count = smallest(width, d - q);
        double sum[width] = {}, rest[width] = {};
        for (i64 lane = 0; lane < n_lanes; lane++) {
            const double *from = of.sums + (lane * k + j) * d + q;
            for (i64 p = 0; p < count; p++) sum[p] += from[p];
        }
        for (i64 lane = 0; of.rests && lane < n_lanes; lane++) {
            const double *from = of.rests + (lane * k + j) * (d + 1) + q;
            for (i64 p = 0; p < count; p++) rest[p] += from[p];
        }
        for (i64 p = 0; p < count; p++) sums[q + p] = sum[p] + rest[p];
    }
}

// The means of the clusters `first` to `last` - 1, (k, d), and the squares of their centres' ways there, (k,).
inline void move(const Sums &of, i64 n_lanes, const double *centers, i64 k, i64 d, i64 first, i64 last, double *moved,
                 double *ways) {
    const Rows rows{moved, k, d, d, 1};
    for (i64 j = first; j < last; j++) {
        const Mass mass = mass_of(of, n_lanes, k, d, j);
        const double weight = mass.empty() ? 1.0 : mass.weight;
        double *to = moved + j * d;
        join(of, n_lanes, k, d, j, to);
        for (i64 q = 0; q < d; q++) to[q] = of.shift[q] + to[q] / weight;
        ways[j] = exact_distance<double>(rows, j, centers + j * d);
    }
}

// What the moves of all centres come to. One whose cluster is empty goes where the heaviest cluster's is.
inline Moved arrive(const Sums &of, i64 n_lanes, const double *centers, i64 k, i64 d, double *moved, double *ways) {
    const Rows rows{moved, k, d, d, 1};
    Moved found{0, 0};
    i64 heaviest = -1;
    double most = -1;
    for (i64 j = 0; j < k; j++) {
        const Mass mass = mass_of(of, n_lanes, k, d, j);
        if (mass.weight > most) most = mass.weight, heaviest = j;
        found.empty += mass.count == 0;
    }
    for (i64 j = 0; j < k; j++) {
        if (mass_of(of, n_lanes, k, d, j).empty()) {
            for (i64 q = 0; q < d; q++) moved[j * d + q] = moved[heaviest * d + q];
            ways[j] = exact_distance<double>(rows, j, centers + j * d);
        }
        found.squared += ways[j];
    }
    return found;
}

// Centres as means of `weights` that the rows of a batch have joined, see _batches.learn.
inline void learn(const Sums &of, i64 n_lanes, const double *centers, const double *weights, i64 k, i64 d, double *moved,
                  double *gained) {
    for (i64 j = 0; j < k; j++) {
        const double gain = mass_of(of, n_lanes, k, d, j).weight, sum = weights[j] + gain, share = sum > 0 ? sum : 1.0;
        const double *from = centers + j * d;
        double *to = moved + j * d;
        join(of, n_lanes, k, d, j, to);
        i64 q = 0;
        for (; q + lanes<double> <= d; q += lanes<double>) {
            const Vec<double> was = load(from + q);
            store(to + q, (rounded((was - load(of.shift + q)) * -gain) + load(to + q)) / share + was);
        }
        for (; q < d; q++) to[q] = (rounded((from[q] - of.shift[q]) * -gain) + to[q]) / share + from[q];
        gained[j] = gain;
    }
}

} // namespace gpukmeans::GPUKMEANS_ISA
