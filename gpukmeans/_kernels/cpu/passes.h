// Passes over the rows, the threads that work on them, and Lloyd's loop: what Python calls.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <utility>

#include "arrays.h"
#include "crew.h"

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

// Rows of a batch: those of `source` that are numbered in `which`, fetched into `into`.
class Draw {
  public:
    using Into = nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu>;

    Draw(AnyRows source, In<i64> which, Into into)
        : source_(rows_of(source)), which_(which.data()), size_(static_cast<i64>(source.itemsize())),
          into_(static_cast<char *>(into.data())), kept_(nb::make_tuple(source, which, into)) {}

    // Rows a to b - 1 of the batch.
    void fetch(i64 a, i64 b) const {
        const i64 d = source_.d, step = source_.column_step;
        for (i64 i = a; i < b; i++) {
            const char *from = row(i);
            char *to = into_ + i * d * size_;
            if (step == 1) {
                if (i + ahead < b)
                    for (i64 at = 0; at < d * size_; at += 64) __builtin_prefetch(row(i + ahead) + at);
                std::memcpy(to, from, static_cast<std::size_t>(d * size_));
            } else
                for (i64 q = 0; q < d; q++)
                    std::memcpy(to + q * size_, from + q * step * size_, static_cast<std::size_t>(size_));
        }
    }

  private:
    static constexpr i64 ahead = 8; // rows that are on their way from main memory at once

    const char *row(i64 i) const { return static_cast<const char *>(source_.data) + which_[i] * source_.row_step * size_; }

    Rows source_;
    const i64 *which_;
    i64 size_; // of an element
    char *into_;
    nb::object kept_; // the arrays, so that they live as long as this does
};

// Leading directions for a pass: `_leading.Projection`.
struct Directions {
    In<double> basis, points;
    double trust;
    i64 tries;
};

// A second look: `_second_look.Look`.
struct Again {
    In<double> rest;
    In<i64> movers;
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

class SearchPass : public Pass {
  public:
    SearchPass(AnyRows rows, std::optional<Draw> draw, std::optional<In<double>> weights, In<double> shift, double scale,
               bool wide, bool spherical, In<double> centers, double trust, std::optional<Directions> directions,
               Out<i32> labels, bool labelled, std::optional<Out<float>> upper, std::optional<Out<float>> gap,
               std::optional<In<double>> drift, std::optional<In<double>> spread, std::optional<In<float>> near_,
               std::optional<In<float>> far_, bool filter, std::optional<Out<float>> slack, float tightened,
               std::optional<Again> again, int add, In<i64> edges,
               std::optional<Out<double>> sums, std::optional<Out<double>> masses, std::optional<Out<i64>> counts,
               std::optional<Out<double>> rests, std::optional<Out<double>> inertia, Out<i64> facts)
        : Pass(edges), kernels_(searching_for(rows, wide)), draw_(std::move(draw)), centers_(centers.data()),
          trust_(trust), directions_(std::move(directions)), again_(std::move(again)),
          targets_(kernels_.targets_bytes(centers.shape(0), centers.shape(1))),
          leading_(directions_ ? kernels_.leading_bytes(centers.shape(0), centers.shape(1), directions_->basis.shape(1)) : 0),
          look_(again_ ? kernels_.look_bytes(centers.shape(0), centers.shape(1), again_->movers.size()) : 0) {
        search_.rows = rows_of(rows);
        search_.weights = data(weights);
        search_.frame = {shift.data(), scale};
        search_.spherical = spherical;
        search_.targets.k = static_cast<i64>(centers.shape(0));
        if (directions_)
            search_.leading = {static_cast<i64>(directions_->basis.shape(1)), nullptr, nullptr, nullptr,
                               directions_->trust, directions_->tries};
        search_.bounds = {data(upper), data(gap), data(drift), data(spread), data(near_), data(far_), filter,
                          data(slack), tightened};
        if (again_)
            search_.look = {again_->rest.data(), static_cast<i64>(again_->movers.size()), again_->movers.data(), nullptr,
                            nullptr, nullptr};
        search_.labels = labels.data();
        search_.labelled = labelled;
        search_.add = static_cast<Add>(add);
        search_.edges = edges.data();
        search_.sums = {shift.data(), data(sums), data(masses), data(counts), data(rests)};
        search_.inertia = data(inertia);
        search_.facts = facts.data();
        scratch_bytes_ = kernels_.scratch_bytes(search_);
        kept_ = nb::make_tuple(rows, weights, shift, centers, labels, upper, gap, drift, spread, near_, far_, slack, edges, sums,
                               masses, counts, rests, inertia, facts);
    }

    i64 scratch_bytes() const override { return scratch_bytes_; } // read while another thread makes the centres ready

    // The first thread to come makes the centres ready. Before, each fetches rows: one that comes late lost nothing.
    void work(i64 lane, void *scratch) const override {
        if (draw_) draw_->fetch(search_.edges[lane], search_.edges[lane + 1]);
        std::call_once(*ready_, [this] {
            const Targets &t = search_.targets;
            const i64 d = search_.rows.d;
            search_.targets = kernels_.make_targets(centers_, search_.frame, t.k, d, trust_, targets_.data());
            if (search_.look.count) kernels_.make_look(search_.targets, d, search_.look, look_.data());
            if (directions_)
                kernels_.make_leading(search_.targets, directions_->basis.data(), directions_->points.data(), d,
                                      search_.leading, leading_.data());
        });
        kernels_.search(search_, lane, scratch);
    }

    // Lloyd's algorithm without bounds, up to a pass after which the caller has to decide: when so many are done, or a
    // pass changes fewer labels than `settled` or none, leaves many in doubt, or leads to an empty cluster or to moves
    // within the tolerance. Returns how many iterations came before that pass; `centers` are then those of this pass.
    i64 iterate(KeptCrew *crew, Out<double> centers, i64 most, double tol, i64 settled) {
        if (crew) crew->quit();
        nb::gil_scoped_release released;
        const i64 k = static_cast<i64>(centers.shape(0)), d = static_cast<i64>(centers.shape(1)), n = search_.rows.n;
        std::vector<double> moved(centers.size()), ways(static_cast<std::size_t>(k));
        for (i64 done = 0;; done++) {
            if (crew) crew->run(*this);
            else work_to_the_end();
            i64 changed = 0, doubtful = 0;
            for (i64 lane = 0; lane < size(); lane++)
                changed += search_.facts[4 * lane], doubtful += search_.facts[4 * lane + 1];
            if (done + 1 == most || changed == 0 || changed < settled || doubtful > n / 4) return done;
            active->move(search_.sums, size(), centers_, k, d, 0, k, moved.data(), ways.data());
            const Moved to = active->arrive(search_.sums, size(), centers_, k, d, moved.data(), ways.data());
            if (to.empty || to.squared <= tol) return done;
            std::copy(moved.begin(), moved.end(), centers.data());
            prepare_next(!search_.labelled || changed < n / 4, k, d);
        }
    }

  private:
    // Makes ready for another pass: from the sums there are, or from zero.
    void prepare_next(bool by_moves, i64 k, i64 d) {
        search_.add = by_moves ? Add::moves : Add::all;
        search_.labelled = true;
        if (!by_moves) {
            std::fill_n(search_.sums.sums, size() * k * d, 0.0);
            std::fill_n(search_.sums.masses, size() * k, 0.0);
            std::fill_n(search_.sums.counts, size() * k, 0);
            std::fill_n(search_.sums.rests, size() * k * (d + 1), 0.0);
        }
        std::fill_n(search_.facts, 4 * size(), 0);
        ready_ = std::make_unique<std::once_flag>();
        rewind();
    }

    const Searching &kernels_;
    const std::optional<Draw> draw_;
    const double *const centers_;
    const double trust_;
    const std::optional<Directions> directions_;
    const std::optional<Again> again_;
    const Scratch targets_, leading_, look_;
    i64 scratch_bytes_;
    std::unique_ptr<std::once_flag> ready_ = std::make_unique<std::once_flag>();
    mutable Search search_{};
};

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

// Lloyd's whole loop and the last assignment: iterations done and inertia, or -1 for an iteration left to the
// caller. In this thread.
std::pair<i64, double> loop(const AnyRows &rows, std::optional<In<double>> weights, In<double> shift, double scale,
                            bool wide, Out<double> centers, double trust, Out<i32> labels, In<i64> edges, bool rests,
                            i64 max_iter, double tol) {
    nb::gil_scoped_release released;
    const Searching &kernels = searching_for(rows, wide);
    const i64 k = static_cast<i64>(centers.shape(0)), d = static_cast<i64>(centers.shape(1));
    const i64 lanes = static_cast<i64>(edges.shape(0)) - 1;
    std::vector<double> sums(static_cast<std::size_t>(2 * lanes * k * (d + 1)));
    std::vector<double> inertia(static_cast<std::size_t>(lanes));
    std::vector<i64> counts(static_cast<std::size_t>(lanes * k)), facts(static_cast<std::size_t>(4 * lanes));
    Loop task{};
    task.search.rows = rows_of(rows);
    task.search.weights = data(weights);
    task.search.frame = {shift.data(), scale};
    task.search.targets.k = k;
    task.search.targets.trust = trust;
    task.search.labels = labels.data();
    task.search.labelled = true;
    task.search.edges = edges.data();
    double *const masses = sums.data() + lanes * k * d;
    task.search.sums = {shift.data(), sums.data(), masses, counts.data(), rests ? masses + lanes * k : nullptr};
    task.search.facts = facts.data();
    task.search.inertia = inertia.data();
    task.centers = centers.data();
    task.max_iter = max_iter;
    task.tol = tol;
    Scratch scratch(kernels.loop_scratch(task));
    const Looped found = kernels.loop(task, lanes, scratch.data());
    return {found.done, found.inertia};
}

} // namespace
} // namespace gpukmeans
