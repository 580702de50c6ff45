// Rows decided by products of 16-bit integers, which take two thirds of the time of those in float32 and less than half
// of those in float64.
//
// Rows and centres, in local coordinates, are rounded to multiples of |x| / levels and |c| / levels. With d features a
// rounded point is no farther than |x| sqrt(d) / (2 levels) from the point itself, so the product of two of them errs
// by at most about |x| |c| sqrt(d) / levels; the sum of the integers is exact. So this is |c|^2 - 2 x.c with a trust
// (see _frame.trust) that is worse than that of float32, and decides all rows but those that lie nearly as near to a
// second centre: these stay open.
#pragma once

#include "pack.h"
#include "tiles.h"

namespace gpukmeans::GPUKMEANS_ISA {

constexpr double coarse_levels = 32000; // |x| in integers: a product of two is below 2^30, and so is every part of it
constexpr double coarse_square = 1e-30; // |x|^2 below which it has lost digits, and rows are left open

// Whether integers are faster than products of T: measured with AVX2 and AVX-512, which for this has to have VNNI;
// NEON has no such instruction.
#if defined(__SSE2__)
template <class T> constexpr bool has_coarse = true;
#else
template <class T> constexpr bool has_coarse = false;
#endif

// Features from which on that pays for the comparisons of all centres, and centres from which on for rounding the rows.
template <class T> constexpr i64 coarse_features = sizeof(T) == 8 ? 8 : 24;
constexpr i64 coarse_centers = 16;
template <class T> bool coarse_pays(i64 k, i64 d) {
    return has_coarse<T> && d >= coarse_features<T> && k >= coarse_centers;
}

// Two features lie in one integer of 32 bits.
inline i64 pairs_of(i64 d) { return (d + 1) / 2; }

// sum + a.b of two numbers of 16 bits in each lane.
GPUKMEANS_INLINE Vec<i32> add_pairs_of(Vec<i32> sum, Vec<i32> a, Vec<i32> b) {
#if defined(__AVX512VNNI__)
    const __m512i so_far = reinterpret_cast<__m512i>(sum);
    return reinterpret_cast<Vec<i32>>(
        _mm512_dpwssd_epi32(so_far, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX512BW__)
    const __m512i products = _mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b));
    return sum + reinterpret_cast<Vec<i32>>(products);
#elif defined(__AVX2__)
    const __m256i products = _mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b));
    return sum + reinterpret_cast<Vec<i32>>(products);
#elif defined(__SSE2__)
    const __m128i products = _mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b));
    return sum + reinterpret_cast<Vec<i32>>(products);
#else
    return sum + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16); // not in use
#endif
}

// Memory that the rounded centres need.
template <class T> i64 coarse_bytes(i64 k, i64 d) {
    return coarse_pays<T>(k, d) ? k * (4 * pairs_of(d) + 8) + 3 * 64 : 0;
}

// Centre j, in local coordinates, rounded, in its place; see arrange().
inline void arrange_coarse(const double *local, double norm, i64 j, i64 k, i64 d, const CoarseTargets &to) {
    const bool far = !(norm <= far_norm);
    const double unit = far ? 0 : __builtin_sqrt(norm) / coarse_levels, steps = unit > 0 ? 1 / unit : 0;
    to.norms[j] = static_cast<float>(far && !is_copy(norm) ? far_norm : norm);
    to.factors[j] = static_cast<float>(-2 * unit);
    auto level = [&](i64 q) { return q < d && !far ? static_cast<i32>(__builtin_rint(local[q] * steps)) : 0; };
    for (i64 q = 0; q < pairs_of(d); q++)
        to.pairs[in_groups(q, j, k, pairs_of(d))] = (level(2 * q) & 0xffff) | (level(2 * q + 1) * 0x10000);
}

// The relative error of a product, against |c|^2 + 2 |x| |c|, with what the sums of floats around it err.
inline double coarse_trust(i64 d) {
    const double rounding = 0.51 * __builtin_sqrt(static_cast<double>(d)) / coarse_levels; // 0.5, and what floats add
    const double b = 2 * rounding + rounding * rounding;
    return b * (1 + 4 * b) + 16 * 0x1p-24; // b squared no longer vanishes in product_error()
}

// Decides a tile of rows.
template <class Row, class T> class Coarse {
    static constexpr i64 B = tile_rows<float>, part = tile_rows<T>;
    static constexpr int L = lanes<float>, V = row_vectors;
    static constexpr i64 least_waiting = 15, most_waiting = 255; // tiles, after one that was mostly left open
    static constexpr float known = 16; // an own distance is known well whose square is so many times its error

  public:
    static constexpr i64 rows = B;

    Coarse(const Search &s, const Packer<Row, T> &packer, Pieces &pieces)
        : s_(s), packer_(packer), d_(s.rows.d), k_(s.targets.k), pays_(coarse_pays<T>(k_, d_)),
          trust_(static_cast<float>(coarse_trust(d_))) {
        if (!pays_) return;
        x_ = pieces.take<T>(part * d_), size_ = pieces.take<T>(part), steps_ = pieces.take<T>(part);
        pairs_ = pieces.take<i32>(B * pairs_of(d_));
        unit_ = pieces.take<float>(B), square_ = pieces.take<float>(B);
        found_ = {pieces.take<float>(B), pieces.take<float>(B), pieces.take<i32>(B), square_};
        upper_ = pieces.take<float>(B), other_ = pieces.take<float>(B), open_ = pieces.take<i32>(B);
    }

    bool pays() const { return pays_; }

    // Looks at the rows p and following of a batch, up to a tile; or says that it does not, since too many of the tile
    // before were left open.
    bool search(const Batch &batch, i64 p) {
        if (waits_) {
            waits_--;
            return false;
        }
        for (i64 at = 0; at < B; at += part) {
            packer_.pack(batch, p + at, x_, size_);
            round_rows(at);
        }
        for (i64 r = 0; r < B; r++) found_.best[r] = found_.second[r] = __builtin_inff(), found_.at[r] = 0;
        const CoarseTargets &targets = s_.targets.coarse;
        for (i64 j = 0; j < k_; j += group)
            with_size<group>(smallest(group, k_ - j), [&](auto size) {
                search_centers<size.count>(targets.pairs + j * pairs_of(d_), j);
            });
        const i64 m = smallest(B, batch.m - p), open = judge(m);
        if (2 * open <= m)
            waiting_ = least_waiting;
        else if (2 * m > B) // fewer rows tell nothing
            waits_ = waiting_, waiting_ = smallest(2 * waiting_ + 1, most_waiting);
        return true;
    }

    // Of the rows of the tile: the nearest centre; whether that is open; and how far it is at most, and any other
    // centre at least.
    const i32 *labels() const { return found_.at; }
    bool is_open(i64 r) const { return open_[r]; }
    const float *upper() const { return upper_; }
    const float *other() const { return other_; }

  private:
    // The rows of a tile of T, from place `at` on.
    void round_rows(i64 at) {
        const T levels = static_cast<T>(coarse_levels), least = static_cast<T>(coarse_square);
        for (i64 r = 0; r < part; r++) {
            const T norm = root(size_[r]);
            const bool counts = size_[r] >= least && size_[r] < static_cast<T>(far_norm);
            steps_[r] = counts ? levels / norm : T(0);
            unit_[at + r] = counts ? static_cast<float>(norm / levels) : 0.0f;
            square_[at + r] = counts ? static_cast<float>(size_[r]) : __builtin_inff();
        }
        // what is added leaves a whole number in the last bits
        constexpr T shift = sizeof(T) == 4 ? T(0x1.8p23) : T(0x1.8p52);
        auto level = [&](i64 q, int v) {
            const Vec<T> moved = load(x_ + q * part + v * lanes<T>) * load(steps_ + v * lanes<T>) + shift;
            return reinterpret_cast<Vec<Index<T>>>(moved);
        };
        for (i64 q = 0; q < d_; q += 2)
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) {
                Vec<Index<T>> pair = level(q, v) & 0xffff;
                if (q + 1 < d_) pair |= level(q + 1, v) << 16;
                store_as(pairs_ + q / 2 * B + at + v * lanes<T>, pair);
            }
    }

    // The tile against J centres, the first of which is number `first`.
    template <int J> GPUKMEANS_INLINE void search_centers(const i32 *centers, i64 first) {
        Vec<i32> sums[J][V];
#pragma GCC unroll 8
        for (int j = 0; j < J; j++)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) sums[j][v] = Vec<i32>{};
        for (i64 q = 0; q < pairs_of(d_); q++) {
            Vec<i32> rows[V];
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) rows[v] = load(pairs_ + q * B + v * L);
#pragma GCC unroll 8
            for (int j = 0; j < J; j++) {
                const Vec<i32> center = fill(centers[q * J + j]);
#pragma GCC unroll 8
                for (int v = 0; v < V; v++) sums[j][v] = add_pairs_of(sums[j][v], rows[v], center);
            }
        }
        const float *factors = s_.targets.coarse.factors + first, *norms = s_.targets.coarse.norms + first;
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            const Vec<float> unit = load(unit_ + v * L);
            Vec<float> best = load(found_.best + v * L), second = load(found_.second + v * L);
            Vec<i32> at = load(found_.at + v * L);
#pragma GCC unroll 8
            for (int j = 0; j < J; j++) {
                const Vec<float> product = __builtin_convertvector(sums[j][v], Vec<float>);
                const Vec<float> low = product * unit * factors[j] + norms[j]; // a product of the last two may vanish
                second = lower(second, higher(low, best));
                at = low < best ? fill(static_cast<i32>(first + j)) : at;
                best = lower(low, best);
            }
            store(found_.best + v * L, best);
            store(found_.second + v * L, second);
            store(found_.at + v * L, at);
        }
    }

    // Bounds of the distances, and which of m rows are open: where a second centre may be nearer, and, if bounds are
    // kept, where the distance to the own centre is hardly known. Their number. See limits_expanded() in search.h.
    i64 judge(i64 m) {
        const float b = trust_, r = static_cast<float>(s_.targets.reach), u = 0x1p-24f;
        const float well = s_.bounds.upper ? known : 0;
        for (i64 p = 0; p < B; p += L) {
            const Vec<float> best = load(found_.best + p), second = load(found_.second + p), size = load(square_ + p);
            const Vec<float> s = positive(best + size), t = positive(second + size);
            const Vec<float> near = product_error(b, r, size, s), next = product_error(b, r, size, t);
            const Vec<i32> sure = (second > best + (2 * near + 1e-33f)) & (s >= well * near);
            store(open_ + p, ~sure);
            store(upper_ + p, root(s + near) * (1 + 4 * u));
            store(other_ + p, root(positive(t - next)) * (1 - 4 * u));
        }
        i64 open = 0;
        for (i64 p = 0; p < m; p++) open += open_[p] != 0;
        return open;
    }

    const Search &s_;
    const Packer<Row, T> &packer_;
    const i64 d_, k_;
    const bool pays_;
    const float trust_;
    i64 waits_ = 0, waiting_ = least_waiting;
    T *x_, *size_, *steps_; // of as many rows as are packed at once
    i32 *pairs_;            // (pairs, rows)
    float *unit_, *square_; // |x| / levels, and |x|^2: infinite for rows that are not looked at
    Found<float> found_;
    float *upper_, *other_;
    i32 *open_;
};

} // namespace gpukmeans::GPUKMEANS_ISA
