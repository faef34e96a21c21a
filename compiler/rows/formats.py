"""Bytes of the numbers of tensors of rows, as the host writes them and as they lie in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from podweave.ir.row_operations import Format

from .layout import RowLayout


def encoded(form: Format, tensor: NDArray) -> NDArray[np.int8]:
    """The bytes (..., those of a number) of a tensor: little endian, but planes for what is streamed, the low one first."""
    values = tensor.astype(form.dtype)
    if form is Format.INT16:
        high = (values.astype(np.int64) + 128) >> 8
        return np.stack([values.astype(np.int64) - 256 * high, high], axis=-1).astype(np.int8)
    return np.ascontiguousarray(values)[..., None].view(np.int8)


def decoded(form: Format, content: NDArray[np.int8]) -> NDArray:
    """The tensor of bytes (..., those of a number), as `encoded` has them."""
    if form is Format.INT16:
        return (content[..., 0].astype(np.int16) + 256 * content[..., 1].astype(np.int16)).astype(np.int16)
    return np.ascontiguousarray(content).view(form.dtype)[..., 0]


def byte_numbers(layout: RowLayout, form: Format) -> NDArray[np.int64]:
    """(nodes, words, bytes): which byte of a tensor (rows, channels, bytes) each byte of its words is; -1 for none."""
    channels = int(layout.channel.max()) + 1
    rows = np.arange(layout.rows)
    # (tiles, parts, rows, words of a row, lanes, bytes of a lane in its word)
    channel = layout.channel[:, :, None, None, :, None]
    element = rows[None, None, :, None, None, None] * channels + channel
    if form is Format.WIDE:
        number = element * 4 + np.arange(4)
    elif form is Format.ANGLES:
        # 16 bits in a lane of a partial sum, of which nobody reads the others.
        number = np.where(np.arange(4) < 2, element * 2 + np.arange(4), -1)
    elif form is Format.INT16:
        # The high plane comes first.
        number = element * 2 + 1 - np.arange(layout.words)[None, None, None, :, None, None]
    else:
        number = element + np.zeros(layout.words, np.int64)[None, None, None, :, None, None]
    number = np.where(channel >= 0, number, -1)
    number = np.broadcast_to(number, (*layout.channel.shape[:2], layout.rows, layout.words, layout.lanes, number.shape[-1]))
    words = number.reshape(layout.tiles, layout.tile_words, -1)
    padded = np.full((layout.slots * layout.nodes, *words.shape[1:]), -1, np.int64)
    padded[: layout.tiles] = words
    by_node = padded.reshape(layout.slots, layout.nodes, layout.tile_words, -1).transpose(1, 0, 2, 3)
    return by_node.reshape(layout.nodes, layout.node_words, -1)
