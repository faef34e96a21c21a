"""Array: a grid of groups."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import In, Out

from podweave.spec.config_parts import ArrayConfig

from ..parts.blocks import Block, place
from .array_group import ArrayGroup


class ArrayRow(Block):
    """One row of ``col_groups`` groups side by side: what moves right, moves inside; what moves down, passes through.

    Activations and their swap enter on the left and end on the right.

    Parameters
    ----------
    config : ArrayConfig
        Shape of a group, ``col_groups`` and ``psum_width``.

    Members
    -------
    x_i : In(8 * group_rows)
        Activations, as of an `ArrayGroup`.
    swap_i : In(1)
        Their swap, as of an `ArrayGroup`.
    p_i : In(psum_width * cols)
        Partial sums from above: the lanes of all column groups.
    w_i : In(8 * cols)
        Weights from above: the lanes of all column groups.
    token_i : In(col_groups)
        Tokens from above: the bits of all column groups.
    p_o : Out(psum_width * cols)
        Partial sums downwards: the lanes of all column groups.
    w_o : Out(8 * cols)
        Weights downwards: the lanes of all column groups.
    token_o : Out(col_groups)
        Tokens downwards: the bits of all column groups.
    """

    kind = "array_row"
    # A level of the hierarchy that only wires: emission takes time per instance, so a grid is a column of rows.
    inline = True

    def __init__(self, config: ArrayConfig):
        self.config = config
        self.group = ArrayGroup(config)
        self.variant = f"{config.col_groups}_of_{self.group.variant}"
        super().__init__(
            {
                "x_i": In(8 * config.group_rows),
                "swap_i": In(1),
                "p_i": In(config.psum_width * config.cols),
                "w_i": In(8 * config.cols),
                "token_i": In(config.col_groups),
                "p_o": Out(config.psum_width * config.cols),
                "w_o": Out(8 * config.cols),
                "token_o": Out(config.col_groups),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        groups = [place(m, f"group_{j}", self.group) for j in range(self.config.col_groups)]
        x, swap = self.x_i, self.swap_i
        for j, group in enumerate(groups):
            m.d.comb += [group["x_i"].eq(x), group["swap_i"].eq(swap), group["token_i"].eq(self.token_i[j])]
            for port in ("p_i", "w_i"):
                m.d.comb += group[port].eq(getattr(self, port).word_select(j, len(group[port])))
            x, swap = group["x_o"], group["swap_o"]
        m.d.comb += [getattr(self, port).eq(Cat(group[port] for group in groups)) for port in ("p_o", "w_o", "token_o")]
        return m


class Array(Block):
    """Weight-stationary array of ``rows`` x ``cols`` multipliers, built of array groups.

    The ports are skewed: what belongs to row group i and column group j of one and the same job is expected, and
    delivered, i + j cycles after what belongs to row group 0 and column group 0. The pod adds the skew.

    Latency: ``row_groups + 1 + j`` cycles from a row at row group 0 to its sums at column group j of ``p``.

    Parameters
    ----------
    config : ArrayConfig
        Shapes of array and group, and ``psum_width``.

    Members
    -------
    x : In(8 * rows)
        ``rows`` int8 lanes; the lanes of row group i belong to the row that entered row group 0 i cycles before.
    swap : In(row_groups)
        One bit per row group, with the first row of activations that meets the new weights.
    w : In(8 * cols)
        ``cols`` int8 lanes; the lanes of column group j are j cycles late.
    token : In(col_groups)
        One bit per column group, with the first word of a weight tile; word r of a tile, r cycles later, goes to row r.
    p : Out(psum_width * cols)
        Sums; column group j carries in cycle t + row_groups + 1 + j those of the row that entered row group 0 in cycle t.
    """

    kind = "array"

    def __init__(self, config: ArrayConfig):
        self.config = config
        self.row = ArrayRow(config)
        self.variant = f"{config.rows}x{config.cols}_of_{self.row.group.variant}"
        super().__init__(
            {
                "x": In(8 * config.rows),
                "swap": In(config.row_groups),
                "w": In(8 * config.cols),
                "token": In(config.col_groups),
                "p": Out(config.psum_width * config.cols),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p, w, token = 0, self.w, self.token
        for i in range(self.config.row_groups):
            row = place(m, f"row_{i}", self.row)
            m.d.comb += [
                row["x_i"].eq(self.x.word_select(i, 8 * self.config.group_rows)),
                row["swap_i"].eq(self.swap[i]),
                row["p_i"].eq(p),
                row["w_i"].eq(w),
                row["token_i"].eq(token),
            ]
            p, w, token = row["p_o"], row["w_o"], row["token_o"]
        m.d.comb += self.p.eq(p)
        return m
