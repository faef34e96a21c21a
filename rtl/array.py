"""Array: a grid of groups."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import In, Out

from .array_group import ArrayGroup
from .blocks import Block, place
from .config import ArrayConfig


class Array(Block):
    """Weight-stationary array of ``rows`` x ``cols`` multipliers, built of array groups.

    The ports are skewed: what belongs to row group i and column group j of one and the same job is expected, and
    delivered, i + j cycles after what belongs to row group 0 and column group 0. The pod adds the skew.

    Members
    -------
    ``x``: ``rows`` int8 lanes; the lanes of row group i belong to the row that entered row group 0 i cycles before.
    ``swap``: one bit per row group, with the first row of activations that meets the new weights.
    ``w``: ``cols`` int8 lanes; the lanes of column group j are j cycles late. ``token``: one bit per column group, with the
    first word of a weight tile; word r of a tile, r cycles later, goes to row r.
    ``p``: ``cols`` lanes of ``psum_width`` bits; column group j carries in cycle t + row_groups + 1 + j the sums of the row
    that entered row group 0 in cycle t.
    """

    kind = "array"

    def __init__(self, config: ArrayConfig):
        self.config = config
        self.group = ArrayGroup(config)
        self.variant = f"{config.rows}x{config.cols}_of_{self.group.variant}"
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
        config = self.config
        x_width, w_width, p_width = 8 * config.group_rows, 8 * config.group_cols, config.psum_width * config.group_cols
        m = Module()
        above: list[dict] = []
        for i in range(config.row_groups):
            row: list[dict] = []
            for j in range(config.col_groups):
                group = place(m, f"group_{i}_{j}", self.group)
                m.d.comb += [
                    group["x_i"].eq(row[-1]["x_o"] if j else self.x.word_select(i, x_width)),
                    group["swap_i"].eq(row[-1]["swap_o"] if j else self.swap[i]),
                    group["w_i"].eq(above[j]["w_o"] if i else self.w.word_select(j, w_width)),
                    group["token_i"].eq(above[j]["token_o"] if i else self.token[j]),
                    group["p_i"].eq(above[j]["p_o"] if i else 0),
                ]
                row.append(group)
            above = row
        assert p_width * config.col_groups == len(self.p)
        m.d.comb += self.p.eq(Cat(group["p_o"] for group in above))
        return m
