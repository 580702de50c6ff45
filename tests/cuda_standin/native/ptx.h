// What translated PTX is written in: registers are unsigned integers of their width, read and written as
// the type of each instruction. Bytes of global memory are counted; shared memory is checked and poisoned.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <immintrin.h>
#include "fibers.h"

// What the stand-in driver lends a module, when it loads it (see driver.cpp).
struct Hooks {
    uint64_t (*owner)(const void*, size_t); // the allocation that holds these bytes, or 0
    void (*touch)(uint64_t owner, size_t loaded, size_t stored);
};
static const Hooks* hooks = nullptr;
extern "C" void standin_attach(const Hooks* given) { hooks = given; }
extern "C" { uint64_t standin_loaded = 0, standin_stored = 0; } // bytes of global memory, in the last launch

namespace {
using std::is_floating_point;

bool checked = false;        // STANDIN_MEMCHECK: every global access must lie in a live allocation
uint64_t shared_size = 0;    // bytes of shared memory of the running kernel
alignas(256) unsigned char shared_memory[232448];
const uint64_t shared_base = reinterpret_cast<uint64_t>(shared_memory);

template <class T> using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
template <class T, class R> inline T as(R r) { // a register, read as T
    if constexpr (is_floating_point<T>::value) {
        const Bits<T> bits = static_cast<Bits<T>>(r);
        T value;
        memcpy(&value, &bits, sizeof value);
        return value;
    } else {
        return static_cast<T>(r);
    }
}
template <class T, class R> inline void set(R& r, T value) {
    if constexpr (is_floating_point<T>::value) {
        Bits<T> bits;
        memcpy(&bits, &value, sizeof bits);
        r = static_cast<R>(bits);
    } else {
        r = static_cast<R>(value);
    }
}
inline float flush(float v) { return std::fpclassify(v) == FP_SUBNORMAL ? std::copysign(0.0f, v) : v; } // .ftz

// --- memory ---

template <class T> inline T load(uint64_t a) { T v; memcpy(&v, reinterpret_cast<void*>(a), sizeof v); return v; }
template <class T> inline void store(uint64_t a, T v) { memcpy(reinterpret_cast<void*>(a), &v, sizeof v); }

inline uint64_t aligned(uint64_t a, unsigned bytes) {
    if (a % bytes) block::stop("misaligned access");
    return a;
}
inline uint64_t in_shared(uint64_t offset, unsigned bytes) {
    if (offset + bytes > shared_size || offset > shared_size) block::stop("shared memory access beyond what the kernel has");
    return aligned(shared_base + offset, bytes);
}
bool in_module(uint64_t a); // one of the module's own variables; defined by the translation
// A global or generic address; `local` are the thread's own bytes, which generic addresses may mean.
inline uint64_t in_global(uint64_t a, unsigned bytes, unsigned loaded, unsigned stored, const char* local, size_t n_local) {
    const uint64_t own = reinterpret_cast<uint64_t>(local);
    if (a - shared_base < sizeof shared_memory) return in_shared(a - shared_base, bytes);
    if (a - own < n_local || in_module(a)) return aligned(a, bytes);
    standin_loaded += loaded, standin_stored += stored;
    if (checked) {
        const uint64_t owner = hooks->owner(reinterpret_cast<void*>(a), bytes);
        if (!owner) block::stop("global memory access outside every live allocation");
        hooks->touch(owner, loaded, stored);
    }
    return aligned(a, bytes);
}

// --- arithmetic: integers wrap, division by zero gives what the hardware gives ---

template <class T> using Wide = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
template <class T> using Unsigned = typename std::conditional_t<is_floating_point<T>::value, std::common_type<T>,
                                                                std::make_unsigned<T>>::type;
#define ARITHMETIC(name, sign) \
    template <class T> inline T name(T a, T b) { return T(Unsigned<T>(a) sign Unsigned<T>(b)); }
ARITHMETIC(op_add, +)
ARITHMETIC(op_sub, -)
template <class T> inline T op_mul(T a, T b) {
    if constexpr (is_floating_point<T>::value) return a * b;
    else return T(uint64_t(a) * uint64_t(b));
}
template <class T> inline T op_mul_hi(T a, T b) { return T((Wide<T>(a) * Wide<T>(b)) >> (sizeof(T) * 8)); }
template <class T> inline T op_div(T a, T b) {
    if constexpr (is_floating_point<T>::value) return a / b;
    else if (b == 0) return T(-1);
    else if (std::is_signed_v<T> && b == T(-1)) return T(Unsigned<T>(0) - Unsigned<T>(a));
    else return T(a / b);
}
template <class T> inline T op_rem(T a, T b) {
    if (b == 0) return a;
    return std::is_signed_v<T> && b == T(-1) ? T(0) : T(a % b);
}
template <class T> inline T op_min(T a, T b) {
    if constexpr (is_floating_point<T>::value) return std::fmin(a, b);
    else return std::min(a, b);
}
template <class T> inline T op_max(T a, T b) {
    if constexpr (is_floating_point<T>::value) return std::fmax(a, b);
    else return std::max(a, b);
}
template <class T> inline T op_nan_min(T a, T b) { return a != a || b != b ? T(NAN) : std::fmin(a, b); }
template <class T> inline T op_nan_max(T a, T b) { return a != a || b != b ? T(NAN) : std::fmax(a, b); }
template <class T> inline T op_abs(T a) {
    if constexpr (is_floating_point<T>::value) return std::fabs(a);
    else return a < 0 ? T(Unsigned<T>(0) - Unsigned<T>(a)) : a;
}
template <class T> inline T op_neg(T a) {
    if constexpr (is_floating_point<T>::value) return -a;
    else return T(Unsigned<T>(0) - Unsigned<T>(a));
}
template <class T> inline T op_copysign(T sign, T size) { return std::copysign(size, sign); }
template <class T> inline T op_rcp(T a) { return T(1) / a; }
template <class T> inline T op_rsqrt(T a) { return T(1) / std::sqrt(a); }
template <class T> inline T op_sat(T a) { return std::fmin(std::fmax(a, T(0)), T(1)); }

// --- bits ---

template <class T> inline T op_shl(T a, uint32_t n) { return n >= sizeof(T) * 8 ? T(0) : T(Unsigned<T>(a) << n); }
template <class T> inline T op_shr(T a, uint32_t n) { return n >= sizeof(T) * 8 ? (a < T(0) ? T(-1) : T(0)) : T(a >> n); }
template <class T> inline uint32_t op_clz(T a) {
    return a == 0 ? sizeof(T) * 8 : sizeof(T) == 4 ? __builtin_clz(uint32_t(a)) : __builtin_clzll(uint64_t(a));
}
template <class T> inline uint32_t op_bfind(T a) { return a == 0 ? ~0u : uint32_t(sizeof(T) * 8 - 1 - op_clz(a)); }
template <class T> inline uint32_t op_popc(T a) { return __builtin_popcountll(uint64_t(a)); }
template <class T> inline T op_brev(T a) {
    T r = 0;
    for (size_t i = 0; i < sizeof(T) * 8; ++i) r |= T((a >> i) & 1) << (sizeof(T) * 8 - 1 - i);
    return r;
}
template <class T> inline T op_bfe(T a, uint32_t at, uint32_t length) { // unsigned types
    at &= 255, length &= 255;
    if (at >= sizeof(T) * 8) return 0;
    a >>= at;
    return length >= sizeof(T) * 8 ? a : T(a & ((T(1) << length) - 1));
}
template <class T> inline T op_bfi(T piece, T into, uint32_t at, uint32_t length) {
    at &= 255, length &= 255;
    if (at >= sizeof(T) * 8 || !length) return into;
    const T mask = (length >= sizeof(T) * 8 ? ~T(0) : (T(1) << length) - 1) << at;
    return (into & ~mask) | ((piece << at) & mask);
}
inline uint32_t op_prmt(uint32_t a, uint32_t b, uint32_t selector) {
    const uint64_t bytes = uint64_t(b) << 32 | a;
    uint32_t result = 0;
    for (int i = 0; i < 4; ++i) {
        const uint32_t s = selector >> (4 * i) & 15;
        uint8_t byte = uint8_t(bytes >> (8 * (s & 7)));
        if (s & 8) byte = byte & 0x80 ? 0xff : 0;
        result |= uint32_t(byte) << (8 * i);
    }
    return result;
}
inline uint32_t op_lop3(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
    uint32_t result = 0;
    for (int i = 0; i < 8; ++i)
        if (table >> i & 1) result |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return result;
}
inline uint32_t op_shf_r(uint32_t low, uint32_t high, uint32_t n) { return uint32_t((uint64_t(high) << 32 | low) >> n); }
inline uint32_t op_shf_l(uint32_t low, uint32_t high, uint32_t n) { return uint32_t(((uint64_t(high) << 32 | low) << n) >> 32); }

// --- conversion: to integers with saturation, NaN to 0 ---

template <class To, class From> inline To to_integer(From v) {
    using Limits = std::numeric_limits<To>;
    if (v != v) return 0;
    if (v <= From(Limits::min())) return Limits::min();
    return v >= From(Limits::max()) ? Limits::max() : To(v);
}
template <class To, class From> inline To saturate(From v) {
    using Limits = std::numeric_limits<To>;
    if (std::is_signed_v<From> && __int128(v) < __int128(Limits::min())) return Limits::min();
    return __int128(v) > __int128(Limits::max()) ? Limits::max() : To(v);
}
inline float from_half(uint16_t h) { return _cvtsh_ss(h); }
inline uint16_t to_half(float v) { return _cvtss_sh(v, 0); }

// --- warps ---

enum Shuffle { up, down, bfly, idx };
inline uint32_t op_shfl(Shuffle mode, uint32_t value, uint32_t b, uint32_t c, uint32_t mask, bool& inside) {
    const int me = int(block::lane()), by = int(b & 31), segment = int(c >> 8 & 31);
    const int first = me & segment, last = first | (int(c & 31) & ~segment);
    const int source = mode == up ? me - by : mode == down ? me + by : mode == bfly ? me ^ by : first | (by & ~segment);
    inside = mode == up ? source >= last : source <= last;
    return block::exchange(mask, value, inside ? source : me, true);
}
template <class T, class F> inline T op_redux(T value, uint32_t mask, F combine) {
    const unsigned first = block::thread_number() & ~31u;
    memcpy(block::machine().slot[block::thread_number()], &value, sizeof value);
    block::warp_barrier(mask);
    T total{};
    bool any = false;
    for (unsigned j = 0; j < 32; ++j) {
        if (!(mask >> j & 1)) continue;
        T other;
        memcpy(&other, block::machine().slot[first + j], sizeof other);
        total = any ? combine(total, other) : other;
        any = true;
    }
    block::warp_barrier(mask);
    return total;
}

// --- a launch ---

inline void begin_thread() { // the first thread of a block finds its shared memory full of NaN
    block::Machine& m = block::machine();
    if (!m.fresh) return;
    m.fresh = false;
    memset(shared_memory, 0xff, shared_size);
}

const char* run(const unsigned* g, uint64_t shared, bool threads_meet, bool lenient, void (*body)(void*), void* parameters) {
    block::Machine& m = block::machine();
    standin_loaded = standin_stored = 0;
    shared_size = shared;
    checked = hooks && getenv("STANDIN_MEMCHECK") && *getenv("STANDIN_MEMCHECK") != '0';
    if (shared > sizeof shared_memory) return "more shared memory than any device has";
    const bool good = block::launch({g[0], g[1], g[2]}, {g[3], g[4], g[5]}, threads_meet, lenient, body, parameters);
    return good ? nullptr : m.error.c_str();
}
} // namespace
