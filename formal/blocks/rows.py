"""The statistics network and row registers."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Cat, Const, Mux, Signal, Value, signed

from podweave.rtl.network.statistics import StatisticsNetwork
from podweave.rtl.post.row_registers import RowRegisters
from podweave.spec.layout import bits_for_index
from podweave.spec.row_functions import ELEMENT_WIDTH, SCALAR_CYCLES, STATISTIC_WIDTH, Scalar, Statistic

from ..faults import Fault
from ..harness import Harness
from ..property import Property
from .network import delayed

_VALUE, _ELEMENT, _ROWS = 4, 3, 4


def statistics(nodes: int) -> Callable[[Harness], None]:
    def build(h: Harness) -> None:
        stages = bits_for_index(nodes)
        width = bits_for_index(stages + 1)
        # Small numbers: the rest of their bits is the sign, or 0.
        values = [h.free(f"value_{i}", signed(_VALUE)) for i in range(nodes)]
        elements = [h.free(f"element_{i}", _ELEMENT) for i in range(nodes)]
        wide = Cat(Cat(v, v[-1].replicate(STATISTIC_WIDTH - _VALUE)) for v in values)
        padded = Cat(Cat(e, Const(0, ELEMENT_WIDTH - _ELEMENT)) for e in elements)
        dut = h.place(StatisticsNetwork(nodes), value=wide, element=padded)
        valid = dut["valid"]
        kinds = [dut["statistic"].word_select(i, 2) for i in range(nodes)]
        levels = [dut["level"].word_select(i, width) for i in range(nodes)]
        # Every valid word has a statistic and a level that there is.
        for i in range(nodes):
            h.assume(~valid[i] | ((kinds[i] != Statistic.NONE) & (levels[i] <= stages)))
        sums, bests, firsts, clean = list[Value](values), list[Value](values), list[Value](elements), Const(1, 1)
        lowest = list[Value](elements)
        for s in range(stages):
            met: list[tuple[Value, Value, Value, Value]] = []
            for i in range(nodes):
                j = i ^ 1 << s
                joins = valid[i] & (levels[i] > s)
                other = (bests[j] > bests[i]) | ((bests[j] == bests[i]) & (firsts[j] < firsts[i]))
                met.append(
                    (
                        Mux(joins, sums[i] + sums[j], sums[i]),
                        Mux(joins & other, bests[j], bests[i]),
                        Mux(joins & other, firsts[j], firsts[i]),
                        Mux(joins & (lowest[j] < lowest[i]), lowest[j], lowest[i]),
                    )
                )
                differ = (kinds[i] != kinds[j]) | (levels[i] != levels[j])
                clean = clean & ~(joins & (~valid[j] | (levels[j] <= s) | differ))
            sums, bests, firsts, lowest = (list(each) for each in zip(*met, strict=True))
        whole = ~delayed(h, ~clean, stages, "unclean")
        for i in range(nodes):
            summed = kinds[i] == Statistic.SUM
            total, place = Signal(signed(STATISTIC_WIDTH), name=f"total_{i}"), Signal(ELEMENT_WIDTH, name=f"place_{i}")
            h.m.d.comb += [total.eq(Mux(summed, sums[i], bests[i])), place.eq(Mux(summed, lowest[i], firsts[i]))]
            here = whole & delayed(h, valid[i], stages, f"valid_{i}")
            found = dut["total"].word_select(i, STATISTIC_WIDTH)
            h.check(
                ~here | (found == delayed(h, total, stages, f"total_{i}").as_unsigned()),
                f"node {i} has the sum, or the largest, of its block",
            )
            at = dut["place"].word_select(i, ELEMENT_WIDTH)
            h.check(
                ~here | (at == delayed(h, place, stages, f"place_{i}")),
                f"node {i} has the element of the largest, of equal ones the first",
            )
        # Conflicts show in the cycle behind their stage; the last one at the latest behind all.
        error = Signal()
        with h.m.If(~whole):
            h.m.d.sync += error.eq(1)
        h.check(~error | dut["error"], "nodes that do not agree are a conflict")
        h.cover(
            whole & delayed(h, valid.all() & Cat(level == stages for level in levels).all(), stages, "all"),
            "all nodes have one statistic",
        )
        h.cover(error, "a conflict")

    return build


def row_registers(h: Harness) -> None:
    m = h.m
    dut = h.place(RowRegisters(_ROWS))
    row = h.constant("row", bits_for_index(_ROWS))
    scales = (dut["arriving_scalar"] == Scalar.RECIPROCAL) | (dut["arriving_scalar"] == Scalar.RSQRT)
    left, made_of = Signal(range(SCALAR_CYCLES + 1)), Signal(bits_for_index(_ROWS))
    begins = dut["arrives"] & scales & (left <= 1)
    with m.If(begins):
        m.d.sync += [left.eq(SCALAR_CYCLES), made_of.eq(dut["arriving_row"])]
    with m.Elif(left != 0):
        m.d.sync += left.eq(left - 1)
    h.check(dut["scalar_lost"] == (dut["arrives"] & scales & ~begins), "scalar_lost: a value to make a scale of comes too early")
    h.check(dut["busy"] == (left != 0), "busy: a scale is being made")
    # Readiness of one register, whichever it is.
    ready = Signal()
    sets = (dut["arrives"] & ~scales & (dut["arriving_row"] == row)) | ((left == 1) & (made_of == row))
    m.d.sync += ready.eq((ready & ~(dut["clear"] & (dut["clear_row"] == row))) | sets)
    looks = dut["checks"] & (dut["check_row"] == row)
    h.check(
        ~looks | (dut["not_ready"] == ~ready),
        "ready from the cycle after its value, or its scale, was written, until it is cleared",
    )
    h.check(dut["checks"] | ~dut["not_ready"], "not_ready only with a check")
    # Its value and its length: one bit of each.
    for name, write, address, data, size in (
        ("value", dut["arrives"], dut["arriving_row"], dut["arriving_value"], STATISTIC_WIDTH),
        ("length", dut["length_write"], dut["length_address"], dut["length_data"], ELEMENT_WIDTH),
    ):
        bit = h.constant(f"{name}_bit", bits_for_index(size))
        h.assume(bit < size)
        known, content = Signal(name=f"{name}_known"), Signal(name=f"{name}_content")
        mine = write & (address == row)
        with m.If(mine):
            m.d.sync += [known.eq(1), content.eq(Value.cast(data).bit_select(bit, 1))]
        read = dut[f"{name}_read"] & (dut[f"{name}_row"] == row) & known & ~mine
        seen = h.past(read, f"{name}_read")
        shown = Value.cast(dut[name]).bit_select(bit, 1)
        h.check(
            ~seen | (shown == h.past(content, f"{name}_content")),
            f"the {name} of a register is as it was written, 1 cycle after its read",
        )
    h.cover(looks & ready & h.past(left == 1, "made"), "a register is ready as its scale is there")
    h.cover(dut["scalar_lost"], "a value comes too early")
    h.cover(begins & (left == 1), "a scale is begun as another is done")


PROPERTIES = (
    *(
        Property(
            name=f"statistics_network.{nodes}_nodes",
            rule="sums and maxima of every block, with the first element of the largest, in all nodes of it; nodes "
            "that do not agree are a conflict",
            sizes=f"{nodes} nodes, values of {_VALUE} of {STATISTIC_WIDTH} bits, elements of {_ELEMENT} of {ELEMENT_WIDTH}",
            build=statistics(nodes),
            engine="induction",
            cycles=bits_for_index(nodes) + 2,
            faults=(
                Fault("rtl.network.statistics", "(elements[j] < elements[i]))", "(elements[j] > elements[i]))"),
                Fault("rtl.network.statistics", "level > s", "level >= s"),
                Fault(
                    "rtl.network.statistics",
                    "conflict[i].eq((joins[i] ^ joins[j]) | (joins[i] & differ))",
                    "conflict[i].eq(joins[i] & differ)",
                ),
            ),
        )
        for nodes in (2, 4)
    ),
    Property(
        name="row_registers.readiness",
        rule="a register is ready exactly from its value, or its scale, to its clear; values and lengths are as "
        "they were written; a scale takes its cycles, and a value that comes too early is told",
        sizes=f"{_ROWS} registers",
        build=row_registers,
        faults=(
            Fault(
                "rtl.post.row_registers",
                "m.d.sync += ready.eq((ready & ~is_lost) | is_found)",
                "m.d.sync += ready.eq((ready | is_found) & ~is_lost)",
            ),
            Fault("rtl.post.row_registers", "begins.eq(wanted & (left <= 1))", "begins.eq(wanted & (left == 0))"),
            Fault(
                "rtl.post.row_registers",
                "self._ready(m, [(self.arrives & ~scalar, self.arriving_row)",
                "self._ready(m, [(self.arrives, self.arriving_row)",
            ),
        ),
    ),
)
