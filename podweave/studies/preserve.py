"""What prefetching beneath collectives is worth: layers of language models among chips in a ring, by the exact model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from podweave.spec.presets import load_config

from .frame import Frame, Shown
from .points import Figures
from .ring_points import WAYS, RingPoint
from .tables import Cell, chart, table

CONFIG = "llm8x16"
CHIPS = 4
SLOW = 64
"""Sixteenths of a cycle of a beat of memory where loads are to be longer than epochs: pods can load eight times as much."""
LINKS = (64, 256, 512, 768, 1024, 1280, 1536)
EVEN = 1024
"""The link of these on which collectives take about as long as loads."""
W_WORDS = (1024, 2048, 4096, 8192, 16384, 32768)
SRAM = (0.1, 0.3, 1.0)
"""Gate equivalents of a bit of SRAM for which performance per area is told."""
LOGIC_GE = 2_738_010
"""Gate equivalents of the logic of `CONFIG`, as `podweave area llm8x16` reports it."""
CONTEXTS, TEXTS = (64, 512, 2048), (1, 8)
BATCHES = (1, 8, 64)
"""Texts, each with keys and values of its own."""
AHEAD = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Prefetch ratios of all weights, keys and values."""
MODELS = {
    "smollm2_135m": ("llama_576_9_3_1536_2,context=512", (3,)),
    "qwen3_0.6b": ("llama_1024_16_8_3072_2,head=128,context=512", (4, 8)),
    "llama3.2_1b": ("llama_2048_32_8_8192_2,context=512", (4, 8)),
    "llama3_8b": ("llama_4096_32_8_14336,context=512", (4, 8)),
    "llama3_70b": ("llama_8192_64_8_28672,context=512", (4, 8)),
    "deepseek_v3_expert": ("gated_7168_2048", (4, 8)),
    "deepseek_v3_ffn": ("gated_7168_18432", (4, 8)),
}
"""A layer or two of each, and the chips that share it."""
USUALLY = ("smollm2_135m", "qwen3_0.6b")
"""Those of a run without --networks: others take minutes."""
WIDE = {"p_words": 16384, "row_registers": 1024}
"""Of chips of models: what 64 texts need more than `CONFIG` has."""
LARGE, LARGE_X = ("llama3_70b", "deepseek_v3_ffn"), 16384
"""What is gated in 64 texts of these does not fit X banks; words of banks which it fits."""
HIDDEN, KEYS = 512, 256


def _stack(layers: int, texts: int = 1, context: int = 64) -> str:
    return f"llama_{HIDDEN}_8_4_1408_{layers},context={context},texts={texts}"


def _layer(name: str, chips: int, batch: int) -> RingPoint:
    workload = MODELS[name][0]
    x_words = LARGE_X if name in LARGE and batch == BATCHES[-1] else 0
    rows = "rows" if workload.startswith("gated") else "texts"
    return RingPoint(CONFIG, f"{workload},{rows}={batch}", chips, (16,), x_words=x_words, **WIDE)


SHORT, LONG = 2, 4
"""Layers of two stacks: of the difference nothing comes first or last."""


@dataclass(frozen=True)
class Settings:
    """The points of each table."""

    ratio: tuple[RingPoint, RingPoint]
    capacity: tuple[RingPoint, ...]
    context: tuple[RingPoint, ...]
    batch: tuple[RingPoint, ...]
    models: Mapping[str, tuple[RingPoint, ...]]
    ahead: tuple[RingPoint, ...]

    @classmethod
    def of(cls, networks: Sequence[str]) -> Settings:
        def stack(layers: int, **options: Any) -> RingPoint:
            sizes = {name: options.pop(name) for name in ("texts", "context") if name in options}
            return RingPoint(CONFIG, _stack(layers, **sizes), CHIPS, **{"links": (EVEN,), "memory": SLOW, **options})

        return cls(
            (stack(SHORT, links=LINKS), stack(LONG, links=LINKS)),
            tuple(stack(LONG, w_words=words) for words in W_WORDS),
            tuple(stack(LONG, context=context, texts=texts, links=(EVEN // texts,)) for texts in TEXTS for context in CONTEXTS),
            tuple(stack(LONG, texts=texts, links=(EVEN // texts,), memory=memory) for memory in (16, SLOW) for texts in BATCHES),
            {name: tuple(_layer(name, chips, batch) for chips in MODELS[name][1] for batch in BATCHES) for name in networks},
            tuple(stack(LONG, ahead=ratio) for ratio in AHEAD),
        )

    def points(self) -> list[RingPoint]:
        of_models = [point for points in self.models.values() for point in points]
        return [*self.ratio, *self.capacity, *self.context, *self.batch, *of_models, *self.ahead]


def preserve_study(networks: Sequence[str], **computing: Any) -> dict[str, Any]:
    """The report; ``networks``: names of `MODELS`; ``computing``: as `Frame.swept` takes it."""
    settings = Settings.of(networks)
    frame = Frame(
        name="preserve",
        title="weights, keys and values that are prefetched beneath collectives",
        source="PRESERVE (Yuzuguler et al., arXiv 2501.08192): up to 1.6 times end to end; optimum of L2 8 MB without, "
        "104 MB with prefetching; 1.25 times performance per cost",
        networks=networks,
        pods=load_config(CONFIG).pods,
    )
    return frame.swept(settings.points(), lambda figures: _shown(settings, figures), **computing)


def _shown(settings: Settings, figures: Mapping[RingPoint, Figures]) -> Shown:
    ratios = _ratios(settings, figures)
    return Shown(
        points=[
            {"network": point.workload, "series": f"{point.chips} chips", "changes": asdict(point), "figures": one}
            for point, one in figures.items()
        ],
        tables=[
            _ratio(ratios),
            _capacity(settings.capacity, figures),
            _context(settings.context, figures),
            _batch(settings.batch, figures),
            _models(settings.models, figures),
            _ahead(settings.ahead, figures),
        ],
        chart=chart(
            "cycles of collectives / cycles of loads",
            "speed-up by prefetching",
            [f"{each.ratio:.2f}" for each in ratios],
            {
                "four layers, against no prefetching": [each.speedup("off") for each in ratios],
                "layers in the middle, against no prefetching": [each.middle_speedup("off") for each in ratios],
                "layers in the middle, against prefetching beneath epochs only": [each.middle_speedup("apart") for each in ratios],
                "closed form of that": [each.closed for each in ratios],
            },
            "PRESERVE",
        ),
    )


@dataclass(frozen=True)
class Ratio:
    """One link. ``cycles``: of the long stack, by the names of `WAYS`; ``middle``: of layers in the middle. Of these, cycles of
    collectives, of loads, of epochs of the chip, of loads that W banks have room for beneath the collectives, and of loads that go
    on beneath them apart too."""

    link: float
    cycles: Mapping[str, int]
    middle: Mapping[str, int]
    collective: int
    loading: float
    run: int
    most: float
    leaks: float

    @property
    def ratio(self) -> float:
        return self.collective / self.loading

    def speedup(self, way: str) -> float:
        return self.cycles[way] / self.cycles["on"]

    def middle_speedup(self, way: str) -> float:
        return self.middle[way] / self.middle["on"]

    @property
    def closed(self) -> float:
        """PRESERVE's, with epochs of the chip: T = T_rest + T_collective - min(T_collective, bytes / bandwidth, capacity /
        bandwidth), where the rest is the longer of loads and epochs; and epochs and collectives do not overlap."""
        apart = self.collective + max(self.loading, self.run)
        on = max(apart - min(self.collective, self.loading, self.most), self.collective + self.run)
        return (self.collective + max(self.loading - self.leaks, self.run)) / on


def _ratios(settings: Settings, figures: Mapping[RingPoint, Figures]) -> list[Ratio]:
    short, long = (figures[point] for point in settings.ratio)
    point, found = settings.ratio[1], []
    for number, sixteenths in enumerate(point.links):
        few, many = short["links"][number], long["links"][number]
        collectives = long["collectives"] - short["collectives"]
        found.append(
            Ratio(
                point.link_bytes(sixteenths),
                {way: many[way]["cycles"] for way in WAYS},
                {way: many[way]["cycles"] - few[way]["cycles"] for way in WAYS},
                many["on"]["collective"] - few["on"]["collective"],
                long["loading"] - short["loading"],
                many["on"]["run"] - few["on"]["run"],
                collectives * long["w_bytes"] / long["memory_bytes_per_cycle"],
                (many["apart"]["beneath"] - few["apart"]["beneath"]) * long["beat_bytes"] / long["memory_bytes_per_cycle"],
            )
        )
    return found


def _ratio(ratios: Sequence[Ratio]) -> dict[str, Any]:
    rows: list[list[Cell]] = []
    for each in ratios:
        measured = each.middle_speedup("apart")
        speedups = (each.speedup("off"), each.speedup("apart"), each.middle_speedup("off"), measured, each.closed)
        rows.append([each.link, each.ratio, *each.cycles.values(), *speedups, 100 * (each.closed / measured - 1)])
    notes = [
        f"{_stack(LONG)} on {CHIPS} chips {CONFIG}, with a quarter of the memory's bandwidth; links have a latency of 100 cycles.",
        "link: bytes per cycle. ratio: cycles of collectives / cycles of loads, of the manager that has most, in layers in the "
        "middle.",
        "on: prefetched beneath everything; apart: no prefetch begins in a collective; off: none is ahead of its epoch.",
        f"middle: {LONG} layers less {SHORT}. closed: T = T_rest + T_collective - min(T_collective, bytes / bandwidth, capacity / "
        "bandwidth), at least collectives and epochs of the chip; against apart, in which a descriptor that has begun goes on "
        "beneath a collective, up to 8 KB of each manager: that is counted.",
        "What a closed form does not know: keys and values that a layer has added must be stored before they are loaded.",
    ]
    columns = ("link", "ratio", "on", "apart", "off", "off/on", "apart/on", "middle off/on", "middle apart/on", "closed", "diff %")
    return table("speed-up over collectives / loads", columns, rows, notes)


def _capacity(points: Sequence[RingPoint], figures: Mapping[RingPoint, Figures]) -> dict[str, Any]:
    rows: list[list[Cell]] = []
    for point in points:
        found = figures[point]
        if "refused" in found:
            rows.append([point.w_words, "refused", *[None] * (3 + 2 * len(SRAM))])
            continue
        cycles = [found["links"][0][way]["cycles"] for way in ("on", "apart", "off")]
        config = point.config()
        bits = 8 * found["w_bytes"] + config.pods * (
            8 * config.memory.x_words * config.array.rows + config.array.psum_width * config.memory.p_words * config.array.cols
        )
        per_area = [1e12 / (took * (LOGIC_GE + each * bits)) for each in SRAM for took in (cycles[0], cycles[2])]
        rows.append([point.w_words, found["w_bytes"] // 1024, *cycles, *per_area])
    notes = [
        f"{_stack(LONG)} on {CHIPS} chips; the link on which collectives take about as long as loads.",
        f"per area: runs per 10^12 cycle x gate equivalents, of {LOGIC_GE:,} of logic (podweave area {CONFIG}) and so many per bit "
        "of X, W and P banks. SRAM is macros here: what a bit takes depends on the process. PRESERVE: 8 MB without, 104 MB with.",
    ]
    areas = [f"{way}, {each} GE/bit" for each in SRAM for way in ("on", "off")]
    return table("capacity of W banks", ["W words", "KiB", "on", "apart", "off", *areas], rows, notes)


def _cells(found: Figures) -> list[Cell]:
    if "refused" in found:
        return ["refused", *[None] * 5]
    one = found["links"][0]
    on, apart, off = (one[way]["cycles"] for way in ("on", "apart", "off"))
    return [one["on"]["collective"] / found["loading"], on, apart, off, apart / on, off / on]


_COLUMNS = ("ratio", "on", "apart", "off", "apart/on", "off/on")


def _context(points: Sequence[RingPoint], figures: Mapping[RingPoint, Figures]) -> dict[str, Any]:
    rows: list[list[Cell]] = []
    for (texts, context), point in zip(((texts, context) for texts in TEXTS for context in CONTEXTS), points, strict=True):
        found = figures[point]
        cached = 2 * KEYS * context * texts * LONG / CHIPS
        share: Cell = "refused" if "refused" in found else 100 * cached / found["bytes"]
        rows.append([texts, context, share, *_cells(found)])
    notes = [
        "KV: of the bytes that a chip loads, keys and values. They are prefetched as weights are, beneath epochs of the chip and "
        "beneath collectives, all but those that the epochs before have added.",
        f"{_stack(LONG)} with other contexts and texts, on {CHIPS} chips; links are faster by as much as there are more texts.",
    ]
    return table("keys and values", ["texts", "context", "KV %", *_COLUMNS], rows, notes)


def _batch(points: Sequence[RingPoint], figures: Mapping[RingPoint, Figures]) -> dict[str, Any]:
    labels = [(memory, texts) for memory in (16, SLOW) for texts in BATCHES]
    rows = [
        [64 * 16 / memory, count, point.link_bytes(point.links[0]), *_cells(figures[point])]
        for (memory, count), point in zip(labels, points, strict=True)
    ]
    note = "texts share weights; each has keys and values of its own. Links are faster by as much as there are more texts."
    return table("batch and bandwidth", ["memory bytes/cycle", "texts", "link bytes/cycle", *_COLUMNS], rows, [note])


def _models(models: Mapping[str, Sequence[RingPoint]], figures: Mapping[RingPoint, Figures]) -> dict[str, Any]:
    rows: list[list[Cell]] = []
    for name, points in models.items():
        batches = BATCHES * len(MODELS[name][1])
        for batch, point in zip(batches, points, strict=True):
            found = figures[point]
            shares: list[Cell] = [None, None]
            if "refused" not in found:
                on = found["links"][0]["on"]
                shares = [100 * on[part] / on["cycles"] for part in ("collective", "run")]
            rows.append([name, point.chips, batch, *_cells(found), *shares])
    notes = [
        f"chips {CONFIG} with 64 bytes per cycle of memory, links of 16 bytes per cycle and a latency of 100 cycles; for 64 texts "
        f"with P banks of {WIDE['p_words']:,} words and {WIDE['row_registers']:,} row registers; of Llama-3-70B, and 64 "
        f"rows of the dense layer of DeepSeek-V3, with X banks of {LARGE_X:,} words too.",
        "One layer of Llama-3-8B and 70B, one expert and one dense feed-forward layer of DeepSeek-V3, two layers of others; "
        "batch: texts with a context of 512 each, which share weights only; rows where there is no attention.",
        "collectives, epochs: of the cycles with prefetching, those in which sums are added over all chips, and those of the chip.",
    ]
    columns = ["model", "chips", "batch", *_COLUMNS, "collectives %", "epochs %"]
    return table("layers of models", columns, rows, notes)


def _ahead(points: Sequence[RingPoint], figures: Mapping[RingPoint, Figures]) -> dict[str, Any]:
    found = [figures[point]["links"][0] for point in points]
    rows: list[list[Cell]] = []
    for point, one in zip(points, found, strict=True):
        on, apart = one["on"]["cycles"], one["apart"]["cycles"]
        speedups = (apart / on, found[0]["on"]["cycles"] / on, one["off"]["cycles"] / on)
        rows.append([point.ahead, on, apart, one["on"]["beneath"], *speedups])
    note = (
        "of all weights, keys and values so much may be loaded ahead of its epoch (--prefetch-ratio), and the rest when that is "
        f"next; {_stack(LONG)}, the link on which collectives take about as long as loads. beneath: beats of a chip in collectives."
    )
    columns = ["prefetch ratio", "on", "apart", "beneath", "apart/on", "ratio 0/on", "off/on"]
    return table("how much may be ahead", columns, rows, [note])
