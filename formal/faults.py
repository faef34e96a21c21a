"""Planted faults: a line of the source of a block is another one while a harness is built."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from .errors import FormalError


@dataclass(frozen=True)
class Fault:
    """``new`` stands in the place of ``old``, which must stand exactly once in ``module``, inside of a function.

    ``module``: below podweave, such as "rtl.parts.job_queue".
    """

    module: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.module}: `{self.old}` becomes `{self.new}`"


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """In the ``with`` body, all functions of the module are as its mutated source has them, whoever imported them before."""
    module = sys.modules.get(f"podweave.{fault.module}")
    if module is None or module.__file__ is None:
        raise FormalError(f"no harness uses the module {fault.module}, in which a fault is to be planted")
    source = Path(module.__file__).read_text(encoding="utf-8")
    if (count := source.count(fault.old)) != 1:
        raise FormalError(f"{fault.module} has {count} times what a planted fault replaces, not once: {fault.old!r}")
    mutant = ModuleType(module.__name__)
    mutant.__dict__.update({"__file__": module.__file__, "__package__": module.__package__})
    exec(compile(source.replace(fault.old, fault.new), module.__file__, "exec"), mutant.__dict__)
    originals = _functions(module)
    kept = {name: function.__code__ for name, function in originals.items()}
    mutants = _functions(mutant)
    try:
        for name, function in originals.items():
            function.__code__ = mutants[name].__code__
        yield
    finally:
        for name, function in originals.items():
            function.__code__ = kept[name]


def _functions(module: ModuleType) -> dict[str, FunctionType]:
    """Functions that stand in a module, and in its classes, by qualified name."""
    found: dict[str, FunctionType] = {}

    def look(content: dict[str, Any]) -> None:
        for value in content.values():
            # Functions of the module, and below its decorators and properties.
            value = getattr(value, "__func__", value)
            value = getattr(value, "fget", value)
            value = getattr(value, "__wrapped__", value)
            if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                if value.__code__.co_filename == module.__file__:
                    found[value.__qualname__] = value
            elif isinstance(value, type) and value.__module__ == module.__name__ and value.__qualname__ not in seen:
                seen.add(value.__qualname__)
                look(dict(vars(value)))

    seen: set[str] = set()
    look(vars(module))
    return found
