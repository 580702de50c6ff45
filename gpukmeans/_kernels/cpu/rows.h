// One row: in local coordinates, its exact distance to a centre, and its part in a cluster's sums.
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
    i64 row(i64 p) const { return which ? which[p] : first + p; }
};

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
    double sum = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    for (; q < d; q++) sum += square(q);
    return sum;
}

// Adds w (x - shift) to the sums of a cluster.
template <class Row, int D = 0>
GPUKMEANS_INLINE void add_row(const Rows &rows, i64 i, const double *shift, double weight, double *sums) {
    const Row *x = row_of<Row>(rows, i);
    const i64 d = D ? D : rows.d, step = rows.column_step;
    if (step == 1)
        for (i64 q = 0; q < d; q++) sums[q] += weight * (static_cast<double>(x[q]) - shift[q]);
    else
        for (i64 q = 0; q < d; q++) sums[q] += weight * (static_cast<double>(x[q * step]) - shift[q]);
}

// Adds a row to the sums of cluster j of one lane, or takes it away (sign -1).
template <class Row>
GPUKMEANS_INLINE void add_to(const Sums &to, i64 lane, i64 k, const Rows &rows, const double *weights, i64 i, i64 j,
                             double sign) {
    const double w = weights ? weights[i] : 1.0;
    const i64 cluster = lane * k + j;
    double *sums = to.sums + cluster * rows.d;
    switch (rows.d) {
    case 1: add_row<Row, 1>(rows, i, to.shift, sign * w, sums); break;
    case 2: add_row<Row, 2>(rows, i, to.shift, sign * w, sums); break;
    case 3: add_row<Row, 3>(rows, i, to.shift, sign * w, sums); break;
    default: add_row<Row>(rows, i, to.shift, sign * w, sums);
    }
    to.masses[cluster] += sign * w;
    to.counts[cluster] += w > 0 ? static_cast<i64>(sign) : 0;
}

} // namespace gpukmeans::GPUKMEANS_ISA
