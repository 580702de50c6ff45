// k-means++: `lower` settles the row chosen last and evaluates the next candidates, `pick` keeps the best of
// them, `draw` draws the candidates after that. Three launches a centre, nothing read back.
//
//   argument     shape           direction  what
//   x            (n, d)          in         rows of ROW; element (i, q) at i * row_step + q * column_step
//   scale        ()              in         a power of two: distances are of scale * x
//   weights      (n,) or null    in
//   closest      (n,)            in, out    squared distance to the nearest row chosen; `lower` settles `winner`
//   winner       () or null      in         the row chosen last; written by `pick`
//   candidates   (t,)            in         rows; written by `draw`
//   potentials   (t, tiles)      out, in    sums over the rows of a tile of weight * squared distance, by candidate
//   totals       (t,)            out        scratch of `pick`
//   masses       (tiles,)        out, in    the potentials of the winner
//   uniforms     (t,)            in
//   inside       (t, tile)       out        scratch of `draw`: the masses of the rows of the tile that was found
//
// Squared distances that count are float64 sums of (x - c)^2, feature by feature: they never cancel. Only the
// smaller of distance and `closest` is asked for, so float32 rows are compared in float32 first. With u = 2^-24
// that sum is at most (1 + u)^(d + 3) times the true one; where it exceeds `closest` all the same, `closest` is
// the answer, and no float64 is spent (many devices have 1/64 of it). The pairs left open are dealt out to the
// lanes of a warp, so that few open pairs cost little. The first passes leave all open, the c-th about 1/c.
//
// lower  A block of 128 threads takes a tile, 128 rows at a time, one row a thread; rows go through shared
//        memory, 128 bytes of each at a time. Reads d * sizeof(ROW) + 8 bytes a row (+ 8 of weights), whatever
//        t, and writes 8 where a row is nearer to the winner. Rows of more than 128 bytes with open pairs, and
//        the tile again for each POINTS points, come from the cache. 3 d (1 + t) flops a row in ROW.
// pick   One block of 1024 threads. Reads 8 t tiles bytes.
// draw   A block of 128 threads for each candidate. Reads 8 tiles + tile * (d * sizeof(ROW) + 16) bytes.
//
// Sums: thread r of a tile adds the rows r, r + 128, ..., then threads are added by a fixed tree. A tile belongs
// to one block. So no bit depends on the number of blocks or the order of threads, and none on the float32 test.

#define THREADS 128
#define WARPS (THREADS / 32)
#define PICK_THREADS 1024
#define LOWER_BLOCKS (POINTS > 8 ? 3 : 5) // on a multiprocessor: at most 168 or 96 registers a thread
#define ALL_LANES 0xffffffffu

constexpr bool single = sizeof(ROW) == 4;
constexpr int chunk = 128 / sizeof(ROW); // features in shared memory at once
constexpr int slots = single ? POINTS : 1;

typedef long long i64;

struct Rows {
    const ROW *x;
    i64 row_step, column_step, n, d;
    double scale;

    // float64 rows are scaled when they are read; squares of float32 rows fit into float64 and are scaled at the end.
    __device__ __forceinline__ ROW operator()(i64 i, i64 q) const {
        const ROW value = x[i * row_step + q * column_step];
        return single ? value : (ROW)(value * scale);
    }
    __device__ __forceinline__ double scaled(double squared) const {
        return single ? squared * scale * scale : squared;
    }
};

struct Shared {
    ROW rows[THREADS][chunk + 1];
    ROW points[chunk][POINTS];
    i64 which[POINTS];               // the rows that are points
    double parts[WARPS][POINTS];     // of the potentials
    double squared[slots][THREADS];  // of open pairs, by point and row
    unsigned short pairs[WARPS][32 * slots];
    int open;                        // whether any warp has open pairs
};

// Neither is negative: as integers they compare alike, and the float64 unit is spared.
__device__ __forceinline__ double lower_of(double a, double b) {
    return __double_as_longlong(a) < __double_as_longlong(b) ? a : b;
}

__device__ __forceinline__ double add_square(double x, double c, double sum) { return fma(x - c, x - c, sum); }

__device__ __forceinline__ double warp_sum(double value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(ALL_LANES, value, step);
    return value;
}

// Features q0 and following of m rows from a on, and of the points, into shared memory.
__device__ __forceinline__ void stage(const Rows &rows, i64 a, int m, i64 q0, int width, Shared &s) {
    const int thread = threadIdx.x;
    if (rows.column_step == 1) { // neighbours in memory are features of a row
        int shift = 0;
        while (1 << shift < width) shift++;
#pragma unroll 4
        for (int e = thread; e < THREADS << shift; e += THREADS) {
            const int r = e >> shift, q = e & ((1 << shift) - 1);
            if (r < m && q < width) s.rows[r][q] = rows(a + r, q0 + q);
        }
    } else if (thread < m)
#pragma unroll 4
        for (int q = 0; q < width; q++) s.rows[thread][q] = rows(a + thread, q0 + q);
#pragma unroll 1
    for (int e = thread; e < width * POINTS; e += THREADS)
        s.points[e / POINTS][e % POINTS] = rows(s.which[e % POINTS], q0 + e / POINTS);
}

// Squared distances of each thread's row to the points in ROW; false distances for threads without a row.
__device__ __forceinline__ void evaluate(const Rows &rows, i64 a, int m, Shared &s, ROW (&fast)[POINTS]) {
    for (int j = 0; j < POINTS; j++) fast[j] = 0;
    for (i64 q0 = 0; q0 < rows.d; q0 += chunk) {
        const int width = rows.d - q0 < chunk ? (int)(rows.d - q0) : chunk;
        __syncthreads();
        stage(rows, a, m, q0, width, s);
        __syncthreads();
#pragma unroll 2
        for (int q = 0; q < width; q++) {
            const ROW value = s.rows[threadIdx.x][q];
#pragma unroll
            for (int j = 0; j < POINTS; j++) {
                const ROW difference = value - s.points[q][j];
                fast[j] = fma(difference, difference, fast[j]);
            }
        }
    }
}

// One bit for each of the first `count` points that may be nearer to the row than `near`.
// Scaled data are decided in float64, all of them.
__device__ __forceinline__ unsigned open_points(const ROW (&fast)[POINTS], double near, i64 d, double scale,
                                                int count) {
    const float margin = scale == 1.0 ? 1.0f - (float)(d + 8) * 0x1p-23f : 0.0f;
    const float reach = fmaf((float)near, 1.0f + 0x1p-22f, 0x1p-126f); // rounded up, and above what underflows
    unsigned open = 0;
#pragma unroll
    for (int j = 0; j < POINTS; j++) {
        const bool ruled_out = fast[j] * margin >= reach && fast[j] <= (ROW)0x1.fffffep127f;
        if (j < count && !ruled_out) open |= 1u << j;
    }
    return open;
}

// Squared distances in float64 for the open pairs of row and point, into s.squared.
__device__ __forceinline__ void decide(const Rows &rows, i64 a, int m, unsigned open, Shared &s) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int total = 0;
    for (int j = 0; j < POINTS; j++) {
        const bool mine = open >> j & 1;
        const unsigned lanes = __ballot_sync(ALL_LANES, mine);
        if (mine) s.pairs[warp][total + __popc(lanes & ((1u << lane) - 1))] = (unsigned short)(lane * POINTS + j);
        total += __popc(lanes);
    }
    const bool again = rows.d > chunk; // shared memory holds the last features only
    if (again) {
        if (threadIdx.x == 0) s.open = 0;
        __syncthreads();
        if (total > 0 && lane == 0) s.open = 1;
        __syncthreads();
        if (!s.open) return;
    }
    for (i64 q0 = 0; q0 < rows.d; q0 += chunk) {
        const int width = rows.d - q0 < chunk ? (int)(rows.d - q0) : chunk;
        if (again) {
            __syncthreads();
            stage(rows, a, m, q0, width, s);
            __syncthreads();
        } else
            __syncwarp();
        for (int i = lane; i < total; i += 32) {
            const int r = warp * 32 + s.pairs[warp][i] / POINTS, j = s.pairs[warp][i] % POINTS;
            double sum = q0 > 0 ? s.squared[j][r] : 0.0;
#pragma unroll 1
            for (int q = 0; q < width; q++) sum = add_square(s.rows[r][q], s.points[q][j], sum);
            s.squared[j][r] = q0 + width < rows.d ? sum : rows.scaled(sum);
        }
    }
    __syncwarp();
}

extern "C" __global__ void __launch_bounds__(THREADS, LOWER_BLOCKS)
lower(const ROW *x, i64 row_step, i64 column_step, i64 n, i64 d, double scale, const double *weights, double *closest,
      const i64 *winner, const i64 *candidates, i64 t, i64 tile, i64 tiles, double *potentials) {
    __shared__ Shared s;
    const Rows rows{x, row_step, column_step, n, d, scale};
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32, settle = winner != nullptr;
    for (i64 one = blockIdx.x; one < tiles; one += gridDim.x) {
        const i64 stop = (one + 1) * tile < n ? (one + 1) * tile : n;
        for (i64 p = 0; p < t + settle; p += POINTS) { // points: the winner, then the candidates
            const int count = t + settle - p < POINTS ? (int)(t + settle - p) : POINTS;
            const bool settling = settle && p == 0;
            if (thread < POINTS) {
                const i64 point = p + (thread < count ? thread : count - 1);
                s.which[thread] = settle && point == 0 ? *winner : candidates[point - settle];
            }
            double sum[POINTS] = {};
            for (i64 a = one * tile; a < stop; a += THREADS) {
                const int m = stop - a < THREADS ? (int)(stop - a) : THREADS;
                const bool mine = thread < m;
                ROW fast[POINTS];
                evaluate(rows, a, m, s, fast);
                double near = mine ? closest[a + thread] : 0.0;
                const double weight = !mine ? 0.0 : weights ? weights[a + thread] : 1.0;
                unsigned open = mine ? ALL_LANES : 0;
                if constexpr (single) {
                    open &= open_points(fast, near, d, scale, count);
                    decide(rows, a, m, open, s);
                }
#pragma unroll
                for (int j = 0; j < POINTS; j++) {
                    double squared = near;
                    if (open >> j & 1) squared = single ? s.squared[j % slots][thread] : (double)fast[j];
                    if (j == 0 && settling) {
                        if (mine && squared < near) closest[a + thread] = near = squared;
                    } else
                        sum[j] = fma(weight, lower_of(squared, near), sum[j]);
                }
            }
            for (int j = 0; j < POINTS; j++) {
                const double part = warp_sum(sum[j]);
                if (lane == 0) s.parts[warp][j] = part;
            }
            __syncthreads();
            if (thread >= (int)settling && thread < count)
                potentials[(p + thread - settle) * tiles + one] =
                    (s.parts[0][thread] + s.parts[1][thread]) + (s.parts[2][thread] + s.parts[3][thread]);
        }
    }
}

// The first candidate whose potential is the lowest, within the rounding of sums (_frame.first_lowest).
extern "C" __global__ void __launch_bounds__(PICK_THREADS)
pick(const double *potentials, i64 t, i64 tiles, const i64 *candidates, double *totals, i64 *winner, double *masses) {
    __shared__ double parts[PICK_THREADS / 32];
    __shared__ i64 best;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (i64 j = 0; j < t; j++) {
        double sum = 0;
        for (i64 i = threadIdx.x; i < tiles; i += PICK_THREADS) sum += potentials[j * tiles + i];
        sum = warp_sum(sum);
        if (lane == 0) parts[warp] = sum;
        __syncthreads();
        if (warp == 0) {
            sum = warp_sum(parts[lane]);
            if (lane == 0) totals[j] = sum;
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        double lowest = totals[0];
        for (i64 j = 1; j < t; j++) lowest = lower_of(totals[j], lowest);
        best = 0;
        while (best < t - 1 && !(totals[best] <= lowest * (1 + 1e-12))) best++;
        *winner = candidates[best];
    }
    __syncthreads();
    for (i64 i = threadIdx.x; i < tiles; i += PICK_THREADS) masses[i] = potentials[best * tiles + i];
}

struct Reached {
    double cumulated[THREADS]; // at the end of each thread's piece
    double before;             // cumulated before the place
    i64 place;
};

// The first place at which the cumulated values reach `wanted`, or that share of their sum; the last place if
// none does. Sums of a piece are added to what lies before it, so what is cumulated never falls.
__device__ void reach(const double *values, i64 count, double wanted, bool share, Reached &r) {
    const i64 piece = (count + THREADS - 1) / THREADS, first = threadIdx.x * piece;
    double sum = 0;
    for (i64 i = first; i < first + piece && i < count; i++) sum += values[i];
    __syncthreads(); // what was reached before has been read
    r.cumulated[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        double total = 0;
        for (int i = 0; i < THREADS; i++) r.cumulated[i] = total += r.cumulated[i];
        if (share) wanted *= total;
        int at = 0;
        while (at < THREADS - 1 && r.cumulated[at] < wanted) at++;
        const double before = at > 0 ? r.cumulated[at - 1] : 0.0;
        const i64 last = (at + 1) * piece < count ? (at + 1) * piece - 1 : count - 1;
        i64 place = at * piece < last ? at * piece : last;
        r.before = before;
        for (sum = values[place]; place < last && before + sum < wanted; sum += values[++place])
            r.before = before + sum;
        r.place = place;
        r.cumulated[0] = wanted;
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS)
draw(const ROW *x, i64 row_step, i64 column_step, i64 n, i64 d, double scale, const double *weights,
     const double *closest, const i64 *winner, const double *masses, i64 tile, i64 tiles, const double *uniforms,
     double *inside, i64 *candidates) {
    __shared__ Reached r;
    const Rows rows{x, row_step, column_step, n, d, scale};
    const i64 centre = *winner;
    reach(masses, tiles, uniforms[blockIdx.x], true, r);
    const double within = r.cumulated[0] - r.before;
    const i64 a = r.place * tile, m = n - a < tile ? n - a : tile;
    double *const mass = inside + blockIdx.x * tile;
    for (i64 i = threadIdx.x; i < m; i += THREADS) {
        double squared = 0;
        for (i64 q = 0; q < d; q++) squared = add_square(rows(a + i, q), rows(centre, q), squared);
        mass[i] = (weights ? weights[a + i] : 1.0) * lower_of(rows.scaled(squared), closest[a + i]);
    }
    __syncthreads();
    reach(mass, m, within, false, r);
    if (threadIdx.x == 0) candidates[blockIdx.x] = a + r.place;
}
