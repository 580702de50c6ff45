// Searches of the rows, and Lloyd's algorithm: searches and moves of the centres in turn.
#pragma once

#include "box_pass.h"
#include "drifts.h"

namespace gpukmeans {
namespace {

// What ends Lloyd's algorithm, or leaves it to the caller.
struct Until {
    i64 most;     // passes
    double tol;   // on the sum of the squared moves of the centres
    i64 settled;  // a pass that changes fewer labels
    i64 doubtful; // a pass that leaves more rows in doubt
    i64 searched; // a pass that searches more rows, though bounds or boxes might have held them
};

// A search of all rows, for given centres. Who derives from it fills in `search_` and then calls lay_out().
class Searches : public Pass {
  public:
    Searches(const In<i64> &edges, const Searching &kernels, i64 k, i64 d, const double *centers, double trust)
        : Pass(edges), kernels_(kernels), k_(k), d_(d), centers_(centers), trust_(trust),
          targets_(kernels.targets_bytes(k, d)) {
        search_.edges = edges.data();
        search_.targets.k = k;
    }

    i64 scratch_bytes() const override { return scratch_bytes_; } // read while another thread makes the centres ready

    // The first thread to come makes the centres ready.
    void work(i64 lane, void *scratch) const override {
        std::call_once(*ready_, [this] { make_ready(); });
        kernels_.search(search_, lane, scratch);
    }

  protected:
    virtual void make_ready() const {
        search_.targets = kernels_.make_targets(centers_, search_.frame, k_, d_, trust_, targets_.data());
    }

    bool holds() const { return search_.bounds.filter || search_.boxed.numbers; }

    // Makes ready what is to hold rows in the next pass, for its centres; false where the caller has to do that. The
    // pass before has searched so many rows.
    virtual bool hold(const double *, i64, KeptCrew *) { return true; }

    void lay_out() { scratch_bytes_ = kernels_.scratch_bytes(search_); }

    // Lloyd's algorithm, up to a pass that changes no label, leads to an empty cluster, or is the last for other
    // reasons. Returns how many iterations came before that pass; `centers` are then those of this pass, and moves()
    // tells where it leads. `first`: no pass came before. `before` keeps the labels that pass began with.
    i64 iterate(KeptCrew *crew, double *centers, bool first, const Until &until, i32 *before) {
        const i64 n = search_.rows.n;
        moved_.resize(static_cast<std::size_t>(k_ * d_)), ways_.resize(static_cast<std::size_t>(k_));
        for (i64 done = 0;; done++) {
            if (before) std::copy_n(search_.labels, n, before);
            if (crew) crew->run(*this);
            else work_to_the_end();
            i64 changed = 0, doubtful = 0, searched = 0;
            for (const i64 *lane = search_.facts; lane < search_.facts + 4 * size(); lane += 4)
                changed += lane[0], doubtful += lane[1], searched += lane[2];
            active->move(search_.sums, size(), centers_, k_, d_, 0, k_, moved_.data(), ways_.data());
            moves_ = active->arrive(search_.sums, size(), centers_, k_, d_, moved_.data(), ways_.data());
            if (done + 1 == until.most || changed == 0 || changed < until.settled || doubtful > until.doubtful ||
                moves_.empty || moves_.squared <= until.tol || (holds() && searched > until.searched) ||
                !hold(moved_.data(), searched, crew))
                return done;
            std::copy(moved_.begin(), moved_.end(), centers);
            // as Plan.step does; without rests moves would cost digits
            prepare_next(search_.sums.rests && (first && done == 0 ? 0 : changed) < n / 4 ? Add::moves : Add::all);
        }
    }

    // Where the last pass of iterate() leads.
    const Moved &moves() const { return moves_; }
    const std::vector<double> &moved() const { return moved_; }

    // Makes ready for another pass, which adds to the sums there are or begins with zero.
    void prepare_next(Add add) {
        search_.add = add;
        search_.labelled = true;
        if (add == Add::all) {
            std::fill_n(search_.sums.sums, size() * k_ * d_, 0.0);
            std::fill_n(search_.sums.masses, size() * k_, 0.0);
            std::fill_n(search_.sums.counts, size() * k_, 0);
            if (search_.sums.rests) std::fill_n(search_.sums.rests, size() * k_ * (d_ + 1), 0.0);
        }
        std::fill_n(search_.facts, 4 * size(), 0);
        ready_ = std::make_unique<std::once_flag>();
        rewind();
    }

    const Searching &kernels_;
    const i64 k_, d_;
    mutable Search search_{};

  private:
    const double *const centers_;
    const double trust_;
    const Scratch targets_;
    i64 scratch_bytes_ = 0;
    std::unique_ptr<std::once_flag> ready_ = std::make_unique<std::once_flag>();
    std::vector<double> moved_, ways_;
    Moved moves_{};
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

// How bounds go on from pass to pass: `_frame.BoundsAhead`.
struct Ahead {
    Drifting *drifts;
    i64 quiet, idle, separated;
    double loose;
};

class SearchPass : public Searches {
  public:
    SearchPass(AnyRows rows, std::optional<Draw> draw, std::optional<In<double>> weights, In<double> shift, double scale,
               bool wide, bool spherical, In<double> centers, double trust, std::optional<Directions> directions,
               Out<i32> labels, bool labelled, std::optional<Out<float>> upper, std::optional<Out<float>> gap,
               std::optional<In<double>> drift, std::optional<In<double>> spread, std::optional<In<float>> near_,
               std::optional<In<float>> far_, bool filter, std::optional<Out<float>> slack, float tightened,
               std::optional<In<std::uint16_t>> numbers, std::optional<Boxes> boxes,
               std::optional<Again> again, int add, In<i64> edges, std::optional<Out<double>> sums,
               std::optional<Out<double>> masses, std::optional<Out<i64>> counts, std::optional<Out<double>> rests,
               std::optional<Out<double>> inertia, Out<i64> facts)
        : Searches(edges, searching_for(rows, wide), static_cast<i64>(centers.shape(0)),
                   static_cast<i64>(centers.shape(1)), centers.data(), trust),
          draw_(std::move(draw)), boxes_(std::move(boxes)), directions_(std::move(directions)), again_(std::move(again)),
          leading_(directions_ ? kernels_.leading_bytes(k_, d_, directions_->basis.shape(1)) : 0),
          look_(again_ ? kernels_.look_bytes(k_, d_, again_->movers.size()) : 0) {
        search_.rows = rows_of(rows);
        search_.weights = data(weights);
        search_.frame = {shift.data(), scale};
        search_.spherical = spherical;
        if (directions_)
            search_.leading = {static_cast<i64>(directions_->basis.shape(1)), nullptr, nullptr, nullptr,
                               directions_->trust, directions_->tries};
        search_.bounds = {data(upper), data(gap),  data(drift), data(spread), data(near_),
                          data(far_),  filter,     data(slack), tightened};
        if (boxes_) search_.boxed = {data(numbers), boxes_->open.data()};
        if (again_)
            search_.look = {again_->rest.data(), static_cast<i64>(again_->movers.size()), again_->movers.data(), nullptr,
                            nullptr, nullptr};
        search_.labels = labels.data();
        search_.labelled = labelled;
        search_.add = static_cast<Add>(add);
        search_.sums = {shift.data(), data(sums), data(masses), data(counts), data(rests)};
        search_.inertia = data(inertia);
        search_.facts = facts.data();
        lay_out();
        kept_ = nb::make_tuple(rows, weights, shift, centers, labels, upper, gap, drift, spread, near_, far_, slack, numbers,
                               edges, sums, masses, counts, rests, inertia, facts);
    }

    // Each thread first fetches rows: one that comes late while the centres are made ready lost nothing.
    void work(i64 lane, void *scratch) const override {
        if (draw_) draw_->fetch(search_.edges[lane], search_.edges[lane + 1]);
        Searches::work(lane, scratch);
    }

    // Lloyd's algorithm, up to a pass after which the caller has to decide; `centers` are those of the pass, in place.
    i64 iterate(KeptCrew *crew, Out<double> centers, i64 most, double tol, i64 settled, i64 searched,
                std::optional<Ahead> bounds) {
        if (crew) crew->quit();
        nb::gil_scoped_release released;
        bounds_ = bounds;
        const Until until{most, tol, settled, search_.rows.n / 4, searched};
        return Searches::iterate(crew, centers.data(), !search_.labelled, until, nullptr);
    }

  private:
    bool hold(const double *centers, i64 searched, KeptCrew *crew) override {
        if (again_) return false; // made for the spread of this pass
        if (boxes_) {
            OwnersPass owners(*boxes_, centers, k_);
            if (crew && owners.size() > 1) crew->run(owners);
            else owners.work_to_the_end();
        }
        if (!bounds_) return true;
        Drifting &drifts = *bounds_->drifts;
        // Asked before the ways to these centres are added: where they decide, it is a pass later than one by one.
        if (bounds_->idle > 0) bounds_->idle--;
        else if (searched >= bounds_->separated && drifts.is_loose(bounds_->loose)) return false;
        drifts.move(search_.targets.exact, centers, d_, search_.frame.scale);
        drifts.tighten(searched <= bounds_->quiet);
        search_.bounds.filter = true, search_.bounds.slack = drifts.slack();
        search_.bounds.tightened = drifts.tightened();
        return true;
    }

    void make_ready() const override {
        Searches::make_ready();
        if (search_.look.count) kernels_.make_look(search_.targets, d_, search_.look, look_.data());
        if (directions_)
            kernels_.make_leading(search_.targets, directions_->basis.data(), directions_->points.data(), d_,
                                  search_.leading, leading_.data());
    }

    const std::optional<Draw> draw_;
    const std::optional<Boxes> boxes_;
    std::optional<Ahead> bounds_;
    const std::optional<Directions> directions_;
    const std::optional<Again> again_;
    const Scratch leading_, look_;
};

// Lloyd's whole algorithm in one thread, for problems so small that calls would cost more than the work.
class WholeLoop : public Searches {
  public:
    WholeLoop(const AnyRows &rows, const std::optional<In<double>> &weights, const In<double> &shift, double scale,
              bool wide, const Out<double> &centers, double trust, const Out<i32> &labels, const In<i64> &edges, bool rests)
        : Searches(edges, searching_for(rows, wide), static_cast<i64>(centers.shape(0)),
                   static_cast<i64>(centers.shape(1)), centers.data(), trust),
          published_(centers.data()), single_(rows.dtype() == nb::dtype<float>()) {
        const i64 clusters = size() * k_;
        sums_.resize(static_cast<std::size_t>(clusters * (d_ + 1) * (rests ? 2 : 1)));
        counts_.resize(static_cast<std::size_t>(clusters));
        facts_.resize(static_cast<std::size_t>(4 * size())), inertia_.resize(static_cast<std::size_t>(size()));
        double *const masses = sums_.data() + clusters * d_;
        search_.rows = rows_of(rows);
        search_.weights = data(weights);
        search_.frame = {shift.data(), scale};
        search_.labels = labels.data();
        search_.labelled = false;
        search_.add = Add::all;
        search_.sums = {shift.data(), sums_.data(), masses, counts_.data(), rests ? masses + clusters : nullptr};
        search_.facts = facts_.data();
        lay_out();
    }

    // Iterations done, and the inertia for the centres as published; or -1 where the next iteration, which is taken
    // back, leaves a cluster empty.
    std::pair<i64, double> run(i64 max_iter, double tol) {
        const i64 n = search_.rows.n;
        std::vector<i32> before(static_cast<std::size_t>(n));
        const i64 done = iterate(nullptr, published_, true, {max_iter, tol, 0, n, n}, before.data());
        if (moves().empty) {
            std::copy(before.begin(), before.end(), search_.labels);
            return {done, -1.0};
        }
        for (i64 i = 0; i < k_ * d_; i++) { // as they are published, in the type of the rows
            const double moved_to = moved()[static_cast<std::size_t>(i)];
            published_[i] = single_ ? static_cast<double>(static_cast<float>(moved_to)) : moved_to;
        }
        search_.inertia = inertia_.data();
        prepare_next(Add::nothing);
        work_to_the_end();
        return {done + 1, std::accumulate(inertia_.begin(), inertia_.end(), 0.0)};
    }

  private:
    double *const published_;
    const bool single_;
    std::vector<double> sums_, inertia_;
    std::vector<i64> counts_, facts_;
};

std::pair<i64, double> loop(const AnyRows &rows, std::optional<In<double>> weights, In<double> shift, double scale,
                            bool wide, Out<double> centers, double trust, Out<i32> labels, In<i64> edges, bool rests,
                            i64 max_iter, double tol) {
    nb::gil_scoped_release released;
    return WholeLoop(rows, weights, shift, scale, wide, centers, trust, labels, edges, rests).run(max_iter, tol);
}

} // namespace
} // namespace gpukmeans
