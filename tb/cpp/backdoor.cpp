// What the Python side of a test bench, in the same process, needs of the running model beyond VPI: the address of a public
// array, and many clock cycles at once. VPI would take longer for one clock edge than the model of a whole pod.
#include "Vtop.h"
#include "Vtop__Syms.h"
#include "verilated.h"
#include "verilated_syms.h"

#include <cstdint>
#include <cstring>
#include <string>

extern "C" void* podweave_variable(const char* scope_name, const char* variable_name) {
    const VerilatedScope* const scope = Verilated::threadContextp()->scopeFind(scope_name);
    if (!scope) return nullptr;
    const VerilatedVar* const variable = scope->varFind(variable_name);
    return variable ? variable->datap() : nullptr;
}

// Each cycle is a rising and a falling edge of clk, which must be low before. Simulated time stands still meanwhile. Stops early
// when the public one-bit variable, if one is named, is 1; returns the cycles run, -1 if the model ended or there is no such name.
extern "C" long long podweave_cycles(const char* scope_name, unsigned long long cycles, const char* variable_name) {
    const VerilatedScope* const scope = Verilated::threadContextp()->scopeFind(scope_name);
    if (!scope) return -1;
    const std::uint8_t* until = nullptr;
    if (variable_name) {
        const VerilatedVar* const variable = scope->varFind(variable_name);
        if (!variable) return -1;
        until = static_cast<const std::uint8_t*>(variable->datap());
    }
    Vtop* const model = static_cast<Vtop__Syms*>(scope->symsp())->__Vm_modelp;
    unsigned long long cycle = 0;
    for (; cycle < cycles && !(until && *until); ++cycle) {
        model->clk = 1;
        model->eval();
        model->clk = 0;
        model->eval();
        if (Verilated::threadContextp()->gotFinish()) return -1;
    }
    return static_cast<long long>(cycle);
}

// The names of all scopes, each ended by a newline, into a buffer of the given size; returns the size they need.
extern "C" unsigned long long podweave_scopes(char* buffer, unsigned long long size) {
    std::string names;
    if (const VerilatedScopeNameMap* const map = Verilated::threadContextp()->scopeNameMap())
        for (const auto& entry : *map) names.append(entry.first).push_back('\n');
    if (names.size() <= size) std::memcpy(buffer, names.data(), names.size());
    return names.size();
}
