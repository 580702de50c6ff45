// The fused pass for few features and centres: nearest centre and sums of the clusters, X read once.
//
//   in   x          (n, d) ROW, element (i, f) at x[i * row_step + f * column_step]
//   in   weights    (n) float64, or null for ones
//   in   shift      (d) float64 and scale: the frame; centres and rows are seen from there
//   in   centers    (k, d) float64, original coordinates
//   in   trust      relative error of a fast distance
//   io   labels     (n) int32, of the pass before; written where they change
//   out  sums       (lanes, k, d) float64, of w (x - shift); null: nothing is added up
//   out  masses     (lanes, k) float64, of w
//   out  counts     (lanes, k) int64, rows of positive weight
//   out  changed    (lanes) int64, rows with a new label
//   out  doubtful   (lanes) int64, rows decided by float64 differences
//
// Macros: ROW, REAL, FEATURES (d), THREADS (of a block, and rows of a tile). Shared memory: `lay_out`, and the same in
// bytes in passes.py.
//
// Grid: a block takes lane blockIdx.x, then every gridDim.x-th; a lane takes its tiles of THREADS rows in order.
// The tile lies in shared memory; a thread searches one row of it, over centres that all threads read at once.
// Rows in doubt are decided by their warp. Then the tile is sorted by label, stably, and threads own cells
// (cluster, feature) of the sums: each adds up its cluster's rows in order. With few cells `splits` threads share
// one, thread s taking the rows s, s + splits, ... of the cluster in the tile; their sums are added in order at the
// end of the lane. So the order of every sum is fixed by (n, k, d, dtype), whatever the grid.
//
// Bytes a row: d sizeof(ROW) + 4 read (8 more with weights), 4 written where the label changes. Bytes a lane:
// 8 (k + 1) d read, 8 k (d + 2) + 16 written. Flops a row: 2 k d in REAL, 2 d in float64. On paper (H100: 67 TF/s and
// 3.4 TB/s, 20 flops a byte) the bytes of float32 rows bind up to k = 40 at most, and arithmetic beyond.

#include "warps.cuh"
#include "distances.cuh"

#define WARPS (THREADS / WARP)
#define COLUMNS (FEATURES + 1)           // of a cluster's sums: features and weight
#define PITCH (FEATURES | 1)             // of a row in shared memory: odd, so that banks do not collide
#define ALIGNED (16 / (int)sizeof(REAL)) // elements that are read at once
#define STRIDE ((FEATURES + ALIGNED) / ALIGNED * ALIGNED) // of a centre: -2 c, |c|^2, padding

// Threads that a multiprocessor is to hold: so long as a row takes few registers, enough to hide what waits. Blocks
// of 128 threads have the long rows; with 512 of their threads some compilers run out of registers.
#define ROW_BYTES (FEATURES * (int)sizeof(REAL))
#define RESIDENT (ROW_BYTES > 128 ? 256 : THREADS == 128 ? 384 : 512)
#define AT_ONCE (ROW_BYTES <= 32 ? 4 : 2) // centres that a thread looks at, likewise

struct Shared {
    REAL *table;                           // (k, STRIDE) centres in the frame
    double *cells;                         // (splits, k, COLUMNS)
    i64 *tally;                            // (splits, k) rows of positive weight
    double *weight;                        // (THREADS)
    double *shift;                         // (d)
    REAL *seen_shift;                      // (d) in the frame's coordinates
    ROW *tile;                             // (THREADS, PITCH)
    unsigned short *start, *count, *order; // (k + 1), (WARPS, k), (THREADS): the tile by label
};

__device__ inline Shared lay_out(unsigned char *memory, int k, int splits) {
    Pieces pieces = {memory};
    Shared s;
    s.table = pieces.take<REAL>(k * STRIDE); // first: its alignment is known, and several elements are read at once
    s.cells = pieces.take<double>(splits * k * COLUMNS);
    s.tally = pieces.take<i64>(splits * k);
    s.weight = pieces.take<double>(THREADS);
    s.shift = pieces.take<double>(FEATURES);
    s.seen_shift = pieces.take<REAL>(FEATURES);
    s.tile = pieces.take<ROW>(THREADS * PITCH);
    s.start = pieces.take<unsigned short>(k + 1);
    s.count = pieces.take<unsigned short>(WARPS * k);
    s.order = pieces.take<unsigned short>(THREADS);
    return s;
}

// Fill the table of centres; every thread gets the norm of the longest. Ends with a barrier.
__device__ inline REAL see_centers(const Shared &s, const double *centers, const double *shift, double scale, int k) {
    __shared__ double longest[WARPS];
    const int t = threadIdx.x;
    double largest = 0;
    for (int f = t; f < FEATURES; f += THREADS) {
        s.shift[f] = shift[f];
        s.seen_shift[f] = (REAL)(shift[f] * scale);
    }
    for (int j = t; j < k; j += THREADS) {
        double norm = 0;
#pragma unroll 1 // here and in what is seldom done: registers are for the search
        for (int f = 0; f < FEATURES; f++) {
            const double c = (centers[j * FEATURES + f] - shift[f]) * scale;
            norm += c * c;
            s.table[j * STRIDE + f] = (REAL)(-2 * c);
        }
        if (norm > FAR) {
            norm = FAR;
            for (int f = 0; f < FEATURES; f++) s.table[j * STRIDE + f] = 0;
        }
        s.table[j * STRIDE + FEATURES] = (REAL)norm;
        largest = norm > largest ? norm : largest;
    }
    for (int step = WARP / 2; step > 0; step /= 2) {
        const double other = __shfl_xor_sync(ALL_LANES, largest, step);
        largest = other > largest ? other : largest;
    }
    if (t % WARP == 0) longest[t / WARP] = largest;
    __syncthreads();
    for (int w = 0; w < WARPS; w++) largest = longest[w] > largest ? longest[w] : largest;
    return (REAL)sqrt(largest);
}

// Fast distances, less |x|^2, of a row in the frame's coordinates to all centres.
__device__ inline Lowest search(const REAL *table, const REAL *x, int k) {
    Lowest found = {infinity(), infinity(), 0};
#pragma unroll AT_ONCE
    for (int j = 0; j < k; j++) {
        // distance begins: in REAL alone
        REAL value = table[j * STRIDE + FEATURES];
#pragma unroll
        for (int f = 0; f < FEATURES; f++) value += table[j * STRIDE + f] * x[f];
        found.take(value, j);
        // distance ends
    }
    return found;
}

// The warp decides one row of the tile: by float64 differences, among the centres within the limit.
__device__ inline int decide(const Shared &s, const double *centers, REAL scale, int k, int row, REAL limit) {
    const ROW *x = s.tile + row * PITCH;
    Exact found = {__longlong_as_double(0x7ff0000000000000LL), 0x7fffffff};
    for (int j = threadIdx.x % WARP; j < k; j += WARP) {
        REAL value = s.table[j * STRIDE + FEATURES];
#pragma unroll 1
        for (int f = 0; f < FEATURES; f++) value += s.table[j * STRIDE + f] * see(x[f], scale, s.seen_shift[f]);
        if (value > limit) continue;
        double squared = 0;
#pragma unroll 1
        for (int f = 0; f < FEATURES; f++) {
            const double difference = (double)x[f] - centers[j * FEATURES + f];
            squared += difference * difference;
        }
        found.take(squared, j);
    }
    found = nearest_of_warp(found);
    return found.label < k ? found.label : 0;
}

// Sort the rows of the tile by label, stably: order[start[j]] ... order[start[j + 1] - 1] have label j.
// count has to be zero before. Has barriers in it, and ends with one.
__device__ inline void sort_tile(const Shared &s, int label, bool valid, int k) {
    const int t = threadIdx.x, warp = t / WARP, lane = t % WARP;
    const unsigned present = __ballot_sync(ALL_LANES, valid);
    const unsigned same = threads_like_me(label, bits_of(k)) & present;
    const int rank = __popc(same & ((1u << lane) - 1));
    if (valid && rank == 0) s.count[warp * k + label] = (unsigned short)__popc(same);
    __syncthreads();
    for (int j = t; j < k; j += THREADS) {
        int rows = 0;
        for (int w = 0; w < WARPS; w++) {
            const int more = s.count[w * k + j];
            s.count[w * k + j] = (unsigned short)rows;
            rows += more;
        }
        s.start[j + 1] = (unsigned short)rows;
    }
    __syncthreads();
    if (warp == 0) {
        int before = 0;
        for (int first = 0; first < k; first += WARP) {
            const int j = first + lane;
            int rows = j < k ? s.start[j + 1] : 0;
            for (int step = 1; step < WARP; step *= 2) {
                const int more = __shfl_up_sync(ALL_LANES, rows, step);
                if (lane >= step) rows += more;
            }
            rows += before;
            if (j < k) s.start[j + 1] = (unsigned short)rows;
            before = __shfl_sync(ALL_LANES, rows, WARP - 1);
        }
        if (lane == 0) s.start[0] = 0;
    }
    __syncthreads();
    if (valid) s.order[s.start[label] + s.count[warp * k + label] + rank] = (unsigned short)t;
    __syncthreads();
}

// Add the sorted tile to the cells that the thread owns.
__device__ inline void add_tile(const Shared &s, bool weighted, int k, int splits) {
    for (int cell = threadIdx.x; cell < splits * k * COLUMNS; cell += THREADS) {
        const int f = cell % COLUMNS, own = cell / COLUMNS, j = own % k, split = own / k;
        double sum = 0;
        int positive = 0;
        for (int p = s.start[j] + split; p < s.start[j + 1]; p += splits) {
            const int row = s.order[p];
            const double w = weighted ? s.weight[row] : 1.0;
            if (f < FEATURES) {
                sum += w * ((double)s.tile[row * PITCH + f] - s.shift[f]);
            } else {
                sum += w;
                positive += w > 0;
            }
        }
        s.cells[cell] += sum;
        if (f == FEATURES) s.tally[own] += positive;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / THREADS)
    assign(const ROW *__restrict__ x, i64 row_step, i64 column_step, i64 n, const double *__restrict__ weights,
           const double *__restrict__ shift, double scale, const double *__restrict__ centers, i64 n_centers,
           double trust, int *__restrict__ labels, i64 lanes, i64 n_splits, double *__restrict__ sums,
           double *__restrict__ masses, i64 *__restrict__ counts, i64 *__restrict__ changed,
           i64 *__restrict__ doubtful) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ i64 facts[2][WARPS];
    const int t = threadIdx.x, k = (int)n_centers, splits = (int)n_splits;
    const Shared s = lay_out(memory, k, splits);
    const REAL reach = see_centers(s, centers, shift, scale, k);
    for (int e = t; e < WARPS * k; e += THREADS) s.count[e] = 0;

    for (i64 lane = blockIdx.x; lane < lanes; lane += gridDim.x) {
        for (int cell = t; cell < splits * k * COLUMNS; cell += THREADS) s.cells[cell] = 0;
        for (int own = t; own < splits * k; own += THREADS) s.tally[own] = 0;
        i64 moved_rows = 0, decided_rows = 0; // of the warp
        const i64 stop = lane_start(lane + 1, lanes, n, THREADS);
        for (i64 first = lane_start(lane, lanes, n, THREADS); first < stop; first += THREADS) {
            const int rows = stop - first < THREADS ? (int)(stop - first) : THREADS;
            for (int e = t; e < rows * FEATURES; e += THREADS)
                s.tile[e / FEATURES * PITCH + e % FEATURES] =
                    x[(first + e / FEATURES) * row_step + e % FEATURES * column_step];
            if (weights && t < rows) s.weight[t] = weights[first + t];
            __syncthreads();

            const bool valid = t < rows;
            REAL seen[FEATURES], xx = 0;
#pragma unroll
            for (int f = 0; f < FEATURES; f++) {
                seen[f] = valid ? see(s.tile[t * PITCH + f], (REAL)scale, s.seen_shift[f]) : (REAL)0;
                xx += seen[f] * seen[f];
            }
            const Lowest found = search(s.table, seen, k);
            const REAL limit = doubt_limit(found.best, xx, (REAL)trust, reach);
            int label = found.label;
            unsigned open = __ballot_sync(ALL_LANES, valid && !(found.second > limit));
            decided_rows += __popc(open);
            while (open) {
                const int who = WARP - 1 - __clz(open);
                open &= ~(1u << who);
                const REAL its_limit = __shfl_sync(ALL_LANES, limit, who);
                const int decided = decide(s, centers, (REAL)scale, k, t / WARP * WARP + who, its_limit);
                if (t % WARP == who) label = decided;
            }
            const bool moved = valid && labels[first + t] != label;
            if (moved) labels[first + t] = label;
            moved_rows += __popc(__ballot_sync(ALL_LANES, moved));
            if (sums) {
                sort_tile(s, label, valid, k);
                add_tile(s, weights, k, splits);
                for (int e = t; e < WARPS * k; e += THREADS) s.count[e] = 0;
            }
            __syncthreads();
        }

        if (t % WARP == 0) {
            facts[0][t / WARP] = moved_rows;
            facts[1][t / WARP] = decided_rows;
        }
        __syncthreads();
        for (int cell = t; sums && cell < k * COLUMNS; cell += THREADS) {
            const int f = cell % COLUMNS, j = cell / COLUMNS;
            double sum = 0;
            i64 positive = 0;
            for (int split = 0; split < splits; split++) {
                sum += s.cells[split * k * COLUMNS + cell];
                if (f == FEATURES) positive += s.tally[split * k + j];
            }
            if (f < FEATURES) {
                sums[(lane * k + j) * FEATURES + f] = sum;
            } else {
                masses[lane * k + j] = sum;
                counts[lane * k + j] = positive;
            }
        }
        if (t < 2) {
            i64 rows = 0;
            for (int w = 0; w < WARPS; w++) rows += facts[t][w];
            (t == 0 ? changed : doubtful)[lane] = rows;
        }
        __syncthreads();
    }
}
