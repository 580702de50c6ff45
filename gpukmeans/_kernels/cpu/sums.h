// Moments of the rows, and squared distances to own centres: one read of each row.
#pragma once

#include "rows.h"

namespace gpukmeans::GPUKMEANS_ISA {

// Sums and sums of squares of (x - shift), in the order of the rows, and the largest squared norm.
template <class Row, int D = 0> void moments_of(const Moments &m, i64 a, i64 b, double *first, double *second, double *most) {
    const i64 d = D ? D : m.rows.d, step = m.rows.column_step;
    const double *shift = m.shift;
    double largest = *most;
    for (i64 i = a; i < b; i++) {
        const Row *x = row_of<Row>(m.rows, i);
        double norm = 0;
        if (step == 1)
            for (i64 q = 0; q < d; q++) {
                const double value = static_cast<double>(x[q]) - shift[q], square = value * value;
                first[q] += value;
                second[q] += square;
            }
        else
            for (i64 q = 0; q < d; q++) {
                const double value = static_cast<double>(x[q * step]) - shift[q], square = value * value;
                first[q] += value;
                second[q] += square;
            }
        norm = exact_distance<Row, D>(m.rows, i, shift);
        largest = norm > largest ? norm : largest;
    }
    *most = largest;
}

template <class Row> void moments(const Moments &m, i64 lane) {
    const i64 a = m.edges[lane], b = m.edges[lane + 1], d = m.rows.d;
    double *first = m.first + lane * d, *second = m.second + lane * d, *most = m.largest + lane;
    switch (d) {
    case 1: return moments_of<Row, 1>(m, a, b, first, second, most);
    case 2: return moments_of<Row, 2>(m, a, b, first, second, most);
    case 3: return moments_of<Row, 3>(m, a, b, first, second, most);
    case 4: return moments_of<Row, 4>(m, a, b, first, second, most);
    default: return moments_of<Row>(m, a, b, first, second, most);
    }
}

template <class Row> void own_distances(const Own &o, i64 lane) {
    double sum = o.inertia[lane];
    for (i64 i = o.edges[lane]; i < o.edges[lane + 1]; i++) {
        const double squared = exact_distance<Row>(o.rows, i, o.centers + o.labels[i] * o.rows.d);
        if (o.squared) o.squared[i] = squared;
        sum += (o.weights ? o.weights[i] : 1.0) * squared;
    }
    o.inertia[lane] = sum;
}

template <class Row> void add_up(const AddUp &a, i64 lane) {
    for (i64 i = a.edges[lane]; i < a.edges[lane + 1]; i++)
        add_to<Row>(a.sums, lane, a.k, a.rows, a.weights, i, a.labels[i], 1.0);
}

} // namespace gpukmeans::GPUKMEANS_ISA
