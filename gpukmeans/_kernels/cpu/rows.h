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

// Squared distance of a row to a centre by float64 differences, in original coordinates. Eight sums,
// each in the order of the features and then added in a tree, whatever the instruction set.
template <class Row, int D = 0> double exact_distance(const Rows &rows, i64 i, const double *center) {
    const Row *x = row_of<Row>(rows, i);
    const i64 d = D ? D : rows.d, step = rows.column_step;
    auto square = [&](i64 q) {
        const double difference = static_cast<double>(x[q * step]) - center[q];
        return rounded(difference * difference);
    };
    if (d < 8) {
        double sum = 0;
        for (i64 q = 0; q < d; q++) sum += square(q);
        return sum;
    }
    constexpr int L = lanes<double>, parts = 8 / L;
    Vec<double> part[parts] = {};
    i64 q = 0;
    for (; q + 8 <= d; q += 8)
        for (int v = 0; v < parts; v++) {
            Vec<double> wide{};
            if (step == 1)
                wide = load_as<double>(x + q + v * L);
            else
                for (int l = 0; l < L; l++) wide[l] = static_cast<double>(x[(q + v * L + l) * step]);
            const Vec<double> difference = wide - load(center + q + v * L);
            part[v] += rounded(difference * difference);
        }
    double sums[8];
    for (int v = 0; v < parts; v++) store(sums + v * L, part[v]);
    double sum = tree(sums);
    for (; q < d; q++) sum += square(q);
    return sum;
}

// The product of a row with a centre in float64, with the sums of exact_distance.
template <class Row> double exact_product(const Rows &rows, i64 i, const double *center) {
    const Row *x = row_of<Row>(rows, i);
    double sums[8] = {};
    for (i64 q = 0; q < rows.d; q++) sums[q % 8] += rounded(static_cast<double>(x[q * rows.column_step]) * center[q]);
    return tree(sums);
}

} // namespace gpukmeans::GPUKMEANS_ISA
