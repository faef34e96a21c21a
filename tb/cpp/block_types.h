// The blocks that a simulator has; a file of its own, as every simulator has one of its own.
#ifndef PODWEAVE_BLOCK_TYPES_H
#define PODWEAVE_BLOCK_TYPES_H

class VerilatedContext;

namespace podweave {

class Unit;

struct BlockType {
    const char* name;
    Unit* (*make)(VerilatedContext* context, const char* name);
};
extern const BlockType block_types[];
extern const unsigned block_type_count;

}  // namespace podweave

#endif
