// The search for many features or centres: around a matrix product of a chunk of rows with the centres.
//
// Macros: ROW, REAL. Both kernels: a warp takes a row; its number in the grid, then every so many-th.
//
// localize: the chunk's rows in the frame's coordinates, for the product.
//   in   x         (m, d) ROW, element (i, f) at x[i * row_step + f * column_step]
//   in   shift     (d) float64 and scale: the frame
//   out  seen      (m, d) REAL;   out norms (m) REAL: |x|^2 there
//   Bytes a row: d sizeof(ROW) read, (d + 1) sizeof(REAL) written (the chunk stays in the second-level cache).
//
// decide: the nearest centre of each row, from the product.
//   in   x, shift, scale as above
//   in   centers   (k, d) float64, original coordinates
//   in   products  (m, k) REAL: -2 x.c;   in squares (k) REAL: |c|^2, both in the frame
//   in   norms     (m) REAL
//   in   reach     () float64: the largest |c| in the frame;   trust: relative error of a fast distance
//   io   labels    (m) int32, of the pass before; written where they change
//   io   facts     (2) int64: rows with a new label and rows decided by differences are added to it
//   Bytes a row: k sizeof(REAL) + 4 read once, 4 written where the label changes. A row in doubt reads its products
//   again, and itself and the centres within the limit.

#include "warps.cuh"
#include "distances.cuh"

extern "C" __global__ void localize(const ROW *__restrict__ x, i64 row_step, i64 column_step, i64 m, i64 d,
                                    const double *__restrict__ shift, double scale, REAL *__restrict__ seen,
                                    REAL *__restrict__ norms) {
    const int lane = threadIdx.x % WARP;
    const i64 warps = (i64)gridDim.x * blockDim.x / WARP;
    for (i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / WARP; i < m; i += warps) {
        REAL xx = 0;
        for (i64 f = lane; f < d; f += WARP) {
            const REAL value = see(x[i * row_step + f * column_step], (REAL)scale, (REAL)(shift[f] * scale));
            seen[i * d + f] = value;
            xx += value * value;
        }
        for (int step = WARP / 2; step > 0; step /= 2) xx += __shfl_xor_sync(ALL_LANES, xx, step);
        if (lane == 0) norms[i] = xx;
    }
}

__device__ inline Lowest lowest_of_warp(Lowest found) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        const REAL best = __shfl_xor_sync(ALL_LANES, found.best, step);
        const REAL second = __shfl_xor_sync(ALL_LANES, found.second, step);
        const int label = __shfl_xor_sync(ALL_LANES, found.label, step);
        found.take(best, label);
        if (second < found.second) found.second = second;
    }
    return found;
}

extern "C" __global__ void decide(const ROW *__restrict__ x, i64 row_step, i64 column_step, i64 m, i64 d,
                                  const double *__restrict__ centers, i64 k, const REAL *__restrict__ products,
                                  const REAL *__restrict__ squares, const REAL *__restrict__ norms,
                                  const double *__restrict__ reach, double trust, int *__restrict__ labels,
                                  unsigned long long *__restrict__ facts) {
    const int lane = threadIdx.x % WARP;
    const i64 warps = (i64)gridDim.x * blockDim.x / WARP;
    unsigned long long changed = 0, doubtful = 0;
    for (i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / WARP; i < m; i += warps) {
        const REAL *product = products + i * k;
        Lowest found = {infinity(), infinity(), 0};
        for (i64 j = lane; j < k; j += WARP) found.take(product[j] + squares[j], (int)j);
        found = lowest_of_warp(found);
        const REAL limit = doubt_limit(found.best, norms[i], (REAL)trust, (REAL)*reach);
        int label = found.label; // alike in all threads, unless two centres are: then second is best
        if (!(found.second > limit)) {
            Exact exact = {__longlong_as_double(0x7ff0000000000000LL), 0x7fffffff};
            for (i64 j = lane; j < k; j += WARP) {
                if (product[j] + squares[j] > limit) continue;
                double squared = 0;
                for (i64 f = 0; f < d; f++) {
                    const double difference = (double)x[i * row_step + f * column_step] - centers[j * d + f];
                    squared += difference * difference;
                }
                exact.take(squared, (int)j);
            }
            exact = nearest_of_warp(exact);
            label = exact.label < k ? exact.label : 0;
            doubtful++;
        }
        if (lane == 0 && labels[i] != label) {
            labels[i] = label;
            changed++;
        }
    }
    if (lane == 0 && changed) atomicAdd(facts, changed);
    if (lane == 0 && doubtful) atomicAdd(facts + 1, doubtful);
}
