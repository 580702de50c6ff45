// Blocks of CUDA threads on one CPU thread: a fiber for each CUDA thread, blocks one after another.
//
// Threads change places only at barriers and warp operations, so what lies between two of them is atomic.
// STANDIN_SEED=n shuffles the order of threads at each of these, and the order of blocks: a kernel whose
// result depends on n has a race. Reported, with block and thread: divergent barriers, warp operations that
// name absent lanes, deadlocks. x86-64 Linux only (the switch is written in assembler).
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace block {

struct Index { unsigned x, y, z; };
enum class State { runs, at_barrier, in_warp_operation, done };
struct Fiber {
    void* stack_pointer;
    char* stack;
    State state;
    unsigned number, mask; // of the thread in its block; of the warp operation it waits in
    Index place;
};

constexpr unsigned most_threads = 1024;

struct Machine {
    std::vector<Fiber> fibers;
    std::vector<unsigned> order; // in which threads run
    size_t next = 0;             // in the order
    Fiber* current = nullptr;
    void* scheduler = nullptr;
    Index grid, size, place; // gridDim, blockDim, blockIdx
    unsigned threads = 0, alive = 0;
    bool shuffled = false, lenient = false, fresh = false; // lenient: threads may return before a barrier
    uint64_t random = 0;
    void (*body)(void*) = nullptr;
    void* argument = nullptr;
    std::string error;
    alignas(16) unsigned char slot[most_threads][16]; // values on their way from lane to lane
};
extern Machine the_machine; // one for all kernels
inline Machine& machine() { return the_machine; }

// Runs `body(argument)` for every thread of every block; false and `machine().error` where something went wrong.
// Threads that never meet, at a barrier or in a warp operation, need no fiber each.
bool launch(Index grid, Index size, bool threads_meet, bool lenient, void (*body)(void*), void* argument);

void report(const char* what); // the first error of a launch

void wait(); // until the scheduler says that this thread may go on
inline unsigned thread_number() { return machine().current->number; }
inline unsigned lane() { return thread_number() & 31; }

inline void stop(const char* what) { report(what); wait(); } // no return: the scheduler ends the launch

inline void barrier() { machine().current->state = State::at_barrier; wait(); }
inline void warp_barrier(unsigned mask) {
    if (!(mask >> lane() & 1)) report("warp operation by a lane that its mask does not name");
    machine().current->state = State::in_warp_operation;
    machine().current->mask = mask;
    wait();
}

// The value that lane `source` of this warp hands over; every lane of the mask must take part.
template <class V> inline V exchange(unsigned mask, V value, int source, bool inside) {
    static_assert(sizeof(V) <= 16, "values of up to 16 bytes");
    Machine& m = machine();
    const unsigned me = thread_number(), first = me & ~31u;
    memcpy(m.slot[me], &value, sizeof value);
    warp_barrier(mask);
    if (inside) {
        if (!(mask >> source & 1)) report("shuffle from a lane that the mask does not name");
        memcpy(&value, m.slot[first + source], sizeof value);
    }
    warp_barrier(mask);
    return value;
}

inline unsigned ballot(unsigned mask, bool vote) {
    Machine& m = machine();
    const unsigned me = thread_number(), first = me & ~31u;
    m.slot[me][0] = vote;
    warp_barrier(mask);
    unsigned votes = 0;
    for (unsigned j = 0; j < 32; ++j)
        if (mask >> j & 1) votes |= unsigned(m.slot[first + j][0]) << j;
    warp_barrier(mask);
    return votes;
}

inline unsigned count_in_block(bool vote) { // __syncthreads_count
    Machine& m = machine();
    m.slot[thread_number()][0] = vote;
    barrier();
    unsigned votes = 0;
    for (unsigned i = 0; i < m.threads; ++i) votes += m.slot[i][0];
    barrier();
    return votes;
}

} // namespace block
