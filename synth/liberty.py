"""The little that the flows must know of a Liberty file before Yosys reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

from .errors import SynthesisError

OWN_LIBRARY = Path(__file__).with_name("podweave_ge.lib")

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_LIBRARY = re.compile(r"\blibrary\s*\(\s*\"?([^\s\")]+)\"?\s*\)")
_CELL = re.compile(r"^\s*cell\s*\(\s*\"?([^\s\")]+)\"?\s*\)", re.MULTILINE)
_PIN = re.compile(r"\bpin\s*\(\s*\"?([^\s\")]+)\"?\s*\)")
_AREA = re.compile(r"\barea\s*:\s*\"?([0-9.eE+-]+)")
_DIRECTION = re.compile(r"\bdirection\s*:\s*\"?(\w+)")
_FUNCTION = re.compile(r"\bfunction\s*:\s*\"([^\"]*)\"")
_FLIP_FLOP = re.compile(r"\bff(_bank)?\s*\(")
_LATCH = re.compile(r"\blatch\s*\(")
_CLOCK_GATE = re.compile(r"\bclock_gating_integrated_cell\s*:")
_TOKEN = re.compile(r"\s*([A-Za-z_]\w*|[01()!'^&*|+])")


@dataclass(frozen=True)
class FullAdder:
    """A library cell that adds three bits, with the names of its pins."""

    cell: str
    inputs: tuple[str, str, str]
    sum: str
    carry: str


@dataclass(frozen=True)
class Liberty:
    """A cell library. ``unit`` is what its areas are in; ``full_adder`` the smallest full adder, if there is one."""

    name: str
    unit: str
    text: str
    full_adder: FullAdder | None
    has_clock_gate: bool
    has_latch: bool


def load_liberty(path: Path | None = None) -> Liberty:
    """Read a Liberty file (podweave's gate equivalents by default); refuses one that no design can be mapped to."""
    path = OWN_LIBRARY if path is None else Path(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SynthesisError(f"cannot read the Liberty file {path}: {error.strerror}") from error
    return _parse(text, path.name, path == OWN_LIBRARY)


@lru_cache(maxsize=4)
def _parse(text: str, file_name: str, own: bool) -> Liberty:
    plain = _COMMENT.sub("", text)
    library = _LIBRARY.search(plain)
    starts = list(_CELL.finditer(plain))
    if library is None or not starts:
        raise SynthesisError(f"{file_name} is not a Liberty file: it has no library(NAME) group with cells")
    ends = [*(start.start() for start in starts[1:]), len(plain)]
    cells = {start[1]: plain[start.end() : end] for start, end in zip(starts, ends, strict=True)}
    if not any(_FLIP_FLOP.search(cell) for cell in cells.values()):
        raise SynthesisError(f"{file_name} has no flip-flop: none of its {len(cells)} cells has an ff() group")
    if not any(_AREA.search(cell) for cell in cells.values()):
        raise SynthesisError(f"{file_name} gives no areas: none of its {len(cells)} cells has an area attribute")
    unit = "gate equivalents, NAND2 = 1" if own else f"area units of {library[1]}"
    return Liberty(
        library[1],
        unit,
        text,
        _smallest_full_adder(cells),
        has_clock_gate=any(_CLOCK_GATE.search(cell) for cell in cells.values()),
        has_latch=any(_LATCH.search(cell) for cell in cells.values()),
    )


def _smallest_full_adder(cells: dict[str, str]) -> FullAdder | None:
    found = []
    for name, text in cells.items():
        area = _AREA.search(text)
        adder = None if area is None or _FLIP_FLOP.search(text) else _as_full_adder(name, text)
        if area and adder:
            found.append((float(area[1]), name, adder))
    return min(found)[2] if found else None


def _as_full_adder(name: str, text: str) -> FullAdder | None:
    starts = list(_PIN.finditer(text))
    if len(starts) != 5:
        return None
    inputs: list[str] = []
    outputs: dict[str, str] = {}
    for start, end in zip(starts, [*(s.start() for s in starts[1:]), len(text)], strict=True):
        pin = text[start.end() : end]
        direction, function = _DIRECTION.search(pin), _FUNCTION.search(pin)
        if direction and direction[1] == "output" and function:
            outputs[start[1]] = function[1]
        elif direction and direction[1] == "input":
            inputs.append(start[1])
    if len(inputs) != 3 or len(outputs) != 2:
        return None
    roles: dict[str, str] = {}
    for pin_name, function_text in outputs.items():
        try:
            table = [evaluate(function_text, dict(zip(inputs, bits, strict=True))) for bits in product((0, 1), repeat=3)]
        except ValueError:
            return None
        if table == [sum(bits) % 2 for bits in product((0, 1), repeat=3)]:
            roles["sum"] = pin_name
        elif table == [sum(bits) // 2 for bits in product((0, 1), repeat=3)]:
            roles["carry"] = pin_name
    if len(roles) != 2:
        return None
    return FullAdder(name, (inputs[0], inputs[1], inputs[2]), **roles)


def evaluate(function: str, values: dict[str, int]) -> int:
    """Value of a Liberty function: ``!a`` or ``a'`` binds tightest, then ``^``, then ``&``, ``*`` or nothing, then ``|`` or ``+``.

    >>> evaluate("(A B') + !(A ^ C)", {"A": 1, "B": 1, "C": 0})
    0
    """
    tokens = _TOKEN.findall(function)
    if "".join(tokens) != re.sub(r"\s", "", function):
        raise ValueError(f"not a Liberty function: {function!r}")

    def peek() -> str:
        return tokens[0] if tokens else ""

    def term() -> int:
        token = tokens.pop(0) if tokens else ""
        if token == "!":
            return 1 - term()
        if token == "(":
            value = disjunction()
            if not tokens or tokens.pop(0) != ")":
                raise ValueError(f"unbalanced parentheses: {function!r}")
        elif token in ("0", "1"):
            value = int(token)
        elif token in values:
            value = values[token]
        else:
            raise ValueError(f"unknown operand {token!r} in {function!r}")
        while peek() == "'":
            tokens.pop(0)
            value = 1 - value
        return value

    def exclusive() -> int:
        value = term()
        while peek() == "^":
            tokens.pop(0)
            value ^= term()
        return value

    def conjunction() -> int:
        value = exclusive()
        while peek() and peek() not in ")|+":
            if peek() in "&*":
                tokens.pop(0)
            value &= exclusive()
        return value

    def disjunction() -> int:
        value = conjunction()
        while peek() and peek() in "|+":
            tokens.pop(0)
            value |= conjunction()
        return value

    result = disjunction()
    if tokens:
        raise ValueError(f"unexpected {tokens[0]!r} in {function!r}")
    return result
