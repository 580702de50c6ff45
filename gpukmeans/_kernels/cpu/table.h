// What the kernels are given, and the table of kernels that one instruction set fills.
//
// Shapes: n rows of d features, k centres. "Local" coordinates are (x - shift) * scale, see _frame.py.
#pragma once

#include <cstdint>

namespace gpukmeans {

using i32 = std::int32_t;
using i64 = std::int64_t;

// Rows of float or double, in any layout.
struct Rows {
    const void *data;
    i64 n, d;
    i64 row_step, column_step; // in elements
};

// A frame of local coordinates.
struct Frame {
    const double *shift; // (d,)
    double scale;        // a power of two
};

// Centres rounded to 16-bit integers, see coarse.h.
struct CoarseTargets {
    i32 *pairs;     // (k, pairs of features), in groups; or null
    float *factors; // (k,): -2 |c| / levels
    float *norms;   // (k,): |c|^2
};

// Centres made ready for a pass; T is the type that distances are computed in.
struct Targets {
    i64 k;
    const double *exact;  // (k, d), original coordinates: what decides in the end
    const void *groups;   // T: blocks of a group's centres, see arrange() in tiles.h
    const void *norms;    // T (k,): |c|^2, local; infinite for a copy of an earlier centre
    const void *lines;    // T (k, d + 2) for few features: see arrange_line() in few.h
    const double *copied; // (k,): 1 where another centre is the same
    double trust;         // relative error of a fast distance, see _frame.trust
    double reach;         // the largest |c|, local
    CoarseTargets coarse;
};

// Centres seen along a few directions of the data, see _leading.py; T is the type that distances are computed in.
struct Leading {
    i64 rank;           // directions; 0 for none, then the rest is null
    const void *basis;  // T (d, rank), in groups
    const void *points; // T (rank + 1, k), in groups, times -2
    const void *starts; // T (rank,): zeros
    double trust;       // relative error of a product, against |c|^2 + 2 |x| |c|
    i64 tries;          // centres that are measured for a row at most, or it is left open
};

// What the pass before left and this one may use: see _bounds.py.
struct Bounds {
    float *upper;         // (n,) distance to the own centre, less the drift when it was measured; or null
    float *gap;           // (n,) second distance less the first, plus the drift; null with upper
    const double *drift;  // (k,) how far each centre has moved in all
    const double *spread; // (k,) the same plus the farthest that another centre has moved
    const float *near_;   // (k,) a row whose `upper` is below keeps its centre
    const float *far_;    // (k,) a row whose `gap` is above keeps its centre
    bool filter;          // whether rows may keep their labels by these tests
    float *slack;         // (blocks of block_rows) no row of the block fails while `tightened` is below; or null
    float tightened;      // how much tighter the tests have become in all, rounded up
};

// Boxes of a grid over rows of few features, 2^level along each: numbered so that the halves of a box, and the quarters of
// these, follow each other (Morton's order). See _boxes.py.
struct BoxGrid {
    i64 d, level;
    const double *low;   // (d,) where the grid begins, in the type of the rows
    const double *steps; // (d,) boxes a unit of length, likewise
};

// Which box each row is in, and whether its rows have to be searched.
struct Boxed {
    const std::uint16_t *numbers; // (n,) or null; the last box is that of the rows outside
    const std::uint8_t *open;     // (boxes,) 0 or 1
};

// Boxes of which all is nearest to one centre, to be found.
struct Owning {
    BoxGrid grid;
    i64 k;
    const double *centers; // (k, d) about `low`
    const double *norms;   // (k,) their |c|^2
    double error;          // what differences of squared distances are off by at most
    std::int16_t *owners;  // (boxes,) in: for the labels of the rows, or -1; out: for these centres
    std::uint8_t *open;    // (boxes,) out: whether a box has no owner, or another one than before
};

// A second look at rows that fail these tests, see _second_look.py.
struct Look {
    const double *rest;  // (k,) the spread without the ways of the movers; null for no second look
    i64 count;           // movers
    const i64 *movers;   // (count,)
    const void *columns; // T (d, count): the movers, in groups, times -2
    const void *starts;  // T (count,): their |c|^2
    const bool *is_mover; // (k,)
};

// Sums of the clusters, lane by lane.
struct Sums {
    const double *shift; // (d,)
    double *sums;        // (lanes, k, d): of w (x - shift)
    double *masses;      // (lanes, k): of w
    i64 *counts;         // (lanes, k): rows of positive weight
    double *rests;       // (lanes, k, d + 1) or null: what rounding has taken from the sums and, last, the mass
};

enum class Add : int { nothing, all, moves };

// In all of the following, what is added up goes on from what is there: zero, or an earlier part of a lane.

// One pass over the rows: every row's nearest centre, and the sums of the clusters.
struct Search {
    Rows rows;
    const double *weights; // (n,) or null for ones
    Frame frame;
    bool spherical;        // products decide, see _frame.nearest_directly
    Targets targets;
    Leading leading;
    Bounds bounds;
    Boxed boxed;
    Look look;
    i32 *labels;   // (n,) in: of the pass before, or -1; out: of this one
    bool labelled; // whether `labels` holds that; else the pass begins with -1
    Add add;
    const i64 *edges; // (lanes + 1,) rows of each lane
    Sums sums;
    double *inertia;  // (lanes,) or null
    i64 *facts;       // (lanes, 4): rows with a new label, rows decided again, searched, left open by `leading` or coarsely
};

// A copy of the rows in 8-bit integers: (x - shift) * steps, rounded. See seeding.h.
struct Sketch {
    std::int8_t *rows;         // groups of 16 rows
    float *errors;             // (n,) distance of a row from its integers, in steps
    i32 *sizes;                // (n,) sum of their squares
    const double *shift;       // (width,) in the coordinates of the points
    double steps;              // a unit of length
    const i32 *points;         // (count, pairs) of this pass
    const i32 *point_sizes;    // (count,)
    const float *point_errors; // (count,)
    bool write, use;           // what this pass does with it
};

// One pass of k-means++.
struct Seeding {
    Rows rows;
    const double *weights; // (n,) or null for ones
    double scale;          // a power of two
    double *closest;       // (n,) squared distance to the nearest centre, times scale squared
    i64 tile;              // rows of a tile, a multiple of 64
    i64 count;             // points
    bool settle;           // whether the first point is the winner, not a candidate
    const double *points;  // (count, width), times scale; the rest of a line is zero
    double *potentials;    // (tiles, candidates)
    Sketch sketch;
};

struct SeedingKernels {
    i64 (*width)(i64 d);
    void (*sketch_points)(const Sketch &, const double *points, i64 count, i64 d, double *line, i32 *out, i32 *sizes,
                          float *errors);
    i64 (*scratch_bytes)(const Seeding &);
    i64 (*pass)(const Seeding &, i64 first_tile, i64 last_tile, void *scratch); // returns rows read
    void (*masses)(const Seeding &, const double *point, const i64 *tiles, i64 count, double *out, void *scratch);
};

// How the centres moved.
struct Moved {
    i64 empty;      // clusters without a row of positive weight
    double squared; // the sum of their squared ways
};

// Moments of the rows about the shift.
struct Moments {
    Rows rows;
    const double *shift; // (d,)
    const i64 *edges;    // (lanes + 1,)
    double *first;       // (lanes, d): sums
    double *second;      // (lanes, d): sums of squares
    double *largest;     // (lanes,): largest squared norm
};

// Squared distances of the rows to their own centres, and their weighted sums.
struct Own {
    Rows rows;
    const double *weights; // (n,) or null
    const i32 *labels;     // (n,)
    const double *centers; // (k, d)
    const i64 *edges;      // (lanes + 1,)
    double *squared;       // (n,) or null
    double *inertia;       // (lanes,)
};

// The clusters of given labels, added up.
struct AddUp {
    Rows rows;
    const double *weights; // (n,) or null
    const i32 *labels;     // (n,)
    i64 k;
    const i64 *edges; // (lanes + 1,)
    Sums sums;
};

// Rows sorted into cells, for sums of distances. A row's place is its number in that order, and a
// cell is a run of places whose rows are in the same cluster in every labeling. Each cluster of each
// labeling has one row of sums; "step" is the distance from one row of sums to the next.
struct Cells {
    Rows rows;
    const i64 *order; // (n,) the row at each place
    i64 cells, labelings;
    const i64 *edges;   // (cells + 1,) places
    const i64 *columns; // (cells, labelings): the sums that a cell belongs to
    i64 tile;           // places in a tile, at most
};

// Places `first` to `last` - 1, and their sums so far: (clusters, places) with a step, or null.
struct Tile {
    i64 first, last;
    double *sums;
    i64 step;
};

// Sparse rows.
struct Csr {
    const void *data;    // (nnz,) float or double
    const void *indices; // (nnz,) i32 or i64: features
    const i64 *edges;    // (n + 1,): the entries of row i are those from edges[i] to edges[i + 1]
    const double *lengths; // (n,): what the rows are divided by, or null
    i64 n, d;
};

// Centres made ready for a pass over sparse rows, see csr.Targets; T is the type of the products.
struct CsrCenters {
    i64 k, width;
    const double *exact;      // (k, d)
    const double *high, *low; // (k,) each: |c|^2 in twice the digits
    const void *table;        // T (d, width): -2 c, times scale
    const void *norms;        // T (width,): |c|^2 times scale squared; infinite for copies, and beyond k
    double scale, reach;
};

// Points that sparse rows are compared with.
struct CsrPoints {
    i64 count, width;
    const double *table; // (d, width): -2 y, times scale
    const double *norms; // (count,): |y|^2 times scale squared
    double scale, noise;
};

// Kernels for sparse rows of one type, with indices of one type.
struct CsrKernels {
    i64 (*nearest_single)(const Csr &, i64 first, i64 last, const CsrCenters &, i32 *labels, void *scratch);
    i64 (*nearest_precise)(const Csr &, i64 first, i64 last, const CsrCenters &, i32 *labels, void *scratch);
    void (*own)(const Csr &, i64 first, i64 last, const CsrCenters &, const i32 *labels, double *out);
    void (*add)(const Csr &, const i64 *which, const double *factors, const i64 *edges, i64 clusters, double *sums);
    void (*lower)(const Csr &, i64 first, i64 last, const CsrPoints &, const double *closest, double *out, i64 stride,
                  void *scratch);
};

// Searching, for rows of one type and distances in another.
struct Searching {
    i64 (*targets_bytes)(i64 k, i64 d);
    Targets (*make_targets)(const double *centers, const Frame &, i64 k, i64 d, double trust, void *memory);
    i64 (*leading_bytes)(i64 k, i64 d, i64 rank);
    void (*make_leading)(const Targets &, const double *basis, const double *points, i64 d, Leading &, void *memory);
    i64 (*look_bytes)(i64 k, i64 d, i64 movers);
    void (*make_look)(const Targets &, i64 d, Look &, void *memory);
    i64 (*scratch_bytes)(const Search &);
    void (*search)(const Search &, i64 lane, void *scratch);
};

// What is done with rows of one type.
struct ByRow {
    void (*moments)(const Moments &, i64 lane);
    void (*own_distances)(const Own &, i64 lane);
    i64 (*add_scratch)(const AddUp &);
    void (*add_up)(const AddUp &, i64 lane, void *scratch);
    i64 (*pairs_scratch)(const Cells &);
    void (*add_pairs)(const Cells &, const Tile &of, const Tile &to, void *scratch);
    void (*number_rows)(const BoxGrid &, const Rows &, i64 first, i64 last, std::uint16_t *numbers);
};

struct Table {
    const char *name;  // of the instruction set
    void (*move)(const Sums &, i64 lanes, const double *centers, i64 k, i64 d, i64 first, i64 last, double *moved,
                 double *ways);
    Moved (*arrive)(const Sums &, i64 lanes, const double *centers, i64 k, i64 d, double *moved, double *ways);
    void (*learn)(const Sums &, i64 lanes, const double *centers, const double *weights, i64 k, i64 d, double *moved,
                  double *gained);
    i64 (*owning_tasks)(const BoxGrid &);
    i64 (*owning_scratch)(const Owning &);
    void (*find_owners)(const Owning &, i64 task, void *scratch);
    Searching single;  // float rows, float distances
    Searching wide;    // float rows, double distances
    Searching precise; // double rows, double distances
    ByRow floats, doubles;
    SeedingKernels seed_floats, seed_doubles;
    CsrKernels csr[2][2]; // float or double, i32 or i64
    i64 table_width;      // bytes that the width of a table is a multiple of
    void (*single_table)(const double *centers, const double *factors, i64 k, i64 d, i64 width, void *out);
    void (*double_table)(const double *centers, const double *factors, i64 k, i64 d, i64 width, void *out);
    void (*squares)(const double *centers, i64 k, i64 d, double *high, double *low);
};

} // namespace gpukmeans
