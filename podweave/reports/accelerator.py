"""Reports of runs over AXI, printed."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .tables import counted, print_checked, print_verdict, print_wall, say, table

_MOST_EPOCHS = 100
"""That a table shows."""
_KINDS = {
    "weights": "pods load tiles of weights, and stream through them",
    "attention": "pods do so with tiles of keys and values",
    "rows": "post-processors work, and no pod does",
    "latency": "an epoch is on, and words are on their way",
    "stores": "no epoch is on: results and rows of caches go to memory",
    "memory": "no epoch is on: the next one waits for its words",
    "links": "a collective is on: sums are added over all chips",
}


def print_device_run(console: Console, report: dict[str, Any]) -> None:
    """Epochs of the first network, figures of all, and the verdict."""
    _print_networks(console, report)
    print_outcome(console, report, "cycles from start to interrupt")
    if not any("cycles_by_kind" in row for row in report["networks"]):
        print_checked(console, report)
    print_wall(console, report)
    print_verdict(console, report, "bit-exact, cycle-exact, counters exact", f"seed {report['seed']}, over AXI")


def print_outcome(console: Console, report: dict[str, Any], of: str) -> None:
    """What was not as expected, and how many cycles it took: ``of`` says from when to when."""
    for row in report["networks"]:
        if row.get("first_mismatch"):
            console.print(f"  {row['network']}: {row['first_mismatch']}", style="red", highlight=False, markup=False)
        if row["counters_differing"]:
            names = ", ".join(row["counters_differing"])
            console.print(f"  {row['network']}: counters other than predicted: {names}", style="red", highlight=False, markup=False)
    if report["failure"]:
        console.print(report["failure"], style="red", highlight=False, markup=False)
    if report["networks"]:
        difference = report["cycles"] - report["predicted_cycles"]
        compared = sum(row["compared"] for row in report["networks"])
        say(
            console,
            f"{of}: {report['cycles']:,} in RTL, {report['predicted_cycles']:,} predicted, difference {difference}\n"
            f"{compared:,} outputs compared, {report['mismatches']} wrong; counters of engines and nodes compared\n"
            f"simulation: {report['sim_cycles_per_s'] / 1e3:,.1f} k cycles/s",
        )


def print_device_model(console: Console, report: dict[str, Any]) -> None:
    _print_networks(console, report)
    print_wall(console, report)


def _print_networks(console: Console, report: dict[str, Any]) -> None:
    if not report["networks"]:
        return
    first = report["networks"][0]
    if len(first["timeline"]) <= _MOST_EPOCHS:
        console.print(_epoch_table(first))
    else:
        console.print(f"{len(first['timeline'])} epochs, too many for a table: --json has them", highlight=False)
    different = {row["network"]: row for row in report["networks"]}
    if len(report["networks"]) > len(different):
        console.print(f"{len(report['networks'])} runs of the same program, with other data", highlight=False)
    way = f"prefetch {'on' if report['prefetch'] else 'off'}{ratios_of(report)}"
    for row in different.values():
        say(
            console,
            f"{row['network']}: {row['macs']:,} MAC in {row['cycles']:,} cycles on {counted(report['pods'], 'pod')}, utilisation "
            f"{row['utilization']:.2%}; {row['epochs']} epochs\n"
            f"epochs take {row['compute_cycles']:,} cycles, the beats of the busiest manager {row['hbm_cycles']:,}; together "
            f"{row['overlap']:.3f} of the longer\n"
            f"{row['bytes_loaded']:,} bytes loaded; data buses busy in {row['hbm_used']:.1%} of the cycles, "
            f"{row['hbm_used_available']:.1%} of what the memory can send, weights are {row['memory_useful']:.1%}; {way}: "
            f"{row['prefetch_hits']} epochs found their words, {row['prefetch_late']} waited",
        )
        if "images" in row:
            bound = row["image_bound"]
            say(
                console,
                f"{row['images']} images in {row['passes']} passes of {row['batch']}: {row['image_cycles']:,.0f} cycles each, "
                f"{row['image_cycles'] / bound:.3f} of the longer of epochs and beats of one alone ({bound:,.0f})",
            )
        if "cycles_by_kind" in row:
            console.print(kind_table(row))
        else:
            say(console, _traffic(row))


def _traffic(row: dict[str, Any]) -> str:
    """What was moved, and what must be."""
    cut = f"in {row['segments']} segments, between which tensors lie in memory; " if row["segments"] > 1 else ""
    spilled = f", and {row['least_spilled']:,} bytes of activations to memory and back" if row["least_spilled"] else ""
    moved = sorted(row["bytes_by_kind"].items(), key=lambda item: -item[1])
    kinds = ", ".join(f"{kind.replace('_', ' ')} {count / row['bytes_moved']:.1%}" for kind, count in moved if count)
    return (
        f"{cut}{row['bytes_moved']:,} bytes moved, {row['traffic']:.3f} of the least: {row['least_bytes']:,}, which are weights, "
        f"inputs and outputs once{spilled}; of those moved, {kinds}"
    )


def ratios_of(report: dict[str, Any]) -> str:
    """What is said of prefetch ratios, if there are any."""
    found = ", ".join(f"{pattern}={ratio:g}" for pattern, ratio in report["prefetch_ratios"].items())
    return f" (ratios {found})" if found else ""


def kind_table(row: dict[str, Any]) -> Any:
    """``cycles_by_kind`` as a table that says what kinds are."""
    kinds, cycles = row["cycles_by_kind"], sum(row["cycles_by_kind"].values())
    rows = [[kind, f"{count:,}", f"{count / cycles:.1%}", _KINDS[kind]] for kind, count in kinds.items()]
    found = table("", ["cycles by kind", "cycles", "share", ""], rows)
    found.columns[-1].justify = "left"
    return found


def _epoch_table(row: dict[str, Any]) -> Any:
    columns = ["epoch", "operations", "loaded", "begins", "ends", "cycles", "waits", "KiB"]
    rows = []
    for number, epoch in enumerate(row["timeline"]):
        names = (
            epoch["operations"][0] if len(epoch["operations"]) == 1 else f"{epoch['operations'][0]} .. {epoch['operations'][-1]}"
        )
        cells = [f"{epoch[key]:,}" for key in ("loaded", "begins", "ends", "cycles", "waits")]
        rows.append([str(number), names, *cells, f"{epoch['bytes'] / 1024:,.0f}"])
    return table("", columns, rows)
