// What the Python side of a test bench, in the same process, needs of the running model beyond VPI: the addresses of public
// arrays, and the harness as a unit. VPI would take longer for one clock edge than the model of a whole pod.
// Before what it is in.
#include "verilated_fast.h"

#include "Vtop.h"
#include "Vtop___024root.h"
#include "Vtop__Syms.h"
#include "unit.h"
#include "verilated.h"
#include "verilated_syms.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

#include <cstring>
#include <string>

extern "C" void* podweave_variable(const char* scope_name, const char* variable_name) {
    const VerilatedScope* const scope = Verilated::threadContextp()->scopeFind(scope_name);
    if (!scope) return nullptr;
    const VerilatedVar* const variable = scope->varFind(variable_name);
    return variable ? variable->datap() : nullptr;
}

// The names of all scopes, each ended by a newline, into a buffer of the given size; returns the size they need.
extern "C" unsigned long long podweave_scopes(char* buffer, unsigned long long size) {
    std::string names;
    if (const VerilatedScopeNameMap* const map = Verilated::threadContextp()->scopeNameMap())
        for (const auto& entry : *map) names.append(entry.first).push_back('\n');
    if (names.size() <= size) std::memcpy(buffer, names.data(), names.size());
    return names.size();
}

namespace {

// The class that cocotb has made. What stands in it for a design (tb/build/verilate.py) has the ports of the design as variables:
// those that the design drives are inputs of the harness.
class Harness final : public podweave::Unit {
public:
    Harness(Vtop* model, const VerilatedScope* design) : model_(model), design_(design) {}

    void rise() override {
        if (design_) {
            podweave::rising_edge(*model_, *model_->rootp);
            return;
        }
        // Whatever is in a harness that is all of the model may happen at the falling edge.
        model_->clk = 1;
        model_->eval();
        model_->clk = 0;
        model_->eval();
    }
    void settle() override { model_->eval(); }
    void show_clock(bool high) override { model_->clk = high; }

    std::vector<podweave::Port> ports() override {
        std::vector<podweave::Port> found;
        if (design_ && design_->varsp())
            for (const auto& entry : *design_->varsp()) {
                const VerilatedVar& variable = entry.second;
                const unsigned bits = variable.entBits();
                found.push_back({entry.first, bits, !variable.isPublicRW(), variable.datap()});
            }
        return found;
    }

    char* state() override { return nullptr; }
    std::size_t state_bytes() override { return 0; }
    const void* symbols() override { return model_->rootp->vlSymsp; }

    void trace(VerilatedVcdC* file) override {
#if VM_TRACE
        model_->traceBaseModel(file, 99, 0);
#else
        (void)file;
#endif
    }

private:
    Vtop* model_;
    const VerilatedScope* design_;
};

}  // namespace

podweave::Unit* podweave::harness_unit(const char* scope_name, const char* design) {
    const VerilatedScope* const scope = Verilated::threadContextp()->scopeFind(scope_name);
    if (!scope) return nullptr;
    Vtop* const model = static_cast<Vtop__Syms*>(scope->symsp())->__Vm_modelp;
    return new Harness{model, *design ? Verilated::threadContextp()->scopeFind(design) : nullptr};
}
