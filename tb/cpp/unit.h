// A block of a design, verilated once as a class, of which each instance is an object (tb/build/block.py writes the class).
#ifndef PODWEAVE_UNIT_H
#define PODWEAVE_UNIT_H

#include "verilated.h"

#include <cstddef>
#include <string>
#include <vector>

class VerilatedVcdC;

namespace podweave {

// A port, stored as Verilator stores it: a machine word of 8, 16, 32 or 64 bits, or words of 32 bits, least significant first.
struct Port {
    std::string name;
    unsigned bits;
    bool output;
    void* data;
};

class Unit {
public:
    virtual ~Unit() = default;
    // A rising edge of the clock: new registers, of the inputs that are there, and the outputs that follow from both.
    virtual void rise() = 0;
    // The outputs that follow from the registers and the inputs.
    virtual void settle() = 0;
    virtual std::vector<Port> ports() = 0;
    // Where all is that an evaluation reads and changes, inputs and outputs included.
    virtual char* state() = 0;
    virtual std::size_t state_bytes() = 0;
    // Its class in Verilator's tables, to find its public variables.
    virtual const void* symbols() = 0;
    // To show either half of a cycle in a waveform; evaluates nothing.
    virtual void show_clock(bool high) = 0;
    virtual void trace(VerilatedVcdC* file) = 0;
};

// What is around the design, in cocotb's hands; `scope`: of it. Null if there is none of this name.
Unit* harness_unit(const char* scope, const char* design);

// Verilator sees a rising edge where the clock was low at the evaluation before. Telling it so saves the evaluation of the falling
// edge, at which nothing happens. False for a class without this variable, which needs that evaluation.
template <class Root>
auto forget_clock(Root& root, int) -> decltype(static_cast<void>(root.__Vtrigprevexpr___TOP__clk__0), true) {
    root.__Vtrigprevexpr___TOP__clk__0 = 0;
    return true;
}
template <class Root>
bool forget_clock(Root&, long) {
    return false;
}

template <class Model, class Root>
void rising_edge(Model& model, Root& root) {
    if (!forget_clock(root, 0)) {
        model.clk = 0;
        model.eval();
    }
    model.clk = 1;
    model.eval();
}

}  // namespace podweave

#endif
