// What the searches share: how rows are seen, how sure a fast distance is, and what decides where it is not.
//
// Macros given by the launcher: ROW is the type of the rows' elements, REAL the one distances are computed in
// (ROW, or double for rows that float32 leaves in doubt).

#define FAR 1e30 // squared norm of centres that no row comes near, see _frame.FAR
#define UNDERFLOW 1e-33 // see _frame.UNDERFLOW

__device__ inline REAL infinity() { return (REAL)__longlong_as_double(0x7ff0000000000000LL); }

// An element in the frame's coordinates; shift is in those too.
__device__ inline REAL see(ROW value, REAL scale, REAL shift) { return (REAL)value * scale - shift; }

// The value below which another centre may in truth be as near as the best one: _frame.doubt_limit, with the row's
// own norm in both bounds.
__device__ inline REAL doubt_limit(REAL best, REAL xx, REAL trust, REAL reach) {
    const REAL by_row = best * (1 + 6 * trust) + xx * (16 * trust);
    const REAL by_reach = best + 2 * trust * reach * (2 * (REAL)sqrt(xx) + reach);
    return (by_row < by_reach ? by_row : by_reach) + (REAL)UNDERFLOW;
}

// The two lowest fast distances of a row, and the index of the lowest. NaN is passed over.
struct Lowest {
    REAL best, second;
    int label;

    __device__ void take(REAL value, int j) {
        const bool nearer = value < best;
        second = nearer ? best : value < second ? value : second;
        label = nearer ? j : label;
        best = nearer ? value : best;
    }
};

// A centre and its squared distance by float64 differences; the lowest index wins ties.
struct Exact {
    double squared;
    int label;

    __device__ void take(double value, int j) {
        if (value < squared || (value == squared && j < label)) {
            squared = value;
            label = j;
        }
    }
};

__device__ inline Exact nearest_of_warp(Exact found) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        const double squared = __shfl_xor_sync(ALL_LANES, found.squared, step);
        const int label = __shfl_xor_sync(ALL_LANES, found.label, step);
        found.take(squared, label);
    }
    return found;
}
