// Sums of distances from rows to the members of every cluster: what silhouettes are made of. Distances live in
// registers and shared memory; nothing of n x n is written.
//
//   argument     shape              direction  what
//   x            (n, d)             in         rows of ROW; element (i, q) at i * row_step + q * column_step
//   order        (n,)               in         the row at each place; rows of a cell are neighbours
//   cells        (n,)               in         the cell at each place, rising
//   columns      (cells, labelings) in         the columns of sums that the places of a cell are added to
//   sums         (n_columns, m)     out        for places first to first + m - 1; zero before
//
// A block of 16 x 16 threads takes 64 places and meets all n in turn, 64 at a time; a thread has 4 x 4 pairs in
// registers. Features go through shared memory, 16 at a time, as float64. Squared distances are float64 sums of
// (x - y)^2 in original coordinates, whatever ROW is: no pair cancels, so none has to be done again, and copies
// are at no distance. A product |x|^2 + |y|^2 - 2 x.y would take one float64 instruction a feature where this
// takes two, and the pairs that cancel again.
//
// A thread loads 8 values from shared memory for 32 float64 instructions, and a pair takes 2 d + 25 of those (the
// root is about 20). The rows are read once for each 64 places: d * sizeof(ROW) / 64 + 1/4 bytes a pair, from the
// cache. Sums: 16 bytes a row for each cell among 64 places, and labeling.
//
// Order: the distances of a place are added in runs of 16 places, cut where a cell ends, then the runs of a cell
// among 64 places, then these, place after place. So no bit depends on blocks, `first`, m or the order of threads.

#define SIDE 16                // threads along the side of a block
#define PAIRS 4                // of a thread, in both directions
#define WIDE (SIDE * PAIRS)    // places along the side of a tile
#define THREADS (SIDE * SIDE)
#define PAIRS_BLOCKS 2         // on a multiprocessor: at most 128 registers a thread
#define ALL_LANES 0xffffffffu

constexpr int chunk = 16;      // features in shared memory at once

typedef long long i64;
typedef unsigned long long u64;

struct Rows {
    const ROW *x;
    i64 row_step, column_step, d;
    const i64 *order;
};

struct Shared {
    union {
        double features[2][chunk][WIDE + 1]; // of the block's places, and of those it meets
        double distances[WIDE][WIDE + 1];
    };
    i64 rows[2][WIDE];
    int cells[WIDE];
    u64 run_ends, cell_ends; // bit c: a run of 16 or a cell ends at place c
};

// Features q0 and following of the rows of both sides, those of a side beside each other.
__device__ __forceinline__ void stage(const Rows &rows, i64 q0, int width, Shared &s) {
    int shift = 0; // neighbouring threads read features of a row
    while (1 << shift < width) shift++;
    for (int e = threadIdx.x; e < 2 * WIDE << shift; e += THREADS) {
        const int q = e & ((1 << shift) - 1), place = (e >> shift) % WIDE, side = (e >> shift) / WIDE;
        if (q >= width) continue;
        const ROW *const row = rows.x + s.rows[side][place] * rows.row_step;
        s.features[side][q][place] = (double)row[(q0 + q) * rows.column_step];
    }
}

// Which rows are met from place a on, q of them, and where runs and cells end among them.
__device__ __forceinline__ void meet(const Rows &rows, const int *cells, i64 a, int q, Shared &s) {
    const int c = threadIdx.x;
    if (c >= WIDE) return;
    const i64 place = a + (c < q ? c : q - 1);
    s.rows[1][c] = rows.order[place];
    s.cells[c] = cells[place];
    const bool cell_end = c < q && (c == q - 1 || cells[place + 1] != cells[place]);
    const bool run_end = cell_end || (c < q && c % 16 == 15);
    const unsigned cell_ends = __ballot_sync(ALL_LANES, cell_end), run_ends = __ballot_sync(ALL_LANES, run_end);
    if (c % 32 == 0) { // two warps, a half each
        reinterpret_cast<unsigned *>(&s.cell_ends)[c / 32] = cell_ends;
        reinterpret_cast<unsigned *>(&s.run_ends)[c / 32] = run_ends;
    }
}

// Distances of a tile of pairs into s.distances.
__device__ __forceinline__ void measure(const Rows &rows, Shared &s) {
    const int across = threadIdx.x % SIDE, down = threadIdx.x / SIDE;
    double squared[PAIRS][PAIRS] = {};
    for (i64 q0 = 0; q0 < rows.d; q0 += chunk) {
        const int width = rows.d - q0 < chunk ? (int)(rows.d - q0) : chunk;
        __syncthreads();
        stage(rows, q0, width, s);
        __syncthreads();
#pragma unroll 1
        for (int q = 0; q < width; q++) {
            double x[PAIRS], y[PAIRS];
#pragma unroll
            for (int i = 0; i < PAIRS; i++) {
                x[i] = s.features[0][q][down * PAIRS + i];
                y[i] = s.features[1][q][i * SIDE + across];
            }
#pragma unroll
            for (int i = 0; i < PAIRS; i++)
#pragma unroll
                for (int j = 0; j < PAIRS; j++) {
                    const double difference = x[i] - y[j];
                    squared[i][j] = fma(difference, difference, squared[i][j]);
                }
        }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < PAIRS; i++)
#pragma unroll
        for (int j = 0; j < PAIRS; j++) s.distances[down * PAIRS + i][j * SIDE + across] = sqrt(squared[i][j]);
    __syncthreads();
}

// Sums of the runs of each row, each at the last place of the run; a thread has 16 places of a row.
__device__ __forceinline__ void add_runs(Shared &s) {
    double *const row = s.distances[threadIdx.x % WIDE];
    const int first = threadIdx.x / WIDE * 16;
    double sum = 0;
    for (int c = first; c < first + 16; c++) {
        sum += row[c];
        if (s.run_ends >> c & 1) {
            row[c] = sum;
            sum = 0;
        }
    }
    __syncthreads();
}

// Adds the runs of each cell to the sums of its columns; a thread has a row and every fourth labeling.
__device__ __forceinline__ void add_cells(const i64 *columns, i64 labelings, i64 place, i64 m, double *sums,
                                          const Shared &s) {
    const int r = threadIdx.x % WIDE;
    if (place + r >= m) return;
    for (i64 l = threadIdx.x / WIDE; l < labelings; l += THREADS / WIDE) {
        double sum = 0;
        for (u64 rest = s.run_ends; rest; rest &= rest - 1) {
            const int c = __ffsll((i64)rest) - 1;
            sum += s.distances[r][c];
            if (s.cell_ends >> c & 1) {
                sums[columns[s.cells[c] * labelings + l] * m + place + r] += sum;
                sum = 0;
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, PAIRS_BLOCKS)
distance_sums(const ROW *x, i64 row_step, i64 column_step, i64 n, i64 d, const i64 *order, const int *cells,
              const i64 *columns, i64 labelings, i64 first, i64 m, double *sums) {
    __shared__ Shared s;
    const Rows rows{x, row_step, column_step, d, order};
    for (i64 place = blockIdx.x * (i64)WIDE; place < m; place += gridDim.x * (i64)WIDE) {
        if (threadIdx.x < WIDE) {
            const i64 mine = place + threadIdx.x;
            s.rows[0][threadIdx.x] = order[first + (mine < m ? mine : m - 1)];
        }
        for (i64 a = 0; a < n; a += WIDE) {
            meet(rows, cells, a, n - a < WIDE ? (int)(n - a) : WIDE, s);
            measure(rows, s);
            add_runs(s);
            add_cells(columns, labelings, place, m, sums, s);
            __syncthreads();
        }
    }
}
