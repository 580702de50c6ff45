// From the sums of the lanes to new centres, and to the one small record that the host reads.
//
// Both kernels: block of BLOCK threads. Sums have a fixed tree: thread y of `groups` adds the lanes y, y + groups, ...
// in order, then the threads' sums are added pairwise.
//
// move: a block takes cluster blockIdx.x, then every gridDim.x-th.
//   in   sums, masses, counts   (lanes, k, d), (lanes, k), (lanes, k): see assign.cu
//   in   centers    (k, d) float64, the ones before;   shift (d) float64
//   in   across     features that are added up side by side: a power of two, at most BLOCK
//   out  moved      (k, d) float64, means of the clusters; of one that is not filled, a makeshift
//   out  state      (k, 3) float64: weight, rows of positive weight, squared move
//   Bytes: 8 lanes k (d + 2) read, 8 k d read, 8 k (d + 3) written.
//
// record: one block.
//   in   changed, doubtful (lanes) int64;   centers (k, d)
//   io   state      (k, 3);   io moved (k, d): clusters that are not filled go where the heaviest one is
//   out  facts      (5) float64: changed, empty, doubtful, undecided (always 0), sum of the squared moves
//   Bytes: 16 lanes + 24 k read.

#include "warps.cuh"

#define BLOCK 256

// The sum over the block, in all threads. Has barriers in it.
__device__ inline double block_sum(double value) {
    __shared__ double scratch[BLOCK];
    const int t = threadIdx.x;
    scratch[t] = value;
    for (int step = BLOCK / 2; step > 0; step /= 2) {
        __syncthreads();
        if (t < step) scratch[t] += scratch[t + step];
    }
    __syncthreads();
    const double total = scratch[0];
    __syncthreads();
    return total;
}

extern "C" __global__ void __launch_bounds__(BLOCK, 4)
    move(const double *__restrict__ sums, const double *__restrict__ masses, const i64 *__restrict__ counts, i64 lanes,
         i64 k, i64 d, const double *__restrict__ centers, const double *__restrict__ shift, i64 across,
         double *__restrict__ moved, double *__restrict__ state) {
    __shared__ double part[BLOCK];
    const int t = threadIdx.x, x = t % (int)across, y = t / (int)across, groups = BLOCK / (int)across;
    for (i64 j = blockIdx.x; j < k; j += gridDim.x) {
        double mass = 0, count = 0, way = 0;
        for (i64 lane = t; lane < lanes; lane += BLOCK) {
            mass += masses[lane * k + j];
            count += (double)counts[lane * k + j];
        }
        mass = block_sum(mass);
        count = block_sum(count);
        for (i64 first = 0; first < d; first += across) {
            const i64 f = first + x;
            double sum = 0;
            for (i64 lane = y; f < d && lane < lanes; lane += groups) sum += sums[(lane * k + j) * d + f];
            part[t] = sum;
            for (int step = groups / 2; step > 0; step /= 2) {
                __syncthreads();
                if (y < step) part[t] += part[t + step * (int)across];
            }
            if (y == 0 && f < d) { // its own sum: no barrier needed
                const double mean = shift[f] + part[t] / (count > 0 && mass > 0 ? mass : 1.0);
                const double change = mean - centers[j * d + f];
                moved[j * d + f] = mean;
                way += change * change;
            }
            __syncthreads();
        }
        way = block_sum(way);
        if (t == 0) {
            state[3 * j] = mass;
            state[3 * j + 1] = count;
            state[3 * j + 2] = way;
        }
    }
}

// The cluster of the largest weight, the first of equals. Has barriers in it.
__device__ inline i64 heaviest(const double *state, i64 k) {
    __shared__ double mass[BLOCK];
    __shared__ i64 which[BLOCK];
    const int t = threadIdx.x;
    mass[t] = -1;
    which[t] = k;
    for (i64 j = t; j < k; j += BLOCK)
        if (state[3 * j] > mass[t]) {
            mass[t] = state[3 * j];
            which[t] = j;
        }
    for (int step = BLOCK / 2; step > 0; step /= 2) {
        __syncthreads();
        const int other = t + step;
        if (t < step && (mass[other] > mass[t] || (mass[other] == mass[t] && which[other] < which[t]))) {
            mass[t] = mass[other];
            which[t] = which[other];
        }
    }
    __syncthreads();
    return which[0];
}

extern "C" __global__ void __launch_bounds__(BLOCK, 4)
    record(const i64 *__restrict__ changed, const i64 *__restrict__ doubtful, i64 lanes, i64 k, i64 d,
           const double *__restrict__ centers, double *moved, double *state, double *__restrict__ facts) {
    const int t = threadIdx.x;
    double moved_rows = 0, decided_rows = 0, empty = 0, unfilled = 0, way = 0;
    for (i64 lane = t; lane < lanes; lane += BLOCK) {
        moved_rows += (double)changed[lane];
        decided_rows += (double)doubtful[lane];
    }
    for (i64 j = t; j < k; j += BLOCK) {
        empty += state[3 * j + 1] == 0;
        unfilled += !(state[3 * j + 1] > 0 && state[3 * j] > 0);
    }
    if (block_sum(unfilled) > 0) {
        const i64 heavy = heaviest(state, k);
        for (i64 j = 0; j < k; j++) {
            if (state[3 * j + 1] > 0 && state[3 * j] > 0) continue; // the same for all threads
            double squared = 0;
            for (i64 f = t; f < d; f += BLOCK) {
                const double mean = moved[heavy * d + f], change = mean - centers[j * d + f];
                moved[j * d + f] = mean;
                squared += change * change;
            }
            squared = block_sum(squared);
            if (t == 0) state[3 * j + 2] = squared;
        }
        __syncthreads();
    }
    for (i64 j = t; j < k; j += BLOCK) way += state[3 * j + 2];
    const double values[5] = {block_sum(moved_rows), block_sum(empty), block_sum(decided_rows), 0, block_sum(way)};
    for (int fact = 0; t == 0 && fact < 5; fact++) facts[fact] = values[fact];
}
