// Address of a public variable of the running model, for bulk access from Python in the same process.
#include "verilated.h"
#include "verilated_syms.h"

extern "C" void* podweave_variable(const char* scope_name, const char* variable_name) {
    const VerilatedScope* const scope = Verilated::threadContextp()->scopeFind(scope_name);
    if (!scope) return nullptr;
    const VerilatedVar* const variable = scope->varFind(variable_name);
    return variable ? variable->datap() : nullptr;
}
