// The bounds of the rows: which rows they hold to their centres, and what a search writes anew.
// What they mean and why they are exact: _bounds.py.
#pragma once

#include "rows.h"

namespace gpukmeans::GPUKMEANS_ISA {

constexpr i64 filter_rows = 4096;       // rows whose bounds are looked at before the searching starts
constexpr i64 block_rows = 64;          // rows that are held together while the tests have not become too tight for any
constexpr float far_away = 1e14f;       // distances to centres beyond `far_norm` are only known to be far
constexpr float bound_rounding = 4e-7f; // more than the sums of write() err, relative to their terms

// Registers of a table that is looked up faster there than by gathering from memory.
#if defined(__AVX2__)
constexpr int most_registers = 8;
#else
constexpr int most_registers = 1;
#endif

class RowBounds {
    static constexpr i64 blocks_ahead = 4;

  public:
    // Lays out `room` rows of scratch; without `live` that is all, and nothing is written.
    RowBounds(const Search &s, Pieces &pieces, i64 room, bool live) : s_(s), k_(s.targets.k) {
        gaps_ = pieces.take<float>(room);
        uppers_ = pieces.take<float>(room);
        spreads_ = pieces.take<float>(k_);
        drifts_ = pieces.take<float>(k_);
        fars_ = pieces.take<float>(most_registers * lanes<float>);
        nears_ = pieces.take<float>(most_registers * lanes<float>);
        blocks_ = pieces.take<i64>(filter_rows / block_rows + 2 * lanes<i64>);
        if (!live || !s.bounds.upper) return;
        for (i64 j = 0; j < k_; j++) { // a row of a centre with a twin is never held
            spreads_[j] = s.targets.copied[j] > 0 ? -__builtin_inff() : static_cast<float>(s.bounds.spread[j]);
            drifts_[j] = static_cast<float>(s.bounds.drift[j]);
            if (k_ <= most_registers * lanes<float>) fars_[j] = s.bounds.far_[j], nears_[j] = s.bounds.near_[j];
        }
    }

    // Rows a to b - 1 that no bound holds to their centres, listed in `which`; their number. Where the gaps hold
    // all rows of a register, which is usual, the rest of their bounds is not read.
    i64 failing(i64 a, i64 b, i64 *which) const {
        return failing_of<1>(a, b, which);
    }

    // The bounds of searched rows, from the distances to their centres (at most) and to the next ones
    // (at least; 0 where that is not known). Rounded so that they stay bounds: `gap` down, `upper` up.
    template <class T> void write(const Batch &batch, const i32 *fresh, const T *own_distance, const T *other_distance) {
        float *__restrict gaps = batch.which ? gaps_ : s_.bounds.gap + batch.first;
        float *__restrict uppers = batch.which ? uppers_ : s_.bounds.upper + batch.first;
        const float *spreads = spreads_, *drifts = drifts_;
        for (i64 p = 0; p < batch.m; p++) {
            const float own = static_cast<float>(own_distance[p]);
            const float other = lower(static_cast<float>(other_distance[p]), far_away);
            const float drift = drifts[fresh[p]], spread = spreads[fresh[p]];
            const float gap = (other - own) + spread - bound_rounding * (other + own + __builtin_fabsf(spread));
            gaps[p] = other > 0 ? gap : -__builtin_inff();
            uppers[p] = own - drift + bound_rounding * (own + drift);
        }
        if (batch.which)
            for (i64 p = 0; p < batch.m; p++) {
                s_.bounds.gap[batch.which[p]] = gaps[p];
                s_.bounds.upper[batch.which[p]] = uppers[p];
            }
        for (i64 p = 0; batch.which && s_.bounds.slack && p < batch.m; p++) {
            float &slack = s_.bounds.slack[batch.which[p] / block_rows];
            slack = lower(slack, slack_of(gaps[p] - s_.bounds.far_[fresh[p]]));
        }
    }

  private:
    // What a test compares with, by centre.
    template <int registers> struct Few {
        Vec<float> table[registers];
        explicit Few(const float *entries) {
            for (int i = 0; i < registers; i++) table[i] = load(entries + i * lanes<float>);
        }
        GPUKMEANS_INLINE Vec<float> of(Vec<i32> label) const { return pick<registers>(table, label); }
    };
    struct Many {
        const float *table;
        GPUKMEANS_INLINE Vec<float> of(Vec<i32> label) const { return gather(table, label); }
    };

    // By tables of the least number of registers that hold all centres.
    template <int registers> i64 failing_of(i64 a, i64 b, i64 *which) const {
        if (k_ <= registers * lanes<float>)
            return failing_by(Few<registers>(fars_), Few<registers>(nears_), a, b, which);
        if constexpr (registers < most_registers)
            return failing_of<2 * registers>(a, b, which);
        else
            return failing_by(Many{s_.bounds.far_}, Many{s_.bounds.near_}, a, b, which);
    }

    template <class Table>
    i64 failing_by(const Table &far_, const Table &near_, i64 a, i64 b, i64 *which) const {
        i64 m = 0;
        if (!s_.bounds.slack) {
            list_failing<false>(far_, near_, a, b, which, m);
            return m;
        }
        const i64 blocks = list_loose(a, b);
        for (i64 i = 0; i < blocks; i++) {
            const i64 first = blocks_[i];
            fetch(blocks_[smallest(i + blocks_ahead, blocks - 1)]);
            s_.bounds.slack[first / block_rows] =
                slack_of(list_failing<true>(far_, near_, first, smallest(first + block_rows, b), which, m));
        }
        return m;
    }

    // First rows of the blocks from row a to b - 1 of which some row may fail; their number.
    i64 list_loose(i64 a, i64 b) const {
        constexpr i64 L = lanes<float>;
        const float *slack = s_.bounds.slack + a / block_rows;
        const i64 blocks = (b - a + block_rows - 1) / block_rows, whole = blocks / L * L;
        i64 count = 0;
        for (i64 i = 0; i < whole; i += L)
            count += list_bits(bits_of(~(load(slack + i) > fill(s_.bounds.tightened))), i, blocks_ + count);
        for (i64 i = whole; i < blocks; i++) {
            blocks_[count] = i;
            count += !(slack[i] > s_.bounds.tightened);
        }
        for (i64 i = 0; i < count; i++) blocks_[i] = a + blocks_[i] * block_rows;
        return count;
    }

    // The bounds of a block come from main memory meanwhile.
    void fetch(i64 first) const {
        for (i64 i = first; i < first + block_rows; i += 16) {
            __builtin_prefetch(s_.labels + i);
            __builtin_prefetch(s_.bounds.gap + i);
        }
    }

    // Lists those of rows a to b - 1 that fail, after m others; how much tighter the tests may get until another does,
    // where that is `asked`.
    template <bool asked, class Table>
    float list_failing(const Table &far_, const Table &near_, i64 a, i64 b, i64 *which, i64 &m) const {
        constexpr i64 L = lanes<float>;
        const Bounds &bounds = s_.bounds;
        const i64 whole = a + (b - a) / L * L;
        Vec<float> least = fill(far_away);
        for (i64 i = a; i < whole; i += L) {
            const Vec<i32> label = load(s_.labels + i);
            const Vec<float> gap = load(bounds.gap + i), most = far_.of(label);
            Vec<float> slack = gap - most;
            const Vec<i32> loose = ~(gap > most);
            if (bits_of(loose)) {
                const Vec<float> upper = load(bounds.upper + i), near = near_.of(label);
                const Vec<i32> fails = loose & ~(upper < near);
                m += list_bits(bits_of(fails), i, which + m);
                if (asked) slack = loose ? near - upper : slack, slack = fails ? least : slack;
            }
            if (asked) least = lower(slack, least);
        }
        float rest = far_away;
        for (int i = 0; i < L; i++) rest = lower(least[i], rest);
        for (i64 i = whole; i < b; i++) {
            const i32 j = s_.labels[i];
            const bool far_enough = bounds.gap[i] > bounds.far_[j], near_enough = bounds.upper[i] < bounds.near_[j];
            which[m] = i;
            m += !(far_enough | near_enough);
            const float slack = far_enough ? bounds.gap[i] - bounds.far_[j] : bounds.near_[j] - bounds.upper[i];
            if (far_enough | near_enough) rest = lower(slack, rest);
        }
        return rest;
    }

    // The slack of a block of which no row fails while the tests get tighter by less than `more`, rounded down. What is
    // not known holds nothing.
    float slack_of(float more) const {
        const float tightened = s_.bounds.tightened;
        const float slack = more + tightened - bound_rounding * (__builtin_fabsf(more) + tightened);
        return slack == slack ? slack : -__builtin_inff();
    }

    const Search &s_;
    const i64 k_;
    float *gaps_, *uppers_;     // of a batch whose rows lie apart
    float *spreads_, *drifts_;  // (k,)
    float *fars_, *nears_;      // (k,) where tables are looked up in registers
    i64 *blocks_;               // of a range, that are looked at row by row
};

} // namespace gpukmeans::GPUKMEANS_ISA
