// The CUDA runtime of the stand-in: the device's properties, memory, copies, streams and events.
#include "device.h"
#include <cuda_runtime_api.h>
#include <sys/mman.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

Counters standin_counters;
std::string last_error;
static Counters& count = standin_counters;

uint64_t knob(const char* name, uint64_t otherwise) {
    const char* text = getenv(name);
    return text && *text ? uint64_t(strtod(text, nullptr)) : otherwise;
}
static uint64_t memory_limit() { return knob("STANDIN_MEMORY", uint64_t(2) << 30); }
static int capability() { return int(knob("STANDIN_CAPABILITY", 80)); }
static int processors() { return int(knob("STANDIN_PROCESSORS", 4)); }
// Shared memory a block may ask for, by compute capability (CUDA C Programming Guide, technical specifications).
static int most_shared() {
    switch (capability()) {
    case 70: return 98304;
    case 75: return 65536;
    case 80: case 87: return 166912;
    case 86: case 89: case 120: return 101376;
    default: return 232448;
    }
}

int fail(const std::string& what, int code) {
    ++count.errors;
    last_error = what;
    fprintf(stderr, "[stand-in] %s\n", what.c_str());
    return code;
}

// --- what happened ---

static std::vector<Event> events;
static bool recording = false;

Event& record(const char* kind, const std::string& name, const void* stream, uint64_t bytes) {
    static Event unseen;
    if (recording) events.emplace_back();
    Event& event = recording ? events.back() : unseen;
    event = Event{};
    snprintf(event.kind, sizeof event.kind, "%s", kind);
    snprintf(event.name, sizeof event.name, "%s", name.c_str());
    event.stream = reinterpret_cast<uint64_t>(stream), event.bytes = bytes;
    return event;
}

extern "C" {
void standin_record(int on) { recording = on; if (on) events.clear(); }
uint64_t standin_event_count() { return events.size(); }
const Event* standin_event(uint64_t i) { return &events[i]; }
}

// --- memory ---

struct Allocation { size_t bytes; uint64_t loaded, stored; };
static std::map<uint64_t, Allocation> live;
static const size_t huge = size_t(1) << 30;

uint64_t owner_of(const void* start, size_t bytes) {
    const uint64_t a = reinterpret_cast<uint64_t>(start);
    auto next = live.upper_bound(a);
    if (next == live.begin()) return 0;
    --next;
    return a + bytes <= next->first + next->second.bytes ? next->first : 0;
}
bool on_device(const void* start, size_t bytes) { return owner_of(start, bytes) != 0; }
void touch(uint64_t owner, size_t loaded, size_t stored) {
    Allocation& one = live.at(owner);
    one.loaded += loaded, one.stored += stored;
}

extern "C" {
// Bytes that kernels loaded from and stored to the allocation at an address, under STANDIN_MEMCHECK.
int standin_traffic(uint64_t address, uint64_t* loaded, uint64_t* stored) {
    const uint64_t owner = owner_of(reinterpret_cast<void*>(address), 1);
    if (!owner) return 0;
    *loaded = live.at(owner).loaded, *stored = live.at(owner).stored;
    return 1;
}

cudaError_t cudaMalloc(void** p, size_t n) {
    *p = nullptr;
    if (!n) return cudaSuccess;
    if (count.live_bytes + n > memory_limit()) return cudaErrorMemoryAllocation;
    if (n > huge) { // takes memory only where it is touched, for tests of large indices
        *p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (*p == MAP_FAILED) return cudaErrorMemoryAllocation;
    } else { // not rounded up, so that an address sanitizer sees the very end
        if (posix_memalign(p, 512, n)) return cudaErrorMemoryAllocation;
        memset(*p, 0xff, n); // NaN: what is read before it is written shows
    }
    live[reinterpret_cast<uint64_t>(*p)] = Allocation{n, 0, 0};
    ++count.allocations;
    count.live_bytes += n;
    if (count.live_bytes > count.peak_bytes) count.peak_bytes = count.live_bytes;
    record("alloc", "", nullptr, n);
    return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** p, size_t n, cudaStream_t) { return cudaMalloc(p, n); }
cudaError_t cudaMallocManaged(void** p, size_t n, unsigned) { return cudaMalloc(p, n); }
cudaError_t cudaFree(void* p) {
    if (!p) return cudaSuccess;
    auto found = live.find(reinterpret_cast<uint64_t>(p));
    if (found == live.end()) return cudaError_t(fail("cudaFree of what is not a live allocation", cudaErrorInvalidValue));
    const size_t n = found->second.bytes;
    count.live_bytes -= n;
    live.erase(found);
    if (n > huge) munmap(p, n);
    else free(p);
    return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t) { return cudaFree(p); }
cudaError_t cudaHostAlloc(void** p, size_t n, unsigned) { return posix_memalign(p, 64, n) ? cudaErrorMemoryAllocation : cudaSuccess; }
cudaError_t cudaFreeHost(void* p) { free(p); return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
    *total = memory_limit();
    *available = *total > count.live_bytes ? *total - count.live_bytes : 0;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind, cudaStream_t stream) {
    if (!n) return cudaSuccess;
    const bool to_device = on_device(to, 1), from_device = on_device(from, 1);
    if ((to_device && !on_device(to, n)) || (from_device && !on_device(from, n)))
        return cudaError_t(fail("a copy of " + std::to_string(n) + " bytes runs past the end of an allocation", cudaErrorInvalidValue));
    const char* kind = to_device ? (from_device ? "d2d" : "h2d") : (from_device ? "d2h" : "h2h");
    if (to_device && from_device) ++count.d2d_count, count.d2d_bytes += n;
    else if (to_device) ++count.h2d_count, count.h2d_bytes += n;
    else if (from_device) ++count.d2h_count, count.d2h_bytes += n;
    record(kind, "", stream, n);
    memmove(to, from, n);
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t n, cudaMemcpyKind kind) { return cudaMemcpyAsync(to, from, n, kind, nullptr); }
cudaError_t cudaMemsetAsync(void* p, int value, size_t n, cudaStream_t stream) {
    if (n && !on_device(p, n)) return cudaError_t(fail("memset outside device memory", cudaErrorInvalidValue));
    ++count.memsets;
    record("memset", "", stream, n);
    memset(p, value, n);
    return cudaSuccess;
}
cudaError_t cudaMemset(void* p, int value, size_t n) { return cudaMemsetAsync(p, value, n, nullptr); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
    memset(a, 0, sizeof *a);
    const bool ours = on_device(p, 1);
    a->type = ours ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
    (ours ? a->devicePointer : a->hostPointer) = const_cast<void*>(p);
    return cudaSuccess;
}

// --- the device ---

const char* cudaGetErrorName(cudaError_t e) {
    switch (e) {
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorNotSupported: return "cudaErrorNotSupported";
    default: return "cudaErrorUnknown";
    }
}
const char* cudaGetErrorString(cudaError_t e) {
    return e == cudaErrorMemoryAllocation ? "out of memory" : last_error.empty() ? "an error of the stand-in" : last_error.c_str();
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* v) { *v = 12090; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* v) { *v = 12090; return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* n) { *n = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int* d) { *d = 0; return cudaSuccess; }
cudaError_t cudaSetDevice(int d) { return d == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
cudaError_t cudaDeviceSynchronize() { ++count.syncs; record("sync", "device", nullptr, 0); return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int) {
    static const std::map<int, int> fixed = {
        {cudaDevAttrMaxThreadsPerBlock, 1024}, {cudaDevAttrMaxBlockDimX, 1024}, {cudaDevAttrMaxBlockDimY, 1024},
        {cudaDevAttrMaxBlockDimZ, 64}, {cudaDevAttrMaxGridDimX, 2147483647}, {cudaDevAttrMaxGridDimY, 65535},
        {cudaDevAttrMaxGridDimZ, 65535}, {cudaDevAttrMaxSharedMemoryPerBlock, 49152}, {cudaDevAttrWarpSize, 32},
        {cudaDevAttrMaxRegistersPerBlock, 65536}, {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
        {cudaDevAttrMaxRegistersPerMultiprocessor, 65536}, {cudaDevAttrL2CacheSize, 40 << 20},
        {cudaDevAttrCooperativeLaunch, 0}, {cudaDevAttrMemoryPoolsSupported, 0}};
    auto found = fixed.find(a);
    *v = a == cudaDevAttrComputeCapabilityMajor                ? capability() / 10
         : a == cudaDevAttrComputeCapabilityMinor              ? capability() % 10
         : a == cudaDevAttrMultiProcessorCount                 ? processors()
         : a == cudaDevAttrMaxSharedMemoryPerBlockOptin        ? most_shared()
         : a == cudaDevAttrMaxSharedMemoryPerMultiprocessor    ? most_shared() + 1024
         : found == fixed.end()                                ? 0
                                                               : found->second;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties_v2(cudaDeviceProp* p, int device) {
    if (device) return cudaErrorInvalidDevice;
    memset(p, 0, sizeof *p);
    strcpy(p->name, "CPU stand-in (no GPU)");
    p->major = capability() / 10, p->minor = capability() % 10, p->multiProcessorCount = processors();
    p->totalGlobalMem = memory_limit(), p->l2CacheSize = 40 << 20;
    p->sharedMemPerBlock = 49152, p->sharedMemPerBlockOptin = most_shared(), p->sharedMemPerMultiprocessor = most_shared() + 1024;
    p->regsPerBlock = 65536, p->warpSize = 32, p->maxThreadsPerBlock = 1024, p->maxThreadsPerMultiProcessor = 2048;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024, p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 2147483647, p->maxGridSize[1] = p->maxGridSize[2] = 65535, p->unifiedAddressing = 1;
    return cudaSuccess;
}

// --- streams and events: everything is over when a call returns ---

}
static uintptr_t next_handle = 0x1000;
template <class Handle> static cudaError_t make(Handle* h) {
    *h = reinterpret_cast<Handle>(next_handle += 16);
    return cudaSuccess;
}
#define NOTHING(call) extern "C" cudaError_t call { return cudaSuccess; }
extern "C" {
cudaError_t cudaStreamCreate(cudaStream_t* s) { return make(s); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) { return make(s); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned, int) { return make(s); }
cudaError_t cudaStreamSynchronize(cudaStream_t s) { ++count.syncs; record("sync", "stream", s, 0); return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* s) { *s = cudaStreamCaptureStatusNone; return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* e) { return make(e); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) { return make(e); }
cudaError_t cudaEventSynchronize(cudaEvent_t) { ++count.syncs; record("sync", "event", nullptr, 0); return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) { *ms = 0; return cudaSuccess; }
}
NOTHING(cudaStreamDestroy(cudaStream_t))
NOTHING(cudaStreamQuery(cudaStream_t))
NOTHING(cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned))
NOTHING(cudaEventDestroy(cudaEvent_t))
NOTHING(cudaEventRecord(cudaEvent_t, cudaStream_t))
NOTHING(cudaEventQuery(cudaEvent_t))
