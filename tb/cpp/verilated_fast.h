// Verilator extends a sign with a mask, a negation and an or; with a cast, compilers see what is meant, and have instructions for it,
// also for many at once. In an array of multipliers nothing takes longer.
//
// And it takes the state of a model from wherever there is room. A chip holds many megabytes of memories, and touches a few words of
// each in every cycle: on small pages, finding them takes longer than what is done with them.
#ifndef PODWEAVE_VERILATED_FAST_H
#define PODWEAVE_VERILATED_FAST_H

#include "verilated.h"
#include "verilated_funcs.h"

#include <cstddef>
#include <new>

void* podweave_large_pages(std::size_t bytes);

namespace podweave {

inline IData extended(int bits, IData value) {
    switch (bits) {
    case 8: return static_cast<IData>(static_cast<std::int32_t>(static_cast<std::int8_t>(value)));
    case 16: return static_cast<IData>(static_cast<std::int32_t>(static_cast<std::int16_t>(value)));
    default: return static_cast<IData>(static_cast<std::int32_t>(value << (32 - bits)) >> (32 - bits));
    }
}

// Byte `index` of a value, as C++ in which it was found says it (tb/build/blocks.py).
template <std::size_t Words>
inline IData signed_byte(const VlWide<Words>& value, int index) {
    return static_cast<IData>(static_cast<std::int32_t>(reinterpret_cast<const std::int8_t*>(value.data())[index]));
}

// The same of an array of words.
template <class Word, std::size_t Words>
inline IData signed_byte(const VlUnpacked<Word, Words>& value, int index) {
    return extended(8, static_cast<IData>(value[index / 4]) >> 8 * (index % 4));
}

}  // namespace podweave

// In the class of the state of a model; that is made once and never freed.
#define PODWEAVE_LARGE_PAGES                                                                                      \
    static void* operator new(std::size_t bytes) { return podweave_large_pages(bytes); }                          \
    static void* operator new(std::size_t bytes, std::align_val_t) { return podweave_large_pages(bytes); }        \
    static void operator delete(void*) {}                                                                         \
    static void operator delete(void*, std::align_val_t) {}

#define VL_EXTENDS_II(obits, lbits, lhs) podweave::extended((lbits), (lhs))
#define VL_MULS_III(lbits, lhs, rhs) \
    ((lbits) == 32 ? static_cast<IData>(lhs) * static_cast<IData>(rhs) : (VL_MULS_III)((lbits), (lhs), (rhs)))

#endif
