// The bounds of the rows: which rows they hold to their centres, and what a search writes anew.
// What they mean and why they are exact: _bounds.py.
#pragma once

#include "rows.h"

namespace gpukmeans::GPUKMEANS_ISA {

constexpr i64 filter_rows = 4096;       // rows whose bounds are looked at before the searching starts
constexpr float far_away = 1e14f;       // distances to centres beyond `far_norm` are only known to be far
constexpr float bound_rounding = 4e-7f; // more than the sums of write() err, relative to their terms

// Registers of a table that is looked up faster there than by gathering from memory.
#if defined(__AVX2__)
constexpr int most_registers = 8;
#else
constexpr int most_registers = 1;
#endif

class RowBounds {
  public:
    // Lays out `room` rows of scratch; without `live` that is all, and nothing is written.
    RowBounds(const Search &s, Pieces &pieces, i64 room, bool live) : s_(s), k_(s.targets.k) {
        gaps_ = pieces.take<float>(room);
        uppers_ = pieces.take<float>(room);
        spreads_ = pieces.take<float>(k_);
        drifts_ = pieces.take<float>(k_);
        fars_ = pieces.take<float>(most_registers * lanes<float>);
        nears_ = pieces.take<float>(most_registers * lanes<float>);
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
        constexpr i64 L = lanes<float>;
        const Bounds &bounds = s_.bounds;
        const i64 whole = a + (b - a) / L * L;
        i64 m = 0;
        for (i64 i = a; i < whole; i += L) {
            const Vec<i32> label = load(s_.labels + i), loose = ~(load(bounds.gap + i) > far_.of(label));
            if (bits_of(loose))
                m += list_bits(bits_of(loose & ~(load(bounds.upper + i) < near_.of(label))), i, which + m);
        }
        for (i64 i = whole; i < b; i++) {
            const i32 j = s_.labels[i];
            which[m] = i;
            m += !((bounds.gap[i] > bounds.far_[j]) | (bounds.upper[i] < bounds.near_[j]));
        }
        return m;
    }

    const Search &s_;
    const i64 k_;
    float *gaps_, *uppers_;     // of a batch whose rows lie apart
    float *spreads_, *drifts_;  // (k,)
    float *fars_, *nears_;      // (k,) where tables are looked up in registers
};

} // namespace gpukmeans::GPUKMEANS_ISA
