// Nearest and second-nearest centre of a tile of rows, in two ways.
//
// direct  d <= 4: sum of (x - c)^2, rows along the registers, features unrolled.
// tiles   the rest: rows along the registers, a group of centres a pass, like a matrix product
//         whose result goes into the running minimum and is never written out.
//
// The latter gives |c|^2 - 2 x.c. Nothing here decides ties: see settle() in search.h.
#pragma once

#include "rows.h"

namespace gpukmeans::GPUKMEANS_ISA {

constexpr i64 direct_features = 4;
constexpr double far_norm = 1e30; // |c|^2 from which a centre wins only where all are as far (_frame.FAR)

inline bool is_direct(i64 d) { return d <= direct_features; }

// What a search knows of a batch of rows; all arrays have room for whole tiles.
template <class T> struct Found {
    T *best, *second; // fast distances to the nearest and the second-nearest centre
    Index<T> *at;     // the nearest
    T *size;          // |x|^2
};

// Centre j, in local coordinates, in its place: (k, d) for the direct way; groups of centres beside each other,
// feature by feature, times -2, for tiles.
template <class T> void arrange(const double *local, double norm, i64 j, i64 k, i64 d, T *to, T *to_norms) {
    const bool copy = norm > 1e300, far = norm > far_norm;
    to_norms[j] = static_cast<T>(far && !copy ? far_norm : norm);
    if (is_direct(d)) // a copy is infinitely far from every row
        for (i64 q = 0; q < d; q++) to[j * d + q] = static_cast<T>(copy ? norm : local[q]);
    else {
        const i64 first = j / group * group, size = first + group <= k ? group : k - first;
        T *column = to + first * d + (j - first);
        for (i64 q = 0; q < d; q++) column[q * size] = far ? T(0) : static_cast<T>(-2 * local[q]);
    }
}

// --- direct ---------------------------------------------------------------------------------------

// A tile of the direct way, in registers.
template <class T> struct Nearest {
    Vec<T> best[direct_vectors], second[direct_vectors], size[direct_vectors]; // see Found
    Vec<Index<T>> at[direct_vectors];

    GPUKMEANS_INLINE void write(Found<T> to) const {
        constexpr int L = lanes<T>;
        for (int v = 0; v < direct_vectors; v++) {
            store(to.best + v * L, best[v]);
            store(to.second + v * L, second[v]);
            store(to.size + v * L, size[v]);
            store(to.at + v * L, at[v]);
        }
    }
};

// x: (D, m), of which a tile is searched; centers: (k, D).
template <class T, int D> GPUKMEANS_INLINE Nearest<T> search_direct(const T *x, i64 m, const T *centers, i64 k) {
    constexpr int V = direct_vectors, L = lanes<T>;
    Nearest<T> found;
    Vec<T> rows[V][D];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
        found.best[v] = found.second[v] = fill(static_cast<T>(__builtin_inff()));
        found.at[v] = Vec<Index<T>>{};
        for (int q = 0; q < D; q++) rows[v][q] = load(x + q * m + v * L);
    }
    for (i64 j = 0; j < k; j++) {
        const Vec<Index<T>> index = fill(static_cast<Index<T>>(j));
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
            Vec<T> squared{};
            for (int q = 0; q < D; q++) {
                const Vec<T> difference = rows[v][q] - centers[j * D + q];
                squared += difference * difference;
            }
            found.second[v] = lower(found.second[v], higher(squared, found.best[v]));
            found.at[v] = squared < found.best[v] ? index : found.at[v];
            found.best[v] = lower(squared, found.best[v]);
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
        found.size[v] = Vec<T>{};
        for (int q = 0; q < D; q++) found.size[v] += load(x + q * m + v * L) * load(x + q * m + v * L);
    }
    return found;
}

// --- tiles ----------------------------------------------------------------------------------------

// One tile of rows x (d, tile_rows) against J centres (d, J), the first of which is number `first`.
template <class T, int J>
GPUKMEANS_INLINE void search_group(const T *x, const T *centers, const T *norms, i64 d, i64 first, Found<T> found) {
    constexpr int V = row_vectors, L = lanes<T>;
    Vec<T> product[J][V];
#pragma GCC unroll 8
    for (int j = 0; j < J; j++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) product[j][v] = fill(norms[j]);
    for (i64 q = 0; q < d; q++) {
        Vec<T> rows[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) rows[v] = load(x + q * tile_rows<T> + v * L);
#pragma GCC unroll 8
        for (int j = 0; j < J; j++) {
            const Vec<T> center = fill(centers[q * J + j]);
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) product[j][v] += rows[v] * center;
        }
    }
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) {
        Vec<T> best = load(found.best + v * L), second = load(found.second + v * L);
        Vec<Index<T>> at = load(found.at + v * L);
#pragma GCC unroll 8
        for (int j = 0; j < J; j++) {
            second = lower(second, higher(product[j][v], best));
            at = product[j][v] < best ? fill(static_cast<Index<T>>(first + j)) : at;
            best = lower(product[j][v], best);
        }
        store(found.best + v * L, best);
        store(found.second + v * L, second);
        store(found.at + v * L, at);
    }
}

template <class T, int J>
void search_rest(const T *x, const T *centers, const T *norms, i64 d, i64 first, i64 count, Found<T> found) {
    if constexpr (J > 0) {
        if (count == J)
            search_group<T, J>(x, centers, norms, d, first, found);
        else
            search_rest<T, J - 1>(x, centers, norms, d, first, count, found);
    }
}

// One tile against the centres first to last - 1; `first` begins a group.
template <class T>
void search_tile(const T *x, const T *groups, const T *norms, i64 d, i64 first, i64 last, Found<T> found) {
    for (i64 j = first; j < last; j += group)
        if (j + group <= last)
            search_group<T, group>(x, groups + j * d, norms + j, d, j, found);
        else
            search_rest<T, group - 1>(x, groups + j * d, norms + j, d, j, last - j, found);
}

} // namespace gpukmeans::GPUKMEANS_ISA
