// One pass over the rows of a lane: filter by bounds, search in tiles, settle what is in doubt, add up.
//
// Everything is added in the order of the rows, so that neither the size of a batch nor what the
// filter lets through changes a bit of the result.
#pragma once

#include "tiles.h"

namespace gpukmeans::GPUKMEANS_ISA {

constexpr i64 filter_rows = 4096; // rows whose bounds are looked at before the searching starts
constexpr float far_away = 1e14f; // distances of centres beyond this are not told apart (_frame._FAR)

template <class T> constexpr T unit_of = sizeof(T) == 4 ? T(0x1p-24) : T(0x1p-53);

constexpr i64 smallest(i64 a, i64 b) { return a < b ? a : b; }
constexpr i64 largest(i64 a, i64 b) { return a > b ? a : b; }

// How a search is cut up: rows in a batch, and centres that stay in the second-level cache.
struct Cut {
    Style style;
    i64 batch, multiple, centers;
};

template <class T> Cut cut_of(i64 k, i64 d) {
    const i64 bytes = static_cast<i64>(sizeof(T));
    const Style style = style_of(k, d);
    if (style == Style::direct) return {style, 1024, 2 * lanes<T>, k};
    if (style == Style::dots) return {style, largest(dot_rows, smallest(256, (16 << 10) / (d * bytes)) / dot_rows * dot_rows), dot_rows, k};
    const i64 centers = largest(group, (128 << 10) / (d * bytes) / group * group);
    const i64 memory = centers >= k ? 12 << 10 : 192 << 10;
    const i64 tiles = smallest(1024, memory / (d * bytes)) / tile_rows<T>;
    return {style, tile_rows<T> * largest(centers >= k ? 1 : 4, tiles), tile_rows<T>, centers};
}

// Scratch memory handed out in pieces aligned to a register.
struct Pieces {
    std::uintptr_t next;
    template <class U> U *take(i64 count) {
        U *piece = reinterpret_cast<U *>(next);
        next += (static_cast<std::uintptr_t>(count) * sizeof(U) + 63) / 64 * 64;
        return piece;
    }
};

template <class Row, class T> class Lane {
  public:
    static i64 scratch_bytes(const Search &s) {
        return static_cast<i64>(Lane(s, nullptr).end_); // laid out from address zero, nothing is written
    }

    Lane(const Search &s, char *scratch)
        : s_(s), rows_(s.rows), d_(s.rows.d), k_(s.targets.k), cut_(cut_of<T>(k_, d_)),
          centers_(static_cast<const T *>(s.targets.groups)), norms_(static_cast<const T *>(s.targets.norms)),
          scale_(static_cast<T>(s.frame.scale)) {
        Pieces pieces{reinterpret_cast<std::uintptr_t>(scratch)};
        const i64 room = cut_.batch + tile_rows<T>;
        shift_ = pieces.take<T>(padded<T>(d_));
        line_ = pieces.take<T>(padded<T>(d_));
        x_ = pieces.take<T>(room * padded<T>(d_));
        found_ = {pieces.take<T>(room), pieces.take<T>(room), pieces.take<Index<T>>(room), pieces.take<T>(room)};
        limit_ = pieces.take<T>(room);
        upper_ = pieces.take<T>(room);
        other_ = pieces.take<T>(room);
        fresh_ = pieces.take<i32>(room);
        which_ = pieces.take<i64>(largest(filter_rows, room));
        end_ = pieces.next;
        if (scratch)
            for (i64 q = 0; q < d_; q++) shift_[q] = static_cast<T>(s.frame.shift[q] * s.frame.scale);
    }

    void run(i64 lane) {
        sums_ = s_.sums + lane * k_ * d_;
        masses_ = s_.masses + lane * k_;
        counts_ = s_.counts + lane * k_;
        i64 *facts = s_.facts + 3 * lane;
        const i64 range = s_.bounds.filter ? filter_rows : cut_.batch;
        for (i64 a = s_.edges[lane]; a < s_.edges[lane + 1]; a += range) {
            const i64 b = smallest(a + range, s_.edges[lane + 1]);
            const i64 m = s_.bounds.filter ? failing(a, b) : everyone(a, b);
            for (i64 i = 0; i < m; i += cut_.batch) search_batch(which_ + i, smallest(cut_.batch, m - i));
            searched_ += m;
            if (s_.add == Add::all)
                for (i64 i = a; i < b; i++) add(i, s_.labels[i], 1.0);
            if (s_.inertia)
                for (i64 i = a; i < b; i++) inertia_ += weight(i) * exact(i, s_.labels[i]);
        }
        facts[0] = changed_, facts[1] = doubtful_, facts[2] = searched_;
        if (s_.inertia) s_.inertia[lane] = inertia_;
    }

  private:
    double weight(i64 i) const { return s_.weights ? s_.weights[i] : 1.0; }

    double exact(i64 i, i64 j) const { return exact_distance<Row>(rows_, i, s_.targets.exact + j * d_); }

    void add(i64 i, i64 j, double sign) {
        const double w = weight(i);
        double *sums = sums_ + j * d_;
        switch (d_) {
        case 1: add_row<Row, 1>(rows_, i, s_.frame.shift, sign * w, sums); break;
        case 2: add_row<Row, 2>(rows_, i, s_.frame.shift, sign * w, sums); break;
        case 3: add_row<Row, 3>(rows_, i, s_.frame.shift, sign * w, sums); break;
        default: add_row<Row>(rows_, i, s_.frame.shift, sign * w, sums);
        }
        masses_[j] += sign * w;
        counts_[j] += w > 0 ? static_cast<i64>(sign) : 0;
    }

    // Rows a to b - 1 that a bound does not hold to their centres; their number.
    i64 failing(i64 a, i64 b) {
        i64 m = 0;
        for (i64 i = a; i < b; i++) {
            const i32 j = s_.labels[i];
            which_[m] = i;
            m += !((s_.bounds.gap[i] > s_.bounds.far_[j]) | (s_.bounds.upper[i] < s_.bounds.near_[j]));
        }
        return m;
    }

    i64 everyone(i64 a, i64 b) {
        for (i64 i = a; i < b; i++) which_[i - a] = i;
        return b - a;
    }

    void search_batch(const i64 *which, i64 m) {
        const i64 full = (m + cut_.multiple - 1) / cut_.multiple * cut_.multiple;
        for (i64 p = 0; p < full; p++) {
            found_.best[p] = found_.second[p] = static_cast<T>(__builtin_inff());
            found_.at[p] = 0;
        }
        switch (cut_.style) {
        case Style::direct: batch_direct(which, m, full); break;
        case Style::dots: batch_dots(which, m, full); break;
        case Style::tiles: batch_tiles(which, m, full); break;
        }
        for (i64 p = 0; p < m; p++) fresh_[p] = static_cast<i32>(found_.at[p]);
        settle(which, m);
        relabel(which, m);
    }

    // --- the three ways, see tiles.h ------------------------------------------------------------

    void batch_direct(const i64 *which, i64 m, i64 full) {
        const i64 step = rows_.column_step;
        for (i64 q = 0; q < d_; q++) {
            T *out = x_ + q * full;
            for (i64 p = 0; p < m; p++)
                out[p] = static_cast<T>(row_of<Row>(rows_, which[p])[q * step]) * scale_ - shift_[q];
            for (i64 p = m; p < full; p++) out[p] = 0;
        }
        switch (d_) {
        case 1: search_direct<T, 1>(x_, full, centers_, k_, found_); break;
        case 2: search_direct<T, 2>(x_, full, centers_, k_, found_); break;
        case 3: search_direct<T, 3>(x_, full, centers_, k_, found_); break;
        case 4: search_direct<T, 4>(x_, full, centers_, k_, found_); break;
        }
    }

    void batch_dots(const i64 *which, i64 m, i64 full) {
        const i64 width = padded<T>(d_);
        for (i64 p = 0; p < full; p += dot_rows) {
            for (int r = 0; r < dot_rows; r++) {
                T *row = x_ + r * width;
                localize<Row, T>(rows_, which[smallest(p + r, m - 1)], shift_, scale_, row);
                for (i64 q = d_; q < width; q++) row[q] = 0;
                Vec<T> size{};
                for (i64 q = 0; q < width; q += lanes<T>) size += load(row + q) * load(row + q);
                found_.size[p + r] = total<T>(size);
            }
            search_dots(x_, centers_, norms_, width, k_, at_row(p));
        }
    }

    void batch_tiles(const i64 *which, i64 m, i64 full) {
        const bool once = cut_.centers >= k_; // all centres stay in cache: a tile is packed and searched
        for (i64 p = 0; p < full; p += tile_rows<T>) {
            pack(which, p, m, tile(p));
            if (once) search_tile(tile(p), centers_, norms_, d_, 0, k_, at_row(p));
        }
        if (once) return;
        for (i64 j = 0; j < k_; j += cut_.centers)
            for (i64 p = 0; p < full; p += tile_rows<T>)
                search_tile(tile(p), centers_, norms_, d_, j, smallest(j + cut_.centers, k_), at_row(p));
    }

    T *tile(i64 p) { return x_ + p * d_; }

    Found<T> at_row(i64 p) { return {found_.best + p, found_.second + p, found_.at + p, found_.size + p}; }

    // Rows p and following of a batch as a tile (d, tile_rows), and their |x|^2.
    void pack(const i64 *which, i64 p, i64 m, T *out) {
        constexpr int B = tile_rows<T>;
        for (int r = 0; r < B; r++) {
            localize<Row, T>(rows_, which[smallest(p + r, m - 1)], shift_, scale_, line_);
            for (i64 q = 0; q < d_; q++) out[q * B + r] = line_[q];
        }
        for (int v = 0; v < B; v += lanes<T>) {
            Vec<T> size{};
            for (i64 q = 0; q < d_; q++) {
                const Vec<T> x = load(out + q * B + v);
                size += x * x;
            }
            store(found_.size + p + v, size);
        }
    }

    // --- certainty ------------------------------------------------------------------------------

    // Decides again what the fast distances leave in doubt, and writes the bounds. With e(s) the error
    // of a fast squared distance s, a second centre within 2 e(best) of the best one may be nearer.
    // direct: e(s) = u ((d + 8) s + 6 |x| sqrt(s)) + 32 u^2 |x|^2, since a centre at distance sqrt(s)
    // lies within |x| + sqrt(s) of the origin, and rounding moves points by u times their norms.
    // Otherwise: the smaller of b (5 |x|^2 + 3 s), by the same argument, and b (2 |x| r + r^2) with
    // r the norm of the farthest centre; see _frame.doubt_limit.
    void settle(const i64 *which, i64 m) {
        const T u = unit_of<T>, b = static_cast<T>(s_.targets.trust), r = static_cast<T>(s_.targets.reach);
        const T tiny = static_cast<T>(1e-36), d = static_cast<T>(d_);
        if (cut_.style == Style::direct)
            for (i64 p = 0; p < m; p++) {
                const T s = found_.best[p], xx = found_.size[p], norm = root(xx), near = root(s);
                limit_[p] = s + 2 * (u * ((d + 8) * s + 6 * norm * near) + 32 * u * u * xx) + tiny;
                upper_[p] = near * (1 + (d + 8) * u) + 6 * u * norm;
                other_[p] = root(found_.second[p]) * (1 - (d + 8) * u) - 6 * u * norm;
            }
        else
            for (i64 p = 0; p < m; p++) {
                const T xx = found_.size[p], by_reach = b * r * (2 * root(xx) + r);
                const T s = positive(found_.best[p] + xx), t = positive(found_.second[p] + xx);
                const T near = by_reach < b * (5 * xx + 3 * s) ? by_reach : b * (5 * xx + 3 * s);
                const T next = by_reach < b * (5 * xx + 3 * t) ? by_reach : b * (5 * xx + 3 * t);
                limit_[p] = found_.best[p] + 2 * near + tiny;
                upper_[p] = root(s + near) * (1 + 2 * u);
                other_[p] = root(positive(t - next)) * (1 - 2 * u);
            }
        i64 doubtful = 0;
        for (i64 p = 0; p < m; p++) doubtful += !(found_.second[p] > limit_[p]);
        const bool doubt = doubtful > 0 && k_ > 1;
        if (doubt)
            for (i64 p = 0; p < m; p++)
                if (!(found_.second[p] > limit_[p])) {
                    fresh_[p] = decide(which[p], limit_[p]);
                    other_[p] = 0;
                }
        if (doubt) doubtful_ += doubtful;
        if (s_.bounds.upper) write_bounds(which, m);
    }

    // The nearest centre by exact differences, the lowest index on ties, among those within the limit.
    i32 decide(i64 i, T limit) {
        localize<Row, T>(rows_, i, shift_, scale_, line_);
        double best = __builtin_inf();
        i32 label = 0;
        auto consider = [&](i64 j, T fast) {
            if (!(fast <= limit)) return;
            const double distance = exact(i, j);
            if (distance < best) best = distance, label = static_cast<i32>(j);
        };
        if (cut_.style == Style::tiles) {
            for (i64 first = 0; first < k_; first += group) {
                const i64 size = smallest(group, k_ - first);
                T product[group] = {};
                const T *c = centers_ + first * d_;
                if (size == group)
                    for (i64 q = 0; q < d_; q++)
                        for (int j = 0; j < group; j++) product[j] += line_[q] * c[q * group + j];
                else
                    for (i64 q = 0; q < d_; q++)
                        for (int j = 0; j < size; j++) product[j] += line_[q] * c[q * size + j];
                for (int j = 0; j < size; j++) consider(first + j, norms_[first + j] + product[j]);
            }
            return label;
        }
        const bool direct = cut_.style == Style::direct;
        const i64 width = direct ? d_ : padded<T>(d_);
        for (i64 j = 0; j < k_; j++) {
            T value = direct ? T(0) : norms_[j];
            for (i64 q = 0; q < d_; q++) {
                const T c = centers_[j * width + q];
                value += direct ? (line_[q] - c) * (line_[q] - c) : line_[q] * c;
            }
            consider(j, value);
        }
        return label;
    }

    // Rounded so that the bounds stay bounds: `gap` down, `upper` up.
    void write_bounds(const i64 *which, i64 m) {
        for (i64 p = 0; p < m; p++) {
            const i64 i = which[p], j = fresh_[p];
            const double other = other_[p] < far_away ? other_[p] : far_away;
            const bool tied = s_.targets.copied[j] > 0 || k_ == 1;
            const double gap = (tied || other == 0 ? 0.0 : other - upper_[p]) + s_.bounds.spread[j];
            const double upper = upper_[p] - s_.bounds.drift[j];
            const float gap_f = static_cast<float>(gap), upper_f = static_cast<float>(upper);
            const bool lost = tied || other == 0;
            s_.bounds.gap[i] = lost ? -__builtin_inff() : gap_f - 2e-7f * __builtin_fabsf(gap_f);
            s_.bounds.upper[i] = upper_f + 2e-7f * __builtin_fabsf(upper_f);
        }
    }

    void relabel(const i64 *which, i64 m) {
        i64 changed = 0;
        for (i64 p = 0; p < m; p++) changed += fresh_[p] != s_.labels[which[p]];
        changed_ += changed;
        if (changed == 0) return;
        for (i64 p = 0; p < m; p++) {
            const i64 i = which[p];
            const i32 before = s_.labels[i], now = fresh_[p];
            if (before == now) continue;
            if (s_.add == Add::moves) {
                add(i, now, 1.0);
                add(i, before, -1.0);
            }
            s_.labels[i] = now;
        }
    }

    const Search &s_;
    const Rows &rows_;
    const i64 d_, k_;
    const Cut cut_;
    const T *centers_, *norms_;
    const T scale_;
    T *shift_, *line_, *x_, *limit_, *upper_, *other_;
    Found<T> found_;
    i32 *fresh_;
    i64 *which_;
    std::uintptr_t end_;
    double *sums_ = nullptr, *masses_ = nullptr;
    i64 *counts_ = nullptr;
    double inertia_ = 0;
    i64 changed_ = 0, doubtful_ = 0, searched_ = 0;
};

template <class Row, class T> i64 search_scratch(const Search &s) { return Lane<Row, T>::scratch_bytes(s); }

template <class Row, class T> void search(const Search &s, i64 lane, void *scratch) {
    Lane<Row, T>(s, static_cast<char *>(scratch)).run(lane);
}

} // namespace gpukmeans::GPUKMEANS_ISA
