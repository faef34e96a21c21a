// Evaluates a design block by block: units are objects, wires are copies between their ports (tb/build/circuit.py says which).
//
// A cycle has three phases. First every unit takes what its inputs are wired to; then all see the rising edge. As outputs come from
// registers, that is all, but for the few units with paths from input to output: at last these take their inputs again and settle,
// in the order of the paths. A design without a circuit is one unit, the harness with all that is in it.
//
// A unit whose inputs are what they were, and of which two edges in a row have changed nothing, will change nothing at the next
// edge either, whatever it is: it sleeps until an input changes. Memories that are read through registers need not be looked at:
// an edge that leaves the registers as they are writes what it will write again at the next, and then reads the same.
#include "block_types.h"
#include "crew.h"
#include "unit.h"
#include "wires.h"

#include "verilated.h"
#include "verilated_syms.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>

namespace podweave {
namespace {

using Clock = std::chrono::steady_clock;

// Cycles between two that are timed, and in one piece of work of the threads, after which units may change hands.
constexpr unsigned Sample = 64, PieceOfWork = 8192;
// A unit that has not come to rest is looked at again after as many edges; twice as many each time.
constexpr unsigned LongestWait = 64;
constexpr std::uint64_t Period = 2000;
// Of the average, what the busiest thread may have to do before units change hands.
constexpr double Imbalance = 1.04;

struct Instance;

// Copies from one source, to be made only when that has been evaluated since. On a cache line of its own: neighbours in memory may be of
// another thread.
struct alignas(64) Group {
    const Instance* source;
    std::uint64_t seen;
    std::size_t begin, end;
};

struct alignas(64) Instance {
    std::string name;
    std::unique_ptr<Unit> unit;
    std::unordered_map<std::string, Port> ports;
    std::vector<Copy> copies;
    std::vector<Group> groups;
    // Counts the evaluations that may have changed an output. Others read it; what is behind it only its thread knows.
    alignas(64) std::uint64_t version = 1;
    alignas(64) bool changed = true, asleep = false, deaf = false;
    unsigned still = 0, wait = 0, backoff = 1;
    // What is looked at to see whether it is at rest: its state without memories that are read through registers.
    std::vector<std::pair<char*, std::size_t>> parts;
    std::vector<char> before;
    // Seconds that either phase of a cycle takes.
    std::array<double, 2> seconds{};
    unsigned thread = 0;

    double cost() const { return seconds[0] + seconds[1]; }

    template <class Work>
    void took(unsigned phase, Work work) {
        const auto began = Clock::now();
        work();
        const double now = std::chrono::duration<double>(Clock::now() - began).count();
        // What interrupts us is not its cost: most of the time it costs what it costs at least.
        seconds[phase] = seconds[phase] ? 0.75 * seconds[phase] + 0.25 * std::min(now, 4 * seconds[phase]) : now;
    }

    Bits bits(const std::string& port, unsigned low) {
        const auto found = ports.find(port);
        if (found == ports.end()) throw std::runtime_error("unit " + name + " has no port " + port);
        const unsigned width = found->second.bits;
        return {found->second.data, width <= 8 ? 1u : width <= 16 ? 2u : width <= 32 ? 4u : width <= 64 ? 8u : 0u, low};
    }

    void take_inputs() {
        for (Group& group : groups) {
            if (group.seen == group.source->version) continue;
            group.seen = group.source->version;
            for (std::size_t i = group.begin; i < group.end; ++i) changed |= copies[i].run();
        }
    }

    void remember() {
        char* to = before.data();
        for (const auto& [data, bytes] : parts) {
            std::memcpy(to, data, bytes);
            to += bytes;
        }
    }

    bool is_as_before() const {
        const char* from = before.data();
        for (const auto& [data, bytes] : parts) {
            if (std::memcmp(from, data, bytes) != 0) return false;
            from += bytes;
        }
        return true;
    }

    std::string difference() const {
        const char* from = before.data();
        for (const auto& [data, bytes] : parts)
            for (std::size_t i = 0; i < bytes; ++i)
                if (*from++ != data[i]) return "byte " + std::to_string(data + i - unit->state()) + " of its state";
        return "nothing";
    }

    void evaluate() {
        unit->rise();
        ++version;
    }

    // One edge, or none if that would change nothing.
    void edge() {
        if (changed) {
            changed = asleep = false;
            still = 0;
            evaluate();
            return;
        }
        if (asleep) return;
        if (wait) {
            --wait;
            evaluate();
            return;
        }
        remember();
        unit->rise();
        if (is_as_before()) {
            asleep = ++still == 2;
        } else {
            still = 0;
            ++version;
            wait = backoff = std::min(2 * backoff, LongestWait);
        }
    }

    void wake() {
        changed = true;
        backoff = 1;
        wait = 0;
    }
};

// A row of values after each cycle, for someone who compares.
struct Recording {
    std::vector<std::pair<const char*, std::size_t>> values;
    char* rows = nullptr;
    std::uint64_t count = 0, next = 0;
    std::size_t row_bytes = 0;
};

class Engine {
public:
    void begin(const char* scope) {
        if (scope_ == scope) return;
        if (!scope_.empty()) throw std::runtime_error("a simulator has one harness, " + scope_ + ", not also " + scope);
        context_ = Verilated::threadContextp();
        const char* const file = std::getenv("PODWEAVE_CIRCUIT");
        const char* const design = std::getenv("PODWEAVE_DESIGN");
        add("harness", harness_unit(scope, file && design ? design : ""));
        scope_ = scope;
        if (file) load(file);
    }

    long long run(std::uint64_t cycles, const std::uint8_t* until) {
        if (!failure_.empty()) return -2;
        if (instances_.size() > 1) {
            // Whoever was here meanwhile may have changed inputs of the harness, or any memory.
            for (auto& instance : instances_) {
                instance->wake();
                ++instance->version;
            }
            settle();
        }
        std::uint64_t done = 0;
        for (bool more = true; more && done < cycles;) {
            const std::uint64_t piece = std::min<std::uint64_t>(cycles - done, measured_ ? PieceOfWork : Sample);
            const std::uint64_t ran = piece_of_work(piece, until);
            done += ran;
            more = ran == piece;
        }
#if VM_TRACE
        // Whoever ends the simulation need not say so before.
        if (trace_) trace_->flush();
#endif
        // As cocotb knows it.
        instances_[0]->unit->show_clock(false);
        instances_[0]->unit->settle();
        if (!failure_.empty()) return -2;
        return context_->gotFinish() ? -1 : static_cast<long long>(done);
    }

    void set_threads(unsigned threads, double least_seconds) {
        threads_ = std::max(1u, threads);
        least_seconds_ = least_seconds;
    }

    void set_checking(bool checking) { checking_ = checking; }
    const std::string& failure() const { return failure_; }
    Recording& recording() { return recording_; }

    Port* port(const std::string& unit, const std::string& name) {
        for (auto& instance : instances_)
            if (instance->name == unit) {
                const auto found = instance->ports.find(name);
                return found == instance->ports.end() ? nullptr : &found->second;
            }
        return nullptr;
    }

    // Waveforms of the harness and of the units whose names begin with one of `names` (all, if there is none).
    void trace(const char* path, const std::vector<std::string>& names) {
#if VM_TRACE
        context_->traceEverOn(true);
        trace_ = std::make_unique<VerilatedVcdC>();
        for (auto& instance : instances_) {
            const bool wanted = names.empty() || std::any_of(names.begin(), names.end(), [&](const std::string& name) {
                return instance->name == name || instance->name.compare(0, name.size() + 1, name + ".") == 0;
            });
            if (wanted || instance == instances_[0]) instance->unit->trace(trace_.get());
        }
        trace_->open(path);
#else
        (void)path, (void)names;
        throw std::runtime_error("this simulator was built without waveforms");
#endif
    }

private:
    void add(const std::string& name, Unit* unit) {
        if (!unit) throw std::runtime_error("no harness in scope " + name);
        auto instance = std::make_unique<Instance>();
        instance->name = name;
        instance->unit.reset(unit);
        for (const Port& port : unit->ports()) instance->ports.emplace(port.name, port);
        instances_.push_back(std::move(instance));
    }

    void load(const char* path) {
        std::ifstream file{path};
        std::unordered_map<std::string, const BlockType*> blocks;
        for (unsigned i = 0; i < block_type_count; ++i) blocks[block_types[i].name] = &block_types[i];
        for (std::string line; std::getline(file, line);) {
            std::istringstream words{line};
            std::string kind, to_port, from_port;
            unsigned to = 0, to_bit = 0, from = 0, from_bit = 0, width = 0, taken = 0;
            std::uint64_t value = 0;
            words >> kind;
            if (kind == "unit") {
                std::string block, name;
                words >> block >> name;
                // The harness was here before.
                if (block != "-") add(name, blocks.at(block)->make(context_, name.c_str()));
            } else if (kind == "wire") {
                words >> to >> to_port >> to_bit >> from >> from_port >> from_bit >> width;
                connect(*instances_.at(to), *instances_.at(from), [&](Bits source, Bits target, std::vector<Copy>& copies) {
                    Copy::split(source, target, width, copies);
                }, to_port, to_bit, from_port, from_bit);
            } else if (kind == "sum") {
                words >> to >> to_port >> to_bit >> from >> from_port >> from_bit >> taken >> width >> value;
                connect(*instances_.at(to), *instances_.at(from), [&](Bits source, Bits target, std::vector<Copy>& copies) {
                    copies.push_back(Copy(source, taken, target, width, value));
                }, to_port, to_bit, from_port, from_bit);
            } else if (kind == "constant") {
                words >> to >> to_port >> to_bit >> width >> value;
                instances_.at(to)->bits(to_port, to_bit).store(width, value);
            } else if (kind == "order") {
                words >> to;
                order_.push_back(instances_.at(to).get());
            } else if (kind == "deaf") {
                // A fault that a test plants.
                words >> to;
                instances_.at(to)->deaf = true;
            } else {
                throw std::runtime_error("not understood in a circuit: " + line);
            }
            if (!words) throw std::runtime_error("not complete in a circuit: " + line);
        }
        if (instances_.size() < 2) throw std::runtime_error(std::string{"no circuit in "} + path);
        for (auto& instance : instances_) look_at(*instance);
    }

    template <class Made>
    void connect(Instance& to, const Instance& from, Made made, const std::string& to_port, unsigned to_bit,
                 const std::string& from_port, unsigned from_bit) {
        const auto group = std::find_if(to.groups.begin(), to.groups.end(), [&](const Group& g) { return g.source == &from; });
        const std::size_t at = group == to.groups.end() ? to.copies.size() : group->end;
        std::vector<Copy> copies;
        made(const_cast<Instance&>(from).bits(from_port, from_bit), to.bits(to_port, to_bit), copies);
        to.copies.insert(to.copies.begin() + static_cast<std::ptrdiff_t>(at), copies.begin(), copies.end());
        if (group == to.groups.end()) {
            to.groups.push_back({&from, 0, at, at + copies.size()});
        } else {
            for (Group& g : to.groups)
                if (g.begin >= at && &g != &*group) {
                    g.begin += copies.size();
                    g.end += copies.size();
                }
            group->end += copies.size();
        }
    }

    // The parts of its state that are compared: without its memories of words that are read through registers. In a check also those,
    // if they are small.
    void look_at(Instance& instance) {
        std::vector<std::pair<char*, std::size_t>> memories;
        if (!checking_ || instance.unit->state_bytes() > (1u << 20))
            if (const VerilatedScopeNameMap* const map = context_->scopeNameMap())
                for (const auto& entry : *map) {
                    if (entry.second->symsp() != instance.unit->symbols() || !entry.second->varsp()) continue;
                    for (const auto& variable : *entry.second->varsp())
                        if (!std::strcmp(variable.first, "words"))
                            memories.emplace_back(static_cast<char*>(variable.second.datap()), variable.second.totalSize());
                }
        std::sort(memories.begin(), memories.end());
        instance.parts.clear();
        char* at = instance.unit->state();
        char* const end = at + instance.unit->state_bytes();
        for (const auto& [data, bytes] : memories) {
            if (data < at || data + bytes > end) continue;
            if (data > at) instance.parts.emplace_back(at, data - at);
            at = data + bytes;
        }
        if (end > at) instance.parts.emplace_back(at, end - at);
        std::size_t total = 0;
        for (const auto& part : instance.parts) total += part.second;
        instance.before.resize(total);
    }

    // Units with paths through them, after an edge or after the harness has changed.
    void settle() {
        for (Instance* const instance : order_) {
            // Its next edge must still see that its inputs have changed.
            const bool before = instance->changed;
            instance->changed = false;
            instance->take_inputs();
            if (instance->changed) {
                instance->unit->settle();
                ++instance->version;
            }
            instance->changed |= before;
        }
    }

    void take_all_inputs() {
        for (auto& instance : instances_) instance->take_inputs();
    }

    bool watched() const {
        return checking_ || recording_.rows ||
#if VM_TRACE
               trace_ ||
#endif
               false;
    }

    // After the edges: what only one thread does, while the others wait.
    void afterwards() {
        settle();
        if (!watched()) return;
        if (instances_.size() > 1) take_all_inputs();
        if (checking_) check_outputs();
        if (recording_.rows) {
            char* to = recording_.rows + recording_.next++ % recording_.count * recording_.row_bytes;
            for (const auto& [data, bytes] : recording_.values) {
                std::memcpy(to, data, bytes);
                to += bytes;
            }
        }
#if VM_TRACE
        if (trace_) {
            for (const bool high : {true, false}) {
                for (auto& instance : instances_) {
                    instance->unit->show_clock(high);
                    if (instances_.size() > 1) instance->unit->settle();
                }
                trace_->dump(time_);
                time_ += Period / 2;
            }
        }
#endif
    }

    // No output may change any more: none that has not been evaluated depends on what has.
    void check_outputs() {
        for (auto& instance : instances_) {
            if (instance == instances_[0]) continue;
            std::vector<std::pair<const Port*, std::string>> outputs;
            for (const auto& [name, port] : instance->ports)
                if (port.output) outputs.emplace_back(&port, value_of(port));
            instance->unit->settle();
            for (const auto& [port, value] : outputs)
                if (value_of(*port) != value)
                    fail("output " + port->name + " of " + instance->name + " depends on an input that came later");
        }
    }

    static std::string value_of(const Port& port) {
        const unsigned width = port.bits;
        const std::size_t bytes = width <= 8 ? 1 : width <= 16 ? 2 : width <= 32 ? 4 : width <= 64 ? 8 : (width + 31) / 32 * 4;
        return {static_cast<const char*>(port.data), bytes};
    }

    void fail(const std::string& what) {
        const std::lock_guard<std::mutex> lock{failing_};
        if (failure_.empty()) failure_ = "cycle " + std::to_string(cycle_) + ": " + what;
    }

    void edge(Instance& instance) {
        if (instance.deaf && instance.asleep) instance.changed = false;
        if (instances_.size() == 1 || &instance == instances_[0].get()) {
            // The harness keeps what is outside of any state: memory, files.
            instance.evaluate();
            instance.changed = false;
        } else if (checking_ && instance.asleep && !instance.changed) {
            instance.remember();
            instance.unit->rise();
            if (!instance.is_as_before()) fail(instance.name + " slept, and would have changed " + instance.difference());
        } else if (watching_) {
            instance.evaluate();
            instance.changed = false;
        } else {
            instance.edge();
        }
    }

    std::uint64_t piece_of_work(std::uint64_t cycles, const std::uint8_t* until) {
        unsigned members = 1;
        if (instances_.size() > 1 && measured_ && threads_ > 1) members = share();
        if (members == 1)
            for (auto& instance : instances_) instance->thread = 0;
        barrier_.of(members);
        // A waveform shows every unit in every cycle.
#if VM_TRACE
        watching_ = trace_ != nullptr;
#endif
        const bool last_phase = !order_.empty() || watched();
        bool stop = until && *until;
        if (stop) return 0;
        std::uint64_t done = 0;
        std::vector<std::vector<Instance*>> own(members);
        for (auto& instance : instances_) own[instance->thread].push_back(instance.get());
        crew_.run(members, context_, [&](unsigned number) {
            const std::vector<Instance*>& mine = own[number];
            for (std::uint64_t cycle = 0;; ++cycle) {
                // Not the first: whoever called had the caches meanwhile.
                const bool timed = cycle % Sample == Sample / 2;
                if (instances_.size() > 1) {
                    for (Instance* const instance : mine) {
                        if (timed) instance->took(0, [&] { instance->take_inputs(); });
                        else instance->take_inputs();
                    }
                    barrier_.wait();
                }
                for (Instance* const instance : mine) {
                    if (timed) instance->took(1, [&] { edge(*instance); });
                    else edge(*instance);
                }
                if (number == 0 && !last_phase) stop = ended(++done, cycles, until);
                barrier_.wait();
                if (last_phase) {
                    if (number == 0) {
                        afterwards();
                        stop = ended(++done, cycles, until);
                    }
                    barrier_.wait();
                }
                if (stop) return;
            }
        });
        measured_ |= done > Sample / 2;
        return done;
    }

    bool ended(std::uint64_t done, std::uint64_t cycles, const std::uint8_t* until) {
        ++cycle_;
        return done >= cycles || (until && *until) || context_->gotFinish() || !failure_.empty();
    }

    // Gives every unit to a thread, so that all have as much to do; returns how many threads are worth it.
    unsigned share() {
        double total = 0;
        std::vector<Instance*> units;
        for (auto& instance : instances_) {
            total += instance->cost();
            units.push_back(instance.get());
        }
        const unsigned members = std::min<unsigned>(threads_, units.size());
        if (total < least_seconds_ || members < 2) return 1;
        std::vector<double> load(members, 0.0);
        const auto balanced = [&] {
            return *std::max_element(load.begin(), load.end()) < Imbalance * total / members;
        };
        // A unit that stays where it is has its state in the caches there.
        for (const Instance* const unit : units) load[std::min(unit->thread, members - 1)] += unit->cost();
        if (members == members_before_ && balanced()) return members;
        members_before_ = members;
        std::stable_sort(units.begin() + 1, units.end(), [](const Instance* a, const Instance* b) { return a->cost() > b->cost(); });
        load.assign(members, 0.0);
        for (Instance* const unit : units) {
            // The harness, and units with paths, belong to the thread that called.
            const bool here = unit == units[0] || std::find(order_.begin(), order_.end(), unit) != order_.end();
            unit->thread = here ? 0 : std::min_element(load.begin(), load.end()) - load.begin();
            load[unit->thread] += unit->cost();
        }
        return members;
    }

    std::string scope_;
    VerilatedContext* context_ = nullptr;
    std::vector<std::unique_ptr<Instance>> instances_;
    std::vector<Instance*> order_;
    Crew crew_;
    Barrier barrier_;
    unsigned threads_ = 1, members_before_ = 1;
    double least_seconds_ = 4e-6;
    bool measured_ = false, checking_ = false, watching_ = false;
    std::mutex failing_;
    std::string failure_;
    Recording recording_;
    std::uint64_t cycle_ = 0, time_ = 0;
#if VM_TRACE
    std::unique_ptr<VerilatedVcdC> trace_;
#endif
};

Engine& engine() {
    // Never destroyed: what it holds is Verilator's, which may be gone before.
    static Engine* const made = new Engine;
    return *made;
}

thread_local std::string message;

// What is called from Python must not throw.
template <class Work>
long long guarded(Work work) {
    try {
        return work();
    } catch (const std::exception& error) {
        message = error.what();
        return -3;
    }
}

const std::uint8_t* flag(const char* scope_name, const char* name) {
    const VerilatedScope* const scope = Verilated::threadContextp()->scopeFind(scope_name);
    const VerilatedVar* const variable = scope ? scope->varFind(name) : nullptr;
    if (!variable) throw std::runtime_error(std::string{"no public variable "} + name + " in scope " + scope_name);
    return static_cast<const std::uint8_t*>(variable->datap());
}

}  // namespace
}  // namespace podweave

// Makes the units, if there are any. All of these return -3 if they cannot do what they are asked for (`podweave_message` says why).
extern "C" long long podweave_begin(const char* scope) {
    return podweave::guarded([&] { return podweave::engine().begin(scope), 0; });
}

// Runs cycles; clk must be low before. Simulated time stands still meanwhile. Stops early when the public one-bit variable, if one
// is named, is 1; returns the cycles run, -1 if the model ended, -2 if a check failed.
extern "C" long long podweave_cycles(const char* scope, unsigned long long cycles, const char* until) {
    return podweave::guarded([&] {
        podweave::engine().begin(scope);
        return podweave::engine().run(cycles, until ? podweave::flag(scope, until) : nullptr);
    });
}

// By how many threads cycles are run that take at least as long as said.
extern "C" void podweave_threads(unsigned threads, double least_seconds) { podweave::engine().set_threads(threads, least_seconds); }

// Evaluates units that sleep, and outputs that should be settled, and compares. Before the units are made.
extern "C" void podweave_check(int checking) { podweave::engine().set_checking(checking); }

extern "C" const char* podweave_message() {
    if (!podweave::engine().failure().empty()) podweave::message = podweave::engine().failure();
    return podweave::message.c_str();
}

// Where a port of a unit is; null if there is none.
extern "C" void* podweave_port(const char* unit, const char* name) {
    const podweave::Port* const port = podweave::engine().port(unit, name);
    return port ? port->data : nullptr;
}

// After each cycle, a row of `count` values into a ring of `rows`; with no rows, none.
extern "C" void podweave_record(
    const void* const* data, const unsigned long long* bytes, unsigned count, void* rows, unsigned long long row_count) {
    podweave::Recording recording;
    for (unsigned i = 0; i < count; ++i) {
        recording.values.emplace_back(static_cast<const char*>(data[i]), bytes[i]);
        recording.row_bytes += bytes[i];
    }
    recording.rows = static_cast<char*>(rows);
    recording.count = row_count;
    podweave::engine().recording() = recording;
}

// Writes a VCD from now on, of the harness and of units whose names begin with one of `names` (each ended by a newline).
extern "C" long long podweave_trace(const char* scope, const char* path, const char* names) {
    return podweave::guarded([&] {
        podweave::engine().begin(scope);
        std::vector<std::string> wanted;
        std::istringstream words{names};
        for (std::string name; std::getline(words, name);) wanted.push_back(name);
        podweave::engine().trace(path, wanted);
        return 0;
    });
}
