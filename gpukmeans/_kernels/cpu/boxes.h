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
// from that on the way to a corner. A box is told less of what its parts need not be compared with.
template <int D> class Division {
  public:
    Division(const Owning &of, void *scratch) : of_(of), values_(static_cast<double *>(scratch)) {
        for (int q = 0; q < D; q++) width_[q] = 1 / of.grid.steps[q];
    }

    static i64 scratch_bytes(const Owning &of) {
        return of.k * static_cast<i64>(sizeof(double)) + (of.grid.level + 2) * of.k * static_cast<i64>(sizeof(i32));
    }

    // The boxes that a box of a higher level holds, of those side by side there.
    void run(i64 task, i64 level) {
        i64 corner[D] = {};
        for (i64 bit = 0; bit < of_.grid.level - level; bit++)
            for (int q = 0; q < D; q++) corner[q] |= (task >> (bit * D + q) & 1) << (bit + level);
        i32 *all = reinterpret_cast<i32 *>(values_ + of_.k);
        for (i64 j = 0; j < of_.k; j++) all[j] = static_cast<i32>(j);
        tests_left_ = tests_a_box << (D * level);
        divide(corner, task << (D * level), level, all, of_.k);
    }

  private:
    void give(i64 box, std::int16_t owner) {
        of_.open[box] = owner < 0 || of_.owners[box] != owner;
        of_.owners[box] = owner;
    }

    // One box and all in it; what follows the `count` candidates is scratch memory.
    void divide(const i64 *corner, i64 first, i64 level, i32 *candidates, i64 count) {
        i32 *const left = candidates + count;
        const i64 number = still_near(corner, level, candidates, count, left);
        tests_left_ -= count;
        if (number == 1 || level == 0 || tests_left_ < 0) {
            const std::int16_t owner = static_cast<std::int16_t>(number == 1 ? left[0] : -1);
            for (i64 box = first; box < first + boxes_of<D>(level); box++) give(box, owner);
            return;
        }
        if (level == 1) {
            divide_last(corner, first, left, number);
            return;
        }
        for (i64 part = 0; part < 1 << D; part++) {
            i64 at[D];
            for (int q = 0; q < D; q++) at[q] = corner[q] + ((part >> q & 1) << (level - 1));
            divide(at, first + (part << (D * (level - 1))), level - 1, left, number);
        }
    }

    // The same of all parts of a box at once, which are not divided any further: side by side in registers, all of one
    // type.
    void divide_last(const i64 *corner, i64 first, const i32 *candidates, i64 count) {
        constexpr int parts = 1 << D;
        double middle[D][parts], least[parts], own[D][parts] = {}, nearest[parts] = {}, near[parts] = {};
        for (int part = 0; part < parts; part++) least[part] = __builtin_inf();
        for (int q = 0; q < D; q++)
            for (int part = 0; part < parts; part++)
                middle[q][part] = -2 * (static_cast<double>(corner[q] + (part >> q & 1)) + 0.5) * width_[q];
        auto value_of = [&](i32 j, int part) {
            double value = of_.norms[j];
            for (int q = 0; q < D; q++) value += middle[q][part] * of_.centers[j * D + q];
            return value;
        };
        for (i64 c = 0; c < count; c++) {
            const i32 j = candidates[c];
            for (int part = 0; part < parts; part++) {
                const double value = value_of(j, part);
                const bool nearer = value < least[part];
                least[part] = nearer ? value : least[part];
                nearest[part] = nearer ? static_cast<double>(j) : nearest[part];
                for (int q = 0; q < D; q++) own[q][part] = nearer ? of_.centers[j * D + q] : own[q][part];
            }
        }
        for (i64 c = 0; c < count; c++) {
            const i32 j = candidates[c];
            for (int part = 0; part < parts; part++) {
                double differs = of_.error;
                for (int q = 0; q < D; q++)
                    differs += (1 + 2 * astray) * width_[q] * __builtin_fabs(of_.centers[j * D + q] - own[q][part]);
                near[part] += value_of(j, part) - least[part] > differs ? 0.0 : 1.0;
            }
        }
        for (int part = 0; part < parts; part++)
            give(first + part, near[part] == 1 ? static_cast<std::int16_t>(nearest[part]) : std::int16_t(-1));
        tests_left_ -= count * parts;
    }

    // Lists the candidates that may be the nearest centre to some row of the box.
    i64 still_near(const i64 *corner, i64 level, const i32 *candidates, i64 count, i32 *left) {
        const double size = static_cast<double>(i64(1) << level);
        double middle[D], reach[D];
        for (int q = 0; q < D; q++) {
            middle[q] = -2 * (static_cast<double>(corner[q]) + 0.5 * size) * width_[q];
            reach[q] = 2 * (0.5 * size + astray) * width_[q];
        }
        double least = __builtin_inf();
        i32 nearest = candidates[0];
        for (i64 c = 0; c < count; c++) {
            const double *center = of_.centers + candidates[c] * D;
            double value = of_.norms[candidates[c]];
            for (int q = 0; q < D; q++) value += middle[q] * center[q];
            values_[c] = value;
            if (value < least) least = value, nearest = candidates[c];
        }
        const double *own = of_.centers + nearest * D;
        i64 number = 0;
        for (i64 c = 0; c < count; c++) {
            const double *center = of_.centers + candidates[c] * D;
            double differs = of_.error;
            for (int q = 0; q < D; q++) differs += reach[q] * __builtin_fabs(center[q] - own[q]);
            left[number] = candidates[c];
            number += !(values_[c] - least > differs);
        }
        return number;
    }

    // How far outside its box a row may lie whose place was rounded, in boxes: three times by 2^-24 of 2^16 at most.
    static constexpr double astray = 0x1p-6;

    // Where more centres than so many a box are looked at, as where all are about as far away, the rest is left open.
    static constexpr i64 tests_a_box = 32;

    const Owning &of_;
    double *const values_; // (k,) and, after them, the lists of candidates
    double width_[D];
    i64 tests_left_ = 0;
};

// The work is divided into the boxes of a higher level.
inline i64 owning_level(const BoxGrid &grid) { return largest(0, grid.level - (grid.d > 2 ? 2 : 6 / grid.d)); }

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
