// The scheduler of fibers.h.
#include "fibers.h"
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <sys/mman.h>

extern "C" void standin_switch(void** save, void* to); // saves the registers that a call must preserve
__asm__(".text\n.globl standin_switch\n.type standin_switch,@function\nstandin_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");

namespace block {

Machine the_machine;

void report(const char* what) {
    Machine& m = machine();
    if (!m.error.empty()) return;
    char text[300];
    snprintf(text, sizeof text, "%s, in block (%u,%u,%u), thread %u", what, m.place.x, m.place.y, m.place.z,
             m.current ? m.current->number : 0);
    m.error = text;
}

// The next thread that can run takes over at once; after the last one, or an error, the scheduler.
void wait() {
    Machine& m = machine();
    Fiber* me = m.current;
    while (m.next < m.order.size() && m.error.empty()) {
        Fiber& other = m.fibers[m.order[m.next++]];
        if (other.state != State::runs) continue;
        m.current = &other;
        return standin_switch(&me->stack_pointer, other.stack_pointer);
    }
    standin_switch(&me->stack_pointer, m.scheduler);
}

namespace {

// Stacks lie side by side in large pages, and begin at different lines of the cache: a block of 512 threads goes
// from one to the next at every barrier.
constexpr size_t stack_bytes = 64 * 1024, large_page = 2 << 20, cache_line = 64, colours = 64;

void begin() { // where the fiber of a thread starts
    Machine& m = machine();
    m.body(m.argument);
    m.current->state = State::done;
    --m.alive;
    wait();
    abort(); // a thread that is done never runs again
}
void begin_all() { // where one fiber starts that runs all threads, which never meet, in turn
    Machine& m = machine();
    for (unsigned number : m.order) {
        m.current = &m.fibers[number];
        m.body(m.argument);
    }
    m.alive = 0;
    wait();
    abort();
}

void make_fibers() {
    char* stacks = static_cast<char*>(aligned_alloc(large_page, most_threads * stack_bytes));
    madvise(stacks, most_threads * stack_bytes, MADV_HUGEPAGE); // takes memory where it is touched
    for (unsigned i = 0; i < most_threads; ++i)
        machine().fibers.push_back(Fiber{nullptr, stacks + i * stack_bytes, State::done, i, 0, {}});
}

void prepare(Fiber& fiber, void (*start)()) {
    void** top = reinterpret_cast<void**>(fiber.stack + stack_bytes - fiber.number % colours * cache_line);
    *--top = nullptr; // keeps the stack aligned as after a call
    *--top = reinterpret_cast<void*>(start);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    fiber.stack_pointer = top;
    fiber.state = State::runs;
}

uint64_t next_random() {
    uint64_t& r = machine().random;
    r ^= r << 13, r ^= r >> 7, r ^= r << 17;
    return r;
}
void shuffle(std::vector<unsigned>& order) {
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[next_random() % i]);
}

// Lets the lanes of one warp go on whose operation all lanes of its mask have reached.
bool release_warp(unsigned first) {
    Machine& m = machine();
    bool released = false;
    for (unsigned l = first; l < first + 32 && l < m.threads; ++l) {
        if (m.fibers[l].state != State::in_warp_operation) continue;
        const unsigned mask = m.fibers[l].mask;
        bool all = true;
        for (unsigned j = 0; j < 32; ++j) {
            if (!(mask >> j & 1)) continue;
            if (first + j >= m.threads || m.fibers[first + j].state == State::done) {
                m.current = &m.fibers[l];
                report("warp operation whose mask names a lane that is absent or has returned");
                return false;
            }
            const Fiber& other = m.fibers[first + j];
            all = all && other.state == State::in_warp_operation && other.mask == mask;
        }
        if (!all) continue;
        for (unsigned j = 0; j < 32; ++j)
            if (mask >> j & 1) m.fibers[first + j].state = State::runs;
        released = true;
    }
    return released;
}

bool release_barrier() {
    Machine& m = machine();
    unsigned waiting = 0;
    for (unsigned i = 0; i < m.threads; ++i) waiting += m.fibers[i].state == State::at_barrier;
    if (!waiting || waiting != m.alive) return false;
    if (m.alive != m.threads && !m.lenient) {
        report("barrier after other threads of the block have returned");
        return false;
    }
    for (unsigned i = 0; i < m.threads; ++i)
        if (m.fibers[i].state == State::at_barrier) m.fibers[i].state = State::runs;
    return true;
}

void run_block(bool threads_meet) {
    Machine& m = machine();
    m.alive = m.threads;
    m.fresh = true;
    if (m.shuffled) shuffle(m.order);
    if (!threads_meet) {
        prepare(m.fibers[0], begin_all);
        m.next = m.threads;
        standin_switch(&m.scheduler, m.fibers[0].stack_pointer);
        return;
    }
    for (unsigned i = 0; i < m.threads; ++i) prepare(m.fibers[i], begin);
    while (m.error.empty()) {
        bool progress = false;
        m.next = 0;
        while (m.next < m.threads) {
            Fiber& fiber = m.fibers[m.order[m.next++]];
            if (fiber.state != State::runs) continue;
            progress = true;
            m.current = &fiber;
            standin_switch(&m.scheduler, fiber.stack_pointer);
            if (!m.error.empty()) return;
        }
        if (!m.alive) return;
        for (unsigned w = 0; w < m.threads; w += 32) progress = release_warp(w) || progress;
        progress = release_barrier() || progress;
        if (!progress) report("deadlock: a barrier or warp operation that some threads never reach");
        if (m.shuffled) shuffle(m.order);
    }
}

} // namespace

bool launch(Index grid, Index size, bool threads_meet, bool lenient, void (*body)(void*), void* argument) {
    Machine& m = machine();
    m.grid = grid, m.size = size, m.threads = size.x * size.y * size.z, m.lenient = lenient;
    m.body = body, m.argument = argument;
    m.error.clear();
    m.current = nullptr;
    if (!m.threads || m.threads > most_threads) { report("a block has 1 to 1024 threads"); return false; }
    if (m.fibers.empty()) make_fibers();
    for (unsigned i = 0; i < m.threads; ++i)
        m.fibers[i].place = Index{i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    m.order.resize(m.threads);
    std::iota(m.order.begin(), m.order.end(), 0u);
    std::vector<unsigned> blocks(size_t(grid.x) * grid.y * grid.z);
    std::iota(blocks.begin(), blocks.end(), 0u);
    const char* seed = getenv("STANDIN_SEED");
    m.shuffled = seed && *seed;
    if (m.shuffled) {
        m.random = 88172645463325252ull + strtoull(seed, nullptr, 10) * 7919;
        shuffle(blocks);
    }
    for (unsigned b : blocks) {
        m.place = Index{b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)};
        run_block(threads_meet);
        if (!m.error.empty()) return false;
    }
    return true;
}

} // namespace block
