// Sums of the clusters of any labels: a counting sort of each lane's rows by label, then a sum over each segment.
//
// Macros: ROW. Both kernels: blocks of BLOCK threads. Lanes are those of warps.cuh, with tiles of BLOCK rows.
//
// sort: a block takes lane blockIdx.x, then every gridDim.x-th.
//   in   labels    (n) int32, from 0 to k - 1
//   out  start     (lanes, k + 1) int32: where the rows of a label begin in the lane's order
//   out  order     (n) int32: the lane's rows by label, stably, counted from its first row
//   out  next      (lanes, k) int32: scratch
//   Bytes a row: 8 read, 4 written; 24 k a lane.
//
// add: a block takes segment blockIdx.x of the lanes k segments, then every gridDim.x-th. Warp w adds its rows w,
// w + WARPS, ... in order, a thread a feature; then the warps' sums are added in order.
//   in   x         (n, d) ROW, element (i, f) at x[i * row_step + f * column_step]
//   in   weights   (n) float64, or null for ones;   shift (d) float64;   start, order
//   out  sums      (lanes, k, d), masses (lanes, k) float64, counts (lanes, k) int64: see assign.cu
//   Bytes a row: d sizeof(ROW) + 4 read (8 more with weights); a lane: 8 k (d + 2) written.

#include "warps.cuh"

#define BLOCK 256
#define WARPS (BLOCK / WARP)

// Turn the numbers of rows of each label, in start[1 .. k], into where each label begins. Ends with a barrier.
__device__ inline void add_up_before(int *start, i64 k) {
    __shared__ int ends[WARPS];
    const int t = threadIdx.x, warp = t / WARP, lane = t % WARP;
    int before = 0;
    for (i64 first = 1; first <= k; first += BLOCK) {
        const i64 j = first + t;
        int rows = j <= k ? start[j] : 0;
        for (int step = 1; step < WARP; step *= 2) {
            const int more = __shfl_up_sync(ALL_LANES, rows, step);
            if (lane >= step) rows += more;
        }
        if (lane == WARP - 1) ends[warp] = rows;
        __syncthreads();
        int all = before;
        for (int w = 0; w < WARPS; w++) {
            if (w == warp) rows += all;
            all += ends[w];
        }
        before = all;
        if (j <= k) start[j] = rows;
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK, 4)
    sort(const int *__restrict__ labels, i64 n, i64 k, i64 lanes, int *start, int *order, int *next) {
    const int t = threadIdx.x, warp = t / WARP, lane_in_warp = t % WARP, bits = bits_of((int)k);
    for (i64 lane = blockIdx.x; lane < lanes; lane += gridDim.x) {
        const i64 first = lane_start(lane, lanes, n, BLOCK), stop = lane_start(lane + 1, lanes, n, BLOCK);
        int *begin = start + lane * (k + 1), *place = next + lane * k;
        for (i64 j = t; j <= k; j += BLOCK) begin[j] = 0;
        __syncthreads();
        for (i64 i = first + t; i < stop; i += BLOCK) atomicAdd(&begin[labels[i] + 1], 1);
        __syncthreads();
        add_up_before(begin, k);
        for (i64 j = t; j < k; j += BLOCK) place[j] = begin[j];
        for (i64 tile = first; tile < stop; tile += BLOCK) {
            const i64 i = tile + t;
            const bool valid = i < stop;
            const int label = valid ? labels[i] : 0;
            const unsigned present = __ballot_sync(ALL_LANES, valid);
            const unsigned same = threads_like_me(label, bits) & present;
            const int rank = __popc(same & ((1u << lane_in_warp) - 1));
            for (int w = 0; w < WARPS; w++) { // warps in turn, so that rows stay in order
                __syncthreads();
                if (w != warp) continue;
                const int position = valid ? place[label] + rank : 0;
                __syncwarp();
                if (valid && rank == 0) place[label] += __popc(same);
                if (valid) order[first + position] = (int)(i - first);
            }
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK, 4)
    add(const ROW *__restrict__ x, i64 row_step, i64 column_step, i64 n, const double *__restrict__ weights,
        const double *__restrict__ shift, const int *__restrict__ start, const int *__restrict__ order, i64 k, i64 d,
        i64 lanes, double *__restrict__ sums, double *__restrict__ masses, i64 *__restrict__ counts) {
    __shared__ double part[WARPS][WARP];
    __shared__ i64 tally[WARPS];
    const int t = threadIdx.x, warp = t / WARP, lane_in_warp = t % WARP;
    for (i64 segment = blockIdx.x; segment < lanes * k; segment += gridDim.x) {
        const i64 lane = segment / k, j = segment % k, first = lane_start(lane, lanes, n, BLOCK);
        const int begin = start[lane * (k + 1) + j], end = start[lane * (k + 1) + j + 1];
        for (i64 column = 0; column <= d; column += WARP) { // column d is the weight
            const i64 f = column + lane_in_warp;
            double sum = 0;
            i64 positive = 0;
            for (int p = begin + warp; f <= d && p < end; p += WARPS) {
                const i64 i = first + order[first + p];
                const double w = weights ? weights[i] : 1.0;
                if (f < d) {
                    sum += w * ((double)x[i * row_step + f * column_step] - shift[f]);
                } else {
                    sum += w;
                    positive += w > 0;
                }
            }
            part[warp][lane_in_warp] = sum;
            if (f == d) tally[warp] = positive;
            __syncthreads();
            if (warp == 0 && f <= d) {
                for (int w = 1; w < WARPS; w++) sum += part[w][lane_in_warp];
                if (f < d) {
                    sums[segment * d + f] = sum;
                } else {
                    for (int w = 1; w < WARPS; w++) positive += tally[w];
                    masses[segment] = sum;
                    counts[segment] = positive;
                }
            }
            __syncthreads();
        }
    }
}
