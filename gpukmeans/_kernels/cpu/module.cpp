// The Python module: names and arguments of what the headers beside it do.
#include "csr_rows.h"
#include "pair_pass.h"
#include "passes.h"
#include "search_pass.h"
#include "seeding_pass.h"

using namespace nb::literals;

NB_MODULE(_native, m) {
    using namespace gpukmeans;
    m.doc() = "Compiled kernels for the CPU; see gpukmeans/_kernels/cpu.";
    m.def("instruction_sets", &instruction_sets, "Those this machine can run, the fastest first.");
    m.def("instruction_set", [] { return std::string(active->name); }, "The one in use.");
    m.def("use", &use, "name"_a, "Run the kernels of another instruction set (for tests).");
    m.def("loop", &loop, nb::kw_only(), "rows"_a, "weights"_a.none(), "shift"_a, "scale"_a, "wide"_a, "centers"_a,
          "trust"_a, "labels"_a, "edges"_a, "rests"_a, "max_iter"_a, "tol"_a,
          "Lloyd's loop and last assignment: iterations done, and the inertia or, for an iteration left undone, -1.");
    m.def("reference", &reference, "points"_a, "step"_a, "single"_a, "near"_a.noconvert(),
          "A point near the middle of some points, of which every step-th is looked at.");
    m.def("moments", &moments, "rows"_a, "shift"_a, "mean"_a.noconvert(), "variance"_a.noconvert(),
          "Of the rows of one lane; the largest norm.");
    m.def("moments_of_lanes", &moments_of_lanes, "first"_a, "second"_a, "largest"_a, "n"_a, "shift"_a,
          "mean"_a.noconvert(), "variance"_a.noconvert(), "Of the lanes of a MomentsPass; the largest norm.");
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
    nb::class_<NumberPass, Pass>(m, "NumberPass")
        .def(nb::init<AnyRows, In<double>, In<double>, i64, In<i64>, Out<std::uint16_t>>(), nb::kw_only(), "rows"_a,
             "low"_a, "steps"_a, "level"_a, "edges"_a, "numbers"_a.noconvert());
    nb::class_<Boxes>(m, "Boxes")
        .def(nb::init<In<double>, In<double>, i64, Out<std::int16_t>, Out<std::uint8_t>>(), "low"_a, "steps"_a, "level"_a,
             "owners"_a.noconvert(), "open"_a.noconvert());
    nb::class_<OwnersPass, Pass>(m, "OwnersPass")
        .def(nb::init<const Boxes &, In<double>>(), "boxes"_a, "centers"_a);
    nb::class_<AddPass, Pass>(m, "AddPass")
        .def(nb::init<AnyRows, std::optional<In<double>>, In<i32>, In<double>, In<i64>, Out<double>, Out<double>,
                      Out<i64>, std::optional<Out<double>>>(),
             nb::kw_only(), "rows"_a, "weights"_a.none(), "labels"_a, "shift"_a, "edges"_a, "sums"_a, "masses"_a,
             "counts"_a, "rests"_a.none());
    nb::class_<PairPass, Pass>(m, "PairPass")
        .def(nb::init<AnyRows, In<i64>, In<i64>, In<i64>, i64, Out<double>>(), nb::kw_only(), "rows"_a, "order"_a,
             "edges"_a, "columns"_a, "tile"_a, "sums"_a);
    m.def("pair_sums", &pair_sums, nb::kw_only(), "rows"_a, "order"_a, "edges"_a, "columns"_a, "tile"_a, "first"_a,
          "sums"_a, "Adds the distances from some rows to the cells; see PairPass.");
    nb::class_<Draw>(m, "Draw")
        .def(nb::init<AnyRows, In<i64>, Draw::Into>(), "source"_a, "which"_a, "into"_a.noconvert());
    nb::class_<Directions>(m, "Directions")
        .def(nb::init<In<double>, In<double>, double, i64>(), "basis"_a, "points"_a, "trust"_a, "tries"_a);
    nb::class_<Again>(m, "Again").def(nb::init<In<double>, In<i64>>(), "rest"_a, "movers"_a);
    nb::class_<Drifting>(m, "Drifting")
        .def(nb::init<Out<double>, Out<double>, Out<double>, In<double>, In<double>, Out<float>, Out<float>, Out<float>>(),
             "moved"_a.noconvert(), "drift"_a.noconvert(), "spread"_a.noconvert(), "separation"_a.noconvert(),
             "separated"_a.noconvert(), "near"_a.noconvert(), "far"_a.noconvert(), "slack"_a.noconvert())
        .def("move", &Drifting::move_to, "before"_a, "now"_a, "scale"_a, "The centres, (k, d), have moved on.")
        .def("tighten", &Drifting::tighten, "blocks"_a,
             "Makes the tests of the next pass; whether blocks of rows can be held in it, where they are to be.")
        .def("nearness", &Drifting::nearness, "center"_a, "What its `near` is to be.")
        .def("is_loose", &Drifting::is_loose, "share"_a,
             "Whether the centres have moved that much of the distances between them.")
        .def_prop_ro("tightened", &Drifting::tightened);
    nb::class_<Ahead>(m, "Ahead")
        .def(nb::init<Drifting *, i64, i64, i64, double>(), "drifts"_a, "quiet"_a, "idle"_a, "separated"_a, "loose"_a);
    nb::class_<MovePass, Pass>(m, "MovePass")
        .def(nb::init<In<double>, In<double>, In<i64>, std::optional<In<double>>, In<double>, In<double>, Out<double>>(),
             "sums"_a, "masses"_a, "counts"_a, "rests"_a.none(), "centers"_a, "shift"_a, "moved"_a.noconvert())
        .def("found", &MovePass::found, "Empty clusters, and the sum of the squared ways of the centres.");
    m.def("learn", &learn, "sums"_a, "masses"_a, "counts"_a, "centers"_a, "weights"_a, "shift"_a,
          "moved"_a.noconvert(), "gained"_a.noconvert(),
          "Centres as means that the rows of a batch have joined.");
    nb::class_<SearchPass, Pass>(m, "SearchPass")
        .def(nb::init<AnyRows, std::optional<Draw>, std::optional<In<double>>, In<double>, double, bool, bool,
                      In<double>, double, std::optional<Directions>, Out<i32>, bool, std::optional<Out<float>>,
                      std::optional<Out<float>>, std::optional<In<double>>, std::optional<In<double>>,
                      std::optional<In<float>>, std::optional<In<float>>, bool, std::optional<Out<float>>, float,
                      std::optional<In<std::uint16_t>>, std::optional<Boxes>, std::optional<Again>, int,
                      In<i64>, std::optional<Out<double>>, std::optional<Out<double>>,
                      std::optional<Out<i64>>, std::optional<Out<double>>, std::optional<Out<double>>, Out<i64>>(),
             nb::kw_only(), "rows"_a, "draw"_a.none(), "weights"_a.none(), "shift"_a, "scale"_a, "wide"_a,
             "spherical"_a, "centers"_a, "trust"_a, "directions"_a.none(),
             "labels"_a, "labelled"_a, "upper"_a.none(), "gap"_a.none(), "drift"_a.none(), "spread"_a.none(), "near"_a.none(),
             "far"_a.none(), "filter"_a, "slack"_a.none(), "tightened"_a, "numbers"_a.none(),
             "boxes"_a.none(), "again"_a.none(), "add"_a, "edges"_a, "sums"_a.none(),
             "masses"_a.none(), "counts"_a.none(), "rests"_a.none(), "inertia"_a.none(), "facts"_a.noconvert())
        .def("iterate", &SearchPass::iterate, "crew"_a.none(), "centers"_a.noconvert(), "most"_a, "tol"_a, "settled"_a,
             "searched"_a, "bounds"_a.none(),
             "Lloyd's algorithm up to a pass after which the caller has to decide; how many came before.");
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
