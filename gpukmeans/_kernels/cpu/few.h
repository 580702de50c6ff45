// Nearest and second-nearest centre of rows of at most four features, in two ways: rows along the registers, features
// unrolled, all in registers.
//
// packed  |c|^2 - 2 x.c with the number of its centre in its last bits: one minimum finds both. Not for many centres.
// direct  sum of (x - c)^2: surer where rows are far from the origin and near to each other.
//
// The first is tried first. Nothing here decides ties: see search.h.
#pragma once

#include "rows.h"

namespace gpukmeans::GPUKMEANS_ISA {

constexpr i64 few_features = 4;

inline bool is_few(i64 d) { return d <= few_features; }

template <class T> constexpr i64 few_rows = few_vectors * lanes<T>;

constexpr double far_norm = 1e30;  // |c|^2 from which a centre wins only where all are as far (_frame.FAR)
constexpr double far_reach = 1e14; // |c| that is well below

inline bool is_copy(double norm) { return norm > 1e300; } // of an earlier centre, see find_copies()

// How values are packed with the numbers of centres.
template <class T> struct Packing {
    bool pays;         // not where few digits were left, nor with centres that are far away
    Index<T> last;     // the bits that a number takes
    T error, by_reach; // relative error of a packed value, see _frame.trust; and that times 2 r^2, r the largest |c|
};

template <class T> Packing<T> packing_for(const Targets &targets) {
    i64 numbers = 1;
    while (numbers < targets.k) numbers *= 2;
    const T error = static_cast<T>(targets.trust) + 2 * unit_of<T> * static_cast<T>(numbers);
    const T reach = static_cast<T>(targets.reach);
    const bool pays = numbers <= (sizeof(T) == 4 ? 64 : 4096) && targets.reach < far_reach;
    return {pays, static_cast<Index<T>>(numbers - 1), error, 2 * error * reach * reach};
}

// A tile, in registers.
template <class T> struct Nearest {
    Vec<T> best[few_vectors], second[few_vectors], size[few_vectors]; // see Found
    Vec<Index<T>> at[few_vectors];

    GPUKMEANS_INLINE void write(Found<T> to) const {
        constexpr int L = lanes<T>;
        for (int v = 0; v < few_vectors; v++) {
            store(to.best + v * L, best[v]);
            store(to.second + v * L, second[v]);
            store(to.size + v * L, size[v]);
            store(to.at + v * L, at[v]);
        }
    }
};

// The rows of a tile, from x (D, m), and their |x|^2.
template <class T, int D> struct FewRows {
    Vec<T> of[few_vectors][D];

    GPUKMEANS_INLINE FewRows(const T *x, i64 m) {
#pragma GCC unroll 4
        for (int v = 0; v < few_vectors; v++)
            for (int q = 0; q < D; q++) of[v][q] = load(x + q * m + v * lanes<T>);
    }

    GPUKMEANS_INLINE Vec<T> size(int v) const {
        Vec<T> size{};
        for (int q = 0; q < D; q++) size += of[v][q] * of[v][q];
        return size;
    }
};

// centers: (k, D).
template <class T, int D> GPUKMEANS_INLINE Nearest<T> search_direct(const T *x, i64 m, const T *centers, i64 k) {
    constexpr int V = few_vectors;
    const FewRows<T, D> rows(x, m);
    Nearest<T> found;
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
        found.best[v] = found.second[v] = fill(static_cast<T>(__builtin_inff()));
        found.at[v] = Vec<Index<T>>{};
    }
    for (i64 j = 0; j < k; j++) {
        const Vec<Index<T>> index = fill(static_cast<Index<T>>(j));
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
            Vec<T> squared{};
            for (int q = 0; q < D; q++) {
                const Vec<T> difference = rows.of[v][q] - centers[j * D + q];
                squared += difference * difference;
            }
            found.second[v] = lower(found.second[v], higher(squared, found.best[v]));
            found.at[v] = squared < found.best[v] ? index : found.at[v];
            found.best[v] = lower(squared, found.best[v]);
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) found.size[v] = rows.size(v);
    return found;
}

// A centre of the packed way: -2 c, |c|^2, and its number in the place of a number's last bits.
template <class T, int D> struct Line {
    T factors[D], norm;
    Index<T> number;
};

inline i64 line_size(i64 d) { return d + 2; }

// Centre j, in local coordinates, as a line. A copy is farther from every row than any other centre.
template <class T> void arrange_line(const double *local, double norm, i64 j, i64 d, T *lines) {
    const bool copy = is_copy(norm);
    T *line = lines + j * line_size(d);
    for (i64 q = 0; q < d; q++) line[q] = copy ? T(0) : static_cast<T>(-2 * local[q]);
    line[d] = static_cast<T>(copy ? (sizeof(T) == 4 ? 3e38 : 1e300) : norm);
    const Index<T> number = static_cast<Index<T>>(j);
    __builtin_memcpy(line + d + 1, &number, sizeof number);
}

template <class T, int D>
GPUKMEANS_INLINE Nearest<T> search_packed(const T *x, i64 m, const void *lines, i64 k, Index<T> last) {
    constexpr int V = few_vectors;
    const FewRows<T, D> rows(x, m);
    const Line<T, D> *line = static_cast<const Line<T, D> *>(lines);
    const Vec<Index<T>> kept = fill(static_cast<Index<T>>(~last));
    Nearest<T> found;
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) found.best[v] = found.second[v] = fill(static_cast<T>(__builtin_inff()));
    for (i64 j = 0; j < k; j++, line++) {
        const Vec<Index<T>> number = fill(line->number);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
            Vec<T> value = fill(line->norm);
            for (int q = 0; q < D; q++) value += rows.of[v][q] * line->factors[q];
            value = reinterpret_cast<Vec<T>>((reinterpret_cast<Vec<Index<T>>>(value) & kept) | number);
            found.second[v] = lower(found.second[v], higher(value, found.best[v]));
            found.best[v] = lower(value, found.best[v]);
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
        found.size[v] = rows.size(v);
        found.at[v] = reinterpret_cast<Vec<Index<T>>>(found.best[v]) & last;
    }
    return found;
}

} // namespace gpukmeans::GPUKMEANS_ISA
