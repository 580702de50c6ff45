// Vectors of the instruction set that a translation unit is compiled for.
//
// `Vec<T>` holds as many T as one register does. It is GCC's and Clang's vector extension, so the
// arithmetic below is ordinary C++ and one source serves AVX-512, AVX2, SSE2 and NEON. Everything
// sits in a namespace named after the instruction set: the linker must never pick the AVX-512 copy of
// an inline function for a machine without it. For the same reason no header of the standard library
// with inline code is used in the kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#ifndef GPUKMEANS_ISA
#error "compile the kernels with -DGPUKMEANS_ISA=avx512, avx2, neon or plain"
#endif

#if defined(__AVX512F__)
#define GPUKMEANS_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define GPUKMEANS_VECTOR_BYTES 32
#else
#define GPUKMEANS_VECTOR_BYTES 16
#endif

#define GPUKMEANS_INLINE inline __attribute__((always_inline))

namespace gpukmeans::GPUKMEANS_ISA {

using i32 = std::int32_t;
using i64 = std::int64_t;

template <class T> struct VecOf {
    static constexpr int lanes = GPUKMEANS_VECTOR_BYTES / static_cast<int>(sizeof(T));
    typedef T type __attribute__((vector_size(GPUKMEANS_VECTOR_BYTES)));
    // the same, for memory that is not aligned to a register, and allowed to alias T
    typedef T loose __attribute__((vector_size(GPUKMEANS_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};
template <class T> using Vec = typename VecOf<T>::type;
template <class T> constexpr int lanes = VecOf<T>::lanes;

// An integer as wide as T: what comparisons of Vec<T> give, and what indices are counted in.
template <class T> struct IndexOf;
template <> struct IndexOf<float> { using type = i32; };
template <> struct IndexOf<double> { using type = i64; };
template <class T> using Index = typename IndexOf<T>::type;

template <class T> GPUKMEANS_INLINE Vec<T> load(const T *p) {
    return *reinterpret_cast<const typename VecOf<T>::loose *>(p);
}
template <class T> GPUKMEANS_INLINE void store(T *p, Vec<T> v) {
    *reinterpret_cast<typename VecOf<T>::loose *>(p) = v;
}
// Floats as doubles, by one instruction where there is one: GCC takes three.
typedef float FourFloats __attribute__((vector_size(16)));
typedef float EightFloats __attribute__((vector_size(32)));
typedef double FourDoubles __attribute__((vector_size(32)));
typedef double EightDoubles __attribute__((vector_size(64)));
GPUKMEANS_INLINE FourDoubles widened(FourFloats v) {
#if defined(__AVX2__)
    return reinterpret_cast<FourDoubles>(_mm256_cvtps_pd(reinterpret_cast<__m128>(v)));
#else
    return __builtin_convertvector(v, FourDoubles);
#endif
}
GPUKMEANS_INLINE EightDoubles widened(EightFloats v) {
#if defined(__AVX512F__)
    return reinterpret_cast<EightDoubles>(_mm512_cvtps_pd(reinterpret_cast<__m256>(v)));
#else
    return __builtin_convertvector(v, EightDoubles);
#endif
}
GPUKMEANS_INLINE FourDoubles widened(FourDoubles v) { return v; }
GPUKMEANS_INLINE EightDoubles widened(EightDoubles v) { return v; }

// Values of another type, converted.
template <class T, class U> GPUKMEANS_INLINE Vec<T> load_as(const U *p) {
    if constexpr (sizeof(T) == sizeof(U)) {
        return load(p);
    } else {
        typedef U Part __attribute__((vector_size(lanes<T> * sizeof(U))));
        typedef U Loose __attribute__((vector_size(lanes<T> * sizeof(U)), aligned(sizeof(U)), may_alias));
        const Part read = *reinterpret_cast<const Loose *>(p);
        if constexpr (lanes<T> > 2 && sizeof(T) == 8 && sizeof(U) == 4)
            return widened(read);
        else
            return __builtin_convertvector(read, Vec<T>);
    }
}
// Indices, as 32 bits each.
GPUKMEANS_INLINE void store_as(i32 *p, Vec<i32> v) { store(p, v); }
GPUKMEANS_INLINE void store_as(i32 *p, Vec<i64> v) {
    typedef i32 Half __attribute__((vector_size(GPUKMEANS_VECTOR_BYTES / 2)));
    typedef i32 Loose __attribute__((vector_size(GPUKMEANS_VECTOR_BYTES / 2), aligned(4), may_alias));
    *reinterpret_cast<Loose *>(p) = __builtin_convertvector(v, Half);
}
// value - 0 is the value, also for minus zero: the compiler leaves a broadcast.
template <class T> GPUKMEANS_INLINE Vec<T> fill(T value) { return value - Vec<T>{}; }

// Entries of a table of so many registers (a power of two), by their indices: a register is chosen by each bit.
template <int registers> GPUKMEANS_INLINE Vec<float> pick(const Vec<float> *table, Vec<i32> index) {
    if constexpr (registers == 1) {
#if defined(__clang__)
        Vec<float> picked;
        for (int i = 0; i < lanes<float>; i++) picked[i] = table[0][index[i] & (lanes<float> - 1)];
        return picked;
#else
        return __builtin_shuffle(table[0], index);
#endif
    } else {
        constexpr int half = registers / 2, bit = __builtin_ctz(half * lanes<float>);
        const Vec<float> high = pick<half>(table + half, index), low = pick<half>(table, index);
        return (index << (31 - bit)) < 0 ? high : low;
    }
}

// Entries of any table.
GPUKMEANS_INLINE Vec<float> gather(const float *table, Vec<i32> index) {
#if defined(__AVX512F__)
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, reinterpret_cast<__m512i>(index), table, 4);
#elif defined(__AVX2__)
    return _mm256_i32gather_ps(table, reinterpret_cast<__m256i>(index), 4);
#else
    Vec<float> gathered;
    for (int i = 0; i < lanes<float>; i++) gathered[i] = table[index[i]];
    return gathered;
#endif
}

// A bit for each lane of a mask, as comparisons of 32 or 64 bits give them.
template <class Mask> GPUKMEANS_INLINE unsigned bits_of(Mask mask) {
    [[maybe_unused]] constexpr bool wide = sizeof(mask[0]) == 8;
#if defined(__AVX512F__)
    const __m512i bits = reinterpret_cast<__m512i>(mask);
    return wide ? _mm512_movepi64_mask(bits) : _mm512_movepi32_mask(bits);
#elif defined(__AVX2__)
    return static_cast<unsigned>(wide ? _mm256_movemask_pd(reinterpret_cast<__m256d>(mask))
                                      : _mm256_movemask_ps(reinterpret_cast<__m256>(mask)));
#elif defined(__SSE2__)
    return static_cast<unsigned>(wide ? _mm_movemask_pd(reinterpret_cast<__m128d>(mask))
                                      : _mm_movemask_ps(reinterpret_cast<__m128>(mask)));
#else
    unsigned bits = 0;
    for (unsigned i = 0; i < sizeof(mask) / sizeof(mask[0]); i++) bits |= static_cast<unsigned>(mask[i] & 1) << i;
    return bits;
#endif
}

// The places of the bits of each byte, ascending.
struct BitPlaces {
    std::uint8_t of[256][8];
    constexpr BitPlaces() : of() {
        for (int bits = 0; bits < 256; bits++)
            for (int place = 0, count = 0; place < 8; place++)
                if (bits >> place & 1) of[bits][count++] = static_cast<std::uint8_t>(place);
    }
};
inline constexpr BitPlaces bit_places;

// Writes `first` plus the place of each bit of a register of 32-bit lanes, ascending; their number. A register
// more may be written to.
GPUKMEANS_INLINE i64 list_bits(unsigned bits, i64 first, i64 *to) {
#if defined(__AVX512F__)
    const __m512i at = _mm512_add_epi64(_mm512_set1_epi64(first), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
    const __mmask8 low = static_cast<__mmask8>(bits), high = static_cast<__mmask8>(bits >> 8);
    const i64 count = __builtin_popcount(low);
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(low, at));
    _mm512_storeu_si512(to + count, _mm512_maskz_compress_epi64(high, _mm512_add_epi64(at, _mm512_set1_epi64(8))));
    return count + __builtin_popcount(high);
#elif defined(__AVX2__)
    const __m128i at = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(bit_places.of[bits])); // eight bytes
    const __m256i from = _mm256_set1_epi64x(first);
    store(to, reinterpret_cast<Vec<i64>>(_mm256_add_epi64(from, _mm256_cvtepu8_epi64(at))));
    store(to + 4, reinterpret_cast<Vec<i64>>(_mm256_add_epi64(from, _mm256_cvtepu8_epi64(_mm_srli_si128(at, 4)))));
    return __builtin_popcount(bits);
#else
    i64 count = 0;
    for (; bits; bits &= bits - 1) to[count++] = first + __builtin_ctz(bits);
    return count;
#endif
}

// The same, for places in a batch.
GPUKMEANS_INLINE i64 list_bits(unsigned bits, i64 first, i32 *to) {
    [[maybe_unused]] const Vec<i32> from = fill(static_cast<i32>(first));
#if defined(__AVX512F__)
    const __m512i places = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i at = _mm512_add_epi32(reinterpret_cast<__m512i>(from), places);
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), at));
    return __builtin_popcount(bits);
#elif defined(__AVX2__)
    const __m128i at = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(bit_places.of[bits])); // eight bytes
    store(to, from + reinterpret_cast<Vec<i32>>(_mm256_cvtepu8_epi32(at)));
    return __builtin_popcount(bits);
#else
    i64 count = 0;
    for (; bits; bits &= bits - 1) to[count++] = static_cast<i32>(first) + __builtin_ctz(bits);
    return count;
#endif
}

template <class V> GPUKMEANS_INLINE V lower(V a, V b) { return a < b ? a : b; }
template <class V> GPUKMEANS_INLINE V higher(V a, V b) { return a > b ? a : b; }

GPUKMEANS_INLINE float root(float x) { return __builtin_sqrtf(x); }
GPUKMEANS_INLINE double root(double x) { return __builtin_sqrt(x); }
template <class T> GPUKMEANS_INLINE Vec<T> roots(Vec<T> squares) {
    T part[lanes<T>];
    store(part, squares);
    for (int l = 0; l < lanes<T>; l++) part[l] = root(part[l]);
    return load(part);
}
GPUKMEANS_INLINE Vec<float> root(Vec<float> squares) { return roots<float>(squares); }
GPUKMEANS_INLINE Vec<double> root(Vec<double> squares) { return roots<double>(squares); }
template <class V> GPUKMEANS_INLINE V positive(V x) { return x > 0 ? x : V{}; }

// The lanes added up, in a tree.
template <class T> GPUKMEANS_INLINE T total(Vec<T> v) {
    typedef T Pair __attribute__((vector_size(2 * sizeof(T))));
    if constexpr (lanes<T> == 2) {
        return v[0] + v[1];
    } else {
        T part[lanes<T>];
        store(part, v);
        Pair sum{};
        for (int i = 0; i < lanes<T>; i += 2) sum += Pair{part[i], part[i + 1]};
        return sum[0] + sum[1];
    }
}

// Lanes of a and b in turn: the lower halves, the upper halves.
template <class V> GPUKMEANS_INLINE V zip_lower(V a, V b) {
    if constexpr (sizeof(V) == 2 * sizeof(a[0])) return __builtin_shufflevector(a, b, 0, 2);
    else if constexpr (sizeof(V) == 4 * sizeof(a[0])) return __builtin_shufflevector(a, b, 0, 4, 1, 5);
    else if constexpr (sizeof(V) == 8 * sizeof(a[0])) return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    else return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
template <class V> GPUKMEANS_INLINE V zip_upper(V a, V b) {
    if constexpr (sizeof(V) == 2 * sizeof(a[0])) return __builtin_shufflevector(a, b, 1, 3);
    else if constexpr (sizeof(V) == 4 * sizeof(a[0])) return __builtin_shufflevector(a, b, 2, 6, 3, 7);
    else if constexpr (sizeof(V) == 8 * sizeof(a[0])) return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
    else return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

// Rows become columns: as often as halving ends, each row is zipped with the one half a matrix below.
template <class T> GPUKMEANS_INLINE void transpose(Vec<T> *rows) {
    constexpr int L = lanes<T>;
    Vec<T> zipped[L];
#pragma GCC unroll 4
    for (int width = 1; width < L; width *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < L / 2; i++) {
            zipped[2 * i] = zip_lower(rows[i], rows[i + L / 2]);
            zipped[2 * i + 1] = zip_upper(rows[i], rows[i + L / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < L; i++) rows[i] = zipped[i];
    }
}

// A value the compiler cannot see through: a product passed through here is rounded before it is added,
// never fused with the sum. So a tie of two sums of squares stays a tie, as in NumPy.
template <class V> GPUKMEANS_INLINE V rounded(V v) {
#if defined(__aarch64__)
    asm("" : "+w"(v));
#else
    asm("" : "+x"(v));
#endif
    return v;
}

// Adds to a sum, and what rounding takes from it to a rest: both together have twice the digits (Knuth).
template <class V> GPUKMEANS_INLINE void add_exactly(V &sum, V &rest, V value) {
    const V after = sum + value, added = after - sum;
    rest += (sum - (after - added)) + (value - added);
    sum = after;
}

// Rows of a tile and centres of a group: what the registers of the instruction set hold as accumulators,
// with room for one row vector and one broadcast.
#if defined(__AVX512F__)
constexpr int row_vectors = 4, group = 6;
#elif defined(__aarch64__)
constexpr int row_vectors = 4, group = 6;
#else
constexpr int row_vectors = 3, group = 4;
#endif
template <class T> constexpr int tile_rows = row_vectors * lanes<T>;

// Rows of few features are searched so many registers at a time.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int few_vectors = 4;
#else
constexpr int few_vectors = 2;
#endif

// Scratch memory handed out in pieces aligned to a register.
struct Pieces {
    std::uintptr_t next;
    template <class U> U *take(i64 count) {
        U *piece = reinterpret_cast<U *>(next);
        next += (static_cast<std::uintptr_t>(count) * sizeof(U) + 63) / 64 * 64;
        return piece;
    }
};

} // namespace gpukmeans::GPUKMEANS_ISA
