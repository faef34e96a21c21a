"""SOSA's sweeps: which points each has, and what tables and chart it makes of their figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .counts import MOST_PODS, POWER_BUDGET, gemms, layered_cycles, macs, packed_cycles, pods_within, power, tera_ops
from .points import Point, study_graph
from .tables import BUSY, OURS, Cell, Results, chart, gmean, hmean, published_tables, shared, sosa_tops, table, without_empty

Mean = Callable[[Sequence[float | None]], float | None]
Outcome = tuple[list[dict[str, Any]], dict[str, Any]]
"""Tables and the chart."""

_INTERCONNECTS: dict[str, dict[str, int | str]] = {
    **{f"butterfly-{planes}": {"y_planes": planes} for planes in (1, 2, 4, 8)},
    "crossbar": {"kind": "crossbar", "y_planes": 1},
}
_PARTITIONS: dict[str, int | None] = {**{str(words): words for words in (8, 16, 32, 48, 64, 128)}, "none": 0, "ours": None}
# More words than this per weight tile the compiler does not stream.
_DEEPEST = 2048
_SIZES = (8, 16, 32, 64, 128, 256)
_BANK_KIB = (32, 64, 128, 256, 512, 1024, 2048)
# A word of an X or W bank of a 32x32 pod, and one of 32-bit partial sums.
_X_BYTES, _P_BYTES = 32, 128


def _points(study: str, networks: Sequence[str], series: dict[str, dict[str, int | str]]) -> list[Point]:
    return [Point(study, network, name, tuple(changes.items())) for name, changes in series.items() for network in networks]


def throughput_points(networks: Sequence[str], pods: int) -> list[Point]:
    return _points("throughput", networks, {"ours": {"pods": pods}})


def throughput(results: Results) -> Outcome:
    networks, pods = results.networks, results.pods
    rows: list[list[Cell]] = []
    stores: list[list[Cell]] = []
    figures: list[tuple[float | None, ...]] = []
    for network in networks:
        sizes, used = gemms(study_graph(network)), results.get(network, "ours", "used") or {}
        # Published for 256 pods only.
        theirs = sosa_tops(network) if pods == 256 else None
        bounds = [tera_ops(macs(sizes), cycles) for cycles in (layered_cycles(sizes, pods), packed_cycles(sizes, pods))]
        ours = [results.cell(network, "ours", *cell) for cell in (("cycles",), ("tops",), ("busy", 100), ("tile_share", 100))]
        rows.append([network, *ours, theirs, *bounds])
        figures.append((results.get(network, "ours", "tops"), theirs, *bounds))
        stores.append([network, *(used.get(f"{kind}_words") for kind in "xwp"), results.cell(network, "ours", "compile_s")])
    mean, *others = (hmean(column) for column in zip(*figures, strict=True))
    rows.append([f"hmean of {len(networks)}", None, mean, None, None, *others])
    notes = [
        OURS,
        BUSY,
        "SOSA TOPS: its own scheduler, 256 pods, same workloads; published scaled to 400 W, here scaled back to its 260.2 W.",
        "layered, packed: TOPS of M cut to 32, layer after layer, and with no pod ever idle; computed. They bound SOSA, not us.",
    ]
    names = [str(row[0]) for row in rows]
    series: dict[str, Sequence[Cell]] = {
        "exact model": [row[2] for row in rows],
        "SOSA, its scheduler (published)": [row[5] for row in rows],
        "layered bound": [row[6] for row in rows],
    }
    columns = ["network", "cycles", "TOPS", "busy %", "tiles %", "SOSA TOPS", "layered", "packed"]
    tables = [
        table(f"{pods} pods of 32x32", columns, rows, notes),
        table("words of the fullest bank, and compilation", ["network", "X", "W", "P", "seconds"], stores, []),
    ]
    return tables, chart("network", "TOPS at 1 GHz", names, series, "SOSA")


def interconnect_points(networks: Sequence[str], pods: int) -> list[Point]:
    return _points("interconnect", networks, {name: {"pods": pods, **changes} for name, changes in _INTERCONNECTS.items()})


def interconnect(results: Results) -> Outcome:
    kinds, networks, published, same = list(_INTERCONNECTS), results.networks, published_tables(), shared(results.networks)
    of_networks = published["busy_pods_workloads"].column("butterfly-2") if results.pods == 128 else {}

    def rows(name: str, scale: float = 1) -> list[list[Cell]]:
        return [[network, *(results.cell(network, kind, name, scale) for kind in kinds)] for network in networks]

    def mean(label: str, of: Mean, chosen: Sequence[str], name: str, scale: float = 1) -> list[Cell]:
        return [f"{label} of {len(chosen)}", *(of(results.values(chosen, kind, name, scale)) for kind in kinds)]

    def sosa(label: str, name: str, row: str) -> list[Cell]:
        # What was reproduced was so at 128 pods; the plot has a row for each number of pods.
        shown = name == "interconnect" or results.pods == 128
        return [label, *(published[name].value(row, kind) if shown else None for kind in kinds)]

    title, columns = f"{results.pods} pods of 32x32", ["network", *kinds]
    sosa_busy = sosa("SOSA: gmean of 6", "busy_pods", "busy_percent")
    tables = []
    for what, name in (("busy pods, %", "busy"), ("tiles, %", "tile_share")):
        made: list[list[Cell]] = [[*row, of_networks.get(str(row[0]))] for row in rows(name, 100)]
        made.append([*mean("gmean", gmean, networks, name, 100), None])
        made.append([*mean("gmean, shared", gmean, same, name, 100), gmean([of_networks.get(network) for network in same])])
        made.append([*sosa_busy, None])
        tables.append(table(f"{title}: {what}", [*columns, "SOSA b-2"], without_empty(made), []))
    tables[0]["notes"] = [
        BUSY,
        "SOSA b-2: Butterfly-2, and gmean of 6: the shared 5 and bert_large_100; reproduced from its public code, at 128 pods.",
        "shared: networks that SOSA's set has at the same size, so that gmean, shared, and SOSA b-2 beside it are of one set.",
        "Ours: butterfly-k has k planes of Y, and one of X, W and P, whose words never meet; every network has the same latency, a "
        "crossbar too.",
    ]
    if any(figures.get("model_only") for figures in results.figures.values()):
        tables[0]["notes"].append("crossbar: by the model only; as RTL in one module one so wide is refused.")
    tops: list[list[Cell]] = [
        *rows("tops"),
        mean("hmean", hmean, networks, "tops"),
        mean("hmean, shared", hmean, same, "tops"),
        sosa("SOSA: hmean of 6", "busy_pods", "hmean_tops"),
        sosa("SOSA: hmean of 10", "interconnect", str(results.pods)),
    ]
    notes = [
        OURS,
        "SOSA: not the same sets: its six and ten have bert_large_100, its ten deeper CNNs; of 6 reproduced, of 10 off a plot.",
    ]
    tables.append(table(f"{title}: TOPS", columns, without_empty(tops), notes))
    drawn: dict[str, Sequence[Cell]] = {
        f"gmean of {len(same or networks)}": mean("", gmean, same or networks, "busy", 100)[1:],
        "SOSA, gmean of 6 (reproduced)": sosa_busy[1:],
    }
    return tables, chart("interconnect", "busy pods, %", kinds, drawn, "SOSA")


def partition_points(networks: Sequence[str], pods: int) -> list[Point]:
    points = []
    for name, words in _PARTITIONS.items():
        # Partial sums of a whole stream lie in the accumulators: uncut streams take deep ones.
        deep: tuple[tuple[str, int | str], ...] = (("accumulator_rows", _DEEPEST),) if words == 0 else ()
        points += [Point("partition", network, name, (("pods", pods), *deep), words) for network in networks]
    return points


def partition(results: Results) -> Outcome:
    networks, published = results.networks, published_tables()["partition"]
    rows: list[list[Cell]] = []
    for name in _PARTITIONS:
        ours = hmean(results.values(networks, name, "tops"))
        theirs = published.value("hmean", name) if results.pods == 256 else None
        rows.append([name, *(results.cell(network, name, "tops") for network in networks), ours, theirs])
    notes = [
        OURS,
        "M is cut to at most that many words per weight tile; ours: chosen for each layer. "
        f"none: up to the {_DEEPEST} words that the compiler streams, on accumulators as deep; all others have 128 rows.",
        "SOSA: hmean of its ten workloads on 256 pods, read off a plot: not the same set of workloads.",
    ]
    columns = ["M cut to", *networks, f"hmean of {len(networks)}", "SOSA hmean"]
    series: dict[str, Sequence[Cell]] = {
        f"hmean of {len(networks)}": [row[-2] for row in rows],
        "SOSA, hmean of 10 (published)": [row[-1] for row in rows],
    }
    made = table(f"{results.pods} pods of 32x32: TOPS", columns, rows, notes)
    return [made], chart("M cut to", "TOPS at 1 GHz", list(_PARTITIONS), series, "SOSA")


def _granularity_pods(size: int, ceiling: int) -> int:
    return min(pods_within(size), ceiling)


def granularity_points(networks: Sequence[str], pods: int) -> list[Point]:
    series: dict[str, dict[str, int | str]] = {
        f"{size}x{size}": {"rows": size, "cols": size, "pods": _granularity_pods(size, pods)} for size in _SIZES
    }
    return _points("granularity", networks, series)


def granularity(results: Results) -> Outcome:
    networks, published = results.networks, published_tables()
    sizes = [gemms(study_graph(network)) for network in networks]
    rows: list[list[Cell]] = []
    powers: list[list[Cell]] = []
    for size in _SIZES:
        name, pods, wanted = f"{size}x{size}", _granularity_pods(size, results.pods), pods_within(size)
        watts, tops = power(size, pods), hmean(results.values(networks, name, "tops"))
        layered = hmean([tera_ops(macs(one), layered_cycles(one, pods, size)) for one in sizes])
        cells = [results.cell(network, name, "tops") for network in networks]
        rows.append([name, pods if pods == wanted else f"{pods} of {wanted}", watts, *cells, tops])
        powers.append(
            [
                name,
                tops and tops / watts,
                layered and layered / watts,
                published["design_space"].value(name, "mix"),
                tops and tops / watts * POWER_BUDGET,
                hmean([published["granularity"].value(name, network) for network in networks]),
                published["granularity"].value(name, "hmean"),
            ]
        )
    notes = [
        OURS,
        f"pods: the largest power of two within {POWER_BUDGET:.0f} W; 'n of m': m would be, but {results.pods} is the limit here "
        f"(podweave's is {MOST_PODS}). Fewer pods are easier to keep busy: TOPS/W of such a row flatters it.",
        "W: SOSA's published model (28 nm, banks of 256 KiB, Butterfly-2), not a measurement of ours.",
    ]
    power_notes = [
        "layered: the formula of SOSA's exploration on these networks and pods. SOSA DSE: TOPS/W by the same on its whole set, "
        "reproduced.",
        "at 400 W: our TOPS scaled by power, as SOSA's plot is. SOSA same: its hmean over these networks; SOSA 10: over its ten.",
    ]
    columns = ["array", "TOPS/W", "layered", "SOSA DSE", "TOPS at 400 W", "SOSA same", "SOSA 10"]
    series: dict[str, Sequence[Cell]] = {
        "exact model": [row[1] for row in powers],
        "layered formula": [row[2] for row in powers],
        "SOSA, exploration on its whole set (reproduced)": [row[3] for row in powers],
    }
    tables = [
        table("TOPS by size of the array", ["array", "pods", "W", *networks, f"hmean of {len(networks)}"], rows, notes),
        table("per power", columns, powers, power_notes),
    ]
    return tables, chart("array", "TOPS/W", [str(row[0]) for row in rows], series, "SOSA")


def banks_points(networks: Sequence[str], pods: int) -> list[Point]:
    series: dict[str, dict[str, int | str]] = {}
    for kib in _BANK_KIB:
        words = {"x_words": kib * 1024 // _X_BYTES, "w_words": kib * 1024 // _X_BYTES, "p_words": kib * 1024 // _P_BYTES}
        series[f"{kib}KiB"] = {"pods": pods, **words}
    return _points("banks", networks, series)


def banks(results: Results) -> Outcome:
    published, names = published_tables()["bank_size"], [f"{kib}KiB" for kib in _BANK_KIB]
    largest = names[-1]
    tables, drawn = [], {}
    for network in results.networks:
        best = results.get(network, largest, "tops")
        rows: list[list[Cell]] = []
        for kib, name in zip(_BANK_KIB, names, strict=True):
            tops, used = results.get(network, name, "tops"), results.get(network, name, "used") or {}
            # SOSA's 256 KiB lose nothing: neither do larger ones.
            theirs = published.value(f"{min(kib, 256)}KiB", "relative_throughput")
            limits = f"{kib * 1024 // _X_BYTES:,} / {kib * 1024 // _P_BYTES:,}"
            share = tops / best if tops and best else None
            words = [used.get(f"{kind}_words") for kind in "xwp"]
            rows.append([name, limits, "fits" if tops else "refused", *words, tops, share, theirs])
        columns = ["bank", "X and W / P words", "", "X used", "W used", "P used", "TOPS", "relative", "SOSA relative"]
        tables.append(table(f"{network}, {results.pods} pods of 32x32", columns, rows, []))
        drawn[network] = [row[-2] for row in rows]
    tables[-1]["notes"] = [
        OURS,
        "Ours keeps all weights and all activations of a network in its banks: a bank is large enough or the network is refused. "
        "X, W, P used: words of the fullest bank. relative: to the largest bank.",
        "SOSA relative: ResNet-152 at batch 8, weights from DRAM, read off a plot: neither the same workload nor the same memory.",
    ]
    series: dict[str, Sequence[Cell]] = {**drawn, "SOSA, ResNet-152 at batch 8 (published)": [row[-1] for row in rows]}
    return tables, chart("size of a bank", "relative throughput", names, series, "SOSA")
