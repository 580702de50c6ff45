// Passes over the rows, and the threads that work on them beside the one that calls.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#ifndef _WIN32
#include <csignal>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#endif

namespace gpukmeans {

// Work that any number of threads share.
class Shared {
  public:
    virtual ~Shared() = default;
    // Works until nothing is left that no thread has begun.
    virtual void work_to_the_end() = 0;
    // Leaves out what no thread has begun.
    virtual void stop() = 0;
};

// Threads that come to help again and again. Waking one takes as long as a short pass, so they stay awake for a
// moment after each; then they sleep, and cost nothing.
class Crew {
  public:
    explicit Crew(int helpers) {
        const SignalsElsewhere elsewhere; // Ctrl-C is for the thread that calls
        try {
            for (int i = 0; i < helpers; i++) threads_.emplace_back([this] { help(); });
        } catch (...) { // no more threads to be had: go on with those there are
        }
    }

    ~Crew() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            over_ = true;
            number_++;
        }
        begun_.notify_all();
        for (std::thread &thread : threads_) thread.join();
    }

    Crew(const Crew &) = delete;
    Crew &operator=(const Crew &) = delete;

    // Whether the threads are in this process: a fork leaves them behind, and then nobody may wait for them.
    bool is_here() const { return process() == process_; }

    int size() const { return static_cast<int>(threads_.size()); }

    // Has the helpers begin with some work.
    void begin(Shared &work) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            work_ = &work;
            number_++;
            if (awake_ < size()) elsewhere();
        }
        begun_.notify_all();
    }

    // Waits until no helper is at work; throws what one of them has thrown.
    void end() {
        std::unique_lock<std::mutex> lock(mutex_);
        work_ = nullptr; // who comes now comes too late
        if (at_work_ > 0) {
            lock.unlock();
            wait_awake([this] { return at_work_ == 0; });
            lock.lock();
            ended_.wait(lock, [this] { return at_work_ == 0; });
        }
        if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    }

  private:
    static long process() {
#ifdef _WIN32
        return 0; // no forks there
#else
        return getpid();
#endif
    }

    void help() {
        std::int64_t seen = 0, placed = 0;
        for (;;) {
            wait_awake([&] { return number_ != seen; });
            std::unique_lock<std::mutex> lock(mutex_);
            if (number_ == seen || seen == 0) {
                awake_ -= seen != 0;
                begun_.wait(lock, [&] { return number_ != seen; });
                awake_++;
            }
            seen = number_;
            if (placed != placed_) anywhere();
            placed = placed_;
            if (over_) return;
            if (!work_) continue;
            Shared &work = *work_;
            at_work_++;
            lock.unlock();
            std::exception_ptr error;
            try {
                work.work_to_the_end();
            } catch (...) {
                error = std::current_exception();
                work.stop();
            }
            lock.lock();
            if (error) error_ = error;
            if (--at_work_ == 0) ended_.notify_one();
        }
    }

#ifdef __linux__
    // Linux may wake a thread, or begin a new one, on the core that the calling thread is busy on, and leave it
    // there for milliseconds while others idle. So helpers that sleep may not wake there ...
    void elsewhere() {
        CPU_ZERO(&cores_);
        if (sched_getaffinity(0, sizeof cores_, &cores_) != 0 || CPU_COUNT(&cores_) < 2) return;
        cpu_set_t others = cores_;
        CPU_CLR(sched_getcpu(), &others);
        for (std::thread &thread : threads_) pthread_setaffinity_np(thread.native_handle(), sizeof others, &others);
        placed_ = number_;
    }

    // ... and once awake run wherever the caller may.
    void anywhere() { pthread_setaffinity_np(pthread_self(), sizeof cores_, &cores_); }

    cpu_set_t cores_{};
#else
    void elsewhere() {}
    void anywhere() {}
#endif

    // Until something has come about, but not for long; other threads go first.
    template <class Condition> static void wait_awake(Condition condition) {
        const auto limit = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
        while (!condition() && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
    }

#ifdef _WIN32
    struct SignalsElsewhere {};
#else
    class SignalsElsewhere {
      public:
        SignalsElsewhere() {
            sigset_t all;
            sigfillset(&all);
            pthread_sigmask(SIG_SETMASK, &all, &before_);
        }
        ~SignalsElsewhere() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

      private:
        sigset_t before_;
    };
#endif

    const long process_ = process();
    std::mutex mutex_;
    std::condition_variable begun_, ended_;
    std::atomic<std::int64_t> number_{0}; // of the work, counted
    std::atomic<int> at_work_{0};         // helpers
    std::int64_t placed_ = 0;             // the last work for which helpers were placed
    Shared *work_ = nullptr;
    std::exception_ptr error_;
    bool over_ = false;
    int awake_ = 0; // helpers
    std::vector<std::thread> threads_; // last: they begin when all of the above is there
};

} // namespace gpukmeans
