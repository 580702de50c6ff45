// What the kernels share about rows, warps and lanes.

typedef long long i64;

#define WARP 32
#define ALL_LANES 0xffffffffu

// The threads of the warp whose value has the same low bits as mine.
__device__ inline unsigned threads_like_me(int value, int bits) {
    unsigned same = ALL_LANES;
    for (int bit = 0; bit < bits; bit++) {
        const bool mine = value >> bit & 1;
        const unsigned set = __ballot_sync(ALL_LANES, mine);
        same &= mine ? set : ~set;
    }
    return same;
}

// Bits that tell the numbers below k apart.
__device__ inline int bits_of(int k) { return k > 1 ? 32 - __clz(k - 1) : 0; }

// First row of a lane: lanes are runs of whole tiles of rows, in order, as even as that goes.
__device__ inline i64 lane_start(i64 lane, i64 lanes, i64 n, i64 tile) {
    const i64 tiles = (n + tile - 1) / tile, row = tiles * lane / lanes * tile;
    return row < n ? row : n;
}

// Shared memory, piece by piece, each on a boundary of 16 bytes.
struct Pieces {
    unsigned char *next;

    template <class Element> __device__ Element *take(int count) {
        Element *piece = (Element *)next;
        next += (count * (int)sizeof(Element) + 15) / 16 * 16;
        return piece;
    }
};
