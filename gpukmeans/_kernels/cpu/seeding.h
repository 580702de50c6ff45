// k-means++: one pass settles the winner of the round before and evaluates the next candidates.
//
// Points: point 0 is the winner, points 1 to t are candidates. Each row's squared distances to them are
// taken by float64 differences, in one of three ways:
//
// columns  d <= 16: rows along the registers, 64 at a time, features beside each other.
// lines    more features: features along the registers, one sum in eight parts.
// sketch   the same, after a filter. A copy of the rows in 8-bit integers proves for most pairs of row
//          and point that the point is not nearer than `closest`; then the distance is not needed,
//          since the smaller of the two is `closest`. What is not proved is evaluated as above.
//
// Sums: a tile of rows is added in eight parts (row number modulo 8), chunk by chunk. So no bit depends
// on threads or on what the sketch lets through, and all instruction sets with a fused multiply-add
// give the same bits.
//
//   argument    shape            direction   bytes a row
//   rows        (n, d)           in          d * itemsize; with the sketch only rows not ruled out
//   weights     (n,) or null     in          8
//   closest     (n,)             in, out     8, and 8 written where the winner lowers a row of a chunk
//   points      (1 + t, width)   in
//   potentials  (tiles, t)       out
//   sketch      see Sketch       in, out     d + 8
#pragma once

#include "search.h"

namespace gpukmeans::GPUKMEANS_ISA {

constexpr i64 chunk_rows = 64;    // rows whose distances are held at once
constexpr i64 column_features = 16;
constexpr int sum_parts = 8 / lanes<double>;

// --- distances ------------------------------------------------------------------------------------

// J points (J, features) against a chunk of rows x (features, chunk_rows): out (J, chunk_rows).
template <int J> GPUKMEANS_INLINE void column_group(const double *x, i64 d, const double *points, i64 width, double *out) {
    constexpr int L = lanes<double>, V = J > 2 ? 2 : 4;
    for (i64 p = 0; p < chunk_rows; p += V * L) {
        Vec<double> sum[J][V] = {};
        for (i64 q = 0; q < d; q++)
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) {
                const Vec<double> row = load(x + q * chunk_rows + p + v * L);
#pragma GCC unroll 4
                for (int j = 0; j < J; j++) {
                    const Vec<double> difference = row - points[j * width + q];
                    sum[j][v] += difference * difference;
                }
            }
        for (int j = 0; j < J; j++)
            for (int v = 0; v < V; v++) store(out + j * chunk_rows + p + v * L, sum[j][v]);
    }
}

inline void columns_to_points(const double *x, i64 d, const double *points, i64 count, i64 width, double *out) {
    i64 j = 0;
    for (; j + 4 <= count; j += 4) column_group<4>(x, d, points + j * width, width, out + j * chunk_rows);
    if (count - j == 3) column_group<3>(x, d, points + j * width, width, out + j * chunk_rows);
    if (count - j == 2) column_group<2>(x, d, points + j * width, width, out + j * chunk_rows);
    if (count - j == 1) column_group<1>(x, d, points + j * width, width, out + j * chunk_rows);
}

// One row against one point, to the same bits: fused where the registers of column_group are, since left
// to itself GCC multiplies this loop's differences in registers first.
GPUKMEANS_INLINE double column_distance(const double *x, i64 d, const double *point) {
    double sum = 0;
    for (i64 q = 0; q < d; q++) {
        const double difference = x[q] - point[q];
#if defined(__FMA__) || defined(__aarch64__)
        sum = __builtin_fma(difference, difference, sum);
#else
        sum += difference * difference;
#endif
    }
    return sum;
}

// R rows (R, width) against J points (J, width), padded with zeros: out (J, chunk_rows), R of each.
template <int R, int J> GPUKMEANS_INLINE void line_group(const double *x, const double *points, i64 width, double *out) {
    constexpr int L = lanes<double>, P = sum_parts;
    Vec<double> sum[R][J][P] = {};
    for (i64 q = 0; q < width; q += 8)
#pragma GCC unroll 8
        for (int v = 0; v < P; v++) {
            Vec<double> row[R];
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) row[r] = load(x + r * width + q + v * L);
#pragma GCC unroll 4
            for (int j = 0; j < J; j++) {
                const Vec<double> point = load(points + j * width + q + v * L);
#pragma GCC unroll 4
                for (int r = 0; r < R; r++) {
                    const Vec<double> difference = row[r] - point;
                    sum[r][j][v] += difference * difference;
                }
            }
        }
    for (int r = 0; r < R; r++)
        for (int j = 0; j < J; j++) {
            double part[8];
            for (int v = 0; v < P; v++) store(part + v * L, sum[r][j][v]);
            out[j * chunk_rows + r] = ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
        }
}

template <int R> void lines_to_points(const double *x, const double *points, i64 count, i64 width, double *out) {
    i64 j = 0;
    for (; j + 3 <= count; j += 3) line_group<R, 3>(x, points + j * width, width, out + j * chunk_rows);
    if (count - j == 2) line_group<R, 2>(x, points + j * width, width, out + j * chunk_rows);
    if (count - j == 1) line_group<R, 1>(x, points + j * width, width, out + j * chunk_rows);
}

// --- sketch ---------------------------------------------------------------------------------------

// Rows of a group along the registers, features in pairs: (width / 2, group, 2) bytes a group.
constexpr i64 sketch_group = 16;

#if defined(__AVX2__)
typedef std::int16_t Shorts __attribute__((vector_size(32)));
typedef i32 Ints __attribute__((vector_size(32)));
GPUKMEANS_INLINE Ints pair_products(Shorts a, Shorts b) { return __builtin_ia32_pmaddwd256(a, b); }
#define GPUKMEANS_WIDEN_IN_ONE // GCC takes five instructions for this conversion
#elif defined(__SSE2__)
typedef std::int16_t Shorts __attribute__((vector_size(16)));
typedef i32 Ints __attribute__((vector_size(16)));
GPUKMEANS_INLINE Ints pair_products(Shorts a, Shorts b) { return __builtin_ia32_pmaddwd128(a, b); }
#else
typedef std::int16_t Shorts __attribute__((vector_size(16)));
typedef i32 Ints __attribute__((vector_size(16)));
GPUKMEANS_INLINE Ints pair_products(Shorts a, Shorts b) {
    Ints sum;
    for (int i = 0; i < 4; i++) sum[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    return sum;
}
#endif
constexpr int short_lanes = sizeof(Shorts) / 2, int_lanes = sizeof(Ints) / 4;
typedef std::int8_t Bytes __attribute__((vector_size(short_lanes)));
typedef std::int8_t LooseBytes __attribute__((vector_size(short_lanes), aligned(1), may_alias));
GPUKMEANS_INLINE Shorts widened(Bytes bytes) {
#if defined(GPUKMEANS_WIDEN_IN_ONE) && !defined(__clang__)
    typedef char Chars __attribute__((vector_size(16)));
    return __builtin_ia32_pmovsxbw256(reinterpret_cast<Chars>(bytes));
#else
    return __builtin_convertvector(bytes, Shorts);
#endif
}
typedef float HalfFloats __attribute__((vector_size(sizeof(Vec<double>) / 2), aligned(4), may_alias));
typedef i32 LooseInts __attribute__((vector_size(sizeof(Ints)), aligned(4), may_alias));

// Inner products of a group's rows with J points (J, pairs), each a pair of shorts: out (J, sketch_group).
template <int J> GPUKMEANS_INLINE void sketch_products(const std::int8_t *x, const i32 *points, i64 pairs, i32 *out) {
    constexpr int V = 2 * sketch_group / short_lanes;
    Ints sum[J][V] = {};
    for (i64 q = 0; q < pairs; q++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
            const Bytes bytes = *reinterpret_cast<const LooseBytes *>(x + q * 2 * sketch_group + v * short_lanes);
            const Shorts row = widened(bytes);
#pragma GCC unroll 4
            for (int j = 0; j < J; j++) {
                const Ints point = Ints{} + points[j * pairs + q];
                sum[j][v] += pair_products(row, reinterpret_cast<Shorts>(point));
            }
        }
    for (int j = 0; j < J; j++)
        for (int v = 0; v < V; v++) *reinterpret_cast<LooseInts *>(out + j * sketch_group + v * int_lanes) = sum[j][v];
}

inline void sketch_group_products(const std::int8_t *x, const i32 *points, i64 count, i64 pairs, i32 *out) {
    i64 j = 0;
    for (; j + 4 <= count; j += 4) sketch_products<4>(x, points + j * pairs, pairs, out + j * sketch_group);
    for (; j + 2 <= count; j += 2) sketch_products<2>(x, points + j * pairs, pairs, out + j * sketch_group);
    for (; j < count; j++) sketch_products<1>(x, points + j * pairs, pairs, out + j * sketch_group);
}

// Features x (width,) as integers within +-127, in double; returns their distance from x in steps, rounded
// up. What clamping leaves out is part of it.
GPUKMEANS_INLINE float to_bytes(const double *x, const Sketch &s, i64 width, double *out, i32 &size) {
    const double shifter = 0x1.8p52; // adding it leaves no bits for a fraction
    Vec<double> error{}, squares{};
    for (i64 q = 0; q < width; q += lanes<double>) {
        const Vec<double> value = (load(x + q) - load(s.shift + q)) * s.steps;
        const Vec<double> near = lower(higher(value, fill(-127.0)), fill(127.0));
        const Vec<double> byte = rounded(near + shifter) - shifter;
        store(out + q, byte);
        squares += byte * byte;
        error += (value - byte) * (value - byte);
    }
    size = static_cast<i32>(total<double>(squares));
    const float up = static_cast<float>(root(total<double>(error))) * (1 + 1e-5f) + 1e-3f;
    return up < 1e15f ? up : 1e15f; // its square is finite; what is so far off is never ruled out
}

// --- one pass -------------------------------------------------------------------------------------

constexpr i64 line_width(i64 d) { return (d + 7) / 8 * 8; }

typedef i64 Places __attribute__((vector_size(sizeof(Vec<double>))));

// Elements of a, then of b, by place. Clang sees the shuffle in the plain loop, GCC does not.
GPUKMEANS_INLINE Vec<double> shuffled(Vec<double> a, Vec<double> b, Places places) {
#if defined(__clang__)
    Vec<double> out{};
    for (int l = 0; l < lanes<double>; l++)
        out[l] = places[l] < lanes<double> ? a[places[l]] : b[places[l] - lanes<double>];
    return out;
#else
    return __builtin_shuffle(a, b, places);
#endif
}

// A square of doubles, one row a register: halves trade places, then the halves of those.
GPUKMEANS_INLINE void transpose(Vec<double> (&x)[lanes<double>]) {
    constexpr int L = lanes<double>;
#pragma GCC unroll 4
    for (int s = L / 2; s > 0; s /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < L; i++) {
            if (i & s) continue;
            const Vec<double> a = x[i], b = x[i + s];
            Places from_left{}, from_right{};
#pragma GCC unroll 8
            for (int l = 0; l < L; l++) {
                from_left[l] = l & s ? l - s + L : l;
                from_right[l] = l & s ? l + L : l + s;
            }
            x[i] = shuffled(a, b, from_left), x[i + s] = shuffled(a, b, from_right);
        }
}

// The eight parts of a sum.
struct Parts {
    Vec<double> part[sum_parts];
};

template <class Row> class Chunks {
  public:
    static i64 scratch_bytes(const Seeding &s) { return static_cast<i64>(Chunks(s, nullptr).end_); }

    Chunks(const Seeding &s, char *scratch) : s_(s), d_(s.rows.d), width_(line_width(s.rows.d)) {
        Pieces pieces{reinterpret_cast<std::uintptr_t>(scratch)};
        const i64 columns = d_ <= column_features ? chunk_rows * d_ : 0;
        closest_ = pieces.take<double>(chunk_rows);
        weights_ = pieces.take<double>(chunk_rows);
        distances_ = pieces.take<double>(s.count * chunk_rows);
        sums_ = pieces.take<Parts>(s.count);
        x_ = pieces.take<double>(columns);
        line_ = pieces.take<double>(2 * width_);
        bytes_ = pieces.take<double>(width_);
        products_ = pieces.take<i32>(s.count * sketch_group);
        radius_ = pieces.take<float>(chunk_rows);
        open_ = pieces.take<i32>(chunk_rows);
        end_ = pieces.next;
        if (!scratch) return;
        for (i64 i = 0; i < columns; i++) x_[i] = 0; // what fills up a chunk or a line stays finite
        for (i64 i = 0; i < 2 * width_; i++) line_[i] = 0;
    }

    // Potentials of a tile's rows for every candidate; returns the rows that were read.
    i64 pass(i64 tile) {
        const i64 first = s_.settle ? 1 : 0, stop = smallest((tile + 1) * s_.tile, s_.rows.n);
        i64 read = 0;
        for (i64 j = 0; j < s_.count; j++) sums_[j] = {};
        for (i64 a = tile * s_.tile; a < stop; a += chunk_rows) {
            const i64 m = smallest(chunk_rows, stop - a);
            take(a, m);
            i32 met = -1; // points that some row of the chunk was evaluated for
            if (s_.sketch.use)
                read += sketched(a, m, met);
            else {
                evaluate(a, m, s_.points, s_.count);
                read += m;
            }
            if (s_.settle && (met & 1)) settle(a, m);
            add_up(first, met);
        }
        for (i64 j = first; j < s_.count; j++) s_.potentials[tile * (s_.count - first) + j - first] = in_all(sums_[j]);
        return read;
    }

    // Masses of a tile's rows with a point settled, out (tile,); zero beyond the last row.
    void masses(i64 tile, const double *point, double *out) {
        const i64 start = tile * s_.tile;
        for (i64 a = start; a < start + s_.tile; a += chunk_rows) {
            const i64 m = smallest(chunk_rows, s_.rows.n - a);
            if (m > 0) {
                take(a, m);
                evaluate(a, m, point, 1);
            }
            for (i64 p = 0; p < chunk_rows; p++)
                out[a - start + p] = p < m ? weights_[p] * lower(closest_[p], distances_[p]) : 0.0;
        }
    }

  private:
    // What is known of rows a to a + m - 1; rows that fill the chunk up weigh nothing.
    void take(i64 a, i64 m) {
        for (i64 p = 0; p < m; p++) closest_[p] = s_.closest[a + p];
        for (i64 p = 0; p < m; p++) weights_[p] = s_.weights ? s_.weights[a + p] : 1.0;
        for (i64 p = m; p < chunk_rows; p++) closest_[p] = weights_[p] = 0;
    }

    void evaluate(i64 a, i64 m, const double *points, i64 count) {
        if (d_ <= column_features) {
            pack_columns(a, m);
            columns_to_points(x_, d_, points, count, width_, distances_);
            for (i64 p = 0; s_.sketch.write && p < m; p++) draw(a + p, pack_line(a + p, line_));
            return;
        }
        for (i64 p = 0; p < m; p += 2) {
            for (i64 r = 0; r < 2; r++) pack_line(a + smallest(p + r, m - 1), line_ + r * width_);
            lines_to_points<2>(line_, points, count, width_, distances_ + p);
            if (s_.sketch.write)
                for (i64 r = 0; r < smallest(2, m - p); r++) draw(a + p + r, line_ + r * width_);
        }
    }

    // --- packing --------------------------------------------------------------------------------

    void pack_columns(i64 a, i64 m) {
        const bool plain = s_.rows.column_step == 1 && s_.rows.row_step == d_ && s_.scale == 1.0;
        if (plain && m == chunk_rows && d_ == 1) return pack_whole<1>(a);
        if (plain && m == chunk_rows && d_ == 2) return pack_whole<2>(a);
        if (plain && m == chunk_rows && d_ == 3) return pack_whole<3>(a);
        if (plain && m == chunk_rows && d_ == 4) return pack_whole<4>(a);
        i64 begun = 0; // features that are packed
        if (s_.rows.column_step == 1 && m == chunk_rows)
            for (; begun + lanes<double> <= d_; begun += lanes<double>)
                for (i64 p = 0; p < chunk_rows; p += lanes<double>) pack_square(a, p, begun);
        for (i64 p = 0; p < m; p++) {
            const Row *row = row_of<Row>(s_.rows, a + p);
            for (i64 q = begun; q < d_; q++) x_[q * chunk_rows + p] = static_cast<double>(row[q * s_.rows.column_step]) * s_.scale;
        }
    }

    template <int D> void pack_whole(i64 a) {
        const Row *row = row_of<Row>(s_.rows, a);
        for (i64 p = 0; p < chunk_rows; p++)
            for (int q = 0; q < D; q++) x_[q * chunk_rows + p] = static_cast<double>(row[p * D + q]);
    }

    // As many features of as many rows as a register holds, transposed.
    GPUKMEANS_INLINE void pack_square(i64 a, i64 p, i64 q) {
        typedef Row Loose __attribute__((vector_size(lanes<double> * sizeof(Row)), aligned(sizeof(Row)), may_alias));
        Vec<double> square[lanes<double>];
        for (int l = 0; l < lanes<double>; l++) {
            const Row *row = row_of<Row>(s_.rows, a + p + l) + q;
            square[l] = __builtin_convertvector(*reinterpret_cast<const Loose *>(row), Vec<double>) * s_.scale;
        }
        transpose(square);
        for (int l = 0; l < lanes<double>; l++) store(x_ + (q + l) * chunk_rows + p, square[l]);
    }

    const double *pack_line(i64 i, double *out) {
        const Row *row = row_of<Row>(s_.rows, i);
        const i64 step = s_.rows.column_step;
        if (step == 1 && s_.scale == 1.0)
            for (i64 q = 0; q < d_; q++) out[q] = static_cast<double>(row[q]);
        else
            for (i64 q = 0; q < d_; q++) out[q] = static_cast<double>(row[q * step]) * s_.scale;
        return out;
    }

    // --- the sketch -----------------------------------------------------------------------------

    i64 pairs() const { return (d_ + 1) / 2; }

    std::int8_t *group_of(i64 i) const { return s_.sketch.rows + i / sketch_group * (2 * sketch_group * pairs()); }

    // Writes row i, x in coordinates of the sketch's rows, into the sketch.
    void draw(i64 i, const double *x) {
        std::int8_t *to = group_of(i) + i % sketch_group * 2;
        s_.sketch.errors[i] = to_bytes(x, s_.sketch, width_, bytes_, s_.sketch.sizes[i]);
        for (i64 q = 0; q < pairs(); q++) {
            to[q * 2 * sketch_group] = static_cast<std::int8_t>(bytes_[2 * q]);
            to[q * 2 * sketch_group + 1] = static_cast<std::int8_t>(bytes_[2 * q + 1]);
        }
    }

    // Distances of the pairs that the sketch leaves open, infinity for the others of a point that is
    // met; returns the rows that were read.
    i64 sketched(i64 a, i64 m, i32 &met) {
        leave_open(a);
        met = 0;
        for (i64 p = 0; p < m; p++) met |= open_[p];
        if (met == 0) return 0;
        ask_for_rows(a, m);
        for (i64 j = 0; j < s_.count; j++)
            if (met >> j & 1)
                for (i64 p = 0; p < chunk_rows; p++) distances_[j * chunk_rows + p] = __builtin_inf();
        i64 read = 0;
        for (i64 p = 0; p < m; p++) {
            if (open_[p] == 0) continue;
            pack_line(a + p, line_);
            for (i32 rest = open_[p]; rest; rest &= rest - 1) {
                const i64 j = __builtin_ctz(static_cast<unsigned>(rest));
                const double *point = s_.points + j * width_;
                double *to = distances_ + j * chunk_rows + p;
                if (d_ <= column_features)
                    *to = column_distance(line_, d_, point);
                else
                    line_group<1, 1>(line_, point, width_, to);
            }
            read++;
        }
        return read;
    }

    // Asks memory for rows ahead of their use. They lie scattered, so that without this each would be
    // waited for. Where many short rows are open, those of the next chunk are asked for as well, all of
    // them: in order memory gives them faster than it gives a part of them (measured).
    void ask_for_rows(i64 a, i64 m) {
        i64 open = 0;
        for (i64 p = 0; p < m; p++) open += open_[p] != 0;
        const bool all = d_ * static_cast<i64>(sizeof(Row)) <= 128 && open >= 6;
        const i64 next = smallest(a + 2 * chunk_rows, s_.rows.n);
        for (i64 i = a + chunk_rows; all && i < next; i++) ask_for(i);
        for (i64 p = 0; !all && p < m; p++)
            if (open_[p]) ask_for(a + p);
    }

    void ask_for(i64 i) {
        const char *row = reinterpret_cast<const char *>(row_of<Row>(s_.rows, i));
        const i64 bytes = smallest(d_ * static_cast<i64>(sizeof(Row)), 1024); // further on it guesses right
        for (i64 b = 0; b < bytes; b += 64) __builtin_prefetch(row + b);
    }

    // With x', c' the sketched row and point, e their errors and r the distance to beat:
    // |x - c| >= |x' - c'| - e(x) - e(c), so the point is no nearer if |x' - c'| >= r + e(x) + e(c).
    // The factor covers the rounding of the sketch, of this test and of the exact distance.
    void leave_open(i64 a) {
        const Sketch &k = s_.sketch;
        for (i64 p = 0; p < chunk_rows; p += lanes<double>)
            *reinterpret_cast<HalfFloats *>(radius_ + p) = __builtin_convertvector(load(closest_ + p) * (k.steps * k.steps), HalfFloats);
        for (i64 p = 0; p < chunk_rows; p++) radius_[p] = root(radius_[p]) + k.errors[a + p];
        for (i64 p = 0; p < chunk_rows; p += sketch_group) {
            sketch_group_products(group_of(a + p), k.points, s_.count, pairs(), products_);
            for (i64 r = 0; r < sketch_group; r += lanes<float>) {
                const Vec<float> radius = load(radius_ + p + r);
                const Vec<i32> size = load(k.sizes + a + p + r);
                Vec<i32> open{};
                for (i64 j = 0; j < s_.count; j++) {
                    const Vec<i32> squared = size + k.point_sizes[j] - 2 * load(products_ + j * sketch_group + r);
                    const Vec<float> limit = (radius + k.point_errors[j]) * (1 + 1e-5f);
                    open |= (__builtin_convertvector(squared, Vec<float>) < limit * limit) & (1 << j);
                }
                store(open_ + p + r, open);
            }
        }
    }

    // --- adding up ------------------------------------------------------------------------------

    void settle(i64 a, i64 m) {
        i64 lowered = 0;
        for (i64 p = 0; p < m; p++) lowered += distances_[p] < closest_[p];
        if (lowered == 0) return;
        for (i64 p = 0; p < m; p++) s_.closest[a + p] = closest_[p] = lower(distances_[p], closest_[p]);
    }

    // Adds the chunk's masses to the sums of every candidate; those that no row met share one sum.
    void add_up(i64 first, i32 met) {
        const Parts unmet = s_.sketch.use ? masses_of(nullptr) : Parts{};
        for (i64 j = first; j < s_.count; j++) {
            const bool own = !s_.sketch.use || (met >> j & 1);
            const Parts chunk = own ? masses_of(distances_ + j * chunk_rows) : unmet;
            for (int v = 0; v < sum_parts; v++) sums_[j].part[v] += chunk.part[v];
        }
    }

    Parts masses_of(const double *distances) const {
        Parts sum{};
        for (i64 p = 0; p < chunk_rows; p += 8)
            for (int v = 0; v < sum_parts; v++) {
                const i64 i = p + v * lanes<double>;
                const Vec<double> closest = load(closest_ + i);
                sum.part[v] += (distances ? lower(load(distances + i), closest) : closest) * load(weights_ + i);
            }
        return sum;
    }

    static double in_all(const Parts &sum) {
        double part[8];
        for (int v = 0; v < sum_parts; v++) store(part + v * lanes<double>, sum.part[v]);
        return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
    }

    const Seeding &s_;
    const i64 d_, width_;
    double *closest_, *weights_, *distances_, *x_, *line_, *bytes_;
    Parts *sums_;
    i32 *products_;
    float *radius_;
    i32 *open_;
    std::uintptr_t end_;
};

template <class Row> i64 seeding_scratch(const Seeding &s) { return Chunks<Row>::scratch_bytes(s); }

template <class Row> i64 seeding_pass(const Seeding &s, i64 first, i64 last, void *scratch) {
    Chunks<Row> chunks(s, static_cast<char *>(scratch));
    i64 read = 0;
    for (i64 tile = first; tile < last; tile++) read += chunks.pass(tile);
    return read;
}

template <class Row>
void seeding_masses(const Seeding &s, const double *point, const i64 *tiles, i64 count, double *out, void *scratch) {
    Chunks<Row> chunks(s, static_cast<char *>(scratch));
    for (i64 i = 0; i < count; i++) chunks.masses(tiles[i], point, out + i * s.tile);
}

// The points of a pass as the sketch sees them: pairs of shorts, out (count, pairs). `line` is scratch.
inline void sketch_points(const Sketch &s, const double *points, i64 count, i64 d, double *line, i32 *out, i32 *sizes,
                          float *errors) {
    const i64 width = line_width(d), pairs = (d + 1) / 2;
    for (i64 j = 0; j < count; j++) {
        errors[j] = to_bytes(points + j * width, s, width, line, sizes[j]);
        for (i64 q = 0; q < pairs; q++) {
            const i32 low = static_cast<i32>(line[2 * q]), high = static_cast<i32>(line[2 * q + 1]);
            out[j * pairs + q] = static_cast<i32>(static_cast<std::uint32_t>(high) << 16) | (low & 0xffff); // the machines served are little-endian
        }
    }
}

template <class Row> constexpr SeedingKernels seeding_kernels() {
    return {line_width, sketch_points, seeding_scratch<Row>, seeding_pass<Row>, seeding_masses<Row>};
}

} // namespace gpukmeans::GPUKMEANS_ISA
