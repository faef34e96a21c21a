"""What an instrument changes, and where: nothing outside of its ``with``."""

from __future__ import annotations

from collections.abc import Mapping

from podweave.tb.build.instrument import Instrument, current_instrument, instrumented

TEXT = "// two\n\nmodule one(a);\n  input a;\n  two inner(a);\nendmodule\n\nmodule two(a);\n  input a;\nendmodule\n"


def test_modules_are_changed_by_name_and_all_else_stays() -> None:
    seen = []

    def change(name: str, modules: Mapping[str, str]) -> str:
        seen.append((name, sorted(modules)))
        return modules[name].replace("input a", "input b") if name == "two" else modules[name]

    changed = Instrument(change).changed(TEXT)
    assert changed == TEXT.replace("module two(a);\n  input a", "module two(a);\n  input b")
    assert seen == [("one", ["one", "two"]), ("two", ["one", "two"])]
    assert Instrument().changed(TEXT) == TEXT


def test_the_innermost_is_on_and_only_inside() -> None:
    outside = current_instrument()
    outer, inner = Instrument(flags=["--outer"]), Instrument(flags=["--inner"])
    with instrumented(outer):
        with instrumented(inner):
            assert current_instrument() is inner
        assert current_instrument() is outer
    assert current_instrument() is outside
    assert not outside.flags
