"""From a file in floating point to a transformer: nodes in order, and what each is to the rows that it reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...layers import WorkloadError
from ..onnx.files import File, Node, read_file
from ..onnx.values import RefusedError
from .floats import FloatAttention, FloatGelu, FloatLinear, FloatNetwork, FloatNorm, FloatOperation
from .host import computed, samples
from .patterns import GELU, NORM, with_functions
from .values import Behind, Host, Scores, Value
from .views import CHANNELS, HEADS, ROWS, SIZE, RowsView


def read_rows(path: Path, sizes: Mapping[str, int] | None = None) -> FloatNetwork:
    """The transformer of a file in floating point.

    Parameters
    ----------
    path : Path
    sizes : mapping of str to int, optional
        Of dimensions that the file leaves open.

    Raises
    ------
    WorkloadError
        For what cannot be read, and if it has no transformer, or one with operators in it that are not taken.
    """
    return rows_of(read_file(path, sizes))


def rows_of(file: File) -> FloatNetwork:
    """The transformer of a file that was read."""
    return _Reader(file).network()


class _Reader:
    """Values by name, and operations so far."""

    def __init__(self, file: File):
        self.file = file
        self.nodes = with_functions(file)
        self.values: dict[str, Value] = {name: Host(values, True) for name, values in file.constants.items()}
        self.values |= {name: Host(values, False) for name, values in samples(file.name, dict(file.inputs)).items()}
        self.operations: dict[str, FloatOperation] = {}
        self.inputs: dict[str, int] = {}
        self.widths: dict[str, int] = {}
        self.mask: str | None = None
        self.rows = 0
        self.outputs: dict[str, None] = {}
        self.refusals: list[str] = []
        self.behind: list[Node] = []
        self.uses = Counter(name for node in self.nodes for name in node.inputs if node.operator != "Shape")
        self.uses.update(file.outputs)
        self.handlers: Mapping[str, Callable[[Node], Value]] = {
            "MatMul": self._matmul,
            "Gemm": self._gemm,
            "Add": self._add,
            "Mul": self._scaled,
            "Div": self._scaled,
            "Softmax": self._softmax,
            "Reshape": self._reshape,
            "Unsqueeze": self._unsqueeze,
            "Squeeze": self._squeeze,
            "Transpose": self._transpose,
            "Identity": lambda node: self.values[node.inputs[0]],
            "Dropout": lambda node: self.values[node.inputs[0]],
            NORM: self._norm,
            GELU: self._gelu,
        }

    def network(self) -> FloatNetwork:
        for node in self.nodes:
            found = self._read(node)
            self.values.update(zip(node.outputs, found, strict=False))
        for name in self.file.outputs:
            if isinstance(self.values.get(name), RowsView):
                self._leaves(name)
        if not any(isinstance(each, FloatAttention) for each in self.operations.values()):
            told = "".join(f"\n  {each}" for each in self.refusals)
            raise WorkloadError(f"{self.file.name} has no transformer: no attention is recognised in it{told}")
        return FloatNetwork(
            self.file.name,
            self.rows,
            self.widths,
            tuple(self.inputs),
            self.mask,
            tuple(self.operations.values()),
            tuple(self.outputs),
            dict(self.file.inputs),
            tuple(self.file.outputs),
            tuple(f"{node.operator} {node.name}" for node in self.behind),
        )

    def _read(self, node: Node) -> list[Value]:
        missing = [name for name in node.inputs if name and name not in self.values]
        if missing:
            raise WorkloadError(f"{self.file.name}: nothing in front of {node.operator} {node.name} gives its input {missing[0]}")
        given = [self.values[name] for name in node.inputs if name]
        if node.operator == "Shape" and isinstance(given[0], RowsView):
            return [Host(np.array(given[0].shape, np.int64), True)]
        try:
            if not any(isinstance(each, Behind) for each in given):
                on_chip = any(isinstance(each, (RowsView, Scores)) for each in given) or self._begins(node)
                if not on_chip:
                    return self._on_host(node)
                if node.operator not in self.handlers:
                    raise RefusedError("there is no such operation on rows")
                return [self.handlers[node.operator](node)]
        except RefusedError as refused:
            helps = f" (helps: {refused.helps})" if refused.helps else ""
            self.refusals.append(f"{node.operator} {node.name}: {refused.why}{helps}")
        self._require_end(node)
        for name in node.inputs:
            if isinstance(self.values.get(name), RowsView):
                self._leaves(name)
            elif isinstance(self.values.get(name), Scores):
                raise WorkloadError(self._told(node))
        self.behind.append(node)
        return [Behind() for _ in node.outputs]

    def _require_end(self, node: Node) -> None:
        """Raises `WorkloadError` if the network goes on behind what is left to the host."""
        products = node.operator == "MatMul" and not any(self._constant(name) is not None for name in node.inputs)
        if self.refusals and (node.operator in (NORM, GELU) or products):
            raise WorkloadError(self._told(node))

    def _told(self, node: Node) -> str:
        told = "".join(f"\n  {each}" for each in self.refusals)
        return f"{self.file.name}: the transformer ends in front of {node.operator} {node.name}, since these are not taken:{told}"

    def _leaves(self, name: str) -> None:
        view = self.values[name]
        assert isinstance(view, RowsView)
        if view.name in self.inputs:
            return
        if isinstance(self.operations[view.name], FloatAttention):
            raise WorkloadError(f"{self.file.name}: {view.name} leaves as heads, and only rows of whole tensors do")
        # Factors, and how its axes lie, are nodes of the file, which the host computes.
        self.outputs[view.name] = None

    def _on_host(self, node: Node) -> list[Value]:
        given = [self.values[name] if name else None for name in node.inputs]
        hosts = [each for each in given if isinstance(each, Host)]
        constant = all(each.constant for each in hosts) or node.operator == "Shape"
        arrays = [each.values if isinstance(each, Host) else None for each in given]
        return [Host(values, constant) for values in computed(node, arrays, self.file.opset)]

    def _begins(self, node: Node) -> bool:
        """Whether the chip takes over from the host: a norm, or a product with a matrix, of what is not known before."""
        if node.operator not in (NORM, "MatMul", "Gemm"):
            return False
        first = self.values[node.inputs[0]]
        return isinstance(first, Host) and not first.constant

    # What nodes read.

    def _constant(self, name: str) -> NDArray | None:
        found = self.values.get(name)
        return found.values if isinstance(found, Host) and found.constant else None

    def _number(self, node: Node, index: int) -> float | None:
        found = self._constant(node.inputs[index])
        return float(found.ravel()[0]) if found is not None and found.size == 1 else None

    def _view(self, name: str) -> RowsView:
        """Rows that are computed, or an input that begins here."""
        found = self.values[name]
        if isinstance(found, Host) and not found.constant:
            view = RowsView.of(name, found.values.shape)
            self._require_rows(view)
            self.inputs[name] = self.widths[name] = view.width
            self.values[name] = found = view
        if not isinstance(found, RowsView):
            raise RefusedError(f"its input {name} is no rows")
        return found

    def _require_rows(self, view: RowsView) -> None:
        if self.rows and view.size(ROWS) != self.rows:
            raise RefusedError(f"{view.name} has {view.size(ROWS)} rows, others have {self.rows}")
        self.rows = view.size(ROWS)

    def _put(self, operation: FloatOperation, width: int, shape: RowsView) -> RowsView:
        """An operation, whose rows lie as those of ``shape``."""
        self.operations[operation.name] = operation
        self.widths[operation.name] = width
        axes = tuple((axis, width if axis == CHANNELS else size) for axis, size in shape.axes)
        return RowsView(operation.name, axes)

    # Operators.

    def _matmul(self, node: Node) -> Value:
        left, right = self.values[node.inputs[0]], self.values[node.inputs[1]]
        matrix = self._constant(node.inputs[1])
        if matrix is not None:
            return self._linear(node, matrix, None)
        if isinstance(left, Scores) and isinstance(right, RowsView):
            return self._attention(node, left, right)
        if not isinstance(left, RowsView) or not isinstance(right, RowsView):
            raise RefusedError("it multiplies what is neither rows by a constant, nor queries by keys, nor weights by values")
        if left.order not in ((HEADS, ROWS, SIZE), (ROWS, CHANNELS)) or right.order not in ((HEADS, SIZE, ROWS), (CHANNELS, ROWS)):
            raise RefusedError(f"queries lie as {', '.join(left.order)}, keys as {', '.join(right.order)}")
        return Scores(left, right, left.factor * right.factor)

    def _linear(self, node: Node, matrix: NDArray, bias: NDArray | None) -> RowsView:
        source = self._view(node.inputs[0])
        if matrix.ndim != 2 or matrix.dtype != np.float32:
            raise RefusedError(f"its constant must be float32 of two dimensions, got {matrix.dtype} {matrix.shape}")
        outputs = matrix.shape[1]
        zero = np.zeros(outputs, np.float32)
        added = zero if bias is None else np.broadcast_to(bias.astype(np.float32).reshape(-1), (outputs,))
        name = source.require_rows().name
        return self._put(FloatLinear(node.outputs[0], name, matrix, added), outputs, source)

    def _gemm(self, node: Node) -> RowsView:
        matrix = self._constant(node.inputs[1])
        bias = self._constant(node.inputs[2]) if len(node.inputs) > 2 else None
        plain = all(float(node.attributes.get(name, 1)) == 1 for name in ("alpha", "beta"))
        if matrix is None or not plain or node.attributes.get("transA") or (bias is None and len(node.inputs) > 2):
            raise RefusedError("it must be rows times a constant, plus a constant")
        return self._linear(node, matrix.T if node.attributes.get("transB") else matrix, bias)

    def _add(self, node: Node) -> Value:
        first, second = (self.values[name] for name in node.inputs)
        for index, found in enumerate((first, second)):
            name = node.inputs[1 - index]
            if isinstance(found, Scores):
                return self._masked(found, name)
            constant = self._constant(name)
            if isinstance(found, RowsView) and constant is not None:
                return self._with_bias(node, found, constant)
        return self._residual(node)

    def _masked(self, scores: Scores, name: str) -> Scores:
        mask = self.values[name]
        if not isinstance(mask, Host) or mask.constant or scores.weights or scores.mask:
            raise RefusedError(f"what is added to scores, {name}, must be one mask that the host computes")
        shape = mask.values.shape
        if shape[-1:] != (self.rows,) or not {*shape} <= {1, self.rows}:
            raise RefusedError(f"the mask {name} must be (1, 1, 1, {self.rows}), got {shape}")
        if self.mask not in (None, name):
            raise RefusedError(f"there is a mask {self.mask}, and another one, {name}")
        self.mask = name
        return replace(scores, mask=name)

    def _alone(self, view: RowsView) -> FloatLinear | None:
        """The product that gives a tensor, if nobody else reads that and nothing was added to it."""
        found = self.operations.get(view.require_rows().name)
        return found if isinstance(found, FloatLinear) and not found.add and self.uses[found.name] == 1 else None

    def _renamed(self, found: FloatLinear, node: Node, view: RowsView) -> RowsView:
        del self.operations[view.name], self.widths[view.name]
        return self._put(replace(found, name=node.outputs[0]), len(found.bias), view)

    def _with_bias(self, node: Node, view: RowsView, constant: NDArray) -> RowsView:
        found = self._alone(view)
        if not found:
            raise RefusedError("a constant is added to what is no product, or is read by others, too")
        if constant.size not in (1, view.width) or constant.shape[-1:] not in ((), (1,), (view.width,)):
            raise RefusedError(f"the constant that is added must be one for each of {view.width} channels, got {constant.shape}")
        bias = found.bias + constant.reshape(-1).astype(np.float32)
        return self._renamed(replace(found, bias=bias), node, view)

    def _residual(self, node: Node) -> RowsView:
        views = [self._view(name) for name in node.inputs]
        if views[0].shape != views[1].shape:
            raise RefusedError(f"it adds {views[0].shape} and {views[1].shape}")
        order = list(self.operations)
        # Of two products, the later one is added to the earlier one.
        candidates = [i for i in (0, 1) if self._alone(views[i])]
        if not candidates:
            raise RefusedError("of two tensors that are added, one must be a product that nobody else reads")
        index = max(candidates, key=lambda i: order.index(views[i].name))
        found = self._alone(views[index])
        assert found
        return self._renamed(replace(found, add=views[1 - index].require_rows().name), node, views[index])

    def _scaled(self, node: Node) -> Value:
        for index, name in enumerate(node.inputs):
            number, found = self._number(node, 1 - index), self.values[name]
            if number is None or (node.operator == "Div" and index):
                continue
            factor = 1 / number if node.operator == "Div" and number else number
            if isinstance(found, RowsView):
                return found.times(factor)
            if isinstance(found, Scores) and not found.weights and not found.mask:
                return replace(found, factor=found.factor * factor)
        raise RefusedError("it must multiply rows or scores by one number")

    def _softmax(self, node: Node) -> Scores:
        scores = self.values[node.inputs[0]]
        if not isinstance(scores, Scores) or scores.weights:
            raise RefusedError("it must be of queries times keys")
        rank = len(scores.query.axes)
        if int(node.attributes.get("axis", -1 if self.file.opset >= 13 else 1)) not in (-1, rank - 1):
            raise RefusedError("it must be over the last axis")
        return replace(scores, weights=True)

    def _attention(self, node: Node, scores: Scores, value: RowsView) -> RowsView:
        query, key = scores.query, scores.key
        heads = query.size(HEADS)
        if not scores.weights or value.factor != 1 or value.order not in ((HEADS, ROWS, SIZE), (ROWS, CHANNELS)):
            raise RefusedError("it must multiply a softmax by values")
        if len({(view.size(HEADS), view.size(ROWS), view.width) for view in (query, key, value)}) > 1:
            raise RefusedError("queries, keys and values must have the same heads, rows and channels")
        for view in (query, key, value):
            found = self.operations.get(view.name)
            if not isinstance(found, FloatLinear) or found.add or self.uses[view.name] != 1:
                raise RefusedError(f"{view.name} must be a product with a constant, for this attention alone")
        if len({query.name, key.name, value.name}) < 3:
            raise RefusedError("queries, keys and values must be three products")
        made = FloatAttention(node.outputs[0], query.name, key.name, value.name, heads, scores.factor)
        self.operations[made.name], self.widths[made.name] = made, value.width
        return RowsView(made.name, value.axes)

    def _reshape(self, node: Node) -> RowsView:
        sizes = self._constant(node.inputs[1])
        if sizes is None:
            raise RefusedError("its sizes must be constant")
        return self._rows(node).reshaped([int(size) for size in sizes.ravel()])

    def _unsqueeze(self, node: Node) -> RowsView:
        view, axes = self._rows(node), self._axes(node)
        sizes = list(view.shape)
        for axis in sorted(axis % (len(sizes) + len(axes)) for axis in axes):
            sizes.insert(axis, 1)
        return view.reshaped(sizes)

    def _squeeze(self, node: Node) -> RowsView:
        view, axes = self._rows(node), self._axes(node)
        gone = {axis % len(view.axes) for axis in axes}
        return view.reshaped([size for i, size in enumerate(view.shape) if i not in gone])

    def _axes(self, node: Node) -> list[int]:
        found = self._constant(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get("axes")
        if found is None:
            raise RefusedError("its axes must be constant")
        return [int(axis) for axis in np.ravel(found)]

    def _rows(self, node: Node) -> RowsView:
        found = self.values[node.inputs[0]]
        if not isinstance(found, RowsView):
            raise RefusedError("scores of attention must stay as they are")
        return found

    def _transpose(self, node: Node) -> RowsView:
        view = self._rows(node)
        return view.transposed(node.attributes.get("perm", range(len(view.axes))[::-1]))

    def _norm(self, node: Node) -> RowsView:
        view = self._view(node.inputs[0]).require_rows()
        if int(node.attributes.get("axis", -1)) not in (-1, len(view.axes) - 1):
            raise RefusedError("it must be over the last axis")
        gain = self._constant(node.inputs[1])
        bias = self._constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(view.width, np.float32)
        if gain is None or bias is None or {gain.shape, bias.shape} != {(view.width,)}:
            raise RefusedError("its gain and bias must be constants, one for each channel")
        made = self.operations.get(view.name)
        if made is not None and not isinstance(made, FloatLinear):
            raise RefusedError("it must be of an input, a product, or a sum", "a residual in front of it")
        epsilon = float(node.attributes.get("epsilon", 1e-5))
        return self._put(FloatNorm(node.outputs[0], view.name, gain, bias, epsilon), view.width, view)

    def _gelu(self, node: Node) -> RowsView:
        view = self._view(node.inputs[0]).require_rows()
        if node.attributes.get("approximate", "none") != "none":
            raise RefusedError("it must not be approximated by tanh")
        found = self.operations.get(view.name)
        if not isinstance(found, FloatLinear) or found.add:
            raise RefusedError("it must be of a product")
        if any(each is not node and view.name in each.inputs and each.operator != "Shape" for each in self.nodes):
            raise RefusedError("what it is of must be read by nobody else")
        return self._put(FloatGelu(node.outputs[0], view.name), view.width, view)
