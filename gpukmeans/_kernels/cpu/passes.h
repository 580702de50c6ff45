// Passes over the rows, and the threads that work on them: what Python calls.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <utility>

#include "arrays.h"
#include "crew.h"
#include "reference.h"

namespace gpukmeans {
namespace {

// One pass over the rows, shared by the threads that run it: each takes the next lane until none is left.
class Pass : public Shared {
  public:
    // Work in order: a task may wait for those before it.
    explicit Pass(i64 tasks) : lanes_(tasks), stride_(1) {}
    // Lanes of rows, of which those worked on at once lie apart: no cache line of sums is fought over.
    explicit Pass(const In<i64> &edges)
        : lanes_(static_cast<i64>(edges.shape(0)) - 1), stride_(stride_of(lanes_)) {}
    virtual i64 scratch_bytes() const { return 0; }
    virtual void work(i64 lane, void *scratch) const = 0;

    // At most so many lanes; whether any are left.
    bool run(i64 most) {
        Scratch scratch(scratch_bytes());
        for (i64 i; most > 0 && (i = next_++) < lanes_; most--) work(i * stride_ % lanes_, scratch.data());
        return most == 0;
    }

    void work_to_the_end() override { run(std::numeric_limits<i64>::max()); }
    void stop() override { next_ = lanes_; }
    i64 size() const { return lanes_; }

  protected:
    nb::object kept_; // the arrays, so that they live as long as the pass

  private:
    // The golden section of the lanes, or the next number that reaches every lane.
    static i64 stride_of(i64 lanes) {
        i64 stride = std::max<i64>(1, static_cast<i64>(0.618 * static_cast<double>(lanes)));
        while (std::gcd(stride, lanes) != 1) stride++;
        return stride;
    }

    const i64 lanes_, stride_;
    std::atomic<i64> next_{0};

  protected:
    // All lanes once more.
    void rewind() { next_ = 0; }
};

// A crew, and the pass it works on: which lives until the crew is done with it, whatever interrupts the caller.
class KeptCrew {
  public:
    explicit KeptCrew(int helpers) : crew_(std::make_unique<Crew>(helpers)) {}
    ~KeptCrew() {
        nb::gil_scoped_release released;
        if (crew_->is_here())
            crew_.reset();
        else
            crew_.release(); // its destructor would wait
    }

    void begin(nb::object work) {
        quit();
        kept_ = std::move(work);
        crew_->begin(nb::cast<Shared &>(kept_));
    }

    // Throws what a helper has thrown.
    void end() {
        const nb::object done = std::move(kept_); // let go of at the end, whatever happens
        nb::gil_scoped_release released;
        crew_->end();
    }

    // Has some work done by all threads, without Python.
    void run(Shared &work) {
        crew_->begin(work);
        try {
            work.work_to_the_end();
        } catch (...) {
            work.stop();
            crew_->end();
            throw;
        }
        crew_->end();
    }

    // Ends what an interruption has left, and forgets what went wrong there.
    void quit() {
        if (!kept_.is_valid()) return;
        nb::cast<Shared &>(kept_).stop();
        try {
            end();
        } catch (const std::exception &) {
        }
    }

    int size() const { return crew_->size(); }

  private:
    nb::object kept_; // the work in hand
    std::unique_ptr<Crew> crew_;
};

// Where the centres move, from the lanes of a pass: `found` when that is done.
class MovePass : public Pass {
  public:
    MovePass(In<double> sums, In<double> masses, In<i64> counts, std::optional<In<double>> rests, In<double> centers,
             In<double> shift, Out<double> moved)
        : Pass(tasks(sums)), of_(lanes_of(sums, masses, counts, rests, shift)), lanes_(static_cast<i64>(sums.shape(0))),
          k_(static_cast<i64>(sums.shape(1))), d_(static_cast<i64>(sums.shape(2))), centers_(centers.data()),
          moved_(moved.data()), ways_(static_cast<std::size_t>(k_)) {
        kept_ = nb::make_tuple(sums, masses, counts, rests, centers, shift, moved);
    }

    void work(i64 task, void *) const override {
        const i64 n = size();
        active->move(of_, lanes_, centers_, k_, d_, task * k_ / n, (task + 1) * k_ / n, moved_, ways_.data());
    }

    // How many clusters are empty, and the sum of the squared ways.
    std::pair<i64, double> found() {
        const Moved moved = active->arrive(of_, lanes_, centers_, k_, d_, moved_, ways_.data());
        return {moved.empty, moved.squared};
    }

  private:
    // A task is worth waking a thread for.
    static i64 tasks(const In<double> &sums) {
        return std::clamp<i64>(static_cast<i64>(sums.size()) >> 16, 1, static_cast<i64>(sums.shape(1)));
    }

    const Sums of_;
    const i64 lanes_, k_, d_;
    const double *const centers_;
    double *const moved_;
    mutable std::vector<double> ways_;
};

void learn(In<double> sums, In<double> masses, In<i64> counts, In<double> centers, In<double> weights,
           In<double> shift, Out<double> moved, Out<double> gained) {
    nb::gil_scoped_release released;
    active->learn(lanes_of(sums, masses, counts, std::nullopt, shift), static_cast<i64>(sums.shape(0)), centers.data(), weights.data(),
                  static_cast<i64>(sums.shape(1)), static_cast<i64>(sums.shape(2)), moved.data(), gained.data());
}

class MomentsPass : public Pass {
  public:
    MomentsPass(AnyRows rows, In<double> shift, In<i64> edges, Out<double> first, Out<double> second, Out<double> largest)
        : Pass(edges), kernels_(by_row_for(rows)),
          moments_{rows_of(rows), shift.data(), edges.data(), first.data(), second.data(), largest.data()} {
        kept_ = nb::make_tuple(rows, shift, edges, first, second, largest);
    }
    void work(i64 lane, void *) const override { kernels_.moments(moments_, lane); }

  private:
    const ByRow &kernels_;
    Moments moments_;
};

// What MomentsPass has found, all lanes together; returns the largest norm. See _sums.moments_from.
double sum_up(const Moments &of, i64 lanes, double *mean, double *variance) {
    const i64 n = of.rows.n, d = of.rows.d;
    for (i64 q = 0; q < d; q++) {
        double sum = 0, squares = 0;
        for (i64 lane = 0; lane < lanes; lane++)
            sum += of.first[lane * d + q], squares += of.second[lane * d + q];
        const double offset = sum / static_cast<double>(n);
        mean[q] = of.shift[q] + offset;
        variance[q] = std::max(squares / static_cast<double>(n) - offset * offset, 0.0);
    }
    return std::sqrt(*std::max_element(of.largest, of.largest + lanes));
}

double moments_of_lanes(In<double> first, In<double> second, In<double> largest, i64 n, In<double> shift,
                        Out<double> mean, Out<double> variance) {
    const i64 lanes = static_cast<i64>(first.shape(0)), d = static_cast<i64>(first.shape(1));
    auto writable = [](const In<double> &array) { return const_cast<double *>(array.data()); }; // only read
    const Rows rows{nullptr, n, d, 0, 0};
    const Moments of{rows, shift.data(), nullptr, writable(first), writable(second), writable(largest)};
    return sum_up(of, lanes, mean.data(), variance.data());
}

// The same of the rows of one lane, in one call.
double moments(AnyRows rows, In<double> shift, Out<double> mean, Out<double> variance) {
    nb::gil_scoped_release released;
    const Rows of = rows_of(rows);
    std::vector<double> sums(static_cast<std::size_t>(2 * of.d));
    double largest = 0;
    const i64 edges[] = {0, of.n};
    const Moments found{of, shift.data(), edges, sums.data(), sums.data() + of.d, &largest};
    by_row_for(rows).moments(found, 0);
    return sum_up(found, 1, mean.data(), variance.data());
}

class OwnPass : public Pass {
  public:
    OwnPass(AnyRows rows, std::optional<In<double>> weights, In<i32> labels, In<double> centers, In<i64> edges,
            std::optional<Out<double>> squared, Out<double> inertia)
        : Pass(edges), kernels_(by_row_for(rows)), own_{rows_of(rows), data(weights), labels.data(), centers.data(),
                                                        edges.data(), data(squared), inertia.data()} {
        kept_ = nb::make_tuple(rows, weights, labels, centers, edges, squared, inertia);
    }
    void work(i64 lane, void *) const override { kernels_.own_distances(own_, lane); }

  private:
    const ByRow &kernels_;
    Own own_;
};

class AddPass : public Pass {
  public:
    AddPass(AnyRows rows, std::optional<In<double>> weights, In<i32> labels, In<double> shift, In<i64> edges,
            Out<double> sums, Out<double> masses, Out<i64> counts, std::optional<Out<double>> rests)
        : Pass(edges), kernels_(by_row_for(rows)),
          add_{rows_of(rows), data(weights), labels.data(), static_cast<i64>(masses.shape(1)), edges.data(),
               {shift.data(), sums.data(), masses.data(), counts.data(), data(rests)}} {
        kept_ = nb::make_tuple(rows, weights, labels, shift, edges, sums, masses, counts, rests);
    }
    i64 scratch_bytes() const override { return kernels_.add_scratch(add_); }
    void work(i64 lane, void *scratch) const override { kernels_.add_up(add_, lane, scratch); }

  private:
    const ByRow &kernels_;
    AddUp add_;
};

} // namespace
} // namespace gpukmeans
