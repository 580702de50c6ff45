// The one pretended device: what the parts of the stand-in driver share.
//
// Device memory is host memory, every call finishes before it returns, there is one device. Knobs are
// environment variables, read when they are needed, so that a test may set them between two calls.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

struct Counters { // read by device.py: keep the order
    uint64_t launches, threads;
    uint64_t h2d_count, h2d_bytes, d2h_count, d2h_bytes, d2d_count, d2d_bytes;
    uint64_t memsets, syncs, allocations, live_bytes, peak_bytes, products, errors;
    uint64_t loaded_bytes, stored_bytes; // of global memory, by kernels
};

struct Event { // one thing the host asked the device to do, while recording; read by device.py
    char kind[8], name[120]; // launch, h2d, d2h, d2d, memset, sync, alloc, product
    uint64_t stream, bytes;  // bytes: copied, allocated
    uint32_t grid[3], block[3], shared;
    uint64_t loaded, stored; // bytes of global memory that a kernel touched
};

extern "C" Counters standin_counters;
Event& record(const char* kind, const std::string& name, const void* stream, uint64_t bytes); // counts nothing

uint64_t knob(const char* name, uint64_t otherwise); // an environment variable as a number
uint64_t owner_of(const void* start, size_t bytes);  // the live allocation that holds these bytes, or 0
bool on_device(const void* start, size_t bytes);
void touch(uint64_t owner, size_t loaded, size_t stored);

extern std::string last_error; // what cudaGetErrorString and cuGetErrorString add
int fail(const std::string& what, int code); // notes and prints an error of the caller
