// Sparse rows (CSR): nearest centres, exact distances, sums of clusters, products with points. A call works on
// some rows in one thread; _kernels/csr.py says which, and what the results are.
//
//   argument   shape        direction   bytes a row of e entries
//   data       (nnz,)       in          e * itemsize
//   indices    (nnz,)       in          e * itemsize
//   edges      (n + 1,)     in          8
//   table      (d, width)   in          e * width * itemsize, of lines that caches hold where features are frequent
//   labels     (n,)         out         4
#pragma once

#include "rows.h"

namespace gpukmeans::GPUKMEANS_ISA {

// A sum in twice the digits: what adding to `high` rounds off goes to `low`.
struct Twofold {
    double high = 0, low = 0;
    GPUKMEANS_INLINE void add(double x) {
        const double sum = high + x, part = sum - high;
        low += (high - (sum - part)) + (x - part);
        high = sum;
    }
};

// The entries of a row.
template <class Row, class Index> struct Entries {
    const Row *values;
    const Index *features;
    i64 count;
    bool divided; // by the length
    double length;

    Entries(const Csr &rows, i64 i)
        : values(static_cast<const Row *>(rows.data) + rows.edges[i]),
          features(static_cast<const Index *>(rows.indices) + rows.edges[i]), count(rows.edges[i + 1] - rows.edges[i]),
          divided(rows.lengths != nullptr), length(divided ? rows.lengths[i] : 1.0) {}

    // Its reciprocal may be infinite: so entries that count are divided.
    GPUKMEANS_INLINE double operator[](i64 e) const {
        const double value = static_cast<double>(values[e]);
        return divided ? value / length : value;
    }
};

// The centres times a factor each, side by side: (k, d) becomes (d, width), zeros fill up the width.
template <class T> void csr_table(const double *centers, const double *factors, i64 k, i64 d, i64 width, void *out) {
    constexpr i64 B = 16;
    T *table = static_cast<T *>(out);
    for (i64 q = 0; q < d; q += B)
        for (i64 j = 0; j < width; j++)
            for (i64 p = q; p < smallest(q + B, d); p++)
                table[p * width + j] = j < k ? static_cast<T>(centers[j * d + p] * factors[j]) : T(0);
}

// The sum of the squares of each centre: high (k,) and low (k,).
inline void csr_squares(const double *centers, i64 k, i64 d, double *high, double *low) {
    for (i64 j = 0; j < k; j++) {
        Twofold sum;
        for (i64 q = 0; q < d; q++) sum.add(rounded(centers[j * d + q] * centers[j * d + q]));
        high[j] = sum.high, low[j] = sum.low;
    }
}

// Squared distance of a row to a centre: the features that the row has, and what is left of |c|^2.
template <class Row, class Index> double csr_exact(const Csr &rows, i64 i, const CsrCenters &c, i64 j) {
    const Entries<Row, Index> x(rows, i);
    const double *center = c.exact + j * rows.d;
    double inside = 0;
    Twofold taken;
    for (i64 e = 0; e < x.count; e++) {
        const double entry = center[x.features[e]], difference = rounded(x[e]) - entry;
        inside += difference * difference;
        taken.add(rounded(entry * entry));
    }
    return inside + positive((c.high[j] - taken.high) + (c.low[j] - taken.low));
}

// The product of a row with a centre, in float64; of rows with lengths it decides, see _frame.nearest_directly.
template <class Row, class Index> double csr_exact_product(const Csr &rows, i64 i, const CsrCenters &c, i64 j) {
    const Entries<Row, Index> x(rows, i);
    const double *center = c.exact + j * rows.d;
    double sum = 0;
    for (i64 e = 0; e < x.count; e++) sum += rounded(x[e] * center[x.features[e]]);
    return sum;
}

// The product of a row with V vectors of a table's lines, starting from `sums`.
template <class Row, class Index, class T, int V>
GPUKMEANS_INLINE void csr_product(const Entries<Row, Index> &x, T scale, const T *table, i64 width, T *sums) {
    constexpr int L = lanes<T>;
    Vec<T> sum[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) sum[v] = load(sums + v * L);
    for (i64 e = 0; e < x.count; e++) {
        const T *line = table + static_cast<i64>(x.features[e]) * width;
        const Vec<T> value = fill(static_cast<T>(x.values[e]) * scale);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) sum[v] += value * load(line + v * L);
    }
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) store(sums + v * L, sum[v]);
}

template <class Row, class Index, class T>
void csr_products(const Entries<Row, Index> &x, T scale, const T *table, i64 width, T *sums) {
    constexpr int L = lanes<T>;
    i64 j = 0;
    for (; j + 8 * L <= width; j += 8 * L) csr_product<Row, Index, T, 8>(x, scale, table + j, width, sums + j);
    for (; j + 4 * L <= width; j += 4 * L) csr_product<Row, Index, T, 4>(x, scale, table + j, width, sums + j);
    for (; j + 2 * L <= width; j += 2 * L) csr_product<Row, Index, T, 2>(x, scale, table + j, width, sums + j);
    for (; j < width; j += L) csr_product<Row, Index, T, 1>(x, scale, table + j, width, sums + j);
}

template <class Row, class Index> double csr_norm(const Entries<Row, Index> &x, double scale) {
    double sum = 0;
    for (i64 e = 0; e < x.count; e++) {
        const double value = static_cast<double>(x.values[e]) * scale;
        sum += value * value;
    }
    return sum;
}

// Labels of the rows from `first` to `last` - 1; returns how many the products left in doubt. The error of
// |c|^2 - 2 x.c is bounded as in _frame.doubt_limit, with the row's entries for the length of the sum; 1e-33 is
// _frame.UNDERFLOW.
template <class Row, class Index, class T>
i64 csr_nearest(const Csr &rows, i64 first, i64 last, const CsrCenters &c, i32 *labels, void *scratch) {
    constexpr int L = lanes<T>;
    const T *norms = static_cast<const T *>(c.norms), *table = static_cast<const T *>(c.table);
    const double unit = sizeof(T) == 4 ? 0x1p-24 : 0x1p-53, r = c.reach;
    T *fast = static_cast<T *>(scratch);
    i64 doubtful = 0;
    for (i64 i = first; i < last; i++) {
        const Entries<Row, Index> x(rows, i);
        const double factor = c.scale / x.length;
        const T scale = static_cast<T>(factor);
        for (i64 j = 0; j < c.width; j += L) store(fast + j, load(norms + j));
        csr_products<Row, Index, T>(x, scale, table, c.width, fast);
        Vec<T> lowest = load(fast);
        for (i64 j = L; j < c.width; j += L) lowest = lower(lowest, load(fast + j));
        double best = static_cast<double>(lowest[0]);
        for (int l = 1; l < L; l++) best = lower(best, static_cast<double>(lowest[l]));
        const double xx = csr_norm(x, factor), length = static_cast<double>(x.count);
        const double b = unit * (lower(length, 8 * root(length)) + 10);
        const double error = 1e-33 + lower(b * r * (2 * root(xx) + r), b * (5 * xx + 3 * positive(best + xx)));
        const T limit = static_cast<T>((best + 2 * error) * (best + 2 * error > 0 ? 1 + 4 * unit : 1 - 4 * unit));
        Vec<T> counted{};
        for (i64 j = 0; j < c.width; j += L) counted += load(fast + j) <= limit ? fill(T(1)) : Vec<T>{};
        i64 close = 0, at = 0;
        for (int l = 0; l < L; l++) close += static_cast<i64>(counted[l]);
        if (close == 1 && limit < __builtin_inf()) {
            while (!(fast[at] <= limit)) at++;
            labels[i - first] = static_cast<i32>(at);
            continue;
        }
        doubtful++;
        double nearest = __builtin_inf();
        for (i64 j = 0; j < c.k; j++)
            if (close == 0 || fast[j] <= limit) { // none is close where something overflowed
                const double distance = rows.lengths ? -csr_exact_product<Row, Index>(rows, i, c, j)
                                                     : csr_exact<Row, Index>(rows, i, c, j);
                if (distance < nearest) nearest = distance, at = j;
            }
        labels[i - first] = static_cast<i32>(at);
    }
    return doubtful;
}

template <class Row, class Index>
void csr_own(const Csr &rows, i64 first, i64 last, const CsrCenters &c, const i32 *labels, double *out) {
    for (i64 i = first; i < last; i++) out[i - first] = csr_exact<Row, Index>(rows, i, c, labels[i - first]);
}

// Adds the rows that `which` lists from edges[j] to edges[j + 1] to the sums of cluster j, each by its factor.
template <class Row, class Index>
void csr_add(const Csr &rows, const i64 *which, const double *factors, const i64 *edges, i64 clusters, double *sums) {
    for (i64 j = 0; j < clusters; j++)
        for (i64 p = edges[j]; p < edges[j + 1]; p++) {
            const Entries<Row, Index> x(rows, which[p]);
            double *sum = sums + j * rows.d;
            for (i64 e = 0; e < x.count; e++) sum[x.features[e]] += factors[p] * x[e];
        }
}

// Squared distances to points in the frame's scale, not above `closest`: out (count, stride), a row of it for
// each point. `table` (d, width) holds -2 y, `noise` times |x|^2 + |y|^2 counts as nothing.
template <class Row, class Index>
void csr_lower(const Csr &rows, i64 first, i64 last, const CsrPoints &p, const double *closest, double *out, i64 stride,
               void *scratch) {
    double *squared = static_cast<double *>(scratch);
    for (i64 i = first; i < last; i++) {
        const Entries<Row, Index> x(rows, i);
        const double xx = csr_norm(x, p.scale);
        for (i64 j = 0; j < p.width; j++) squared[j] = 0;
        csr_products<Row, Index, double>(x, p.scale, p.table, p.width, squared);
        for (i64 j = 0; j < p.count; j++) {
            const double size = xx + p.norms[j], distance = size + squared[j];
            out[j * stride + i - first] = lower(distance <= p.noise * size ? 0.0 : distance, closest[i - first]);
        }
    }
}

template <class Row, class Index> constexpr CsrKernels csr_kernels() {
    return {csr_nearest<Row, Index, float>, csr_nearest<Row, Index, double>, csr_own<Row, Index>, csr_add<Row, Index>,
            csr_lower<Row, Index>};
}

} // namespace gpukmeans::GPUKMEANS_ISA
