// Rows brought into local coordinates, a tile at a time.
#pragma once

#include "rows.h"

namespace gpukmeans::GPUKMEANS_ISA {

template <class Row, class T> class Packer {
  public:
    // Without `live` the memory is only laid out.
    Packer(const Search &s, Pieces &pieces, bool live)
        : rows_(s.rows), d_(s.rows.d), scale_(static_cast<T>(s.frame.scale)), shift_(pieces.take<T>(d_ + lanes<T>)) {
        if (live)
            for (i64 q = 0; q < d_; q++) shift_[q] = static_cast<T>(s.frame.shift[q] * s.frame.scale);
    }

    // The lane ends before row `end`, and nothing behind it is read.
    void end_at(i64 end) {
        if (rows_.row_step >= d_) together_ = end - 1 - (lanes<T> + d_ - 1) / d_;
    }

    const T *shift() const { return shift_; } // (d,) scaled
    T scale() const { return scale_; }

    // A row in local coordinates.
    void row(i64 i, T *out) const { localize<Row, T>(rows_, i, shift_, scale_, out); }

    // Rows p and following of a batch as a tile (d, tile_rows), and their |x|^2. The last row of the
    // batch fills up a tile.
    void pack(const Batch &batch, i64 p, T *out, T *sizes) const {
        constexpr int L = lanes<T>, B = tile_rows<T>;
        for (int v = 0; v < B; v += L) {
            const Row *rows[L], *next[L];
            for (int r = 0; r < L; r++) {
                rows[r] = row_of<Row>(rows_, batch.row(smallest(p + v + r, batch.m - 1)));
                next[r] = row_of<Row>(rows_, row_after(batch, p + v + L + r));
            }
            Vec<T> size{};
            i64 q = 0;
            if (rows_.column_step == 1) {
                for (; q + L <= d_; q += L) pack_block(rows, next, q, L, out + v, size);
                if (batch.row(smallest(p + v + L - 1, batch.m - 1)) <= together_ && q < d_) {
                    pack_block(rows, next, q, static_cast<int>(d_ - q), out + v, size);
                    q = d_;
                }
            }
            for (; q < d_; q++) {
                T *to = out + q * B + v;
                for (int r = 0; r < L; r++) to[r] = static_cast<T>(rows[r][q * rows_.column_step]) * scale_ - shift_[q];
                size += load(to) * load(to);
            }
            store(sizes + v, size);
        }
    }

    // The row at place p, or, past the end of the batch, one that may be wanted next.
    i64 row_after(const Batch &batch, i64 p) const {
        return batch.which ? batch.which[smallest(p, batch.m + batch.more - 1)] : smallest(batch.first + p, rows_.n - 1);
    }

  private:
    // The features q to q + count - 1, of which a register is read, of as many rows.
    GPUKMEANS_INLINE void pack_block(const Row *const *rows, const Row *const *next, i64 q, int count, T *out,
                                     Vec<T> &size) const {
        constexpr int L = lanes<T>, B = tile_rows<T>;
        Vec<T> block[L];
        const Vec<T> shift = load(shift_ + q);
#pragma GCC unroll 16
        for (int r = 0; r < L; r++) {
            __builtin_prefetch(next[r] + q, 0, 2);
            block[r] = load_as<T>(rows[r] + q) * scale_ - shift;
        }
        transpose<T>(block);
#pragma GCC unroll 16
        for (int r = 0; r < L; r++) {
            if (r >= count) break;
            store(out + (q + r) * B, block[r]);
            size += block[r] * block[r];
        }
    }

    const Rows &rows_;
    const i64 d_;
    const T scale_;
    T *shift_;
    i64 together_ = -1; // the last row that may be read a register at a time, with what follows it in the lane
};

} // namespace gpukmeans::GPUKMEANS_ISA
