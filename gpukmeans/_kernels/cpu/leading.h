// Rows decided by a few directions, along which most of what they have in common with the centres lies.
//
// With P the basis of r directions, |x.c - Px.Pc| <= |x - PPx| |c - PPc|, so that
//   low(x, c) = |c|^2 - 2 (Px.Pc + |x - PPx| |c - PPc|)
// is at most |x - c|^2 - |x|^2: a product of r + 1 numbers instead of d. A centre whose low is above what the
// nearest one so far has is out; the others are measured exactly. A row with too many of them stays open.
// Which directions, and why low is a bound in spite of rounding: _leading.py.
#pragma once

#include "pack.h"
#include "tiles.h"

namespace gpukmeans::GPUKMEANS_ISA {

// Memory that make_leading() needs.
template <class T> i64 leading_bytes(i64 k, i64 d, i64 rank) {
    return static_cast<i64>(sizeof(T)) * (d * rank + k * (rank + 1) + rank) + 3 * 64;
}

// Arranges basis (d, rank) and points (k, rank + 1).
template <class T>
void make_leading(const Targets &targets, const double *basis, const double *points, i64 d, Leading &leading,
                  void *memory) {
    Pieces pieces{reinterpret_cast<std::uintptr_t>(memory)};
    const i64 k = targets.k, rank = leading.rank, width = rank + 1;
    T *columns = pieces.take<T>(d * rank), *seen = pieces.take<T>(k * width), *starts = pieces.take<T>(rank);
    for (i64 q = 0; q < d; q++)
        for (i64 j = 0; j < rank; j++) columns[in_groups(q, j, rank, d)] = static_cast<T>(basis[q * rank + j]);
    for (i64 j = 0; j < rank; j++) starts[j] = 0;
    for (i64 j = 0; j < k; j++) {
        const bool far = !(static_cast<const T *>(targets.norms)[j] < static_cast<T>(far_norm));
        for (i64 q = 0; q < width; q++)
            seen[in_groups(q, j, k, width)] = far ? T(0) : static_cast<T>(-2 * points[j * width + q]);
    }
    leading.basis = columns, leading.points = seen, leading.starts = starts;
}

// Decides a tile of rows.
template <class Row, class T> class Leader {
    static constexpr i64 B = tile_rows<T>;
    static constexpr int L = lanes<T>, V = row_vectors;

  public:
    static constexpr i64 rows = B;

    Leader(const Search &s, const Packer<Row, T> &packer, Pieces &pieces)
        : s_(s), packer_(packer), d_(s.rows.d), k_(s.targets.k), rank_(s.leading.rank), tries_(s.leading.tries),
          chunk_(smallest(k_, largest(group, (128 << 10) / (B * static_cast<i64>(sizeof(T))) / group * group))) {
        if (!rank_) return;
        x_ = pieces.take<T>(B * d_), seen_ = pieces.take<T>(B * (rank_ + 1)), lows_ = pieces.take<T>(B * chunk_);
        size_ = pieces.take<T>(B), limit_ = pieces.take<T>(B), upper_ = pieces.take<T>(B), other_ = pieces.take<T>(B);
        rows_ = pieces.take<Known>(B), labels_ = pieces.take<i32>(B), near_ = pieces.take<i32>(B * tries_);
    }

    // Looks at the rows p and following of a batch, up to a tile.
    bool search(const Batch &batch, i64 p) {
        packer_.pack(batch, p, x_, size_);
        project();
        const i64 m = smallest(B, batch.m - p);
        for (i64 r = 0; r < B; r++) other_[r] = infinite, limit_[r] = closed;
        for (i64 r = 0; r < m; r++) begin(r, batch.row(p + r));
        for (i64 j = 0; j < k_; j += chunk_) {
            const i64 count = smallest(chunk_, k_ - j);
            const T *points = static_cast<const T *>(s_.leading.points) + j * (rank_ + 1);
            multiply_tile(seen_, points, static_cast<const T *>(s_.targets.norms) + j, rank_ + 1, count, lows_);
            measure_lowest(j, count, m);
            measure_others(j, count, m);
        }
        for (i64 r = 0; r < m; r++) end(r);
        return true;
    }

    // Of the rows of the tile: the nearest centre; whether that is open; and, if not, how far it is at most, and any
    // other centre at least.
    const i32 *labels() const { return labels_; }
    bool is_open(i64 r) const { return rows_[r].open || !(rows_[r].own < __builtin_inf()); }
    const T *upper() const { return upper_; }
    const T *other() const { return other_; }

  private:
    static constexpr T infinite = static_cast<T>(__builtin_inff());
    static constexpr T closed = static_cast<T>(__builtin_nanf("")); // a limit that nothing is below, nor above

    // What is known of a row: by what its nearest centre is chosen, squared distances to this one and the
    // nearest other one that was measured, in original units.
    struct Known {
        i64 row;
        double key, own, second;
        i64 tries, near; // centres that were measured, and others of a chunk that may be nearer
        bool open;
    };

    // Px, feature by feature, and then |x - PPx|, rounded up.
    void project() {
        const T b = static_cast<T>(s_.leading.trust);
        const T *basis = static_cast<const T *>(s_.leading.basis), *starts = static_cast<const T *>(s_.leading.starts);
        multiply_tile(x_, basis, starts, d_, rank_, seen_);
        T *rest = seen_ + rank_ * B;
        for (i64 r = 0; r < B; r++) rest[r] = size_[r] * (1 + 2 * b);
        for (i64 q = 0; q < rank_; q++)
            for (i64 r = 0; r < B; r++) rest[r] -= seen_[q * B + r] * seen_[q * B + r];
        for (i64 r = 0; r < B; r++) rest[r] = root(positive(rest[r]));
    }

    // The centre of the pass before is the first to be measured. A row so long that its square has no digits is left
    // open.
    void begin(i64 r, i64 row) {
        const bool open = !(size_[r] < static_cast<T>(far_norm));
        rows_[r] = {row, __builtin_inf(), __builtin_inf(), __builtin_inf(), 0, 0, open};
        labels_[r] = 0;
        if (open) return;
        limit_[r] = infinite;
        if (s_.labels[row] >= 0) measure(r, s_.labels[row]);
    }

    // Measures the centre of the lowest low of each row.
    void measure_lowest(i64 first, i64 count, i64 m) {
        Vec<T> best[V];
        Vec<Index<T>> at[V];
        for (int v = 0; v < V; v++) best[v] = load(lows_ + v * L), at[v] = Vec<Index<T>>{};
        for (i64 j = 1; j < count; j++)
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) {
                const Vec<T> low = load(lows_ + j * B + v * L);
                at[v] = low < best[v] ? fill(static_cast<Index<T>>(j)) : at[v];
                best[v] = lower(low, best[v]);
            }
        for (i64 r = 0; r < m; r++)
            if (best[r / L][r % L] <= limit_[r]) measure(r, first + at[r / L][r % L]);
    }

    // Measures every centre whose low is not above the limit, and keeps the least of the others; rows with too
    // many are left open instead.
    void measure_others(i64 first, i64 count, i64 m) {
        for (i64 j = 0; j < count; j++) {
            std::uint64_t near = 0;
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) {
                const Vec<T> low = load(lows_ + j * B + v * L), limit = load(limit_ + v * L);
                store(other_ + v * L, lower(load(other_ + v * L), low > limit ? low : fill(infinite)));
                near |= static_cast<std::uint64_t>(bits_of(low <= limit)) << (v * L);
            }
            for (; near; near &= near - 1) note(__builtin_ctzll(near), first, j);
        }
        for (i64 r = 0; r < m; r++) {
            for (i64 c = 0; c < rows_[r].near && !rows_[r].open; c++) {
                const i64 j = near_[r * tries_ + c];
                if (lows_[j * B + r] <= limit_[r]) measure(r, first + j);
                else other_[r] = lower(other_[r], lows_[j * B + r]);
            }
            rows_[r].near = 0;
        }
    }

    // Keeps a centre of a chunk to be measured; with too many of them the row is left open.
    void note(i64 r, i64 first, i64 j) {
        Known &row = rows_[r];
        if (first + j == labels_[r] && row.tries) return;
        if (row.near + row.tries < tries_) near_[r * tries_ + row.near++] = static_cast<i32>(j);
        else row.open = true, limit_[r] = closed;
    }

    void measure(i64 r, i64 j) {
        Known &row = rows_[r];
        if (j == labels_[r] && row.tries) return;
        row.tries++;
        const double *center = s_.targets.exact + j * d_;
        const double squared = exact_distance<Row>(s_.rows, row.row, center);
        const double key = s_.spherical ? -exact_product<Row>(s_.rows, row.row, center) : squared;
        if (key < row.key || (key == row.key && j < labels_[r])) {
            row.second = lower(row.second, row.own);
            row.key = key, row.own = squared;
            labels_[r] = static_cast<i32>(j);
            limit_[r] = limit_of(size_[r], squared);
        } else
            row.second = lower(row.second, squared);
    }

    // A centre as near as one at that squared distance has a low that is not above this.
    T limit_of(T size, double squared) const {
        const T s = static_cast<T>(squared * s_.frame.scale * s_.frame.scale);
        return s - size + error(size, s);
    }

    // What a low, less what was lost from |x|^2, may be off for a centre at the squared distance s.
    T error(T size, T s) const {
        const T b = static_cast<T>(s_.leading.trust), r = static_cast<T>(s_.targets.reach);
        return product_error(b, r, size, s) + b * (size + s) + static_cast<T>(1e-33);
    }

    void end(i64 r) {
        const T u = sizeof(T) == 4 ? T(0x1p-23) : T(0x1p-52);
        const double scale = s_.frame.scale;
        const T t = positive(other_[r] + size_[r]);
        const T least = root(positive(t - error(size_[r], t)));
        const T second = static_cast<T>(__builtin_sqrt(rows_[r].second) * scale);
        upper_[r] = static_cast<T>(__builtin_sqrt(rows_[r].own) * scale) * (1 + 2 * u);
        other_[r] = lower(least, second) * (1 - 2 * u);
    }

    const Search &s_;
    const Packer<Row, T> &packer_;
    const i64 d_, k_, rank_, tries_, chunk_;
    T *x_, *seen_, *lows_, *size_, *limit_, *upper_, *other_;
    Known *rows_;
    i32 *labels_, *near_;
};

} // namespace gpukmeans::GPUKMEANS_ISA
