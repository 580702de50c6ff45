// Boxes of a grid over rows of at most four features: the box of each row, and the centre that all of a box is nearest
// to. Why that is exact: _boxes.py.
#pragma once

#include "rows.h"

namespace gpukmeans::GPUKMEANS_ISA {

using u16 = std::uint16_t;
using u8 = std::uint8_t;

// The bits of a number of 16 / D bits, D places apart.
template <int D> GPUKMEANS_INLINE i32 spread_bits(i32 bits) {
    if constexpr (D == 2) {
        bits = (bits | bits << 4) & 0x0f0f;
        bits = (bits | bits << 2) & 0x3333;
        bits = (bits | bits << 1) & 0x5555;
    } else if constexpr (D == 3) {
        bits = (bits | bits << 8) & 0x100f;
        bits = (bits | bits << 4) & 0x10c3;
        bits = (bits | bits << 2) & 0x1249;
    } else if constexpr (D == 4) {
        bits = (bits | bits << 6) & 0x0303;
        bits = (bits | bits << 3) & 0x1111;
    }
    return bits;
}

template <int D> constexpr i32 boxes_of(i64 level) { return static_cast<i32>(i64(1) << (D * level)); }

template <class Row, int D>
GPUKMEANS_INLINE void number_rows_at(const BoxGrid &grid, const Row *x, i64 row_step, i64 column_step, i64 count,
                                     u16 *numbers) {
    const Row most = static_cast<Row>(i64(1) << grid.level);
    const i32 outside = boxes_of<D>(grid.level) - 1;
    Row low[D], steps[D];
    for (int q = 0; q < D; q++) low[q] = static_cast<Row>(grid.low[q]), steps[q] = static_cast<Row>(grid.steps[q]);
    for (i64 i = 0; i < count; i++) {
        i32 number = 0, inside = 1;
        for (int q = 0; q < D; q++) {
            const Row place = (x[i * row_step + q * column_step] - low[q]) * steps[q];
            const bool within = place >= 0 && place < most;
            inside &= within;
            number |= spread_bits<D>(static_cast<i32>(within ? place : Row(0))) << q;
        }
        numbers[i] = static_cast<u16>(inside ? number : outside);
    }
}

// The boxes of rows `first` to `last` - 1.
template <class Row> void number_rows(const BoxGrid &grid, const Rows &rows, i64 first, i64 last, u16 *numbers) {
    const Row *x = row_of<Row>(rows, first);
    with_few_features(grid.d, [&](auto d) {
        if (rows.row_step == d.count && rows.column_step == 1)
            number_rows_at<Row, d.count>(grid, x, d.count, 1, last - first, numbers + first);
        else
            number_rows_at<Row, d.count>(grid, x, rows.row_step, rows.column_step, last - first, numbers + first);
    });
}

// Lists those of rows a to b - 1 that are in open boxes; their number.
inline i64 list_open(const Boxed &boxed, i64 a, i64 b, i64 *which) {
    constexpr i64 L = lanes<i32>;
    const u16 *numbers = boxed.numbers;
    const u8 *open = boxed.open;
    const i64 whole = a + (b - a) / L * L;
    i64 m = 0;
    for (i64 i = a; i < whole; i += L) {
        unsigned bits = 0;
#pragma GCC unroll 16
        for (i64 l = 0; l < L; l++) bits |= static_cast<unsigned>(open[numbers[i + l]]) << l;
        if (bits) m += list_bits(bits, i, which + m);
    }
    for (i64 i = whole; i < b; i++) {
        which[m] = i;
        m += open[numbers[i]];
    }
    return m;
}

// Finds the owners by dividing a box for as long as several centres may be the nearest to parts of it: of two
// centres, one is nearer to all of a box if it is nearer to its middle by more than their squared distances can differ
// from that on the way to a corner. A part is told less of what its own parts need not be compared with.
template <int D> class Division {
    static constexpr int parts = 1 << D; // of a box

  public:
    Division(const Owning &of, void *scratch) : of_(of), all_(static_cast<i32 *>(scratch)) {
        for (int q = 0; q < D; q++) width_[q] = 1 / of.grid.steps[q];
    }

    static i64 scratch_bytes(const Owning &of) {
        return (of.grid.level + 2) * of.k * static_cast<i64>(sizeof(i32));
    }

    // The boxes that a box of a higher level holds, of those side by side there.
    void run(i64 task, i64 level) {
        if (level == 0) return give(task, 1, -1); // the only one
        i64 corner[D] = {};
        for (i64 bit = 0; bit < of_.grid.level - level; bit++)
            for (int q = 0; q < D; q++) corner[q] |= (task >> (bit * D + q) & 1) << (bit + level);
        for (i64 j = 0; j < of_.k; j++) all_[j] = static_cast<i32>(j);
        tests_left_ = tests_a_box << (D * level);
        divide(corner, task << (D * level), level, all_, of_.k);
    }

  private:
    // The parts of a box side by side, all of one type so that they are compared in registers.
    struct Parts {
        double middle[D][parts]; // times -2
        double reach[D];         // twice the half widths, and how far astray rows may lie
        double least[parts], nearest[parts] = {}, own[D][parts] = {}; // to the middle: how far, which centre, and where
        double near_[parts] = {}; // centres that may be the nearest to some row
    };

    // A box of a level from 1 on, and all in it; what follows the `count` candidates is scratch memory.
    void divide(const i64 *corner, i64 first, i64 level, i32 *candidates, i64 count) {
        Parts of = compare(corner, level - 1, candidates, count);
        tests_left_ -= count * parts;
        i32 *const left = candidates + count;
        const i64 boxes = boxes_of<D>(level - 1);
        for (int part = 0; part < parts; part++) {
            const i64 begin = first + part * boxes;
            if (of.near_[part] == 1 || level == 1 || tests_left_ < 0) {
                give(begin, boxes, of.near_[part] == 1 ? static_cast<std::int16_t>(of.nearest[part]) : std::int16_t(-1));
                continue;
            }
            i64 number = 0, at[D];
            for (i64 c = 0; c < count; c++) {
                left[number] = candidates[c];
                number += is_near(of, candidates[c], part);
            }
            for (int q = 0; q < D; q++) at[q] = corner[q] + ((part >> q & 1) << (level - 1));
            divide(at, begin, level - 1, left, number);
        }
    }

    // The parts of a box, which are boxes of that level, and the candidates.
    GPUKMEANS_INLINE Parts compare(const i64 *corner, i64 level, const i32 *candidates, i64 count) const {
        const double size = static_cast<double>(i64(1) << level);
        Parts of;
        for (int q = 0; q < D; q++) {
            of.reach[q] = 2 * (0.5 * size + astray) * width_[q];
            for (int part = 0; part < parts; part++)
                of.middle[q][part] = -2 * (static_cast<double>(corner[q]) + ((part >> q & 1) + 0.5) * size) * width_[q];
        }
        for (int part = 0; part < parts; part++) of.least[part] = __builtin_inf();
        for (i64 c = 0; c < count; c++)
            for (int part = 0; part < parts; part++) {
                const i32 j = candidates[c];
                const double value = value_of(of, j, part);
                const bool nearer = value < of.least[part];
                of.least[part] = nearer ? value : of.least[part];
                of.nearest[part] = nearer ? static_cast<double>(j) : of.nearest[part];
                for (int q = 0; q < D; q++) of.own[q][part] = nearer ? of_.centers[j * D + q] : of.own[q][part];
            }
        for (i64 c = 0; c < count; c++)
            for (int part = 0; part < parts; part++) of.near_[part] += is_near(of, candidates[c], part) ? 1.0 : 0.0;
        return of;
    }

    // The squared distance of a centre from the middle of a part, less what is the same for all centres.
    GPUKMEANS_INLINE double value_of(const Parts &of, i32 j, int part) const {
        double value = of_.norms[j];
        for (int q = 0; q < D; q++) value += of.middle[q][part] * of_.centers[j * D + q];
        return value;
    }

    // Whether a centre may be the nearest to some row of a part.
    GPUKMEANS_INLINE bool is_near(const Parts &of, i32 j, int part) const {
        double differs = of_.error;
        for (int q = 0; q < D; q++)
            differs += of.reach[q] * __builtin_fabs(of_.centers[j * D + q] - of.own[q][part]);
        return !(value_of(of, j, part) - of.least[part] > differs);
    }

    void give(i64 first, i64 count, std::int16_t owner) const {
        for (i64 box = first; box < first + count; box++) {
            of_.open[box] = owner < 0 || of_.owners[box] != owner;
            of_.owners[box] = owner;
        }
    }

    // How far outside its box a row may lie whose place was rounded, in boxes: three times by 2^-24 of 2^16 at most.
    static constexpr double astray = 0x1p-6;

    // Where more centres than so many a box are looked at, as where all are about as far away, the rest is left open.
    static constexpr i64 tests_a_box = 32;

    const Owning &of_;
    i32 *const all_; // (k,) and, after them, the lists of candidates
    double width_[D];
    i64 tests_left_ = 0;
};

// The work is divided into the boxes of a higher level.
inline i64 owning_level(const BoxGrid &grid) {
    return smallest(grid.level, largest(1, grid.level - (grid.d > 2 ? 2 : 6 / grid.d)));
}

inline i64 owning_tasks(const BoxGrid &grid) { return i64(1) << (grid.d * (grid.level - owning_level(grid))); }

// The same for any number of features.
inline i64 owning_scratch(const Owning &of) { return Division<1>::scratch_bytes(of); }

inline void find_owners(const Owning &of, i64 task, void *scratch) {
    with_few_features(of.grid.d, [&](auto d) { Division<d.count>(of, scratch).run(task, owning_level(of.grid)); });
    if (task + 1 < owning_tasks(of.grid)) return; // the last box is in the last task
    const i64 outside = (i64(1) << of.grid.d * of.grid.level) - 1;
    of.owners[outside] = -1, of.open[outside] = 1;
}

} // namespace gpukmeans::GPUKMEANS_ISA
