"""Which mutants are judged: drawn by a seed out of all that Cosmic Ray can do to the Python of some rooms."""

from __future__ import annotations

import ast
import difflib
import random
from collections.abc import Iterator
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

from tests.python_mutants.mutant import ROOT, SHARES, Mutant


def draw(count: int, seed: int) -> list[Mutant]:
    """So many mutants of each room as its share is; of a room, modules by their lines, of a module each mutation as likely as
    any other. The first ones of a larger ``count`` are not those of a smaller one."""
    rng = random.Random(seed)
    found: dict[str, Mutant] = {}
    files = {room: sorted((ROOT / room).rglob("*.py")) for room in SHARES}
    lines = {file: file.read_text(encoding="utf-8").count("\n") for of_room in files.values() for file in of_room}
    for room, share in SHARES.items():
        wanted = len(found) + round(count * share)
        while len(found) < wanted:
            (file,) = rng.choices(files[room], [lines[each] for each in files[room]])
            mutant = _mutant_of(file, rng)
            if mutant:
                found[mutant.name] = mutant
    drawn = list(found.values())
    rng.shuffle(drawn)
    return drawn


def _mutant_of(file: Path, rng: random.Random) -> Mutant | None:
    """One of a module; None if there is none, it changes only annotations, or Python refuses it."""
    text = file.read_text(encoding="utf-8")
    places = list(_places(text))
    if not places:
        return None
    name, occurrence = rng.choice(places)
    changed = mutate_code(text, cosmic_ray.plugins.get_operator(name)(), occurrence)
    runs = _what_runs(changed) if changed else None
    if changed is None or runs is None or runs == _what_runs(text):
        return None
    before, after = text.splitlines(), changed.splitlines()
    differing = [line for line in difflib.ndiff(before, after) if line[:2] in ("- ", "+ ")]
    sides = [" ".join(line[2:].strip() for line in differing if line[0] == sign) for sign in "-+"]
    return Mutant(file.relative_to(ROOT).as_posix(), name.removeprefix("core/"), changed, " -> ".join(sides))


def _places(text: str) -> Iterator[tuple[str, int]]:
    """All operators of Cosmic Ray that need no settings, as often as each can be applied."""
    nodes = list(ast_nodes(get_ast(text)))
    for name in sorted(cosmic_ray.plugins.operator_names()):
        kind = cosmic_ray.plugins.get_operator(name)
        if kind.arguments():
            continue
        operator = kind()
        for occurrence in range(sum(len(list(operator.mutation_positions(node))) for node in nodes)):
            yield name, occurrence


class _Unannotated(ast.NodeTransformer):
    """Without annotations: modules import them from the future, as texts."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def _what_runs(text: str) -> str | None:
    """None of a text that is no Python."""
    try:
        tree = ast.parse(text)
        compile(tree, "mutant", "exec")
        return ast.dump(_Unannotated().visit(tree))
    except SyntaxError:
        return None
