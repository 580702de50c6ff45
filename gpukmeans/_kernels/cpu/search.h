// One pass over the rows of a lane: filter by bounds, search in tiles, settle what is in doubt, add up.
//
// Everything is added in the order of the rows, or of `added_rows` of them at a time from the first of the lane on, so
// that neither the size of a batch nor what the filter lets through changes a bit of the result.
#pragma once

#include "bounds.h"
#include "boxes.h"
#include "coarse.h"
#include "leading.h"
#include "look.h"
#include "narrow.h"
#include "tiles.h"

namespace gpukmeans::GPUKMEANS_ISA {

// How a search is cut up: rows in a batch, and centres that stay in the second-level cache.
struct Cut {
    bool few;
    i64 batch, multiple, centers;
};

template <class T> Cut cut_of(i64 k, i64 d) {
    const i64 bytes = static_cast<i64>(sizeof(T));
    if (is_few(d)) return {true, 512, few_rows<T>, k};
    const i64 centers = largest(group, (128 << 10) / (d * bytes) / group * group);
    const i64 memory = centers >= k ? 12 << 10 : 192 << 10;
    const i64 tiles = smallest(1024, memory / (d * bytes)) / tile_rows<T>;
    return {false, tile_rows<T> * largest(centers >= k ? 1 : 4, tiles), tile_rows<T>, centers};
}

template <class Row, class T> class Lane {
    static constexpr i64 waiting = 15; // batches that are searched directly after one that packing left in doubt
    static constexpr i64 rows_ahead = 64; // listed rows that are on their way from main memory at once

  public:
    static i64 scratch_bytes(const Search &s) {
        return static_cast<i64>(Lane(s, nullptr).pieces_.next); // laid out from address zero, nothing is written
    }

    Lane(const Search &s, char *scratch)
        : s_(s), rows_(s.rows), d_(s.rows.d), k_(s.targets.k), cut_(cut_of<T>(k_, d_)),
          centers_(static_cast<const T *>(s.targets.groups)), norms_(static_cast<const T *>(s.targets.norms)),
          room_(cut_.batch + tile_rows<T>), pieces_{reinterpret_cast<std::uintptr_t>(scratch)},
          packer_(s, pieces_, scratch), bounds_(s, pieces_, room_, scratch), looker_(s, packer_, bounds_, pieces_),
          leader_(s, packer_, pieces_), coarse_(s, packer_, pieces_) {
        packing_ = packing_for<T>(s.targets);
        line_ = pieces_.take<T>(d_);
        x_ = pieces_.take<T>(room_ * d_);
        found_ = {pieces_.take<T>(room_), pieces_.take<T>(room_), pieces_.take<Index<T>>(room_), pieces_.take<T>(room_)};
        limit_ = pieces_.take<T>(room_);
        upper_ = pieces_.take<T>(room_);
        other_ = pieces_.take<T>(room_);
        if constexpr (sizeof(T) == 8)
            fresh_ = pieces_.take<i32>(room_);
        else
            fresh_ = found_.at; // already of that width
        which_ = pieces_.take<i64>(largest(filter_rows, room_) + 2 * lanes<i64>);
        ahead_ = pieces_.take<i32>(goes_ahead() ? filter_rows : 0);
        changed_rows_ = pieces_.take<i32>(largest(goes_ahead() ? filter_rows : 0, room_) + lanes<i32>);
        adder_ = pieces_.take<char>(adder_bytes(k_, d_));
    }

    void run(i64 lane) {
        const i64 end = s_.edges[lane + 1];
        packer_.end_at(end);
        if (s_.add == Add::nothing)
            run_with(lane, Wide<Row>(s_.sums, lane, k_, rows_, s_.weights)); // which adds nothing
        else
            add_with<Row>(s_.sums, lane, k_, rows_, end, s_.weights, adder_, [&](auto &&adder) { run_with(lane, adder); });
    }

  private:
    template <class Adder> void run_with(i64 lane, Adder &&adder) {
        if (s_.inertia) inertia_ = s_.inertia[lane];
        const bool filters = s_.bounds.filter || s_.boxed.numbers;
        const i64 range = filters || goes_ahead() ? filter_rows : cut_.batch;
        i64 added = s_.edges[lane];
        for (i64 a = added; a < s_.edges[lane + 1]; a += range) {
            const i64 b = smallest(a + range, s_.edges[lane + 1]);
            for (i64 i = a; !s_.labelled && i < b; i++) s_.labels[i] = -1;
            const i64 m = filters ? failing(a, b) : b - a;
            const Batch range_of{a, m, filters ? which_ : nullptr};
            if (goes_ahead()) {
                if (leads()) go_ahead(leader_, range_of, b - a);
                else go_ahead(coarse_, range_of, b - a);
                relabel({a, b - a, nullptr}, ahead_, adder);
            } else
                in_batches(range_of, [&](const Batch &batch) {
                    search_batch(batch);
                    relabel(batch, fresh_, adder);
                });
            searched_ += m;
            if (s_.add == Add::all) {
                // the rest waits for the rows that it is added together with
                const i64 whole = b < s_.edges[lane + 1] ? (b - added) / added_rows * added_rows : b - added;
                adder.add_all(added, added + whole, s_.labels);
                added += whole;
            }
            if (s_.inertia) add_inertia(a, b);
        }
        i64 *facts = s_.facts + 4 * lane;
        facts[0] += changed_, facts[1] += doubtful_, facts[2] += searched_, facts[3] += open_;
        if (s_.inertia) s_.inertia[lane] = inertia_;
    }

    // Rows a to b - 1 that have to be searched, listed in `which_`; their number.
    i64 failing(i64 a, i64 b) {
        if (s_.boxed.numbers) return list_open(s_.boxed, a, b, which_);
        const i64 m = bounds_.failing(a, b, which_);
        return s_.look.rest ? looker_.failing(which_, m) : m;
    }

    bool leads() const { return s_.leading.rank > 0; }

    // Whether most rows may be decided by less than a search in tiles.
    bool goes_ahead() const { return leads() || coarse_.pays(); }

    // Rows in batches.
    template <class Use> void in_batches(const Batch &rows, Use use) const {
        for (i64 i = 0; i < rows.m; i += cut_.batch) {
            const i64 m = smallest(cut_.batch, rows.m - i);
            use(Batch{rows.first + i, m, rows.which ? rows.which + i : nullptr, rows.m - i - m});
        }
    }

    // Finds the labels of a range by leading directions or coarsely, and those that this leaves open as ever: into
    // `ahead_`.
    template <class Ahead> void go_ahead(Ahead &by, const Batch &rows, i64 size) {
        const i64 a = rows.first;
        for (i64 i = 0; i < size; i++) ahead_[i] = s_.labels[a + i];
        i64 open = 0;
        for (i64 p = 0; p < rows.m; p += by.rows) {
            const Batch tile{a + p, smallest(by.rows, rows.m - p), rows.which ? which_ + p : nullptr};
            const bool looked = by.search(rows, p);
            if (looked && s_.bounds.upper) bounds_.write(tile, by.labels(), by.upper(), by.other());
            for (i64 r = 0; r < tile.m; r++) { // what is listed anew has been read
                const i64 i = tile.row(r);
                if (looked) ahead_[i - a] = by.labels()[r];
                which_[open] = i;
                open += !looked || by.is_open(r);
            }
        }
        open_ += open;
        in_batches({a, open, which_}, [&](const Batch &batch) {
            search_batch(batch);
            for (i64 p = 0; p < batch.m; p++) ahead_[batch.row(p) - a] = fresh_[p];
        });
    }

    void add_inertia(i64 a, i64 b) {
        with_features(d_, [&](auto d) {
            double inertia = inertia_;
            constexpr int R = d.count ? 1 : 4;
            const double *centers[R];
            double squared[R];
            i64 i = a;
            for (; i + R <= b; i += R) {
                for (int r = 0; r < R; r++) centers[r] = s_.targets.exact + s_.labels[i + r] * d_;
                exact_distances<Row, R, d.count>(rows_, i, centers, squared);
                for (int r = 0; r < R; r++) inertia += rounded(weight(i + r) * squared[r]);
            }
            for (; i < b; i++) inertia += rounded(weight(i) * exact<d.count>(i, s_.labels[i]));
            inertia_ = inertia;
        });
    }

    double weight(i64 i) const { return s_.weights ? s_.weights[i] : 1.0; }

    template <int D = 0> double exact(i64 i, i64 j) const {
        return exact_distance<Row, D>(rows_, i, s_.targets.exact + j * d_);
    }

    // Finds the labels of a batch, into `fresh_`, and writes the bounds.
    void search_batch(const Batch &batch) {
        if (cut_.few)
            with_few_features(d_, [&](auto d) { search_few<d.count>(batch); });
        else
            search_tiles(batch);
    }

    // Rows of a batch, to the end of the last tile.
    i64 whole(i64 m) const { return (m + cut_.multiple - 1) / cut_.multiple * cut_.multiple; }

    // --- few features, see few.h --------------------------------------------------------------

    template <int D> void search_few(const Batch &batch) {
        const i64 full = whole(batch.m);
        i64 unsure = 0;
        turn<D>(batch, full);
        for (i64 p = 0; p < batch.m; p += few_rows<T>) {
            const i64 end = smallest(p + few_rows<T>, batch.m);
            if (!batch.which) fetch_ahead<D>(batch, p + full);
            if (packing_.pays && !waits_) {
                const Nearest<T> found = search_packed<T, D>(x_ + p, full, s_.targets.lines, k_, packing_.last);
                if (is_sure(found)) {
                    keep(found, p, end);
                    continue;
                }
                unsure++;
            }
            search_direct<T, D>(x_ + p, full, centers_, k_).write(at_row(p));
            limits_direct(p, end);
            settle(batch, p, end);
        }
        if (waits_)
            waits_--;
        else if (2 * unsure * few_rows<T> > batch.m)
            waits_ = waiting;
        if (s_.bounds.upper) bounds_.write(batch, fresh_, upper_, other_);
    }

    // The rows from place p of a batch on come from main memory meanwhile: as many as a tile has.
    template <int D> GPUKMEANS_INLINE void fetch_ahead(const Batch &batch, i64 p) const {
        const i64 row = packer_.row_after(batch, p);
        const char *next = reinterpret_cast<const char *>(row_of<Row>(rows_, row));
        constexpr i64 bytes = static_cast<i64>(sizeof(Row)) * D * few_rows<T>;
        __builtin_prefetch(s_.labels + row, 1);
        for (i64 at = 0; at < bytes; at += 64) __builtin_prefetch(next + at);
    }

    // Whether no row of a packed tile is in doubt, by a limit that is found without a root: with r the norm of the
    // farthest centre, 2 |x| r <= |x|^2 + r^2.
    GPUKMEANS_INLINE bool is_sure(const Nearest<T> &found) const {
        const T b = packing_.error, by_reach = packing_.by_reach, tiny = static_cast<T>(1e-36);
        Vec<Index<T>> doubt{};
#pragma GCC unroll 4
        for (int v = 0; v < few_vectors; v++) {
            const Vec<T> best = found.best[v], size = found.size[v];
            const Vec<T> error = lower(b * size + by_reach, 8 * b * size + 3 * b * best);
            doubt |= ~(found.second[v] > best + (2 * error + tiny));
        }
        return !bits_of(doubt);
    }

    // Takes over a tile that is sure.
    GPUKMEANS_INLINE void keep(const Nearest<T> &found, i64 p, i64 end) {
        if (s_.bounds.upper) {
            found.write(at_row(p));
            limits_expanded(p, end, packing_.error);
        }
#pragma GCC unroll 4
        for (int v = 0; v < few_vectors; v++) store_as(fresh_ + p + v * lanes<T>, found.at[v]);
    }

    // The rows of a batch in local coordinates, feature by feature: (D, full). The last one fills up a tile.
    template <int D> void turn(const Batch &batch, i64 full) {
        const i64 step = rows_.column_step;
        if (!batch.which && step == 1 && rows_.row_step == D) {
            const Row *x = row_of<Row>(rows_, batch.first);
            for (int q = 0; q < D; q++) {
                T *out = x_ + q * full;
                const T shift = packer_.shift()[q], scale = packer_.scale();
                for (i64 p = 0; p < batch.m; p++) out[p] = static_cast<T>(x[p * D + q]) * scale - shift;
            }
        } else {
            const i64 *which = batch.which, coming = which ? batch.m + batch.more - rows_ahead : 0;
            T shift[D];
            for (int q = 0; q < D; q++) shift[q] = packer_.shift()[q];
            const T scale = packer_.scale();
            auto turn_row = [&](i64 i, i64 p) {
                const Row *x = row_of<Row>(rows_, i);
                for (int q = 0; q < D; q++) x_[q * full + p] = static_cast<T>(x[q * step]) * scale - shift[q];
            };
            i64 p = 0;
            for (const i64 end = smallest(batch.m, coming); p < end; p++) {
                __builtin_prefetch(row_of<Row>(rows_, which[p + rows_ahead]));
                __builtin_prefetch(s_.labels + which[p + rows_ahead], 1);
                turn_row(which[p], p);
            }
            for (; p < batch.m; p++) turn_row(batch.row(p), p);
        }
        for (int q = 0; q < D; q++)
            for (i64 p = batch.m; p < full; p++) x_[q * full + p] = x_[q * full + batch.m - 1];
    }

    // --- tiles, see tiles.h -------------------------------------------------------------------

    void search_tiles(const Batch &batch) {
        const i64 full = whole(batch.m);
        for (i64 p = 0; p < full; p++) {
            found_.best[p] = found_.second[p] = static_cast<T>(__builtin_inff());
            found_.at[p] = 0;
        }
        const bool once = cut_.centers >= k_; // all centres stay in cache: a tile is packed and searched
        for (i64 p = 0; p < full; p += tile_rows<T>) {
            packer_.pack(batch, p, tile(p), found_.size + p);
            if (once) search_tile(tile(p), centers_, norms_, d_, 0, k_, at_row(p), fetching(batch, p + tile_rows<T>));
        }
        for (i64 j = 0; !once && j < k_; j += cut_.centers)
            for (i64 p = 0; p < full; p += tile_rows<T>)
                search_tile(tile(p), centers_, norms_, d_, j, smallest(j + cut_.centers, k_), at_row(p),
                            [](i64, i64) {});
        limits_expanded(0, batch.m, static_cast<T>(s_.targets.trust));
        settle(batch, 0, batch.m);
        if (s_.bounds.upper) bounds_.write(batch, fresh_, upper_, other_);
    }

    // Has the tile that begins at place p of a batch come from main memory, a part with each group of centres.
    auto fetching(const Batch &batch, i64 p) const {
        const i64 groups = (k_ + group - 1) / group;
        return [this, batch, p, groups](i64 at, i64 q) {
            for (i64 r = at; r < tile_rows<T>; r += groups)
                __builtin_prefetch(row_of<Row>(rows_, packer_.row_after(batch, p + r)) + q, 0, 2);
        };
    }

    T *tile(i64 p) { return x_ + p * d_; }

    Found<T> at_row(i64 p) { return {found_.best + p, found_.second + p, found_.at + p, found_.size + p}; }

    // --- certainty ------------------------------------------------------------------------------

    // Limits: with e(s) the error of a fast squared distance s, a second centre within 2 e(best) of the best one may be
    // nearer.
    // direct: e(s) = u ((d + 8) s + 6 |x| sqrt(s)) + 32 u^2 |x|^2, since a centre at distance sqrt(s)
    // lies within |x| + sqrt(s) of the origin, and rounding moves points by u times their norms.
    // Otherwise: the smaller of b (5 |x|^2 + 3 s), by the same argument, and b (2 |x| r + r^2) with
    // r the norm of the farthest centre; see _frame.doubt_limit.
    // And bounds of the distances: to the nearest centre at most, to the second at least. Whole registers are written,
    // past `to`.
    void limits_direct(i64 from, i64 to) {
        const T u = unit_of<T>, d = static_cast<T>(d_), tiny = static_cast<T>(1e-36);
        for (i64 p = from; p < to; p += lanes<T>) {
            const Vec<T> s = load(found_.best + p), xx = load(found_.size + p), own = root(s), norm = root(xx);
            store(limit_ + p, s + 2 * (u * ((d + 8) * s + 6 * norm * own) + 32 * u * u * xx) + tiny);
            store(upper_ + p, own * (1 + (d + 8) * u) + 6 * u * norm);
            store(other_ + p, root(load(found_.second + p)) * (1 - (d + 8) * u) - 6 * u * norm);
        }
    }

    void limits_expanded(i64 from, i64 to, T b) {
        const T u = unit_of<T>, r = static_cast<T>(s_.targets.reach), tiny = static_cast<T>(1e-36);
        for (i64 p = from; p < to; p += lanes<T>) {
            const Vec<T> best = load(found_.best + p), xx = load(found_.size + p);
            const Vec<T> s = positive(best + xx), t = positive(load(found_.second + p) + xx);
            const Vec<T> near = product_error(b, r, xx, s), next = product_error(b, r, xx, t);
            store(limit_ + p, best + 2 * near + tiny);
            store(upper_ + p, root(s + near) * (1 + 2 * u));
            store(other_ + p, root(positive(t - next)) * (1 - 2 * u));
        }
    }

    // The labels of the rows at places `from` to `to` - 1; where the limits leave them in doubt, by decide().
    void settle(const Batch &batch, i64 from, i64 to) {
        if constexpr (sizeof(T) == 8)
            for (i64 p = from; p < to; p++) fresh_[p] = static_cast<i32>(found_.at[p]);
        const T *second = found_.second, *limit = limit_;
        Index<T> sure = 0;
        for (i64 p = from; p < to; p++) sure += second[p] > limit[p];
        if (sure == to - from || k_ == 1) return;
        for (i64 p = from; p < to; p++)
            if (!(second[p] > limit[p])) {
                fresh_[p] = decide(batch.row(p), limit[p]);
                other_[p] = 0;
            }
        doubtful_ += to - from - sure;
    }

    // The nearest centre by exact differences, the lowest index on ties, among those within the limit.
    i32 decide(i64 i, T limit) {
        packer_.row(i, line_);
        double best = __builtin_inf();
        i32 label = 0;
        auto consider = [&](i64 j, T fast) {
            if (!(fast <= limit)) return;
            const double distance = s_.spherical ? -exact_product<Row>(rows_, i, s_.targets.exact + j * d_) : exact(i, j);
            if (distance < best) best = distance, label = static_cast<i32>(j);
        };
        if (cut_.few)
            for (i64 j = 0; j < k_; j++) {
                T value = 0;
                for (i64 q = 0; q < d_; q++) {
                    const T difference = line_[q] - centers_[j * d_ + q];
                    value += difference * difference;
                }
                consider(j, value);
            }
        else
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

    // Gives the rows of a batch their new labels, and moves those that have another one in the sums.
    template <class Adder> void relabel(const Batch &batch, const i32 *fresh, Adder &adder) {
        const i64 changed = list_changed(batch, fresh);
        changed_ += changed;
        for (i64 c = 0; s_.add == Add::moves && c < changed; c++) {
            const i64 p = changed_rows_[c], i = batch.row(p);
            adder.move(i, s_.labels[i], fresh[p]);
        }
        if (!batch.which && 16 * changed > batch.m)
            __builtin_memcpy(s_.labels + batch.first, fresh, static_cast<std::size_t>(batch.m) * sizeof(i32));
        else
            for (i64 c = 0; c < changed; c++) s_.labels[batch.row(changed_rows_[c])] = fresh[changed_rows_[c]];
    }

    // Lists the places of a batch whose label is new; their number.
    i64 list_changed(const Batch &batch, const i32 *fresh) {
        constexpr i64 L = lanes<i32>;
        const i64 whole = batch.which ? 0 : batch.m / L * L;
        i64 changed = 0;
        for (i64 p = 0; p < whole; p += L)
            changed += list_bits(bits_of(load(fresh + p) != load(s_.labels + batch.first + p)), p, changed_rows_ + changed);
        for (i64 p = whole; p < batch.m; p++) {
            changed_rows_[changed] = static_cast<i32>(p);
            changed += fresh[p] != s_.labels[batch.row(p)];
        }
        return changed;
    }

    const Search &s_;
    const Rows &rows_;
    const i64 d_, k_;
    const Cut cut_;
    const T *centers_, *norms_;
    const i64 room_; // rows that every array of a batch has room for
    Pieces pieces_;
    Packer<Row, T> packer_;
    RowBounds bounds_;
    Looker<Row, T> looker_;
    Leader<Row, T> leader_;
    Coarse<Row, T> coarse_;
    Packing<T> packing_;
    i64 waits_ = 0; // batches that are not tried the packed way
    T *line_, *x_, *limit_, *upper_, *other_;
    Found<T> found_;
    i32 *fresh_, *ahead_;
    i64 *which_;
    i32 *changed_rows_;
    void *adder_; // what add_with() needs
    double inertia_ = 0;
    i64 changed_ = 0, doubtful_ = 0, searched_ = 0, open_ = 0;
};

template <class Row, class T> i64 search_scratch(const Search &s) { return Lane<Row, T>::scratch_bytes(s); }

template <class Row, class T> void search(const Search &s, i64 lane, void *scratch) {
    Lane<Row, T>(s, static_cast<char *>(scratch)).run(lane);
}

} // namespace gpukmeans::GPUKMEANS_ISA
