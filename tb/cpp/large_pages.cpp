// Memory for the states of models (verilated_fast.h), on pages as large as the system has.
#include <cstddef>
#include <cstdint>
#include <new>
#include <sys/mman.h>

namespace {

constexpr std::size_t Page = 2 << 20, Chunk = 64 << 20, Alignment = 4096;

std::uintptr_t next = 0, end = 0;

}  // namespace

void* podweave_large_pages(std::size_t bytes) {
    // Large pages take their time to be made.
    if (bytes < Page / 8) return ::operator new(bytes, std::align_val_t{64});
    // Each begins on a cache line of its own kind: with states at equal distances, all their hot words would meet in a few.
    static std::size_t colour = 0;
    bytes = (bytes + Alignment - 1) / Alignment * Alignment + (colour = (colour + 320) % 4032 / 64 * 64);
    if (end - next < bytes) {
        const std::size_t wanted = bytes > Chunk ? bytes : Chunk;
        void* const mapped =
            mmap(nullptr, wanted + Page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapped == MAP_FAILED) throw std::bad_alloc{};
        next = (reinterpret_cast<std::uintptr_t>(mapped) + Page - 1) / Page * Page;
        end = next + wanted;
#ifdef MADV_HUGEPAGE
        // Where there are none, it is as slow as it would have been.
        madvise(reinterpret_cast<void*>(next), wanted, MADV_HUGEPAGE);
#endif
    }
    void* const found = reinterpret_cast<void*>(next);
    next += bytes;
    return found;
}
