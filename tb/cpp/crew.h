// Threads that do the phases of many cycles together.
#ifndef PODWEAVE_CREW_H
#define PODWEAVE_CREW_H

#include "verilated.h"

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace podweave {

// Waits by spinning: a phase takes microseconds. Who has waited for long leaves its core to others.
class Barrier {
public:
    void of(unsigned members) { members_ = members; }

    void wait() {
        if (members_ == 1) return;
        const unsigned round = round_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members_) {
            arrived_.store(0, std::memory_order_relaxed);
            round_.store(round + 1, std::memory_order_release);
            return;
        }
        for (unsigned spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
            if (spins >= Patience) std::this_thread::yield();
#if defined(__x86_64__) || defined(__i386__)
            else __builtin_ia32_pause();
#endif
        }
    }

private:
    static constexpr unsigned Patience = 2000;
    alignas(64) std::atomic<unsigned> arrived_{0};
    alignas(64) std::atomic<unsigned> round_{0};
    unsigned members_ = 1;
};

// Member 0 is whoever calls; the others sleep between two pieces of work.
class Crew {
public:
    ~Crew() {
        {
            const std::lock_guard<std::mutex> lock{mutex_};
            over_ = true;
        }
        begins_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    // `work(i)` by each of the members i, at the same time.
    void run(unsigned members, VerilatedContext* context, const std::function<void(unsigned)>& work) {
        if (members > 1) {
            // Signals are for the threads that handle them.
            sigset_t all, before;
            sigfillset(&all);
            pthread_sigmask(SIG_SETMASK, &all, &before);
            while (threads_.size() + 1 < members) {
                const unsigned number = threads_.size() + 1;
                threads_.emplace_back([this, number, context] { serve(number, context); });
            }
            pthread_sigmask(SIG_SETMASK, &before, nullptr);
            {
                const std::lock_guard<std::mutex> lock{mutex_};
                work_ = &work;
                members_ = members;
                working_ = members - 1;
                ++piece_;
            }
            begins_.notify_all();
        }
        work(0);
        if (members > 1) {
            std::unique_lock<std::mutex> lock{mutex_};
            ends_.wait(lock, [this] { return working_ == 0; });
        }
    }

private:
    void serve(unsigned number, VerilatedContext* context) {
        Verilated::threadContextp(context);
        for (unsigned long long seen = 0;;) {
            const std::function<void(unsigned)>* work;
            {
                std::unique_lock<std::mutex> lock{mutex_};
                begins_.wait(lock, [&] { return over_ || piece_ != seen; });
                if (over_) return;
                seen = piece_;
                if (number >= members_) continue;
                work = work_;
            }
            (*work)(number);
            {
                const std::lock_guard<std::mutex> lock{mutex_};
                --working_;
            }
            ends_.notify_one();
        }
    }

    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable begins_, ends_;
    const std::function<void(unsigned)>* work_ = nullptr;
    unsigned members_ = 1, working_ = 0;
    unsigned long long piece_ = 0;
    bool over_ = false;
};

}  // namespace podweave

#endif
