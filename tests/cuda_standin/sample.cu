// A small kernel in which the tools are shown: the nearest centre of each row, and the weight each block finds near it.
//
//   in   x       (n, d) REAL, element (i, f) at x[i * row_step + f]
//   in   centers (k, d) REAL;   in weights (n) float64
//   out  labels  (n) int32;     out mass (gridDim.x, k) float64
//
// Grid: a warp takes a row, its lanes the centres; threads of the block then own centres and add rows in order.
// Shared memory: the centres, and a label for each warp.

#define ALL_LANES 0xffffffffu

extern "C" __global__ void nearest(const REAL *__restrict__ x, long long row_step, const REAL *__restrict__ centers,
                                   const double *__restrict__ weights, long long n, int k, int d,
                                   int *__restrict__ labels, double *__restrict__ mass) {
    extern __shared__ __align__(16) unsigned char memory[];
    REAL *tile = (REAL *)memory;
    int *chosen = (int *)(tile + k * d);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, rows = blockDim.x / 32;
    const long long first = (long long)blockIdx.x * rows, row = first + warp;

    for (int t = threadIdx.x; t < k * d; t += blockDim.x) tile[t] = centers[t];
    __syncthreads();

    REAL best = (REAL)1e30;
    int label = k;
    for (int j = lane; j < k && row < n; j += 32) {
        REAL squared = 0;
        // distances begin
        for (int f = 0; f < d; f++) {
            const REAL difference = x[row * row_step + f] - tile[j * d + f];
            squared += difference * difference;
        }
        // distances end
        if (squared < best) {
            best = squared;
            label = j;
        }
    }
    for (int step = 16; step > 0; step /= 2) {
        const REAL other = __shfl_down_sync(ALL_LANES, best, step);
        const int its = __shfl_down_sync(ALL_LANES, label, step);
        if (other < best || (other == best && its < label)) {
            best = other;
            label = its;
        }
    }
    if (lane == 0) chosen[warp] = label;
    if (lane == 0 && row < n) labels[row] = label;
    __syncthreads();

    for (int j = threadIdx.x; j < k; j += blockDim.x) {
        double sum = 0;
        for (int r = 0; r < rows; r++)
            if (chosen[r] == j) sum += weights[first + r];
        mass[(long long)blockIdx.x * k + j] = sum;
    }
}
