// One row: in local coordinates, and its exact distance to a centre.
#pragma once

#include "simd.h"
#include "table.h"

namespace gpukmeans::GPUKMEANS_ISA {

constexpr i64 smallest(i64 a, i64 b) { return a < b ? a : b; }
constexpr i64 largest(i64 a, i64 b) { return a > b ? a : b; }

// Some rows: those listed, or without a list the ones from `first` on.
struct Batch {
    i64 first, m;
    const i64 *which;
    i64 more = 0; // that are listed after these
    i64 row(i64 p) const { return which ? which[p] : first + p; }
};

template <class T> constexpr T unit_of = sizeof(T) == 4 ? T(0x1p-24) : T(0x1p-53); // half a unit in the last place of 1

// What a search knows of a batch of rows; all arrays have room for whole tiles.
template <class T> struct Found {
    T *best, *second; // fast distances to the nearest and the second-nearest centre
    Index<T> *at;     // the nearest
    T *size;          // |x|^2
};

// A number that the compiler knows; 0 features stand for any.
template <int N> struct Number {
    static constexpr int count = N;
};

// Has `use` do something that is compiled for each number of features from 1 to 4 ...
template <class Use> GPUKMEANS_INLINE void with_few_features(i64 d, Use use) {
    switch (d) {
    case 1: return use(Number<1>{});
    case 2: return use(Number<2>{});
    case 3: return use(Number<3>{});
    case 4: return use(Number<4>{});
    }
}

// ... or for any number.
template <class Use> GPUKMEANS_INLINE void with_features(i64 d, Use use) {
    if (d > 4) return use(Number<0>{});
    with_few_features(d, use);
}

template <class Row> GPUKMEANS_INLINE const Row *row_of(const Rows &rows, i64 i) {
    return static_cast<const Row *>(rows.data) + i * rows.row_step;
}

// The row in local coordinates, as T. `shift` is scaled already.
template <class Row, class T>
void localize(const Rows &rows, i64 i, const T *shift, T scale, T *out) {
    const Row *x = row_of<Row>(rows, i);
    if (rows.column_step == 1)
        for (i64 q = 0; q < rows.d; q++) out[q] = static_cast<T>(x[q]) * scale - shift[q];
    else
        for (i64 q = 0; q < rows.d; q++) out[q] = static_cast<T>(x[q * rows.column_step]) * scale - shift[q];
}

// Eight sums, added in a tree.
inline double tree(const double *sums) {
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

// Squared distances of R rows to a centre each by float64 differences, in original coordinates. Eight sums for each,
// in the order of the features and then added in a tree, whatever the instruction set: those of several rows wait less
// for each other than those of one.
template <class Row, int R, int D = 0>
GPUKMEANS_INLINE void exact_distances(const Rows &rows, i64 i, const double *const *centers, double *out) {
    const i64 d = D ? D : rows.d, step = rows.column_step;
    const Row *x[R];
    for (int r = 0; r < R; r++) x[r] = row_of<Row>(rows, i + r), out[r] = 0;
    i64 q = 0;
    if (d >= 8) {
        constexpr int L = lanes<double>, parts = 8 / L;
        Vec<double> part[R][parts] = {};
        auto add = [&](auto load_row) {
            for (; q + 8 <= d; q += 8)
                for (int r = 0; r < R; r++) {
                    if (R > 1 && step == 1) __builtin_prefetch(x[r] + q + R * rows.row_step);
                    for (int v = 0; v < parts; v++) {
                        const i64 at = q + v * L;
                        const Vec<double> difference = load_row(x[r], at) - load(centers[r] + at);
                        part[r][v] += rounded(difference * difference);
                    }
                }
        };
        if (step == 1)
            add([](const Row *row, i64 at) { return load_as<double>(row + at); });
        else
            add([step](const Row *row, i64 at) {
                Vec<double> wide{};
                for (int l = 0; l < L; l++) wide[l] = static_cast<double>(row[(at + l) * step]);
                return wide;
            });
        for (int r = 0; r < R; r++) {
            double sums[8];
            for (int v = 0; v < parts; v++) store(sums + v * L, part[r][v]);
            out[r] = tree(sums);
        }
    }
    for (int r = 0; r < R; r++)
        for (i64 p = q; p < d; p++) {
            const double difference = static_cast<double>(x[r][p * step]) - centers[r][p];
            out[r] += rounded(difference * difference);
        }
}

// The same of one row.
template <class Row, int D = 0> double exact_distance(const Rows &rows, i64 i, const double *center) {
    double squared;
    exact_distances<Row, 1, D>(rows, i, &center, &squared);
    return squared;
}

// The product of a row with a centre in float64, with the sums of exact_distance.
template <class Row> double exact_product(const Rows &rows, i64 i, const double *center) {
    const Row *x = row_of<Row>(rows, i);
    double sums[8] = {};
    for (i64 q = 0; q < rows.d; q++) sums[q % 8] += rounded(static_cast<double>(x[q * rows.column_step]) * center[q]);
    return tree(sums);
}

} // namespace gpukmeans::GPUKMEANS_ISA
