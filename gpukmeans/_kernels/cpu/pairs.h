// Sums of distances between the rows of two tiles: what silhouettes are made of.
//
//   cells    in      rows (n, d) in any layout, and the cells that they are sorted into
//   of, to   in/out  two tiles; `of` gets the distances from each of its rows to the cells of `to`.
//                    Where `to` has sums and is another tile, it gets the same distances the other
//                    way round: each is computed once.
//   scratch  -       scratch_bytes(cells)
//
// Distances and sums are double whatever the rows. A strip of rows meets blocks of columns (rows of
// `to`, along the registers), and its distances stay in the first-level cache until they are added up.
// Up to 4 features squares are sums of (x - y)^2: 3 d flops a pair. With more they are
// |x|^2 + |y|^2 - 2 x.y about the mean of `of`, 2 d flops a pair; a block in which that cancels is
// computed again from differences. Then a square root and two additions. Tiles of m rows read 2 / m rows
// a pair, and read and write 16 / m bytes of sums a pair for each cell of a tile and labeling.
#pragma once

#include "rows.h"

namespace gpukmeans::GPUKMEANS_ISA {

constexpr i64 difference_features = 4; // up to here differences cost no more than products
// A squared distance below this share of |x|^2 + |y|^2 has lost too many digits to be kept.
constexpr double cancelled_share = 1.0 / 64;

constexpr i64 rounded_up(i64 n, i64 multiple) { return (n + multiple - 1) / multiple * multiple; }

template <class Row> class TilePair {
    static constexpr int J = group, V = row_vectors, L = lanes<double>, W = V * L;
    typedef Vec<double> Squares[J][V];

  public:
    static i64 scratch_bytes(const Cells &cells) {
        return static_cast<i64>(TilePair(cells, nullptr).end_); // laid out from address zero, nothing is written
    }

    TilePair(const Cells &cells, char *scratch) : c_(cells), d_(cells.rows.d), products_(d_ > difference_features) {
        const i64 rows = rounded_up(cells.tile, J), columns = rounded_up(cells.tile, W);
        width_ = columns;
        Pieces pieces{reinterpret_cast<std::uintptr_t>(scratch)};
        origin_ = pieces.take<double>(d_);
        x_ = pieces.take<double>(rows * d_), y_ = pieces.take<double>(columns * d_);
        if (products_) {
            near_x_ = pieces.take<double>(rows * d_), near_y_ = pieces.take<double>(columns * d_);
            x_norms_ = pieces.take<double>(rows), y_norms_ = pieces.take<double>(columns);
            x_shares_ = pieces.take<double>(rows / J), y_shares_ = pieces.take<double>(columns / W);
        }
        strip_ = pieces.take<double>(J * columns), across_ = pieces.take<double>(columns);
        end_ = pieces.next;
    }

    void add(const Tile &of, const Tile &to) {
        const bool both = to.sums && to.first != of.first;
        pack<J>(of, x_);
        pack<W>(to, y_);
        if (products_) {
            find_origin(of.last - of.first);
            approach<J>(x_, of.last - of.first, -2.0, near_x_, x_norms_, x_shares_);
            approach<W>(y_, to.last - to.first, 1.0, near_y_, y_norms_, y_shares_);
        }
        for (i64 c = 0; c < J * width_; c++) strip_[c] = 0;
        clear_across();
        i64 cell = cell_of(of.first);
        for (i64 i = of.first; i < of.last; i += J) {
            const i64 count = i + J <= of.last ? J : of.last - i;
            distances(i - of.first, to.last - to.first);
            add_rows(of, i, count, to);
            if (both) cell = add_columns(of, i, count, to, cell);
        }
    }

  private:
    // --- packing --------------------------------------------------------------------------------

    // Rows of a tile in groups of `wide` beside each other, feature by feature; the last one again
    // where the tile does not fill a group.
    template <int wide> void pack(const Tile &tile, double *out) {
        const i64 m = tile.last - tile.first, step = c_.rows.column_step;
        for (i64 r = 0; r < m; r += wide, out += wide * d_) {
            const Row *x[wide];
            for (int w = 0; w < wide; w++)
                x[w] = row_of<Row>(c_.rows, c_.order[tile.first + (r + w < m ? r + w : m - 1)]);
            for (i64 q = 0; q < d_; q++)
                for (int w = 0; w < wide; w++) out[q * wide + w] = static_cast<double>(x[w][q * step]);
        }
    }

    // The mean of the m rows in x_.
    void find_origin(i64 m) {
        for (i64 q = 0; q < d_; q++) origin_[q] = 0;
        for (i64 r = 0; r < m; r++)
            for (i64 q = 0; q < d_; q++) origin_[q] += x_[r / J * J * d_ + q * J + r % J];
        for (i64 q = 0; q < d_; q++) origin_[q] /= static_cast<double>(m);
    }

    // Packed rows about the origin, times a factor; their squared norms without it, and the share of the
    // longest in each group below which a squared distance has cancelled.
    template <int wide>
    void approach(const double *from, i64 m, double factor, double *out, double *norms, double *shares) {
        for (i64 r = 0; r < m; r += wide) {
            double norm[wide] = {};
            for (i64 q = 0; q < d_; q++) {
                const i64 at = r * d_ + q * wide;
                double value[wide];
                for (int w = 0; w < wide; w++) value[w] = from[at + w] - origin_[q];
                for (int w = 0; w < wide; w++) norm[w] += value[w] * value[w];
                for (int w = 0; w < wide; w++) out[at + w] = factor * value[w];
            }
            double longest = 0;
            for (int w = 0; w < wide; w++) norms[r + w] = norm[w], longest = higher(longest, norm[w]);
            shares[r / wide] = cancelled_share * longest;
        }
    }

    // --- distances ------------------------------------------------------------------------------

    // From J rows, the first of which is number r, to the m columns: into strip_ (J, width_). The square
    // roots of a block are taken while the next one is multiplied, in another unit of the processor.
    void distances(i64 r, i64 m) {
        const i64 last = (m - 1) / W * W, width = width_, d = d_;
        double *const strip = strip_; // locals: what is stored below may alias members
        const double *const x = x_ + r * d, *const near_x = near_x_ + r * d, *const y = y_, *const near_y = near_y_;
        double *before = strip + last; // of the strip before: its roots are taken again, and overwritten
        for (i64 c = 0; c <= last; c += W) {
            Squares squares;
            if (products_) {
                add_norms(r, c, squares);
                multiply<true>(near_x, near_y + c * d, d, squares, before, width);
                if (__builtin_expect(cancelled(r, c, squares), false)) {
                    clear(squares);
                    for (i64 q = 0; q < d; q++) add_feature<false>(x + q * J, y + c * d + q * W, squares);
                }
            } else {
                clear(squares);
                multiply<false>(x, y + c * d, d, squares, before, width);
            }
            before = strip + c;
#pragma GCC unroll 8
            for (int j = 0; j < J; j++)
#pragma GCC unroll 8
                for (int v = 0; v < V; v++) store(before + j * width + v * L, squares[j][v]);
        }
        for (int j = 0; j < J; j++) take_roots(before + j * width);
    }

    static GPUKMEANS_INLINE void take_root(double *square) { store(square, root(load(square))); }

    static GPUKMEANS_INLINE void take_roots(double *squares) {
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) take_root(squares + v * L);
    }

    static GPUKMEANS_INLINE void clear(Squares &squares) {
#pragma GCC unroll 8
        for (int j = 0; j < J; j++)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) squares[j][v] = Vec<double>{};
    }

    GPUKMEANS_INLINE void add_norms(i64 r, i64 c, Squares &squares) const {
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            const Vec<double> norms = load(y_norms_ + c + v * L);
#pragma GCC unroll 8
            for (int j = 0; j < J; j++) squares[j][v] = norms + x_norms_[r + j];
        }
    }

    // Adds x.y or (x - y)^2 to the squares, feature by feature, and takes the roots of a block on the way.
    template <bool product>
    static GPUKMEANS_INLINE void multiply(const double *x, const double *y, i64 d, Squares &squares, double *before,
                                          i64 width) {
        i64 q = 0;
        for (int j = 0; j < J; j++, before += width) {
            if (q + V > d) {
                take_roots(before);
                continue;
            }
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) {
                take_root(before + v * L);
                add_feature<product>(x + (q + v) * J, y + (q + v) * W, squares);
            }
            q += V;
        }
        for (; q < d; q++) add_feature<product>(x + q * J, y + q * W, squares);
    }

    template <bool product>
    static GPUKMEANS_INLINE void add_feature(const double *x, const double *y, Squares &squares) {
        Vec<double> columns[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) columns[v] = load(y + v * L);
#pragma GCC unroll 8
        for (int j = 0; j < J; j++) {
            const Vec<double> row = fill(x[j]);
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) {
                const Vec<double> difference = columns[v] - row;
                squares[j][v] += product ? columns[v] * row : difference * difference;
            }
        }
    }

    // Whether a square may have cancelled; judged by the longest row and the longest column.
    GPUKMEANS_INLINE bool cancelled(i64 r, i64 c, const Squares &squares) {
        Vec<double> least = squares[0][0];
#pragma GCC unroll 8
        for (int j = 0; j < J; j++)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) least = lower(least, squares[j][v]);
        const Vec<i64> lost = (Vec<i64>)(least < fill(x_shares_[r / J] + y_shares_[c / W]));
        i64 any = 0;
        for (int l = 0; l < L; l++) any |= lost[l];
        return any != 0;
    }

    // --- sums -----------------------------------------------------------------------------------

    // The cell that a place is in.
    i64 cell_of(i64 place) const {
        i64 low = 0, high = c_.cells;
        while (high - low > 1) {
            const i64 middle = (low + high) / 2;
            (c_.edges[middle] <= place ? low : high) = middle;
        }
        return low;
    }

    // Adds the strip to the sums of its rows, i and following.
    void add_rows(const Tile &of, i64 i, i64 count, const Tile &to) {
        i64 cell = cell_of(to.first);
        for (i64 place = to.first; place < to.last; cell++) {
            const i64 end = c_.edges[cell + 1] < to.last ? c_.edges[cell + 1] : to.last;
            double part[J];
            segment(place - to.first, end - to.first, part);
            for (i64 l = 0; l < c_.labelings; l++) {
                double *sums = of.sums + c_.columns[cell * c_.labelings + l] * of.step + (i - of.first);
                if (count == J)
                    for (int j = 0; j < J; j++) sums[j] += part[j];
                else
                    for (i64 j = 0; j < count; j++) sums[j] += part[j];
            }
            place = end;
        }
    }

    // Sums of the strip's columns a to b - 1, for each of its rows.
    GPUKMEANS_INLINE void segment(i64 a, i64 b, double (&part)[J]) {
        for (int j = 0; j < J; j++) part[j] = 0;
        if (b - a >= L) {
            Vec<double> sum[J] = {};
            for (; a + L <= b; a += L)
#pragma GCC unroll 8
                for (int j = 0; j < J; j++) sum[j] += load(strip_ + j * width_ + a);
            for (int j = 0; j < J; j++) part[j] = total<double>(sum[j]);
        }
        for (; a < b; a++)
            for (int j = 0; j < J; j++) part[j] += strip_[j * width_ + a];
    }

    // Adds the strip's rows up, and gives the sums to the columns where a cell of rows ends; `cell` is
    // that of row i, and the one of the row that follows the strip is returned.
    i64 add_columns(const Tile &of, i64 i, i64 count, const Tile &to, i64 cell) {
        const i64 m = to.last - to.first;
        i64 j = 0;
        while (j < count) {
            const i64 end = c_.edges[cell + 1] < of.last ? c_.edges[cell + 1] : of.last;
            const i64 next = end - i < count ? end - i : count;
            add_across(j, next, m);
            if (i + next == end) {
                flush(to, cell++);
                clear_across();
            }
            j = next;
        }
        return cell;
    }

    void clear_across() {
        for (i64 c = 0; c < width_; c++) across_[c] = 0;
    }

    void add_across(i64 j, i64 next, i64 m) {
        if (next - j == J) {
            for (i64 c = 0; c < m; c += L) {
                Vec<double> sum = load(strip_ + c);
#pragma GCC unroll 8
                for (int row = 1; row < J; row++) sum += load(strip_ + row * width_ + c);
                store(across_ + c, load(across_ + c) + sum);
            }
            return;
        }
        for (; j < next; j++)
            for (i64 c = 0; c < m; c += L) store(across_ + c, load(across_ + c) + load(strip_ + j * width_ + c));
    }

    void flush(const Tile &to, i64 cell) {
        for (i64 l = 0; l < c_.labelings; l++) {
            double *sums = to.sums + c_.columns[cell * c_.labelings + l] * to.step;
            for (i64 c = 0; c < to.last - to.first; c++) sums[c] += across_[c];
        }
    }

    const Cells &c_;
    const i64 d_;
    const bool products_;
    i64 width_;
    double *origin_, *x_, *y_;
    double *near_x_ = nullptr, *near_y_ = nullptr, *x_norms_ = nullptr, *y_norms_ = nullptr;
    double *x_shares_ = nullptr, *y_shares_ = nullptr;
    double *strip_, *across_; // (J, width_) distances; (width_,) their sums over the rows of a cell
    std::uintptr_t end_;
};

template <class Row> i64 pairs_scratch(const Cells &cells) { return TilePair<Row>::scratch_bytes(cells); }

template <class Row> void add_pairs(const Cells &cells, const Tile &of, const Tile &to, void *scratch) {
    TilePair<Row>(cells, static_cast<char *>(scratch)).add(of, to);
}

} // namespace gpukmeans::GPUKMEANS_ISA
