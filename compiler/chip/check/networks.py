"""Words on their ways between pods and banks: no two that differ on one wire, or at one bank, in one cycle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from podweave.spec.config_parts import bits

from ...jobs import ProgramError
from .jobs import Ints, JobView, Walk, expand


@dataclass(frozen=True)
class Traffic:
    """Words that jobs put into one network, one every ``period`` cycles from ``start`` on.

    ``job``: their numbers among all of a kind. ``walk``: what is read, for a read network, on which equal words may meet.
    """

    name: str
    kind: str
    job: Ints
    source: Ints
    bank: Ints
    plane: Ints
    start: Ints
    words: Ints
    period: Ints
    walk: Walk | None = None


def pod_traffic(view: JobView) -> tuple[Traffic, ...]:
    """What pods read and write."""
    loads, streams, config = view.loads, view.streams, view.config
    emits = np.flatnonzero(view.emits)
    one_load, one_stream = np.ones_like(loads["start"]), np.ones_like(streams["start"])
    load, stream = (np.arange(len(jobs["start"])) for jobs in (loads, streams))
    return (
        Traffic(
            "X",
            "stream",
            stream,
            streams["pod"],
            streams["x_bank"],
            streams["x_plane"],
            streams["start"],
            view.streamed,
            one_stream,
            view.x_walk,
        ),
        Traffic(
            "W",
            "load",
            load,
            loads["pod"],
            loads["w_bank"],
            loads["w_plane"],
            loads["start"],
            loads["rows"],
            one_load,
            view.w_walk,
        ),
        Traffic(
            "P",
            "stream",
            emits,
            streams["pod"][emits],
            streams["p_bank"][emits],
            streams["p_plane"][emits],
            streams["start"][emits] + config.write_latency,
            view.streamed[emits],
            one_stream[emits],
        ),
    )


def sent_traffic(view: JobView, chosen: Ints, later: Ints | int = 0) -> Traffic:
    """What some of the jobs of post-processors send to X banks, ``later`` than the first word that a window becomes."""
    posts = {name: values[chosen] for name, values in view.posts.items()}
    return Traffic(
        "Y",
        "post",
        chosen,
        posts["bank"],
        posts["x_bank"],
        posts["x_plane"],
        posts["start"] + view.window[chosen] - 1 + view.config.post_latency + later,
        posts["n2"] * posts["n3"],
        view.period[chosen],
    )


def check_network(view: JobView, traffic: Traffic) -> None:
    """Raises `ProgramError` for two words that meet: what is sent, or different ones that are read."""
    pods, walk = view.config.pods, traffic.walk
    same: Ints | None = None
    if walk is not None:
        same = np.zeros_like(traffic.bank)
        for column in (traffic.bank, walk.base, *walk.counts, *walk.strides):
            same = pairs(same, column)
    if view.config.network.kind == "butterfly":
        # Behind the last stage, the wire is the bank.
        for stage in range(bits(pods) - 1):
            high, low = traffic.source >> stage + 1 << stage + 1, traffic.bank & (2 << stage) - 1
            _meet(view, traffic, traffic.plane * pods + (high | low), same, stage)
    _meet(view, traffic, traffic.bank, same, None)


def _meet(view: JobView, traffic: Traffic, line: Ints, same: Ints | None, stage: int | None) -> None:
    """Refuse words that meet on a line: a wire of a plane behind a stage, or a bank."""
    chosen = np.arange(len(line))
    if same is not None:
        # Jobs that are word by word the same go their ways together.
        _, chosen = np.unique(pairs(pairs(line, traffic.start), same), return_index=True)
    end = traffic.start + (traffic.words - 1) * traffic.period + 1
    chosen = chosen[_overlapping(line[chosen], traffic.start[chosen], end[chosen])]
    if not len(chosen):
        return
    job, word = expand(chosen, traffic.words[chosen])
    time = traffic.start[job] + word * traffic.period[job]
    order = np.lexsort((time, line[job]))
    job, word, time = job[order], word[order], time[order]
    clash = (line[job[1:]] == line[job[:-1]]) & (time[1:] == time[:-1])
    if traffic.walk is not None:
        wanted = traffic.bank[job] << 32 | traffic.walk.at(job, word)
        clash &= wanted[1:] != wanted[:-1]
    if not clash.any():
        return
    found = np.flatnonzero(clash)
    at = int(found[np.argmin(time[found])])
    pair = sorted((int(traffic.job[job[at]]), int(traffic.job[job[at + 1]])))
    jobs = " and ".join(view.name(traffic.kind, index) for index in pair)
    wire, cycle = int(line[job[at]]), int(time[at])
    if stage is None:
        where, cycle = f"{traffic.name} bank {wire}", cycle + view.config.network_latency
    else:
        where = f"{traffic.name} network, plane {wire // view.config.pods}, stage {stage}, port {wire % view.config.pods}"
    what = "send a word each" if traffic.walk is None else "ask for different words"
    raise ProgramError(f"{where}: {jobs} {what} in cycle {cycle}")


def pairs(left: Ints, right: Ints) -> Ints:
    """Numbers that are equal where both are."""
    _, small = np.unique(right, return_inverse=True)
    _, number = np.unique(left * (int(small.max(initial=0)) + 1) + small, return_inverse=True)
    return number.astype(np.int64)


def _overlapping(line: Ints, start: Ints, end: Ints) -> Ints:
    """Which intervals touch others on the same line, directly or over others."""
    if not len(line):
        return line
    order = np.lexsort((start, line))
    offset = line[order] * (int(end.max()) + 1)
    begins, latest = offset + start[order], np.maximum.accumulate(offset + end[order])
    cluster = np.concatenate([[0], np.cumsum(begins[1:] >= latest[:-1])])
    return order[np.bincount(cluster)[cluster] > 1]
