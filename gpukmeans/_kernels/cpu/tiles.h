// Nearest and second-nearest centre of a tile of rows by |c|^2 - 2 x.c: rows along the registers, a group of centres a
// pass, like a matrix product whose result goes into the running minimum and is never written out. Rows of few
// features have ways of their own, see few.h. Nothing here decides ties: see settle() in search.h.
#pragma once

#include "few.h"

namespace gpukmeans::GPUKMEANS_ISA {

// What |c|^2 - 2 x.c may be off by for a centre as near as one at the squared distance s, with b the relative error of
// the product, r the norm of the farthest centre and `size` |x|^2: see limits_direct() in search.h.
template <class T, class V> GPUKMEANS_INLINE V product_error(T b, T r, V size, V s) {
    return lower(b * r * (2 * root(size) + r), b * (5 * size + 3 * s));
}

// Where the entry (q, j) of a matrix (d, k) lies whose columns are in groups beside each other.
inline i64 in_groups(i64 q, i64 j, i64 k, i64 d) {
    const i64 first = j / group * group, size = smallest(group, k - first);
    return first * d + q * size + (j - first);
}

// Centre j, in local coordinates, in its place: (k, d) for the direct way; groups of centres beside each other,
// feature by feature, times -2, for tiles.
template <class T> void arrange(const double *local, double norm, i64 j, i64 k, i64 d, T *to, T *to_norms) {
    const bool copy = is_copy(norm), far = norm > far_norm;
    to_norms[j] = static_cast<T>(far && !copy ? far_norm : norm);
    if (is_few(d)) // a copy is infinitely far from every row
        for (i64 q = 0; q < d; q++) to[j * d + q] = static_cast<T>(copy ? norm : local[q]);
    else {
        T *column = to + in_groups(0, j, k, d);
        const i64 step = in_groups(1, j, k, d) - in_groups(0, j, k, d);
        for (i64 q = 0; q < d; q++) column[q * step] = far ? T(0) : static_cast<T>(-2 * local[q]);
    }
}

// Products of one tile of rows x (d, tile_rows) with the columns of a matrix (d, J), each added to its start. Every few
// features `between` is called with the number of the next, to have something come from main memory meanwhile.
template <class T, int J, class Between>
GPUKMEANS_INLINE void multiply_group(const T *x, const T *centers, const T *starts, i64 d,
                                     Vec<T> (&product)[J][row_vectors], Between between) {
    constexpr int V = row_vectors, L = lanes<T>;
    constexpr i64 step = 64 / static_cast<i64>(sizeof(T));
#pragma GCC unroll 8
    for (int j = 0; j < J; j++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) product[j][v] = fill(starts[j]);
    for (i64 first = 0; first < d; first += step) {
        between(first);
        for (i64 q = first; q < smallest(first + step, d); q++) {
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
    }
}

// One tile against J centres, the first of which is number `first`.
template <class T, int J, class Between>
GPUKMEANS_INLINE void search_group(const T *x, const T *centers, const T *norms, i64 d, i64 first, Found<T> found,
                                   Between between) {
    constexpr int V = row_vectors, L = lanes<T>;
    Vec<T> product[J][V];
    multiply_group<T, J>(x, centers, norms, d, product, between);
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

// Has `use` do something that is compiled for each size of a group, `size` being one from 1 to J.
template <int J, class Use> GPUKMEANS_INLINE void with_size(i64 size, Use use) {
    if constexpr (J > 0) {
        if (size == J)
            use(Number<J>{});
        else
            with_size<J - 1>(size, use);
    }
}

// One tile against the centres first to last - 1; `first` begins a group. `between` is called with the number of the
// group and of the feature that are next.
template <class T, class Between>
void search_tile(const T *x, const T *groups, const T *norms, i64 d, i64 first, i64 last, Found<T> found,
                 Between between) {
    for (i64 j = first; j < last; j += group)
        with_size<group>(smallest(group, last - j), [&](auto size) {
            search_group<T, size.count>(x, groups + j * d, norms + j, d, j, found,
                                        [&](i64 q) { between(j / group, q); });
        });
}

// Products of one tile with `count` columns, in groups, each added to its start: out (count, tile_rows).
template <class T> void multiply_tile(const T *x, const T *groups, const T *starts, i64 d, i64 count, T *out) {
    constexpr int V = row_vectors, L = lanes<T>;
    for (i64 j = 0; j < count; j += group)
        with_size<group>(smallest(group, count - j), [&](auto size) {
            Vec<T> product[size.count][V];
            multiply_group<T, size.count>(x, groups + j * d, starts + j, d, product, [](i64) {});
            for (int i = 0; i < size.count; i++)
                for (int v = 0; v < V; v++) store(out + (j + i) * tile_rows<T> + v * L, product[i][v]);
        });
}

} // namespace gpukmeans::GPUKMEANS_ISA
