// Bits on their way from an output to an input.
#ifndef PODWEAVE_WIRES_H
#define PODWEAVE_WIRES_H

#include <cstdint>
#include <cstring>
#include <vector>

namespace podweave {

// Some bits of a port. `bytes`: of its machine word, or 0 for words of 32 bits.
struct Bits {
    void* data;
    unsigned bytes;
    unsigned low;

    // Its machine word, or up to 64 bits of its words.
    std::uint64_t load(unsigned width) const {
        std::uint64_t value;
        if (bytes) {
            value = word() >> low;
        } else {
            const std::uint32_t* const words = static_cast<const std::uint32_t*>(data) + low / 32;
            const unsigned shift = low % 32;
            value = words[0] >> shift;
            if (shift + width > 32) value |= static_cast<std::uint64_t>(words[1]) << (32 - shift);
            if (shift + width > 64) value |= static_cast<std::uint64_t>(words[2]) << (64 - shift);
        }
        return width < 64 ? value & ((std::uint64_t{1} << width) - 1) : value;
    }

    void store(unsigned width, std::uint64_t value) const {
        const std::uint64_t mask = width < 64 ? (std::uint64_t{1} << width) - 1 : ~std::uint64_t{0};
        if (bytes) {
            const std::uint64_t now = (word() & ~(mask << low)) | (value << low);
            // Sizes that the compiler knows: these are single instructions.
            switch (bytes) {
            case 1: std::memcpy(data, &now, 1); break;
            case 2: std::memcpy(data, &now, 2); break;
            case 4: std::memcpy(data, &now, 4); break;
            default: std::memcpy(data, &now, 8);
            }
        } else {
            for (unsigned done = 0; done < width;) {
                std::uint32_t& word = static_cast<std::uint32_t*>(data)[(low + done) / 32];
                const unsigned shift = (low + done) % 32;
                const std::uint32_t part = static_cast<std::uint32_t>(mask >> done) << shift;
                word = (word & ~part) | (static_cast<std::uint32_t>(value >> done) << shift & part);
                done += 32 - shift;
            }
        }
    }

private:
    std::uint64_t word() const {
        switch (bytes) {
        case 1: return *static_cast<const std::uint8_t*>(data);
        case 2: return *static_cast<const std::uint16_t*>(data);
        case 4: return *static_cast<const std::uint32_t*>(data);
        default: return *static_cast<const std::uint64_t*>(data);
        }
    }
};

// One copy: whole bytes, whole words of 32 bits that are shifted, or up to 64 bits.
class Copy {
public:
    static void split(Bits source, Bits target, unsigned width, std::vector<Copy>& copies) {
        if (source.low % 8 == 0 && target.low % 8 == 0 && width % 8 == 0) {
            copies.push_back(Copy(Bytes, source, target, width));
            return;
        }
        if (width > 64) {
            const unsigned head = (32 - target.low % 32) % 32;
            if (head) step(source, target, width, head, copies);
            const unsigned words = width / 32;
            copies.push_back(Copy(source.low % 32 ? Words : Bytes, source, target, 32 * words));
            source.low += 32 * words;
            target.low += 32 * words;
            width -= 32 * words;
        }
        if (width) copies.push_back(Copy(Few, source, target, width));
    }

    // `taken` bits, to which something is added.
    Copy(Bits source, unsigned taken, Bits target, unsigned width, std::uint64_t added)
        : Copy(Few, source, target, width) {
        taken_ = taken;
        added_ = added;
    }

    // Whether the target was different before.
    bool run() const {
        switch (kind_) {
        case Bytes: {
            const char* const from = static_cast<const char*>(source_.data);
            char* const to = static_cast<char*>(target_.data);
            switch (width_) {
            case 1: return assign<std::uint8_t>(from, to);
            case 2: return assign<std::uint16_t>(from, to);
            case 4: return assign<std::uint32_t>(from, to);
            case 8: return assign<std::uint64_t>(from, to);
            default:
                if (width_ % 8) {
                    if (std::memcmp(from, to, width_) == 0) return false;
                    std::memcpy(to, from, width_);
                    return true;
                }
                return assign_many(from, to, width_ / 8);
            }
        }
        case Words: {
            const std::uint32_t* const __restrict from = static_cast<const std::uint32_t*>(source_.data);
            std::uint32_t* const __restrict to = static_cast<std::uint32_t*>(target_.data);
            const unsigned right = source_.low, left = 32 - right;
            std::uint32_t changed = 0;
            for (unsigned i = 0; i < width_; ++i) {
                const std::uint32_t word = from[i] >> right | from[i + 1] << left;
                changed |= to[i] ^ word;
                to[i] = word;
            }
            return changed;
        }
        default: {
            std::uint64_t value = source_.load(taken_) + added_;
            if (width_ < 64) value &= (std::uint64_t{1} << width_) - 1;
            if (target_.load(width_) == value) return false;
            target_.store(width_, value);
            return true;
        }
        }
    }

private:
    enum Kind : std::uint8_t { Bytes, Words, Few };

    // `width` in bits. Whole bytes and words begin where the pointer points to, and their number replaces the width.
    Copy(Kind kind, Bits source, Bits target, unsigned width)
        : kind_(kind), source_(source), target_(target), width_(width), taken_(width), added_(0) {
        if (kind == Bytes) {
            source_.data = static_cast<char*>(source.data) + source.low / 8;
            target_.data = static_cast<char*>(target.data) + target.low / 8;
            width_ = width / 8;
        } else if (kind == Words) {
            source_.data = static_cast<std::uint32_t*>(source.data) + source.low / 32;
            target_.data = static_cast<std::uint32_t*>(target.data) + target.low / 32;
            source_.low = source.low % 32;
            width_ = width / 32;
        }
    }

    static void step(Bits& source, Bits& target, unsigned& width, unsigned taken, std::vector<Copy>& copies) {
        copies.push_back(Copy(Few, source, target, taken));
        source.low += taken;
        target.low += taken;
        width -= taken;
    }

    template <class Word>
    static bool assign(const char* from, char* to) {
        Word now, before;
        std::memcpy(&now, from, sizeof now);
        std::memcpy(&before, to, sizeof before);
        std::memcpy(to, from, sizeof now);
        return now != before;
    }

    // In the words that vectors are made of.
    static bool assign_many(const char* __restrict from, char* __restrict to, unsigned count) {
        std::uint64_t changed = 0;
        for (unsigned i = 0; i < count; ++i) {
            std::uint64_t now, before;
            std::memcpy(&now, from + 8 * i, sizeof now);
            std::memcpy(&before, to + 8 * i, sizeof before);
            std::memcpy(to + 8 * i, &now, sizeof now);
            changed |= now ^ before;
        }
        return changed;
    }

    Kind kind_;
    Bits source_, target_;
    unsigned width_, taken_;
    std::uint64_t added_;
};

}  // namespace podweave

#endif
