"""Array group: multipliers that share a broadcast row and an adder tree."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.config_parts import ArrayConfig

from ..parts.blocks import Block, place


class GroupColumn(Block):
    """The products of one column of a group, summed with a partial sum from above into a register.

    Latency: 1 cycle from ``x``, ``w_<r>`` and ``p_i`` to ``p_o``.

    Parameters
    ----------
    config : ArrayConfig
        ``group_rows`` and ``psum_width``.

    Members
    -------
    x : In(8 * group_rows)
        The int8 lanes of a row of activations.
    w_<r> : In(signed(8))
        The int8 weight of row r.
    p_i : In(signed(psum_width))
        A partial sum.
    p_o : Out(signed(psum_width))
        One cycle later, ``p_i`` plus the products.
    """

    kind = "group_column"
    inline = True

    def __init__(self, config: ArrayConfig):
        self.rows, self.psum_width = config.group_rows, config.psum_width
        self.variant = f"{self.rows}x{self.psum_width}"
        super().__init__(
            {
                "x": In(8 * self.rows),
                **{f"w_{row}": In(signed(8)) for row in range(self.rows)},
                "p_i": In(signed(self.psum_width)),
                "p_o": Out(signed(self.psum_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        products = []
        for row in range(self.rows):
            # Operands of 16 bits give products of 32, one machine word of the simulator; synthesis trims them again.
            x, w = (Signal(signed(16), name=f"{operand}_{row}_wide") for operand in "xw")
            product = Signal(signed(self.psum_width), name=f"product_{row}")
            m.d.comb += [x.eq(self.x.word_select(row, 8).as_signed()), w.eq(getattr(self, f"w_{row}")), product.eq(x * w)]
            products.append(product)
        total = Signal(signed(self.psum_width), reset_less=True)
        m.d.sync += total.eq(_tree(m, [*products, self.p_i], self.psum_width))
        m.d.comb += self.p_o.eq(total)
        return m


def _tree(m: Module, terms: list, width: int) -> Signal:
    level = 0
    while len(terms) > 1:
        pairs = []
        for i in range(0, len(terms) - 1, 2):
            pair = Signal(signed(width), name=f"tree_{level}_{i // 2}")
            m.d.comb += pair.eq(terms[i] + terms[i + 1])
            pairs.append(pair)
        terms = pairs + terms[len(terms) // 2 * 2 :]
        level += 1
    return terms[0]


class ArrayGroup(Block):
    """``group_rows`` x ``group_cols`` multipliers with double-buffered int8 weights (Scale-out Systolic Arrays, pod RTL).

    A row of activations is broadcast to all columns; the products of a column are summed with the partial sum from the
    group above. Lane 0 is least significant in every port.

    Latency: 2 cycles from ``x_i`` to ``p_o``, 1 from ``p_i`` to ``p_o``: in cycle t + 2 ``p_o`` is ``p_i`` of cycle t + 1 plus
    the products of ``x_i`` of cycle t with the active weights.

    Parameters
    ----------
    config : ArrayConfig
        ``group_rows``, ``group_cols`` and ``psum_width``.

    Members
    -------
    x_i : In(8 * group_rows)
        ``group_rows`` int8 lanes of activations.
    p_i : In(psum_width * group_cols)
        ``group_cols`` partial sums from the group above, one cycle after the ``x_i`` they are added to.
    w_i : In(8 * group_cols)
        One row of ``group_cols`` int8 weights.
    token_i : In(1)
        The word on ``w_i`` is for row 0 of the group; row r takes the word that comes r cycles later.
    swap_i : In(1)
        The weights become active, from the ``x_i`` of this same cycle on.
    x_o : Out(8 * group_rows)
        ``x_i`` one cycle later.
    p_o : Out(psum_width * group_cols)
        ``group_cols`` sums.
    w_o : Out(8 * group_cols)
        ``w_i`` one cycle later.
    token_o : Out(1)
        ``token_i`` after ``group_rows + 1`` cycles, which is when ``w_o`` carries the first word of the group below.
    swap_o : Out(1)
        ``swap_i`` one cycle later.
    """

    kind = "array_group"

    def __init__(self, config: ArrayConfig):
        self.config = config
        self.variant = f"{config.group_rows}x{config.group_cols}"
        if config.psum_width != 32:
            self.variant += f"_psum{config.psum_width}"
        rows, cols, psum = config.group_rows, config.group_cols, config.psum_width
        super().__init__(
            {
                "x_i": In(8 * rows),
                "p_i": In(psum * cols),
                "w_i": In(8 * cols),
                "token_i": In(1),
                "swap_i": In(1),
                "x_o": Out(8 * rows),
                "p_o": Out(psum * cols),
                "w_o": Out(8 * cols),
                "token_o": Out(1),
                "swap_o": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        rows, cols, psum = self.config.group_rows, self.config.group_cols, self.config.psum_width
        m = Module()

        x = Signal(8 * rows, reset_less=True)
        w = Signal(8 * cols, reset_less=True)
        m.d.sync += [x.eq(self.x_i), w.eq(self.w_i), self.swap_o.eq(self.swap_i)]
        m.d.comb += [self.x_o.eq(x), self.w_o.eq(w)]

        token = Signal(rows + 1)
        m.d.sync += token.eq(Cat(self.token_i, token))
        m.d.comb += self.token_o.eq(token[-1])

        active = []
        for row in range(rows):
            shadow_row = Signal(8 * cols, name=f"shadow_{row}", reset_less=True)
            active_row = Signal(8 * cols, name=f"active_{row}", reset_less=True)
            with m.If(self.token_i if row == 0 else token[row - 1]):
                m.d.sync += shadow_row.eq(self.w_i)
            with m.If(self.swap_i):
                m.d.sync += active_row.eq(shadow_row)
            active.append(active_row)

        column = GroupColumn(self.config)
        sums = []
        for col in range(cols):
            ports = place(m, f"column_{col}", column)
            m.d.comb += ports["x"].eq(x)
            for row in range(rows):
                m.d.comb += ports[f"w_{row}"].eq(active[row].word_select(col, 8))
            m.d.comb += ports["p_i"].eq(self.p_i.word_select(col, psum))
            sums.append(ports["p_o"])
        m.d.comb += self.p_o.eq(Cat(*sums))
        return m
