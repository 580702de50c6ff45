// Moments of the rows, and squared distances to own centres: one read of each row.
#pragma once

#include "narrow.h"

namespace gpukmeans::GPUKMEANS_ISA {

// Adds R rows to the sums and sums of squares of (x - shift), in the order of the rows; a sum is loaded once for all
// of them. Returns the largest squared norm, with the sums of exact_distance().
template <class Row, int R> double moments_of_rows(const Moments &m, i64 i, double *first, double *second) {
    constexpr int L = lanes<double>, parts = 8 / L;
    const i64 d = m.rows.d, step = m.rows.column_step;
    const Row *x[R];
    for (int r = 0; r < R; r++) x[r] = row_of<Row>(m.rows, i + r);
    Vec<double> norms[R][parts] = {};
    i64 q = 0;
    if (step == 1)
        for (; q + 8 <= d; q += 8) {
            for (int r = 0; r < R; r++) __builtin_prefetch(x[r] + q + R * m.rows.row_step);
            for (int v = 0; v < parts; v++) {
                const i64 at = q + v * L;
                const Vec<double> shift = load(m.shift + at);
                Vec<double> sum = load(first + at), squares = load(second + at);
#pragma GCC unroll 4
                for (int r = 0; r < R; r++) {
                    const Vec<double> value = load_as<double>(x[r] + at) - shift, square = rounded(value * value);
                    sum += value;
                    squares += square;
                    norms[r][v] += square;
                }
                store(first + at, sum);
                store(second + at, squares);
            }
        }
    double most = 0;
    for (int r = 0; r < R; r++) {
        double part[8];
        for (int v = 0; v < parts; v++) store(part + v * L, norms[r][v]);
        double norm = tree(part);
        for (i64 p = q; p < d; p++) {
            const double value = static_cast<double>(x[r][p * step]) - m.shift[p], square = rounded(value * value);
            first[p] += value;
            second[p] += square;
            norm += square;
        }
        most = norm > most ? norm : most;
    }
    return most;
}

template <class Row> void moments_wide(const Moments &m, i64 a, i64 b, double *first, double *second, double *most) {
    auto take = [&](double norm) { *most = norm > *most ? norm : *most; };
    i64 i = a;
    for (; i + 4 <= b; i += 4) take(moments_of_rows<Row, 4>(m, i, first, second));
    for (; i < b; i++) take(moments_of_rows<Row, 1>(m, i, first, second));
}

// The same for a few features, with all sums in registers.
template <class Row, int D> void moments_narrow(const Moments &m, i64 a, i64 b, double *first, double *second, double *most) {
    double shift[D], sums[D], squares[D], largest = *most;
    for (int q = 0; q < D; q++) shift[q] = m.shift[q], sums[q] = first[q], squares[q] = second[q];
    for (i64 i = a; i < b; i++) {
        const Row *x = row_of<Row>(m.rows, i);
        double norm = 0;
        for (int q = 0; q < D; q++) {
            const double value = static_cast<double>(x[q * m.rows.column_step]) - shift[q], square = value * value;
            sums[q] += value;
            squares[q] += square;
            norm += square;
        }
        largest = norm > largest ? norm : largest;
    }
    for (int q = 0; q < D; q++) first[q] = sums[q], second[q] = squares[q];
    *most = largest;
}

template <class Row> void moments(const Moments &m, i64 lane) {
    const i64 a = m.edges[lane], b = m.edges[lane + 1], d = m.rows.d;
    double *first = m.first + lane * d, *second = m.second + lane * d, *most = m.largest + lane;
    with_features(d, [&](auto features) {
        if constexpr (features.count > 0)
            moments_narrow<Row, features.count>(m, a, b, first, second, most);
        else
            moments_wide<Row>(m, a, b, first, second, most);
    });
}

template <class Row> void own_distances(const Own &o, i64 lane) {
    double sum = o.inertia[lane];
    for (i64 i = o.edges[lane]; i < o.edges[lane + 1]; i++) {
        const double squared = exact_distance<Row>(o.rows, i, o.centers + o.labels[i] * o.rows.d);
        if (o.squared) o.squared[i] = squared;
        sum += rounded((o.weights ? o.weights[i] : 1.0) * squared);
    }
    o.inertia[lane] = sum;
}

inline i64 add_scratch(const AddUp &a) { return adder_bytes(a.k, a.rows.d); }

template <class Row> void add_up(const AddUp &a, i64 lane, void *scratch) {
    add_with<Row>(a.sums, lane, a.k, a.rows, a.edges[lane + 1], a.weights, scratch, [&](auto &&adder) {
        adder.add_all(a.edges[lane], a.edges[lane + 1], a.labels);
    });
}

} // namespace gpukmeans::GPUKMEANS_ISA
