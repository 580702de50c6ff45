// The Python module: picks the instruction set, and turns arrays into the kernels' arguments.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "crew.h"
#include "table.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace gpukmeans {

#if defined(__x86_64__) || defined(_M_X64)
namespace plain { extern const Table table; }
namespace avx2 { extern const Table table; }
namespace avx512 { extern const Table table; }
#elif defined(__aarch64__)
namespace neon { extern const Table table; }
#else
namespace plain { extern const Table table; }
#endif

namespace {

// The tables this machine can run, the fastest first.
std::vector<const Table *> usable() {
    std::vector<const Table *> tables;
#if defined(__x86_64__) || defined(_M_X64)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw"))
        tables.push_back(&avx512::table);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) tables.push_back(&avx2::table);
    tables.push_back(&plain::table);
#elif defined(__aarch64__)
    tables.push_back(&neon::table);
#else
    tables.push_back(&plain::table);
#endif
    return tables;
}

const Table *active = usable().front();

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Table *table : usable()) names.emplace_back(table->name);
    return names;
}

void use(const std::string &name) {
    for (const Table *table : usable())
        if (name == table->name) {
            active = table;
            return;
        }
    throw nb::value_error("this machine does not have that instruction set");
}

// Memory aligned to a cache line.
class Scratch {
  public:
    explicit Scratch(std::int64_t bytes) : memory_(new (std::align_val_t(64)) char[static_cast<std::size_t>(bytes) + 64]) {}
    ~Scratch() { operator delete[](memory_, std::align_val_t(64)); }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    void *data() const { return memory_; }

  private:
    char *memory_;
};

template <class T> using In = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <class T> using Out = nb::ndarray<T, nb::c_contig, nb::device::cpu>;
using Line = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>; // of one of several types
using AnyRows = nb::ndarray<nb::ro, nb::ndim<2>, nb::device::cpu>;

template <class Array> auto data(const std::optional<Array> &array) {
    return array ? array->data() : nullptr;
}

Rows rows_of(const AnyRows &rows) {
    return {rows.data(), static_cast<i64>(rows.shape(0)), static_cast<i64>(rows.shape(1)), rows.stride(0), rows.stride(1)};
}

Sums lanes_of(const In<double> &sums, const In<double> &masses, const In<i64> &counts, const In<double> &shift) {
    // only read
    return {shift.data(), const_cast<double *>(sums.data()), const_cast<double *>(masses.data()),
            const_cast<i64 *>(counts.data())};
}

const Searching &searching_for(const AnyRows &rows, bool wide) {
    if (rows.dtype() == nb::dtype<double>()) return active->precise;
    if (rows.dtype() == nb::dtype<float>()) return wide ? active->wide : active->single;
    throw nb::type_error("rows have to be float32 or float64");
}

const ByRow &by_row_for(const AnyRows &rows) {
    if (rows.dtype() == nb::dtype<double>()) return active->doubles;
    if (rows.dtype() == nb::dtype<float>()) return active->floats;
    throw nb::type_error("rows have to be float32 or float64");
}

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

// Where the centres move, from the lanes of a pass: `found` when that is done.
class MovePass : public Pass {
  public:
    MovePass(In<double> sums, In<double> masses, In<i64> counts, In<double> centers, In<double> shift, Out<double> moved)
        : Pass(tasks(sums)), of_(lanes_of(sums, masses, counts, shift)), lanes_(static_cast<i64>(sums.shape(0))),
          k_(static_cast<i64>(sums.shape(1))), d_(static_cast<i64>(sums.shape(2))), centers_(centers.data()),
          moved_(moved.data()), ways_(static_cast<std::size_t>(k_)) {
        kept_ = nb::make_tuple(sums, masses, counts, centers, shift, moved);
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
    active->learn(lanes_of(sums, masses, counts, shift), static_cast<i64>(sums.shape(0)), centers.data(), weights.data(),
                  static_cast<i64>(sums.shape(1)), static_cast<i64>(sums.shape(2)), moved.data(), gained.data());
}

class SearchPass : public Pass {
  public:
    SearchPass(AnyRows rows, std::optional<Draw> draw, std::optional<In<double>> weights, In<double> shift, double scale,
               bool wide, bool spherical, In<double> centers, double trust, Out<i32> labels,
               std::optional<Out<float>> upper, std::optional<Out<float>> gap, std::optional<In<double>> drift,
               std::optional<In<double>> spread, std::optional<In<float>> near_, std::optional<In<float>> far_,
               bool filter, int add, In<i64> edges, std::optional<Out<double>> sums, std::optional<Out<double>> masses,
               std::optional<Out<i64>> counts, std::optional<Out<double>> inertia, Out<i64> facts)
        : Pass(edges), kernels_(searching_for(rows, wide)), draw_(std::move(draw)), centers_(centers.data()),
          trust_(trust), targets_(kernels_.targets_bytes(centers.shape(0), centers.shape(1))) {
        search_.rows = rows_of(rows);
        search_.weights = data(weights);
        search_.frame = {shift.data(), scale};
        search_.spherical = spherical;
        search_.targets.k = static_cast<i64>(centers.shape(0));
        search_.bounds = {data(upper), data(gap), data(drift), data(spread), data(near_), data(far_), filter};
        search_.labels = labels.data();
        search_.add = static_cast<Add>(add);
        search_.edges = edges.data();
        search_.sums = {shift.data(), data(sums), data(masses), data(counts)};
        search_.inertia = data(inertia);
        search_.facts = facts.data();
        scratch_bytes_ = kernels_.scratch_bytes(search_);
        kept_ = nb::make_tuple(rows, weights, shift, centers, labels, upper, gap, drift, spread, near_, far_, edges, sums,
                               masses, counts, inertia, facts);
    }

    i64 scratch_bytes() const override { return scratch_bytes_; } // read while another thread makes the centres ready

    // The first thread to come makes the centres ready. Before, each fetches rows: one that comes late lost nothing.
    void work(i64 lane, void *scratch) const override {
        if (draw_) draw_->fetch(search_.edges[lane], search_.edges[lane + 1]);
        std::call_once(ready_, [this] {
            const Targets &t = search_.targets;
            search_.targets = kernels_.make_targets(centers_, search_.frame, t.k, search_.rows.d, trust_, targets_.data());
        });
        kernels_.search(search_, lane, scratch);
    }

  private:
    const Searching &kernels_;
    const std::optional<Draw> draw_;
    const double *const centers_;
    const double trust_;
    const Scratch targets_;
    i64 scratch_bytes_;
    mutable std::once_flag ready_;
    mutable Search search_{};
};

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
            Out<double> sums, Out<double> masses, Out<i64> counts)
        : Pass(edges), kernels_(by_row_for(rows)),
          add_{rows_of(rows), data(weights), labels.data(), static_cast<i64>(masses.shape(1)), edges.data(),
               {shift.data(), sums.data(), masses.data(), counts.data()}} {
        kept_ = nb::make_tuple(rows, weights, labels, shift, edges, sums, masses, counts);
    }
    i64 scratch_bytes() const override { return kernels_.add_scratch(add_); }
    void work(i64 lane, void *scratch) const override { kernels_.add_up(add_, lane, scratch); }

  private:
    const ByRow &kernels_;
    AddUp add_;
};

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

// Sparse rows, and what can be done with some of them in the calling thread; see csr.h.
class CsrRows {
  public:
    CsrRows(Line data, Line indices, In<i64> edges, std::optional<In<double>> lengths, i64 d)
        : kernels_(active->csr[kind(data, nb::dtype<float>(), nb::dtype<double>())]
                              [kind(indices, nb::dtype<i32>(), nb::dtype<i64>())]),
          rows_{data.data(), indices.data(), edges.data(), gpukmeans::data(lengths),
                static_cast<i64>(edges.shape(0)) - 1, d},
          kept_(nb::make_tuple(data, indices, edges, lengths)) {}

    i64 nearest(i64 first, i64 last, In<double> centers, In<double> high, In<double> low, Line table, Line norms,
                double scale, double reach, Out<i32> labels) const {
        nb::gil_scoped_release released;
        const bool single = table.dtype() == nb::dtype<float>();
        const i64 k = static_cast<i64>(centers.shape(0)), width = static_cast<i64>(norms.shape(0));
        const CsrCenters c{k,           width,        centers.data(), high.data(), low.data(),
                           table.data(), norms.data(), scale,          reach};
        Scratch scratch(width * static_cast<i64>(sizeof(double)));
        return (single ? kernels_.nearest_single : kernels_.nearest_precise)(rows_, first, last, c, labels.data(),
                                                                              scratch.data());
    }

    void own(i64 first, i64 last, In<double> centers, In<double> high, In<double> low, In<i32> labels,
             Out<double> out) const {
        nb::gil_scoped_release released;
        const CsrCenters c{static_cast<i64>(centers.shape(0)), 0, centers.data(), high.data(), low.data(), nullptr,
                           nullptr, 1.0, 0.0};
        kernels_.own(rows_, first, last, c, labels.data(), out.data());
    }

    void add(In<i64> which, In<double> factors, In<i64> edges, Out<double> sums) const {
        nb::gil_scoped_release released;
        kernels_.add(rows_, which.data(), factors.data(), edges.data(), static_cast<i64>(edges.shape(0)) - 1, sums.data());
    }

    void lower(i64 first, i64 last, In<double> table, In<double> norms, double scale, double noise, In<double> closest,
               Out<double> out) const {
        nb::gil_scoped_release released;
        const i64 width = static_cast<i64>(table.shape(1));
        const CsrPoints p{static_cast<i64>(norms.shape(0)), width, table.data(), norms.data(), scale, noise};
        Scratch scratch(width * static_cast<i64>(sizeof(double)));
        kernels_.lower(rows_, first, last, p, closest.data(), out.data(), last - first, scratch.data());
    }

  private:
    static int kind(const Line &array, nb::dlpack::dtype first, nb::dlpack::dtype second) {
        if (array.dtype() == first) return 0;
        if (array.dtype() == second) return 1;
        throw nb::type_error("entries have to be float32 or float64, their features int32 or int64");
    }

    const CsrKernels &kernels_;
    const Csr rows_;
    const nb::object kept_; // the arrays, so that they live as long as this does
};

// Entries a line of a table of k columns has: whole registers.
i64 table_width(i64 k, i64 itemsize) {
    const i64 step = active->table_width / itemsize;
    return (k + step - 1) / step * step;
}

void fill_table(In<double> centers, In<double> factors, nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu> table) {
    nb::gil_scoped_release released;
    const auto fill = table.dtype() == nb::dtype<float>() ? active->single_table : active->double_table;
    fill(centers.data(), factors.data(), static_cast<i64>(centers.shape(0)), static_cast<i64>(centers.shape(1)),
         static_cast<i64>(table.shape(1)), table.data());
}

void squares(In<double> centers, Out<double> high, Out<double> low) {
    nb::gil_scoped_release released;
    active->squares(centers.data(), static_cast<i64>(centers.shape(0)), static_cast<i64>(centers.shape(1)), high.data(),
                    low.data());
}

// Lloyd's whole loop and the last assignment: iterations done and inertia, or -1 for an iteration left to the
// caller. In this thread.
std::pair<i64, double> loop(const AnyRows &rows, std::optional<In<double>> weights, In<double> shift, double scale,
                            bool wide, Out<double> centers, double trust, Out<i32> labels, In<i64> edges, i64 max_iter,
                            double tol) {
    nb::gil_scoped_release released;
    const Searching &kernels = searching_for(rows, wide);
    const i64 k = static_cast<i64>(centers.shape(0)), d = static_cast<i64>(centers.shape(1));
    const i64 lanes = static_cast<i64>(edges.shape(0)) - 1;
    std::vector<double> sums(static_cast<std::size_t>(lanes * k * (d + 1)));
    std::vector<double> inertia(static_cast<std::size_t>(lanes));
    std::vector<i64> counts(static_cast<std::size_t>(lanes * k)), facts(static_cast<std::size_t>(3 * lanes));
    Loop task{};
    task.search.rows = rows_of(rows);
    task.search.weights = data(weights);
    task.search.frame = {shift.data(), scale};
    task.search.targets.k = k;
    task.search.targets.trust = trust;
    task.search.labels = labels.data();
    task.search.edges = edges.data();
    task.search.sums = {shift.data(), sums.data(), sums.data() + lanes * k * d, counts.data()};
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

NB_MODULE(_native, m) {
    using namespace gpukmeans;
    m.doc() = "Compiled kernels for the CPU; see gpukmeans/_kernels/cpu.";
    m.def("instruction_sets", &instruction_sets, "Those this machine can run, the fastest first.");
    m.def("instruction_set", [] { return std::string(active->name); }, "The one in use.");
    m.def("use", &use, "name"_a, "Run the kernels of another instruction set (for tests).");
    m.def("loop", &loop, nb::kw_only(), "rows"_a, "weights"_a.none(), "shift"_a, "scale"_a, "wide"_a, "centers"_a,
          "trust"_a, "labels"_a, "edges"_a, "max_iter"_a, "tol"_a,
          "Lloyd's loop and last assignment: iterations done, and the inertia or, for an iteration left undone, -1.");
    nb::class_<Shared>(m, "Shared").def("stop", &Shared::stop, "Leave out what no thread has begun.");
    nb::class_<Pass, Shared>(m, "Pass")
        .def("run", &Pass::run, nb::call_guard<nb::gil_scoped_release>(), "most"_a = std::numeric_limits<i64>::max(),
             "Work on lanes until none is left, or on so many: then True. Any number of threads may do so at once.")
        .def_prop_ro("size", &Pass::size, "Lanes, or tasks.");
    nb::class_<KeptCrew>(m, "Crew")
        .def(nb::init<int>(), "helpers"_a)
        .def("begin", &KeptCrew::begin, "work"_a, "Have the helpers work on a pass as well.")
        .def("end", &KeptCrew::end, "Wait until they are done with it.")
        .def("quit", &KeptCrew::quit, "End what an interruption has left.")
        .def_prop_ro("size", &KeptCrew::size, "Helpers.");
    nb::class_<MomentsPass, Pass>(m, "MomentsPass")
        .def(nb::init<AnyRows, In<double>, In<i64>, Out<double>, Out<double>, Out<double>>(), nb::kw_only(), "rows"_a,
             "shift"_a, "edges"_a, "first"_a, "second"_a, "largest"_a);
    nb::class_<OwnPass, Pass>(m, "OwnPass")
        .def(nb::init<AnyRows, std::optional<In<double>>, In<i32>, In<double>, In<i64>, std::optional<Out<double>>,
                      Out<double>>(),
             nb::kw_only(), "rows"_a, "weights"_a.none(), "labels"_a, "centers"_a, "edges"_a, "squared"_a.none(),
             "inertia"_a);
    nb::class_<AddPass, Pass>(m, "AddPass")
        .def(nb::init<AnyRows, std::optional<In<double>>, In<i32>, In<double>, In<i64>, Out<double>, Out<double>,
                      Out<i64>>(),
             nb::kw_only(), "rows"_a, "weights"_a.none(), "labels"_a, "shift"_a, "edges"_a, "sums"_a, "masses"_a,
             "counts"_a);
    nb::class_<PairPass, Pass>(m, "PairPass")
        .def(nb::init<AnyRows, In<i64>, In<i64>, In<i64>, i64, Out<double>>(), nb::kw_only(), "rows"_a, "order"_a,
             "edges"_a, "columns"_a, "tile"_a, "sums"_a);
    m.def("pair_sums", &pair_sums, nb::kw_only(), "rows"_a, "order"_a, "edges"_a, "columns"_a, "tile"_a, "first"_a,
          "sums"_a, "Adds the distances from some rows to the cells; see PairPass.");
    nb::class_<Draw>(m, "Draw")
        .def(nb::init<AnyRows, In<i64>, Draw::Into>(), "source"_a, "which"_a, "into"_a.noconvert());
    nb::class_<MovePass, Pass>(m, "MovePass")
        .def(nb::init<In<double>, In<double>, In<i64>, In<double>, In<double>, Out<double>>(), "sums"_a, "masses"_a,
             "counts"_a, "centers"_a, "shift"_a, "moved"_a.noconvert())
        .def("found", &MovePass::found, "Empty clusters, and the sum of the squared ways of the centres.");
    m.def("learn", &learn, "sums"_a, "masses"_a, "counts"_a, "centers"_a, "weights"_a, "shift"_a, "moved"_a.noconvert(), "gained"_a.noconvert(),
          "Centres as means that the rows of a batch have joined.");
    nb::class_<SearchPass, Pass>(m, "SearchPass")
        .def(nb::init<AnyRows, std::optional<Draw>, std::optional<In<double>>, In<double>, double, bool, bool,
                      In<double>, double, Out<i32>, std::optional<Out<float>>, std::optional<Out<float>>,
                      std::optional<In<double>>, std::optional<In<double>>, std::optional<In<float>>,
                      std::optional<In<float>>, bool, int, In<i64>, std::optional<Out<double>>,
                      std::optional<Out<double>>, std::optional<Out<i64>>, std::optional<Out<double>>, Out<i64>>(),
             nb::kw_only(), "rows"_a, "draw"_a.none(), "weights"_a.none(), "shift"_a, "scale"_a, "wide"_a,
             "spherical"_a, "centers"_a, "trust"_a, "labels"_a, "upper"_a.none(), "gap"_a.none(),
             "drift"_a.none(), "spread"_a.none(), "near"_a.none(), "far"_a.none(), "filter"_a, "add"_a, "edges"_a,
             "sums"_a.none(), "masses"_a.none(), "counts"_a.none(), "inertia"_a.none(), "facts"_a.noconvert());
    nb::class_<CsrRows>(m, "CsrRows")
        .def(nb::init<Line, Line, In<i64>, std::optional<In<double>>, i64>(), "data"_a, "indices"_a, "edges"_a,
             "lengths"_a.none(), "n_features"_a)
        .def("nearest", &CsrRows::nearest, "first"_a, "last"_a, "centers"_a, "high"_a, "low"_a, "table"_a, "norms"_a,
             "scale"_a, "reach"_a, "labels"_a, "Label some rows; how many the products left in doubt.")
        .def("own", &CsrRows::own, "first"_a, "last"_a, "centers"_a, "high"_a, "low"_a, "labels"_a, "out"_a)
        .def("add", &CsrRows::add, "which"_a, "factors"_a, "edges"_a, "sums"_a)
        .def("lower", &CsrRows::lower, "first"_a, "last"_a, "table"_a, "norms"_a, "scale"_a, "noise"_a, "closest"_a,
             "out"_a);
    m.def("table_width", &table_width, "n_columns"_a, "itemsize"_a, "Entries of a line: whole registers.");
    m.def("fill_table", &fill_table, "centers"_a, "factors"_a, "table"_a, "Centres times factors, side by side.");
    m.def("squares", &squares, "centers"_a, "high"_a, "low"_a, "Sums of squares in twice the digits.");
    nb::class_<SeedingPass, Shared>(m, "SeedingPass")
        .def(nb::init<AnyRows, std::optional<In<double>>, double, Out<double>, i64>(), "rows"_a, "weights"_a.none(),
             "scale"_a, "closest"_a, "tile"_a)
        .def("sketch", &SeedingPass::sketch, "shift"_a, "steps"_a)
        .def("begin", &SeedingPass::begin, "points"_a, "settle"_a, "potentials"_a, "write"_a, "use"_a)
        .def("run", &SeedingPass::run, nb::call_guard<nb::gil_scoped_release>(), "most"_a,
             "Work on so many tasks: then True, or False where none is left.")
        .def_prop_ro("read", &SeedingPass::read, "Rows that the pass had to read.")
        .def("draw", &SeedingPass::draw, "point"_a, "masses"_a, "uniforms"_a, "rows"_a)
        .def("masses", &SeedingPass::masses, "point"_a, "tiles"_a, "out"_a);
}
