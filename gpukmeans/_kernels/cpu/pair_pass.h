// Sums of distances between all rows.
#pragma once

#include <atomic>
#include <memory>
#include <thread>

#include "passes.h"

namespace gpukmeans {
namespace {

Cells cells_of(const AnyRows &rows, const In<i64> &order, const In<i64> &edges, const In<i64> &columns, i64 tile) {
    return {rows_of(rows), order.data(), static_cast<i64>(columns.shape(0)), static_cast<i64>(columns.shape(1)),
            edges.data(), columns.data(), tile};
}

// Sums of the distances from every row to the cells, each distance computed once. A lane is a pair of
// tiles. First every tile meets itself; then a round-robin tournament, in each round of which every tile
// is in one pair (with an odd number of tiles one rests). A tile meets the others in the order of the
// rounds, whoever does the work: a thread waits for the rounds before to be done with its two tiles.
// The pairs that they wait for have been taken by other threads, the earliest of which waits for none.
class PairPass : public Pass {
  public:
    PairPass(AnyRows rows, In<i64> order, In<i64> edges, In<i64> columns, i64 tile, Out<double> sums)
        : Pass(pairs(tiles(rows, tile))), kernels_(by_row_for(rows)), tiles_(tiles(rows, tile)),
          cells_(cells_of(rows, order, edges, columns, tile)), sums_(sums.data()),
          met_(new std::atomic<i64>[static_cast<std::size_t>(seats(tiles_))]()) {
        kept_ = nb::make_tuple(rows, order, edges, columns, sums);
    }

    i64 scratch_bytes() const override { return kernels_.pairs_scratch(cells_); }

    void work(i64 lane, void *scratch) const override {
        const i64 rest = lane - tiles_, per_round = seats(tiles_) / 2;
        const i64 round = rest < 0 ? 0 : rest / per_round + 1;
        const auto [a, b] = rest < 0 ? std::pair(lane, lane) : opponents(round - 1, rest % per_round);
        wait(a, round);
        wait(b, round);
        if (round == 0)
            meet_itself(tile(a), scratch);
        else if (a < tiles_ && b < tiles_)
            kernels_.add_pairs(cells_, tile(a), tile(b), scratch);
        met_[a].store(round + 1, std::memory_order_release);
        met_[b].store(round + 1, std::memory_order_release);
    }

  private:
    static i64 tiles(const AnyRows &rows, i64 tile) { return (static_cast<i64>(rows.shape(0)) + tile - 1) / tile; }
    static i64 seats(i64 tiles) { return tiles + tiles % 2; }
    static i64 pairs(i64 tiles) { return tiles + (seats(tiles) - 1) * (seats(tiles) / 2); }

    // The last seat stays, the others move round a circle.
    std::pair<i64, i64> opponents(i64 round, i64 pair) const {
        const i64 circle = seats(tiles_) - 1;
        if (pair == 0) return {circle, round};
        return {(round + pair) % circle, (round - pair + circle) % circle};
    }

    void wait(i64 seat, i64 round) const {
        if (round == 0 || seat >= tiles_) return;
        while (met_[seat].load(std::memory_order_acquire) < round) std::this_thread::yield();
    }

    // Halves meet each other, so that here, too, most distances are computed once.
    void meet_itself(const Tile &whole, void *scratch) const {
        const i64 half = (whole.last - whole.first) / 2 / 48 * 48, middle = whole.first + half;
        if (half < 96) {
            kernels_.add_pairs(cells_, whole, whole, scratch);
            return;
        }
        const Tile left{whole.first, middle, whole.sums, whole.step};
        const Tile right{middle, whole.last, whole.sums + half, whole.step};
        meet_itself(left, scratch);
        meet_itself(right, scratch);
        kernels_.add_pairs(cells_, left, right, scratch);
    }

    Tile tile(i64 number) const {
        const i64 first = number * cells_.tile, last = std::min(first + cells_.tile, cells_.rows.n);
        return {first, last, sums_ + first, cells_.rows.n};
    }

    const ByRow &kernels_;
    const i64 tiles_;
    const Cells cells_;
    double *const sums_;
    const std::unique_ptr<std::atomic<i64>[]> met_; // by seat: rounds done
};

// The same for the places `first` and following alone, as many as there are sums (clusters, places) for.
void pair_sums(const AnyRows &rows, const In<i64> &order, const In<i64> &edges, const In<i64> &columns, i64 tile,
               i64 first, Out<double> sums) {
    nb::gil_scoped_release released;
    const ByRow &kernels = by_row_for(rows);
    const Cells cells = cells_of(rows, order, edges, columns, tile);
    const i64 places = static_cast<i64>(sums.shape(1));
    const Tile of{first, first + places, sums.data(), places};
    Scratch scratch(kernels.pairs_scratch(cells));
    for (i64 a = 0; a < cells.rows.n; a += tile)
        kernels.add_pairs(cells, of, {a, std::min(a + tile, cells.rows.n), nullptr, 0}, scratch.data());
}

} // namespace
} // namespace gpukmeans
