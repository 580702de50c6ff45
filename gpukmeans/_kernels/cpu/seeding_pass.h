// The passes of one k-means++.
#pragma once

#include <algorithm>
#include <atomic>

#include "passes.h"

namespace gpukmeans {
namespace {

// The passes of one k-means++, each of which threads share.
class SeedingPass : public Shared {
  public:
    SeedingPass(AnyRows rows, std::optional<In<double>> weights, double scale, Out<double> closest, i64 tile)
        : kernels_(rows.dtype() == nb::dtype<double>() ? active->seed_doubles : active->seed_floats),
          kept_(nb::make_tuple(rows, weights, closest)) {
        s_.rows = rows_of(rows);
        s_.weights = data(weights);
        s_.scale = scale;
        s_.closest = closest.data();
        s_.tile = tile;
        tiles_ = (s_.rows.n + tile - 1) / tile;
        unit_ = std::max<i64>(1, (1 << 15) / (tile * s_.rows.d)); // tiles that a thread takes at once
    }

    // Points (count, d) in original coordinates, the winner first if there is one to settle.
    void begin(In<double> points, bool settle, Out<double> potentials, bool write, bool use) {
        s_.count = static_cast<i64>(points.shape(0));
        s_.settle = settle;
        s_.points = packed(points.data(), s_.count, points_);
        s_.potentials = potentials.data();
        s_.sketch.write = write && s_.sketch.rows;
        s_.sketch.use = use && s_.sketch.rows && s_.count < 32;
        if (s_.sketch.use) sketch_points();
        kept_potentials_ = nb::cast(potentials);
        next_ = read_ = 0;
    }

    // Makes room for the sketch; the next pass that writes fills it.
    void sketch(In<double> shift, double steps) {
        const i64 n = (s_.rows.n + 63) / 64 * 64, d = s_.rows.d;
        shift_.assign(static_cast<std::size_t>(kernels_.width(d)), 0);
        for (i64 q = 0; q < d; q++) shift_[static_cast<std::size_t>(q)] = shift.data()[q] * s_.scale;
        sketch_.assign(static_cast<std::size_t>(n * ((d + 1) / 2 * 2)), 0);
        errors_.assign(static_cast<std::size_t>(n), 0);
        sizes_.assign(static_cast<std::size_t>(n), 0);
        s_.sketch.rows = sketch_.data();
        s_.sketch.errors = errors_.data();
        s_.sketch.sizes = sizes_.data();
        s_.sketch.shift = shift_.data();
        s_.sketch.steps = steps;
    }

    // At most so many tasks; whether any are left.
    bool run(i64 most) {
        Scratch scratch(kernels_.scratch_bytes(s_));
        for (i64 a; most > 0 && (a = next_.fetch_add(unit_)) < tiles_; most--)
            read_ += kernels_.pass(s_, a, std::min(a + unit_, tiles_), scratch.data());
        return most == 0;
    }

    void work_to_the_end() override { run(std::numeric_limits<i64>::max()); }
    void stop() override { next_ = tiles_; }

    // The number of rows that the pass had to read.
    i64 read() const { return read_; }

    // Rows whose cumulated masses reach a share of the whole, see _distances.Seeding.draw.
    void draw(In<double> point, In<double> masses, In<double> uniforms, Out<i64> rows) const {
        std::vector<double> cumulated{0.0}, inside(static_cast<std::size_t>(s_.tile));
        for (i64 i = 0; i < tiles_; i++) cumulated.push_back(cumulated.back() + masses.data()[i]);
        for (std::size_t t = 0; t < uniforms.shape(0); t++) {
            const double wanted = uniforms.data()[t] * cumulated.back();
            const auto found = std::lower_bound(cumulated.begin() + 1, cumulated.end(), wanted);
            const i64 tile = std::min<i64>(found - cumulated.begin() - 1, tiles_ - 1);
            masses_of(point.data(), &tile, 1, inside.data());
            const double within = wanted - cumulated[static_cast<std::size_t>(tile)];
            double sum = inside[0];
            i64 position = 0;
            while (sum < within && ++position < s_.tile) sum += inside[static_cast<std::size_t>(position)];
            rows.data()[t] = std::min({tile * s_.tile + position, (tile + 1) * s_.tile - 1, s_.rows.n - 1});
        }
    }

    void masses(In<double> point, In<i64> tiles, Out<double> out) const {
        masses_of(point.data(), tiles.data(), static_cast<i64>(tiles.shape(0)), out.data());
    }

  private:
    void masses_of(const double *point, const i64 *tiles, i64 count, double *out) const {
        std::vector<double> line;
        Seeding s = s_;
        s.count = 1;
        s.points = packed(point, 1, line);
        s.sketch.write = s.sketch.use = false;
        Scratch scratch(kernels_.scratch_bytes(s));
        kernels_.masses(s, s.points, tiles, count, out, scratch.data());
    }

    const double *packed(const double *points, i64 count, std::vector<double> &lines) const {
        const i64 d = s_.rows.d, width = kernels_.width(d);
        lines.assign(static_cast<std::size_t>(count * width), 0);
        for (i64 j = 0; j < count; j++)
            for (i64 q = 0; q < d; q++) lines[static_cast<std::size_t>(j * width + q)] = points[j * d + q] * s_.scale;
        return lines.data();
    }

    void sketch_points() {
        const std::size_t count = static_cast<std::size_t>(s_.count);
        sketched_.resize(count * static_cast<std::size_t>((s_.rows.d + 1) / 2));
        point_sizes_.resize(count);
        point_errors_.resize(count);
        std::vector<double> line(static_cast<std::size_t>(kernels_.width(s_.rows.d)));
        kernels_.sketch_points(s_.sketch, s_.points, s_.count, s_.rows.d, line.data(), sketched_.data(),
                               point_sizes_.data(), point_errors_.data());
        s_.sketch.points = sketched_.data();
        s_.sketch.point_sizes = point_sizes_.data();
        s_.sketch.point_errors = point_errors_.data();
    }

    const SeedingKernels &kernels_;
    nb::object kept_, kept_potentials_; // the arrays, so that they live as long as the passes
    Seeding s_{};
    i64 tiles_, unit_;
    std::vector<double> points_, shift_;
    std::vector<std::int8_t> sketch_;
    std::vector<float> errors_, point_errors_;
    std::vector<i32> sizes_, sketched_, point_sizes_;
    std::atomic<i64> next_{0}, read_{0};
};

} // namespace
} // namespace gpukmeans
