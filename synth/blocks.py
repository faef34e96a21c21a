"""Modules of an emitted design: their texts, and how often each is there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import SynthesisError

# Kinds that are synthesised inside their parent: the columns of a group share what depends on activations alone.
DISSOLVED_KINDS = frozenset({"group_column"})

_MODULE = re.compile(r"^[ \t]*module\s+\\?([^\s(#;]+).*?\bendmodule\b", re.MULTILINE | re.DOTALL)


class Emitted(Protocol):
    """What emission gives; ``sidecar["modules"]`` describes each module of ``verilog``."""

    @property
    def top(self) -> str: ...
    @property
    def verilog(self) -> str: ...
    @property
    def sidecar(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class BlockModule:
    """One module. ``source`` includes dissolved children; ``children`` are the instances that are blocks themselves."""

    name: str
    kind: str
    source: str
    children: dict[str, int]
    sram_bits: int


class Hierarchy:
    """The blocks of an emitted design, without those that dissolve in their parents."""

    def __init__(self, emitted: Emitted):
        self._described: dict[str, dict[str, Any]] = emitted.sidecar["modules"]
        self._texts = {match[1]: match[0] for match in _MODULE.finditer(emitted.verilog)}
        self.top = emitted.top
        for name in self._described:
            if name not in self._texts:
                raise SynthesisError(f"the emitted Verilog has no module {name}, which its description names")
        self._blocks: dict[str, BlockModule] = {}

    def __getitem__(self, name: str) -> BlockModule:
        if name not in self._blocks:
            sources = [self._texts[name]]
            children: Counter[str] = Counter()
            dissolved: Counter[str] = Counter()
            pending = [(name, 1)]
            while pending:
                parent, count = pending.pop()
                for child, instances in self._described[parent]["instances"].items():
                    if self._described[child]["kind"] in DISSOLVED_KINDS:
                        if child not in dissolved:
                            sources.append(self._texts[child])
                        dissolved[child] += count * instances
                        pending.append((child, count * instances))
                    else:
                        children[child] += count * instances
            own = self._described[name]
            self._blocks[name] = BlockModule(name, own["kind"], "\n".join(sources) + "\n", dict(children), own["sram_bits"])
        return self._blocks[name]

    def select(self, block: str | None) -> list[str]:
        """The roots of a report: the top, or the modules that ``block`` names by module name or kind."""
        if block is None:
            return [self.top]
        if block in self._described:
            return [block]
        matching = [name for name, module in self._described.items() if module["kind"] == block]
        if not matching:
            kinds = sorted({module["kind"] for module in self._described.values()})
            raise SynthesisError(
                f"there is no block {block!r}; kinds: {', '.join(kinds)}; modules: {', '.join(sorted(self._described))}"
            )
        below = {name for root in matching for name in self.count([root]) if name != root}
        return [name for name in matching if name not in below]

    def count(self, roots: Iterable[str]) -> dict[str, int]:
        """Instances of every block below the roots, each of which counts once; parents come before children."""
        totals: dict[str, int] = dict.fromkeys(roots, 1)
        for name in self._in_order(list(totals)):
            for child, instances in self[name].children.items():
                totals[child] = totals.get(child, 0) + totals[name] * instances
        return {name: totals[name] for name in self._in_order(list(totals))}

    def _in_order(self, roots: list[str]) -> list[str]:
        finished: list[str] = []
        visited: set[str] = set()

        def visit(name: str) -> None:
            if name in visited:
                return
            visited.add(name)
            for child in reversed(self[name].children):
                visit(child)
            finished.append(name)

        for root in roots:
            visit(root)
        return finished[::-1]

    def boxes(self, name: str) -> str:
        """The Verilog of the blocks that a block instantiates; only their boundaries matter."""
        return "\n".join(self._texts[child] for child in sorted(self[name].children)) + "\n"
