"""What a token of a language model takes: whole models on one chip, over context, rows and width of memory, by the exact model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from podweave.ir.frontends.language_models import DecoderSizes
from podweave.spec.presets import load_config

from .frame import Frame, Shown
from .language_points import LanguagePoint, MemoryWidth, ModelShape
from .points import Figures
from .published import load_published
from .tables import Cell, chart, table

CONFIG = "llm8x16"
MODELS = {
    model.name: model
    for model in (
        ModelShape("smollm2_135m", DecoderSizes(576, 9, 3, 1536, 30), 49152),
        ModelShape("qwen3_0.6b", DecoderSizes(1024, 16, 8, 3072, 28, head=128), 151936),
        ModelShape("llama3.2_1b", DecoderSizes(2048, 32, 8, 8192, 16), 128256),
        ModelShape("llama3_8b", DecoderSizes(4096, 32, 8, 14336, 32), 128256),
    )
}
USUALLY = ("smollm2_135m", "qwen3_0.6b", "llama3.2_1b")
"""Those of a run without --networks: others take an hour and more."""
CONTEXTS = (64, 512, 2048)
CONTEXT = 512
ROWS = (1, 2, 4, 8, 16)
USUAL = MemoryWidth()
WIDTHS = (MemoryWidth(1), MemoryWidth(2), MemoryWidth(4, beat_sixteenths=32), USUAL, MemoryWidth(8))
PROMPT = 128
MOST_WHOLE = 1 << 28
"""Bytes of weights of a model that is compiled as a whole as well, to hold what is put together against."""
_MHZ, _GHZ = 1e8, 1e9


@dataclass(frozen=True)
class Setting:
    """A run of a whole model. ``logits``: of each row, or none."""

    model: ModelShape
    rows: int = 1
    context: int = CONTEXT
    memory: MemoryWidth = USUAL
    logits: bool = True

    def stack(self, layers: int, vocabulary: int = 0) -> LanguagePoint:
        return LanguagePoint(CONFIG, self.model, layers, self.rows, self.context, vocabulary, self.memory)

    @property
    def pieces(self) -> int:
        """Runs in which logits are computed: those of all rows must fit half of the P banks."""
        config = load_config(CONFIG)
        words = -(-self.model.vocabulary // (config.pods * config.array.cols)) * self.rows
        return -(-words // (config.memory.p_words // 2))

    @property
    def head(self) -> tuple[LanguagePoint, ...]:
        """One point: a piece of the logits. Or two: what the second takes more than the first is what all logits take."""
        if self.pieces > 1:
            return (self.stack(0, -(-self.model.vocabulary // self.pieces)),)
        # What logits take does not depend on keys.
        base = Setting(self.model, self.rows, CONTEXT, self.memory)
        return base.stack(1), base.stack(1, self.model.vocabulary)

    def points(self) -> Iterator[LanguagePoint]:
        """What is computed of it."""
        yield from (self.stack(1), self.stack(2))
        if self.logits:
            yield from self.head

    def useful(self) -> int:
        """Bytes of weights, and of keys and values that the last row sees, each once."""
        weights = self.model.weights if self.logits else self.model.weights - self.model.head_weights
        return weights + self.context * self.model.sizes.cached

    def whole(self, figures: Mapping[LanguagePoint, Figures]) -> Figures:
        """Figures of the whole model, put together.

        ``cycles``: those of one layer, for each other layer what a second one adds, and what logits add, or take as runs by
        themselves. ``memory_useful``: `useful` bytes, of those that the memory can send in these cycles; ``busy``: share of the
        pods' cycles in which they stream.
        """
        refused = next((figures[point] for point in self.points() if "refused" in figures[point]), None)
        if refused:
            return refused
        found: Figures = {"rows": self.rows, "context": self.context, "bytes_per_cycle": self.memory.bytes_per_cycle}
        for name in ("cycles", "x_words"):
            one, two = (figures[self.stack(layers)][name] for layers in (1, 2))
            total = one + (self.model.sizes.layers - 1) * (two - one)
            if self.logits:
                parts = [figures[point][name] for point in self.head]
                total += self.pieces * parts[0] if len(parts) == 1 else parts[1] - parts[0]
            found[name] = total
        return found | self.rates(found["cycles"], found["x_words"])

    def rates(self, cycles: int, x_words: int) -> Figures:
        """What follows from figures of the whole model."""
        pods = load_config(CONFIG).pods
        return {
            "pieces": self.pieces if self.logits else 0,
            "memory_useful": self.useful() / self.memory.sendable(cycles),
            "busy": x_words / (cycles * pods),
            "tokens_per_second_100MHz": self.rows * _MHZ / cycles,
            "tokens_per_second_1GHz": self.rows * _GHZ / cycles,
        }


def settings(models: Sequence[ModelShape]) -> dict[str, list[Setting]]:
    """By table, the runs that it shows."""
    return {
        "context": [Setting(model, context=context) for model in models for context in CONTEXTS],
        "rows": [Setting(model, rows=rows) for model in models for rows in ROWS],
        "memory": [Setting(model, memory=width) for model in models for width in WIDTHS],
        "prompt": [each for model in models for each in prompt(model)],
    }


def prompt(model: ModelShape) -> list[Setting]:
    """Runs of a prompt, each of so many tokens that residuals and queries take less than a quarter of the P banks, and what is
    gated, in two planes, half of the X banks at the most."""
    config, sizes, rows = load_config(CONFIG), model.sizes, PROMPT
    lanes, memory = config.pods * config.array.cols, config.memory
    p_words, x_words = -(-max(sizes.hidden, sizes.query_channels) // lanes), 2 * -(-sizes.intermediate // lanes)
    while rows * p_words >= memory.p_words // 4 or rows * x_words > memory.x_words // 2:
        rows //= 2
    return [Setting(model, rows, context, logits=False) for context in range(rows, PROMPT + 1, rows)]


def wholes(models: Sequence[ModelShape]) -> list[Setting]:
    """Runs that are compiled as a whole as well."""
    return [Setting(model) for model in models if model.weights <= MOST_WHOLE]


def decode_study(networks: Sequence[str], **computing: Any) -> dict[str, Any]:
    """The report; ``networks``: names of `MODELS`; ``computing``: as `Frame.swept` takes it."""
    models = [MODELS[name] for name in networks]
    shown, held = settings(models), wholes(models)
    needed = [point for of_table in shown.values() for setting in of_table for point in setting.points()]
    needed += [setting.stack(setting.model.sizes.layers, setting.model.vocabulary) for setting in held]
    frame = Frame(
        name="decode",
        title="tokens of language models",
        source=load_published("torch2riscv").source,
        networks=networks,
        pods=load_config(CONFIG).pods,
    )
    return frame.swept(needed, lambda figures: _shown(models, shown, held, figures), **computing)


def _shown(
    models: Sequence[ModelShape],
    shown: Mapping[str, Sequence[Setting]],
    held: Sequence[Setting],
    figures: Mapping[LanguagePoint, Figures],
) -> Shown:
    whole = {setting: setting.whole(figures) for of_table in shown.values() for setting in of_table}
    return Shown(
        points=[_reported(name, setting, whole[setting]) for name, of_table in shown.items() for setting in of_table],
        more={"parts": [asdict(point) | {"model": point.model.name, "figures": one} for point, one in figures.items()]},
        tables=[
            _context(shown["context"], whole),
            _rows(shown["rows"], whole),
            _memory(shown["memory"], whole),
            _prompt(models, whole),
            *([_held(held, figures, whole)] if held else []),
        ],
        chart=_chart(models, whole),
    )


def _reported(name: str, setting: Setting, figures: Figures) -> dict[str, Any]:
    changes = {"rows": setting.rows, "context": setting.context, **asdict(setting.memory)}
    series = {"context": setting.context, "rows": setting.rows, "memory": _width(setting.memory), "prompt": setting.context}[name]
    return {"network": setting.model.name, "series": f"{name} {series}", "changes": changes, "figures": figures}


def _width(memory: MemoryWidth) -> str:
    slower = f" / {memory.beat_sixteenths / 16:g}" if memory.beat_sixteenths != 16 else ""
    return f"{memory.managers} x {memory.data_width}{slower}"


def _cells(figures: Figures, *names: tuple[str, float]) -> list[Cell]:
    return ["refused" if "refused" in figures else figures[name] * scale for name, scale in names]


_RATES = (("memory_useful", 100.0), ("tokens_per_second_100MHz", 1.0), ("tokens_per_second_1GHz", 1.0))
_RATE_COLUMNS = ("memory %", "tokens/s, 100 MHz", "tokens/s, 1 GHz")


def _theirs(name: str, context: int) -> float | None:
    """Tokens per second that were published for a context near this one."""
    decode = load_published("torch2riscv").tables["decode"]
    if context == CONTEXTS[0]:
        return decode.value(name, "after_32")
    step = decode.value(name, "step_2048_ms") if context == 2048 else None
    return 1000 / step if step else None


def _context(chosen: Sequence[Setting], whole: Mapping[Setting, Figures]) -> dict[str, Any]:
    rows: list[list[Cell]] = []
    for each in chosen:
        figures = whole[each]
        bound = each.useful() / each.memory.bytes_per_cycle
        rows.append(
            [
                each.model.name,
                each.context,
                *_cells(figures, ("cycles", 1)),
                round(bound),
                *_cells(figures, *_RATES),
                _theirs(each.model.name, each.context),
            ]
        )
    config = load_config(CONFIG)
    notes = [
        f"{config.name}: {config.pods} pods of {config.array.rows}x{config.array.cols}, {config.managers} managers of "
        f"{config.host_bits} bits; latency {USUAL.timing.latency} cycles, rows, banks and refresh as the memory model has them",
        "Cycles of whole models are put together: those of a run of one layer, for each other layer what a second one adds, and "
        "for the vocabulary what it adds behind one layer; each of these runs is predicted exactly.",
        "context: positions that the token sees, its own too. bound: weights, keys and values, each byte once, at the width of "
        "the memory. memory: the same bytes, of those that the memory can send in these cycles outside of refreshes.",
        "Qwen3 is without its norms of queries and keys.",
        "Torch2RISCV: 64 bytes per cycle at 100 MHz too; beside 64, behind a prompt of 32 tokens; beside 2048, at that length. "
        "It was measured on a board with DDR4; ours is the chip with a simulated memory, without the host, which looks up and "
        "chooses tokens.",
        "Both have int8 weights, keys and values: the same bytes have to come. Theirs streams int8 rows with scales of their own "
        "and computes in fp32 between matrices; ours streams 16 bits and has integers only.",
    ]
    return table(
        "one token, 64 bytes per cycle, by context",
        ["model", "context", "cycles", "bound", *_RATE_COLUMNS, "Torch2RISCV"],
        rows,
        notes,
    )


def _rows(chosen: Sequence[Setting], whole: Mapping[Setting, Figures]) -> dict[str, Any]:
    rows: list[list[Cell]] = []
    for each in chosen:
        figures = whole[each]
        per_token = _cells(figures, ("cycles", 1 / each.rows))
        rows.append(
            [
                each.model.name,
                each.rows,
                each.pieces,
                *_cells(figures, ("cycles", 1)),
                *per_token,
                *_cells(figures, *_RATES, ("busy", 100)),
            ]
        )
    notes = [
        f"rows: tokens of one run, all with logits, that see one cache of {CONTEXT} keys: a model of so many sequences that share "
        "their weights, but not of their keys and values, which each of them would load for itself.",
        "runs: for logits, because those of all rows do not fit P banks at once; if there are several, each is of the last norm "
        "and a piece of the vocabulary, by itself. pods: share of their cycles in which they stream.",
    ]
    columns = ["model", "rows", "runs", "cycles", "cycles/token", *_RATE_COLUMNS, "pods %"]
    return table(f"rows that share weights, context {CONTEXT}", columns, rows, notes)


def _memory(chosen: Sequence[Setting], whole: Mapping[Setting, Figures]) -> dict[str, Any]:
    rows: list[list[Cell]] = []
    for each in chosen:
        cycles = _cells(whole[each], ("cycles", 1))
        rows.append([each.model.name, _width(each.memory), each.memory.bytes_per_cycle, *cycles, *_cells(whole[each], *_RATES)])
    config = load_config(CONFIG)
    notes = [
        "memory: managers by bits of a beat, by cycles from beat to beat.",
        f"The pods of {config.name} take {config.pods * config.array.cols} bytes of weights per cycle, whatever memory can send.",
    ]
    return table(
        f"one token, context {CONTEXT}, by width of the memory",
        ["model", "memory", "bytes/cycle", "cycles", *_RATE_COLUMNS],
        rows,
        notes,
    )


def _prompt(models: Sequence[ModelShape], whole: Mapping[Setting, Figures]) -> dict[str, Any]:
    prefill = load_published("torch2riscv").tables["prefill"]
    pods, rows = load_config(CONFIG).pods, list[list[Cell]]()
    for model in models:
        runs = prompt(model)
        figures = [whole[each] for each in runs]
        cells: list[Cell] = ["refused"] * 4
        if not any("refused" in each for each in figures):
            cycles, words = (sum(each[name] for each in figures) for name in ("cycles", "x_words"))
            cells = [cycles, 100 * words / (cycles * pods), PROMPT * _MHZ / cycles, PROMPT * _GHZ / cycles]
        rows.append([model.name, runs[0].rows, *cells, prefill.value(model.name, "first_64")])
    notes = [
        "All layers, rows at a time, without logits, which only the token behind a prompt needs. pods: share of their cycles in "
        "which they stream.",
        "Torch2RISCV: a prompt of 64 tokens, 16 at a time, on one array of 16x16; ours has as many multipliers in each pod, and "
        "streams two planes of int8 for each row.",
    ]
    return table(
        f"a prompt of {PROMPT} tokens", ["model", "rows", "cycles", "pods %", *_RATE_COLUMNS[1:], "Torch2RISCV"], rows, notes
    )


def _held(held: Sequence[Setting], figures: Mapping[LanguagePoint, Figures], whole: Mapping[Setting, Figures]) -> dict[str, Any]:
    rows: list[list[Cell]] = []
    for each in held:
        exact = figures[each.stack(each.model.sizes.layers, each.model.vocabulary)]
        if "refused" in exact or "refused" in whole[each]:
            rows.append([each.model.name, each.context, "refused", None, None, None])
            continue
        put = whole[each]["cycles"]
        useful = each.useful() / each.memory.sendable(exact["cycles"])
        rows.append([each.model.name, each.context, exact["cycles"], put, 100 * (put / exact["cycles"] - 1), 100 * useful])
    notes = ["whole: all layers and the vocabulary in one run, as they run; memory: memory_useful of that."]
    columns = ["model", "context", "whole", "put together", "difference %", "memory %"]
    return table("what is put together, against the exact model of the whole", columns, rows, notes)


def _chart(models: Sequence[ModelShape], whole: Mapping[Setting, Figures]) -> dict[str, Any]:
    near, far = CONTEXTS[0], CONTEXTS[-1]
    drawn: dict[str, Sequence[Cell]] = {}
    for context, theirs in ((near, "behind 32 tokens"), (far, f"context {far}")):
        of = [whole[Setting(model, context=context)] for model in models]
        drawn[f"context {context}"] = [each.get("tokens_per_second_100MHz") for each in of]
        drawn[f"Torch2RISCV, {theirs} (published)"] = [_theirs(model.name, context) for model in models]
    return chart("model", "tokens per second at 100 MHz", [model.name for model in models], drawn, "Torch2RISCV")
