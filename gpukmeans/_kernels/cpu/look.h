// A second look at rows that no bound holds: how far they are from their own centres now, and from those that moved
// farthest. What this proves: _second_look.py.
#pragma once

#include "bounds.h"
#include "pack.h"
#include "tiles.h"

namespace gpukmeans::GPUKMEANS_ISA {

constexpr double look_rounding = 1e-6; // more than sums of bounds err, relative to their terms

// Memory that make_look() needs.
template <class T> i64 look_bytes(i64 k, i64 d, i64 movers) {
    return static_cast<i64>(sizeof(T)) * movers * (d + 1) + k + 3 * 64;
}

// Arranges the movers.
template <class T> void make_look(const Targets &targets, i64 d, Look &look, void *memory) {
    Pieces pieces{reinterpret_cast<std::uintptr_t>(memory)};
    const T *groups = static_cast<const T *>(targets.groups), *norms = static_cast<const T *>(targets.norms);
    T *columns = pieces.take<T>(d * look.count), *starts = pieces.take<T>(look.count);
    bool *is_mover = pieces.take<bool>(targets.k);
    for (i64 j = 0; j < targets.k; j++) is_mover[j] = false;
    for (i64 f = 0; f < look.count; f++) {
        const i64 j = look.movers[f];
        starts[f] = norms[j], is_mover[j] = true;
        for (i64 q = 0; q < d; q++) columns[in_groups(q, f, look.count, d)] = groups[in_groups(q, j, targets.k, d)];
    }
    look.columns = columns, look.starts = starts, look.is_mover = is_mover;
}

template <class Row, class T> class Looker {
    static constexpr i64 B = tile_rows<T>;

  public:
    Looker(const Search &s, const Packer<Row, T> &packer, RowBounds &bounds, Pieces &pieces)
        : s_(s), packer_(packer), bounds_(bounds), d_(s.rows.d) {
        if (!s.look.rest) return;
        x_ = pieces.take<T>(s.look.count ? B * d_ : 0);
        lows_ = pieces.take<T>(B * s.look.count), least_ = pieces.take<T>(B);
        size_ = pieces.take<T>(B), own_ = pieces.take<T>(B), other_ = pieces.take<T>(B);
        held_ = pieces.take<i64>(B), labels_ = pieces.take<i32>(B);
    }

    // Of m listed rows those that are not held even so, listed in their place; their number.
    i64 failing(i64 *which, i64 m) {
        i64 failing = 0;
        for (i64 p = 0; p < m; p += B) {
            const i64 count = smallest(B, m - p);
            if (s_.look.count) measure_movers({0, m, which}, p);
            i64 held = 0;
            for (i64 r = 0; r < count; r++) { // what is listed anew has been read
                const i64 i = which[p + r];
                which[failing] = i;
                const bool holds = look(r, i, held);
                held += holds, failing += !holds;
            }
            bounds_.write({0, held, held_}, labels_, own_, other_);
        }
        return failing;
    }

  private:
    // |c|^2 - 2 x.c of the movers for the rows p and following, the least of each row, and |x|^2.
    void measure_movers(const Batch &batch, i64 p) {
        packer_.pack(batch, p, x_, size_);
        const T *columns = static_cast<const T *>(s_.look.columns), *starts = static_cast<const T *>(s_.look.starts);
        multiply_tile(x_, columns, starts, d_, s_.look.count, lows_);
        for (i64 r = 0; r < B; r++) least_[r] = lows_[r];
        for (i64 f = 1; f < s_.look.count; f++)
            for (i64 r = 0; r < B; r++) least_[r] = lower(least_[r], lows_[f * B + r]);
    }

    // The least of a row without that of its own centre.
    T least_other(i64 r, i64 j) const {
        T least = least_[r];
        if (!s_.look.is_mover[j]) return least;
        least = static_cast<T>(__builtin_inff());
        for (i64 f = 0; f < s_.look.count; f++)
            if (s_.look.movers[f] != j) least = lower(least, lows_[f * B + r]);
        return least;
    }

    // Whether row i, number r of the tile, is held; if so, its bounds are written at place `to`.
    bool look(i64 r, i64 i, i64 to) {
        const i64 j = s_.labels[i];
        const double drift = s_.bounds.drift[j], rest = s_.look.rest[j];
        const double gap = s_.bounds.gap[i], upper = s_.bounds.upper[i];
        const double own = __builtin_sqrt(exact_distance<Row>(s_.rows, i, s_.targets.exact + j * d_)) * s_.frame.scale;
        double other = upper + gap + drift - rest;
        other -= look_rounding * (__builtin_fabs(upper) + __builtin_fabs(gap) + drift + rest);
        if (!(other > 0)) other = 0; // nor is it known where bounds are infinite
        if (s_.look.count) other = lower(other, at_least(least_other(r, j), size_[r]));
        const double at_most = own * (1 + look_rounding);
        if (!(at_most < other) && !(at_most - drift + look_rounding * drift < s_.bounds.near_[j])) return false;
        held_[to] = i, labels_[to] = static_cast<i32>(j);
        own_[to] = static_cast<T>(at_most), other_[to] = static_cast<T>(other);
        return true;
    }

    // The distance to a centre, at least, from |c|^2 - 2 x.c and |x|^2.
    double at_least(T low, T size) const {
        const T b = static_cast<T>(s_.targets.trust), r = static_cast<T>(s_.targets.reach), t = positive(low + size);
        return static_cast<double>(root(positive(t - product_error(b, r, size, t)))) * (1 - look_rounding);
    }

    const Search &s_;
    const Packer<Row, T> &packer_;
    RowBounds &bounds_;
    const i64 d_;
    T *x_, *lows_, *least_, *size_, *own_, *other_;
    i64 *held_;
    i32 *labels_;
};

} // namespace gpukmeans::GPUKMEANS_ISA
