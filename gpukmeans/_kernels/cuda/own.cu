// Squared distances of the rows to their own centres, by float64 differences.
//
//   in   x         (n, d) ROW, element (i, f) at x[i * row_step + f * column_step]
//   in   weights   (n) float64, or null for ones
//   in   labels    (n) int32;   in centers (k, d) float64
//   out  squared   (n) float64; null: not wanted
//   out  inertia   (lanes) float64: weighted sums of them
//
// Macros: ROW. Grid: a block takes lane blockIdx.x, then every gridDim.x-th; warp w takes the lane's rows w,
// w + WARPS, ... in order, its threads the features; then the warps' sums are added in order. Lanes are those of
// warps.cuh, with tiles of BLOCK rows.
//
// Bytes a row: d sizeof(ROW) + 4 read (8 more with weights) and the centre, from cache; 8 written if wanted.

#include "warps.cuh"

#define BLOCK 256
#define WARPS (BLOCK / WARP)

extern "C" __global__ void __launch_bounds__(BLOCK, 4)
    own(const ROW *__restrict__ x, i64 row_step, i64 column_step, i64 n, i64 d, const double *__restrict__ weights,
        const int *__restrict__ labels, const double *__restrict__ centers, i64 lanes, double *__restrict__ squared,
        double *__restrict__ inertia) {
    __shared__ double part[WARPS];
    const int warp = threadIdx.x / WARP, lane_in_warp = threadIdx.x % WARP;
    for (i64 lane = blockIdx.x; lane < lanes; lane += gridDim.x) {
        const i64 stop = lane_start(lane + 1, lanes, n, BLOCK);
        double sum = 0;
        for (i64 i = lane_start(lane, lanes, n, BLOCK) + warp; i < stop; i += WARPS) {
            const double *center = centers + labels[i] * d;
            double distance = 0;
            for (i64 f = lane_in_warp; f < d; f += WARP) {
                const double difference = (double)x[i * row_step + f * column_step] - center[f];
                distance += difference * difference;
            }
            for (int step = WARP / 2; step > 0; step /= 2) distance += __shfl_xor_sync(ALL_LANES, distance, step);
            if (squared && lane_in_warp == 0) squared[i] = distance;
            sum += (weights ? weights[i] : 1.0) * distance;
        }
        if (lane_in_warp == 0) part[warp] = sum;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int w = 1; w < WARPS; w++) sum += part[w];
            inertia[lane] = sum;
        }
        __syncthreads();
    }
}
