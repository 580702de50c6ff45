// The names of CUDA C++ over fibers.h: a .cu text, compiled by g++, runs on the CPU.
//
// One block runs at a time, so a static variable is shared memory; the dynamic part is a heap block of exactly the
// bytes asked for, where an address sanitizer sees the end of it. host.py rewrites its declaration.
#pragma once
#include <algorithm>
#include <cmath>
#include <math.h>
#include <memory>
#include <type_traits>
#include <utility>
#include "fibers.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __constant__ static
#define __align__(n) alignas(n)
#define __shared__ static
#define __restrict__ __restrict

struct dim3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }

#define threadIdx (block::machine().current->place)
#define blockIdx (block::machine().place)
#define blockDim (block::machine().size)
#define gridDim (block::machine().grid)
static const int warpSize = 32;

// --- barriers and warps ---

inline void __syncthreads() { block::barrier(); }
inline int __syncthreads_count(int vote) { return int(block::count_in_block(vote != 0)); }
inline int __syncthreads_or(int vote) { return block::count_in_block(vote != 0) > 0; }
inline int __syncthreads_and(int vote) { return block::count_in_block(vote == 0) == 0; }
inline void __syncwarp(unsigned mask = ~0u) { block::warp_barrier(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline unsigned __ballot_sync(unsigned mask, int vote) { return block::ballot(mask, vote != 0); }
inline int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
inline int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) == mask; }

// Lanes of a segment of `width`; a source outside it hands the lane its own value.
template <class V> V shim_exchange(unsigned mask, V value, int source, int width, bool inside) {
    const int first = int(block::lane()) & ~(width - 1);
    inside = inside && source >= first && source < first + width;
    return block::exchange(mask, value, source, inside);
}
template <class V> V __shfl_sync(unsigned mask, V value, int from, int width = 32) {
    const int first = int(block::lane()) & ~(width - 1);
    return shim_exchange(mask, value, first | (from & (width - 1)), width, true);
}
template <class V> V __shfl_down_sync(unsigned mask, V value, unsigned by, int width = 32) {
    return shim_exchange(mask, value, int(block::lane() + by), width, true);
}
template <class V> V __shfl_up_sync(unsigned mask, V value, unsigned by, int width = 32) {
    return shim_exchange(mask, value, int(block::lane()) - int(by), width, true);
}
template <class V> V __shfl_xor_sync(unsigned mask, V value, int bits, int width = 32) {
    return shim_exchange(mask, value, int(block::lane()) ^ bits, width, true);
}

// --- atomics: threads change places only where they wait ---

template <class V> using shim_plain = std::type_identity_t<V>;
template <class V, class F> V shim_update(V* p, F next) {
    const V old = *p;
    *p = next(old);
    return old;
}
template <class V> V atomicAdd(V* p, shim_plain<V> v) { return shim_update(p, [=](V old) { return V(old + v); }); }
template <class V> V atomicSub(V* p, shim_plain<V> v) { return shim_update(p, [=](V old) { return V(old - v); }); }
template <class V> V atomicMin(V* p, shim_plain<V> v) { return shim_update(p, [=](V old) { return std::min(old, v); }); }
template <class V> V atomicMax(V* p, shim_plain<V> v) { return shim_update(p, [=](V old) { return std::max(old, v); }); }
template <class V> V atomicAnd(V* p, shim_plain<V> v) { return shim_update(p, [=](V old) { return V(old & v); }); }
template <class V> V atomicOr(V* p, shim_plain<V> v) { return shim_update(p, [=](V old) { return V(old | v); }); }
template <class V> V atomicExch(V* p, shim_plain<V> v) { return shim_update(p, [=](V) { return v; }); }
template <class V> V atomicCAS(V* p, shim_plain<V> expected, shim_plain<V> v) {
    return shim_update(p, [=](V old) { return old == expected ? v : old; });
}
inline unsigned atomicInc(unsigned* p, unsigned last) {
    return shim_update(p, [=](unsigned old) { return old >= last ? 0 : old + 1; });
}

// --- loads, bits and arithmetic ---

template <class V> V __ldg(const V* p) { return *p; }
template <class V> V __ldcs(const V* p) { return *p; }
template <class V> V __ldcg(const V* p) { return *p; }
template <class V> void __stcs(V* p, shim_plain<V> v) { *p = v; }
template <class V> void __stcg(V* p, shim_plain<V> v) { *p = v; }

template <class To, class From> To shim_bits(From v) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    memcpy(&to, &v, sizeof to);
    return to;
}
inline int __float_as_int(float v) { return shim_bits<int>(v); }
inline unsigned __float_as_uint(float v) { return shim_bits<unsigned>(v); }
inline float __int_as_float(int v) { return shim_bits<float>(v); }
inline float __uint_as_float(unsigned v) { return shim_bits<float>(v); }
inline long long __double_as_longlong(double v) { return shim_bits<long long>(v); }
inline double __longlong_as_double(long long v) { return shim_bits<double>(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
inline unsigned __brev(unsigned v) {
    unsigned r = 0;
    for (int i = 0; i < 32; ++i) r |= (v >> i & 1) << (31 - i);
    return r;
}

inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline float __double2float_rn(double v) { return float(v); }
inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
inline double rsqrt(double v) { return 1.0 / std::sqrt(v); }
using std::max;
using std::min;

// --- a launch ---

inline std::unique_ptr<unsigned char[]>& shim_dynamic() {
    static std::unique_ptr<unsigned char[]> memory;
    return memory;
}
template <class... A, size_t... I> void shim_call(void (*kernel)(A...), void** p, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<A>*>(p[I])...);
}
template <class... A> const char* shim_run(void (*kernel)(A...), void** arguments, const unsigned* g, size_t dynamic) {
    block::Machine& m = block::machine();
    struct Call { void (*kernel)(A...); void** arguments; size_t dynamic; } call{kernel, arguments, dynamic};
    auto body = [](void* p) {
        const Call& c = *static_cast<Call*>(p);
        if (block::machine().fresh) { // of each block: what is read unwritten is NaN
            block::machine().fresh = false;
            memset(shim_dynamic().get(), 0xff, c.dynamic);
        }
        shim_call(c.kernel, c.arguments, std::index_sequence_for<A...>{});
    };
    shim_dynamic().reset(new unsigned char[dynamic]);
    const bool good = block::launch({g[0], g[1], g[2]}, {g[3], g[4], g[5]}, true, false, body, &call);
    return good ? nullptr : m.error.c_str();
}
#define SHIM_EXPORT(name, kernel)                                                                                  \
    extern "C" const char* standin_run_##name(void** arguments, const unsigned* shape, size_t dynamic) {           \
        return shim_run(&kernel, arguments, shape, dynamic);                                                       \
    }
