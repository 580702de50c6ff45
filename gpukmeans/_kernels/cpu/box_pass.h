// Boxes of a grid: which one each row is in, and whose they are.
#pragma once

#include "passes.h"

namespace gpukmeans {
namespace {

class NumberPass : public Pass {
  public:
    NumberPass(AnyRows rows, In<double> low, In<double> steps, i64 level, In<i64> edges, Out<std::uint16_t> numbers)
        : Pass(edges), kernels_(by_row_for(rows)), rows_(rows_of(rows)),
          grid_{rows_.d, level, low.data(), steps.data()}, edges_(edges.data()), numbers_(numbers.data()) {
        kept_ = nb::make_tuple(rows, low, steps, edges, numbers);
    }
    void work(i64 lane, void *) const override {
        kernels_.number_rows(grid_, rows_, edges_[lane], edges_[lane + 1], numbers_);
    }

  private:
    const ByRow &kernels_;
    const Rows rows_;
    const BoxGrid grid_;
    const i64 *const edges_;
    std::uint16_t *const numbers_;
};

// Boxes of a grid: `_boxes.Boxed`.
struct Boxes {
    In<double> low, steps;
    i64 level;
    Out<std::int16_t> owners;
    Out<std::uint8_t> open;
    BoxGrid grid() const { return {static_cast<i64>(low.size()), level, low.data(), steps.data()}; }
};

// Finds the owners for some centres, and which boxes have none or another than before.
class OwnersPass : public Pass {
  public:
    OwnersPass(const Boxes &boxes, In<double> centers)
        : OwnersPass(boxes, centers.data(), static_cast<i64>(centers.shape(0))) {
        kept_ = nb::make_tuple(boxes.low, boxes.steps, boxes.owners, boxes.open);
    }
    // In one call, which keeps the arrays.
    OwnersPass(const Boxes &boxes, const double *centers, i64 k)
        : Pass(active->owning_tasks(boxes.grid())), centers_(static_cast<std::size_t>(k * boxes.grid().d)),
          norms_(static_cast<std::size_t>(k)) {
        const BoxGrid grid = boxes.grid();
        const i64 d = grid.d;
        double reach = 0, extent = 0; // the largest |c|^2, and |x|^2 of a row in a box
        for (i64 j = 0; j < k; j++) {
            double norm = 0;
            for (i64 q = 0; q < d; q++) {
                double &value = centers_[static_cast<std::size_t>(j * d + q)];
                value = centers[j * d + q] - grid.low[q];
                norm += value * value;
            }
            norms_[static_cast<std::size_t>(j)] = norm;
            reach = std::max(reach, norm);
        }
        for (i64 q = 0; q < d; q++) extent += std::pow(std::ldexp(1 / grid.steps[q], static_cast<int>(grid.level)), 2);
        owning_ = {grid, k, centers_.data(), norms_.data(), rounding * (reach + extent), boxes.owners.data(),
                   boxes.open.data()};
    }

    i64 scratch_bytes() const override { return active->owning_scratch(owning_); }
    void work(i64 task, void *scratch) const override { active->find_owners(owning_, task, scratch); }

  private:
    // More than all roundings here and of the distances that decide: less than 100 times half a unit in the last place
    // of the sum of these two squares.
    static constexpr double rounding = 0x1p-46;

    std::vector<double> centers_, norms_;
    Owning owning_{};
};

} // namespace
} // namespace gpukmeans
