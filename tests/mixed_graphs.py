"""What tests put graphs of layers and operations on rows together from."""

from __future__ import annotations

from typing import Any

from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand, Window
from podweave.ir.row_operations import Format, RowLinear


def conv(
    name: str,
    source: str | tuple[str, ...],
    size: tuple[int, int],
    channels: int,
    outputs: int,
    kernel: int | tuple[int, int] = 1,
    *,
    after: tuple[str, ...] = (),
    window: Window | None = None,
    **more: Any,
) -> Linear:
    """As large as what it reads. ``window``: of a pooling, with ones on the diagonal."""
    kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
    groups = channels if window else 1
    layer = Layer(
        name=name,
        height=size[0],
        width=size[1],
        channels=channels,
        outputs=outputs,
        kernel=(kh, kw),
        **{"padding": ((kh // 2, kh // 2), (kw // 2, kw // 2)), "groups": groups, **more},
    )
    sources = (source,) if isinstance(source, str) else source
    return Linear(name, (Operand(sources, layer),), window, identity=window is not None, after=after)


def linear(
    name: str, rows: int, source: str, width: int, outputs: int, form: Format = Format.INT16, add: str | None = None, **more: Any
) -> RowLinear:
    return RowLinear(name, rows, source=source, width=width, outputs=outputs, form=form, add=add, **more)
