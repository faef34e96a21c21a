// Memory of the simulated HBM: a file mapped into the process, shared with Python. Byte 0 of the file is address 0.
#include "svdpi.h"

#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {
std::uint8_t* memory = nullptr;
std::uint64_t memory_bytes = 0;
}  // namespace

// Maps the whole file instead of the one before; returns its size, or -1 if it cannot be mapped.
extern "C" long long podweave_memory(const char* path) {
    const int file = open(path, O_RDWR);
    if (file < 0) return -1;
    struct stat status;
    void* mapped = MAP_FAILED;
    if (fstat(file, &status) == 0 && status.st_size > 0)
        mapped = mmap(nullptr, status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED) return -1;
    if (memory) munmap(memory, memory_bytes);
    memory = static_cast<std::uint8_t*>(mapped);
    memory_bytes = status.st_size;
    return static_cast<long long>(memory_bytes);
}

// One beat of up to 64 bytes; 0 where no memory is mapped.
extern "C" void podweave_memory_read(unsigned long long address, int bytes, svBitVecVal* data) {
    std::memset(data, 0, 64);
    if (address < memory_bytes && memory_bytes - address >= static_cast<unsigned>(bytes)) std::memcpy(data, memory + address, bytes);
}

// One beat: the bytes whose bit of `strobes` is set. Nothing where no memory is mapped.
extern "C" void podweave_memory_write(unsigned long long address, int bytes, unsigned long long strobes, const svBitVecVal* data) {
    if (address >= memory_bytes || memory_bytes - address < static_cast<unsigned>(bytes)) return;
    const std::uint8_t* const source = reinterpret_cast<const std::uint8_t*>(data);
    for (int i = 0; i < bytes; ++i)
        if (strobes >> i & 1) memory[address + i] = source[i];
}
