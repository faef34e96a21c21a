"""ir.frontends.onnx_rows: each thing that is not taken, in a small file, and what is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.ir.frontends.onnx_rows import host, read_rows
from podweave.ir.layers import WorkloadError

from .encoder_file import Style, encoder_file
from .small_file import BEHIND, HEADS, PRODUCTS, ROWS, SCORES, WIDTH, normal, sizes, small
from .test_read import SIZES

# Nodes, and what is told of the node that is not taken.
REFUSED: dict[str, tuple[str, str]] = {
    "inputs that are multiplied": (
        "y = MatMul(x, z)",
        "MatMul y: it multiplies what is neither rows by a constant, nor queries by keys, nor weights by values",
    ),
    "many matrices": ("y = MatMul(x, cube)", "MatMul y: its constant must be float32 of two dimensions, got float32 (1, 6, 6)"),
    **{
        f"Gemm {what}": (f"y = Gemm{how}", "Gemm y: it must be rows times a constant, plus a constant")
        for what, how in {
            "alpha": "<alpha = 2.0>(flat, w, b)",
            "beta": "<beta = 2.0>(flat, w, b)",
            "transA": "<transA = 1>(flat, w, b)",
            "matrix": "(flat, flat, b)",
            "bias": "(flat, w, bias)",
        }.items()
    },
    "Gemm, for each row": ("y = Gemm(flat, w, table)", "Gemm y: its bias must be one number for each of 6 outputs, got (4, 6)"),
    "Gemm, as many rows as outputs": (
        "y = Gemm(flat, w4, column)",
        "Gemm y: its bias must be one number for each of 4 outputs, got (4, 1)",
    ),
    "rows that mask": (
        f"{SCORES} n = Add(s, v) y = Softmax<axis = -1>(n)",
        "Add n: what masks scores, v, must be computed by the host, in front of the softmax",
    ),
    "a mask behind the softmax": (
        f"{SCORES} p = Softmax<axis = -1>(s) n = Add(p, m) y = MatMul(n, v)",
        "Add n: what masks scores, m, must be computed by the host, in front of the softmax",
    ),
    "a mask for each head": (
        f"{SCORES} n = Add(s, by_head) y = Softmax<axis = -1>(n)",
        "Add n: the mask by_head must be (1, 1, 1, 4), or for each row, got (1, 2, 4, 4)",
    ),
    "a mask for each of as many heads as rows": (
        f"{SCORES} n = Add(s, by_heads) y = Softmax<axis = -1>(n)",
        "Add n: the mask by_heads must be (1, 1, 1, 4), or for each row, got (1, 4, 4, 4)",
    ),
    "a constant to a norm": (
        "n = LayerNormalization(x, g, b) y = Add(n, c)",
        "Add y: a constant is added to what is no product, or is read by others, too",
    ),
    "a constant to what others read": (
        "a = MatMul(x, w) d = Add(a, c) y = Mul(a, half)",
        "Add d: a constant is added to what is no product, or is read by others, too",
    ),
    "a constant for each row": (
        "a = MatMul(x, w) y = Add(a, table)",
        "Add y: the constant that is added must be one for each of 6 channels, got (4, 6)",
    ),
    "a constant for as many rows as channels": (
        "a = MatMul(x, w4) y = Add(a, column)",
        "Add y: the constant that is added must be one for each of 4 channels, got (4, 1)",
    ),
    "a sum of one channel": (
        "a = MatMul(x, one) n = LayerNormalization(x, g, b) y = Add(a, n)",
        "Add y: it adds (1, 4, 1) and (1, 4, 6)",
    ),
    "a sum of norms": (
        "n = LayerNormalization(x, g, b) d = LayerNormalization(x, g, c) y = Add(n, d)",
        "Add y: of two tensors that are added, one must be a product that nobody else reads",
    ),
    "factors of masked scores": (
        f"{SCORES} n = Add(s, m) e = Mul(n, half) y = Softmax<axis = -1>(e)",
        "Mul e: it must multiply rows or scores by one number, or a product by one for each channel",
    ),
    "rows divided by zero": (
        "a = MatMul(x, w) y = Div(a, nothing)",
        "Div y: it must multiply rows or scores by one number, or a product by one for each channel",
    ),
    "a number divided by rows": (
        "a = MatMul(x, w) y = Div(two, a)",
        "Div y: it must multiply rows or scores by one number, or a product by one for each channel",
    ),
    "gains of a norm": (
        "n = LayerNormalization(x, g, b) y = Mul(n, c)",
        "Mul y: 6 constants multiply what is no product of as many channels, or is read by others, too",
    ),
    "softmax of rows": ("a = MatMul(x, w) y = Softmax<axis = -1>(a)", "Softmax y: it must be of queries times keys"),
    "softmax of a softmax": (
        f"{SCORES} p = Softmax<axis = -1>(s) y = Softmax<axis = -1>(p)",
        "Softmax y: it must be of queries times keys",
    ),
    "numbers of scores": (f"{SCORES} y = IsNaN(s)", "IsNaN y: it must be of a softmax"),
    "a small number": (
        f"{SCORES} n = Where(seen, s, few) y = Softmax<axis = -1>(n)",
        "Where n: it must replace scores by a number of at most -1,000, or what is not a number in a softmax by 0",
    ),
    "scores without a softmax": (f"{SCORES} y = MatMul(s, v)", "MatMul y: it must multiply a softmax by values"),
    "weights times keys": (
        f"{SCORES} p = Softmax<axis = -1>(s) y = MatMul(p, k)",
        "MatMul y: it must multiply a softmax by values",
    ),
    "wider values": (
        f"{SCORES} w0 = MatMul(x, w2) w1 = Reshape(w0, wide) u = Transpose<perm = [0, 2, 1, 3]>(w1) "
        "p = Softmax<axis = -1>(s) y = MatMul(p, u)",
        "MatMul y: queries, keys and values must have the same heads, rows and channels",
    ),
    "values of a norm": (
        f"{SCORES} n = LayerNormalization(x, g, b) w1 = Reshape(n, heads) u = Transpose<perm = [0, 2, 1, 3]>(w1) "
        "p = Softmax<axis = -1>(s) y = MatMul(p, u)",
        "MatMul y: n must be a product with a constant, for this attention alone",
    ),
    "queries that others read": (
        f"{SCORES} e = MatMul(a, w) p = Softmax<axis = -1>(s) y = MatMul(p, v)",
        "MatMul y: a must be a product with a constant, for this attention alone",
    ),
    "queries that are keys": (
        f"{PRODUCTS} {HEADS} kq = Transpose<perm = [0, 1, 3, 2]>(q) s = MatMul(q, kq) p = Softmax<axis = -1>(s) y = MatMul(p, v)",
        "MatMul y: queries, keys and values must be three products",
    ),
    "a norm that is cut": (
        "n = LayerNormalization(x, g, b) y, d = Split<axis = -1>(n)",
        "Split y: only products that nobody else reads are cut, and n is none",
    ),
    "rows that are cut": ("a = MatMul(x, all) y, d = Split<axis = 1>(a)", "Split y: it cuts 4 rows into 2, 2"),
    "a part of channels": ("a = MatMul(x, all) y, d = Split<axis = -1>(a, halves)", "Split y: it cuts 18 channels into 6, 6"),
    "rows that are taken": (
        "a = MatMul(x, all) y = Gather<axis = 1>(a, zeroth)",
        "Gather y: it must take one of the parts of a product",
    ),
    "parts that an input names": (
        "a = MatMul(x, all) r = Reshape(a, parts) y = Gather<axis = 2>(r, given)",
        "Gather y: it must take one of the parts of a product",
    ),
    "sizes that are given": ("a = MatMul(x, w) y = Reshape(a, given)", "Reshape y: its sizes must be constant"),
    "rows that are torn": (
        "a = MatMul(x, w) y = Reshape(a, torn)",
        "Reshape y: it makes [6, 4] of 4 rows, 6 channels, which mixes them up",
    ),
    "axes that are given": ("a = MatMul(x, w) y = Unsqueeze(a, given)", "Unsqueeze y: its axes must be constant"),
    "axes that are left out": ("a = MatMul(x, w) y = Squeeze(a)", "Squeeze y: its axes must be constant"),
    "scores that are moved": (
        f"{SCORES} y = Transpose<perm = [0, 1, 3, 2]>(s)",
        "Transpose y: scores of attention must stay as they are",
    ),
    "scores that are multiplied": (f"{SCORES} y = MatMul(s, four)", "MatMul y: its input s is no rows"),
    "a norm of rows": ("y = LayerNormalization<axis = 1>(x, table, table)", "LayerNormalization y: it must be over the last axis"),
    **{
        f"gain {gain}": (
            f"y = LayerNormalization(x, {gain}, b)",
            "LayerNormalization y: its gain and bias must be constants, one for each channel",
        )
        for gain in ("bias", "two", "table")
    },
    "a norm of a norm": (
        "n = LayerNormalization(x, g, b) y = LayerNormalization(n, g, b)",
        "LayerNormalization y: it must be of an input, a product, or a sum (what helps: a residual in front of it)",
    ),
    "GELU of an input": ("n = LayerNormalization(x, g, b) y = Gelu(n)", "Gelu y: it must be of a product"),
    "GELU of a sum": ("a = MatMul(x, w) d = Add(a, x) y = Gelu(d)", "Gelu y: it must be of a product"),
    "an input of other rows": ("a = MatMul(x, w) y = MatMul(longer, wq)", "MatMul y: longer has 5 rows, others have 4"),
    "one row": ("y = MatMul(single, w)", "MatMul y: single must have at least 2 rows of 2 channels, got (1, 1, 6)"),
    "a product of heads": (
        f"{PRODUCTS} {HEADS} y = MatMul(q, w3)",
        "MatMul y: a lies as heads, rows, size, and must lie as rows, channels",
    ),
    "a product of factors": (
        "a = MatMul(x, w) d = Mul(a, half) y = MatMul(d, w)",
        "MatMul y: a is multiplied by 0.5, which only attentions take",
    ),
    "an operator in front": ("d = Sigmoid(x) y = MatMul(d, w)", "Sigmoid d: it is none of the operators in front of a transformer"),
    "sizes in front that do not fit": ("d = Expand(x, torn) y = MatMul(d, w)", "Expand d: what it reads does not fit: "),
    "an axis in front that is not there": ("d = Concat<axis = 7>(x, x) y = MatMul(d, w)", "Concat d: it cannot be computed: "),
    "an endless range": (
        "d = Range(nothing, endless, unit) y = Add(d, d)",
        "Range d: what it reads does not fit: cannot convert float infinity to integer",
    ),
    "endless pixels": (
        "d = Resize(x, , endless3) y = MatMul(d, w)",
        "Resize d: what it reads does not fit: cannot convert float infinity to integer",
    ),
}
MORE: dict[str, NDArray] = {
    "w4": normal(WIDTH, ROWS),
    "column": normal(ROWS, 1),
    "by_head": normal(1, 2, ROWS, ROWS),
    "by_heads": normal(1, ROWS, ROWS, ROWS),
    "wide": sizes(1, ROWS, 2, WIDTH),
    "halves": sizes(WIDTH, WIDTH),
    "w3": normal(3, 3),
    "endless3": np.array([1, np.inf, 1], np.float32),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_taken_is_told(tmp_path: Path, case: str) -> None:
    nodes, told = REFUSED[case]
    with pytest.raises(WorkloadError) as error:
        read_rows(small(tmp_path, nodes, opset=20 if "Gelu(" in nodes else 17, **MORE))
    first, *refusals = str(error.value).split("\n  ")
    assert first.startswith(("small: the transformer ends in front of ", "small has no transformer: no attention is recognised"))
    assert any(each == told or (told.endswith(": ") and each.startswith(told)) for each in refusals), refusals


WHOLE = {
    "nothing gives it": ("y = MatMul(x, missing)", "small: nothing in front of MatMul y gives its input missing"),
    "heads leave": (
        f"{PRODUCTS} {HEADS} s = MatMul(q, k) {BEHIND.format('s')} y = Sigmoid(o)",
        "small: o leaves as heads, and only rows of whole tensors do",
    ),
    "a type": ("y = MatMul(bytes, w)", "small: input bytes is uint8; inputs of transformers are float32, int64, int32 or bool"),
    "an input that is huge": ("y = MatMul(huge, w)", "small: input huge has more than 67,108,864 numbers"),
}


@pytest.mark.parametrize("case", WHOLE)
def test_files_that_are_refused_as_a_whole(tmp_path: Path, case: str) -> None:
    nodes, told = WHOLE[case]
    with pytest.raises(WorkloadError) as error:
        read_rows(small(tmp_path, nodes))
    assert str(error.value) == told


def test_what_a_node_gives_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it cannot be said before."""
    monkeypatch.setattr(host, "MOST", 40)
    with pytest.raises(WorkloadError, match=r"\n  Concat d: it gives more than 40 numbers$"):
        read_rows(small(tmp_path, "d = Concat<axis = 1>(x, x) y = MatMul(d, w)"))


def test_convolutions_in_front_are_told(tmp_path: Path) -> None:
    network = read_rows(encoder_file(tmp_path, SIZES, style=Style(patches=True, embed=False, mask=False)))
    assert [each for each in network.on_host if "Conv" in each] == ["Conv /model/patches/Conv"]
