"""What goes wrong in a ring of chips is said by each of them, whoever waits for whom, and the run after it is clean."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from podweave.compiler.compile_network import CompiledNetwork, in_channels
from podweave.compiler.compile_system import compile_system
from podweave.driver.device import Device, DeviceError, Start
from podweave.driver.system import System
from podweave.golden.cycle.memory.hbm import SLVERR, ErrorRange
from podweave.golden.graph import evaluate
from podweave.ir.partition import Partition, partition
from podweave.ir.row_graph import RowGraph
from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.predict.system import predict_system
from podweave.runs.jobs import Job, chip_jobs
from podweave.tb.benches.simulated_system import SimulatedSystem
from tests.podweave.runs.test_system import CONFIG, LINK, TIMING, bench

CHIPS = 3
LIMIT = 200_000
GOOD = [LINK.of_link(i) for i in range(CHIPS)]


@functools.cache
def network() -> tuple[Job, Partition, list[CompiledNetwork]]:
    (job,) = chip_jobs("llama_24_6_3_48,context=7", 3, scale_bits=CONFIG.scale_bits)
    assert isinstance(job.graph, RowGraph)
    parts = partition(job.graph, job.constants, CHIPS)
    found = compile_system(parts, CONFIG)
    most = max(each.memory.channel_bytes for each in found)
    return job, parts, [in_channels(each, most) for each in found]


@contextmanager
def running(timings: list[HbmTiming] | None = None) -> Iterator[tuple[SimulatedSystem, System]]:
    networks = network()[2]
    timings = timings or [TIMING] * CHIPS
    with bench(CHIPS).system(timings=timings, links=GOOD, seed=2, channel_bytes=networks[0].memory.channel_bytes) as bus:
        yield bus, System(bus, CONFIG)


def load(system: System) -> None:
    job, parts, networks = network()
    system.load([each.memory for each in networks])
    for rank, inputs in enumerate(parts.cut(job.inputs)):
        for name, tensor in inputs.items():
            system.write_input(rank, name, tensor)


def assert_clean(system: System, link: LinkTiming = LINK) -> None:
    """A run in the predicted cycles, with right outputs on all chips, whatever was before it."""
    job, parts, networks = network()
    load(system)
    delays = [30, 0, 211]
    predictions = predict_system(networks, TIMING, link, starts=delays)
    system.run(delays=delays, max_cycles=LIMIT)
    whole = evaluate(job.graph, job.constants, job.inputs)
    expected = parts.cut({name: whole[name] for name in job.graph.outputs})
    for rank, (counters, predicted, wanted) in enumerate(zip(system.counters(), predictions, expected, strict=True)):
        assert {name: counters.device[name] for name in predicted.counters} == predicted.counters
        outputs = {name: system.read_output(rank, name) for name in networks[rank].memory.outputs}
        for name, tensor in networks[rank].split.join(outputs).items():
            np.testing.assert_array_equal(tensor, wanted[name], err_msg=f"chip {rank}: {name}")


def failed(system: System, *words: str) -> None:
    """A run of which each chip says its own."""
    load(system)
    with pytest.raises(DeviceError) as caught:
        system.run(max_cycles=LIMIT)
    told = str(caught.value).split("; ")
    assert len(told) == len(words), told
    for rank, (sentence, word) in enumerate(zip(told, words, strict=True)):
        assert sentence.startswith(f"chip {rank}: collective engine: {word} (collective "), sentence


def test_a_flit_that_arrives_corrupted_ends_all_runs() -> None:
    with running() as (bus, system):
        assert_clean(system)
        for number, bit in ((0, 3), (7, 33), (20, 41)):
            # Of the payload, the user bits and the CRC, on the link from chip 1 to chip 2.
            bus.configure_links([GOOD[0], dataclasses.replace(GOOD[1], corrupt=number, corrupt_bit=bit), GOOD[2]])
            failed(system, "neighbour", "neighbour", "crc")
            bus.configure_links(GOOD)
            assert_clean(system)


def test_a_link_that_goes_down_ends_all_runs() -> None:
    """Both of its chips see it; the third one is told."""
    with running() as (bus, system):
        begins = next(epoch["begins"] for epoch in predict_system(network()[2], TIMING, LINK)[0].timeline if epoch["collective"])
        bus.configure_links([dataclasses.replace(GOOD[0], down=begins + 25), *GOOD[1:]])
        failed(system, "link down", "link down", "neighbour")
        bus.configure_links(GOOD)
        assert_clean(system)


def test_a_chip_that_never_starts_is_waited_for_as_long_as_is_said() -> None:
    with running() as (bus, system):
        load(system)
        for device in system.devices:
            device.write("LINK_TIMEOUT", VALUE=3000)
        for device in system.devices[:2]:
            device.prepare(Start(link_run=1))
        bus.play({rank: [system.devices[rank].start_access()] for rank in range(2)})
        raised = bus.wait_interrupts([0, 1], LIMIT)
        assert raised == {0: True, 1: True}
        told = [error for device in system.devices[:2] for error in device.errors()]
        # Chip 0 waits for chip 2, which is not there, and then tells chip 1; or chip 1 has waited for its part of it as long.
        assert told[0].startswith("collective engine: timeout")
        assert told[1].startswith(("collective engine: timeout", "collective engine: neighbour"))
        system.run_number = 1
        # Chip 2 has nothing to reset, but a buffer with what came of that run.
        system.reset()
        assert_clean(system)


def test_an_error_of_the_memory_of_one_chip_ends_the_runs_of_all() -> None:
    with running() as (bus, system):
        where = next(iter(network()[2][1].memory.inputs.values()))
        first = int(where.addresses.min())
        bus.chips[1].inject([ErrorRange(first, first + 1, SLVERR)])
        load(system)
        with pytest.raises(DeviceError) as caught:
            system.run(max_cycles=LIMIT)
        told = str(caught.value).split("; ")
        assert told[1].startswith("chip 1: prefetch engine ")
        for rank in (0, 2):
            assert told[rank].startswith(f"chip {rank}: collective engine: neighbour"), told
        bus.chips[1].inject(())
        assert_clean(system)


def test_an_abort_of_one_chip_ends_the_runs_of_all() -> None:
    with running() as (bus, system):
        load(system)
        system.start()
        bus.advance(700)
        system.devices[2].abort()
        with pytest.raises(DeviceError) as caught:
            system.wait(LIMIT)
        told = str(caught.value).split("; ")
        assert told[2] == "chip 2: the run was aborted"
        assert all(f"chip {rank}: collective engine: neighbour" in told[rank] for rank in (0, 1)), told
        assert_clean(system)


def at(system: System, cycle: int) -> None:
    """Let time pass until about that cycle of the run of chip 0, which is not there yet."""
    system.bus.advance(cycle - system.devices[0].read("CYCLES"))


def moments(link: LinkTiming = LINK) -> dict[str, int]:
    """Cycles of a run in which a chip may be reset, between epochs and collectives and within them."""
    timeline = predict_system(network()[2], TIMING, link)[0].timeline
    collectives = [epoch for epoch in timeline if epoch["collective"]]
    first, second, last = collectives[0], collectives[1], collectives[-1]
    return {
        "load": 40,
        "before": first["begins"] - 30,
        "head": first["begins"] + 12,
        "words": (first["begins"] + 2 * first["ends"]) // 3,
        "between": (first["ends"] + second["begins"]) // 2,
        "last": (last["begins"] + last["ends"]) // 2,
    }


def longest_gap() -> int:
    """Cycles without a collective."""
    timeline = predict_system(network()[2], TIMING, LINK)[0].timeline
    collectives = [epoch for epoch in timeline if epoch["collective"]]
    ends = [0, *(epoch["ends"] for epoch in collectives)]
    return max(epoch["begins"] - ended for epoch, ended in zip(collectives, ends, strict=False))


def assert_initial(device: Device) -> None:
    """All registers and counters have their values of reset."""
    for register in device.registers.registers.values():
        if register.name != "NODE_DATA":
            for manager in range(register.managers) or [None]:
                assert device.read(register.name, manager) == register.reset, register.name


def test_a_chip_that_is_reset_in_a_run_ends_those_of_the_others() -> None:
    """They say what they miss; the chip itself is as at the beginning, whatever was under way in it, its links and its memory."""
    timeout = 1500
    with running() as (bus, system):
        for number, (moment, cycle) in enumerate(moments().items()):
            chip = number % CHIPS
            # A chip believes to be in run 0 after its reset: that is the one here, and the next one.
            system.run_number = {"load": 15, "before": 14}.get(moment, system.run_number)
            load(system)
            for device in system.devices:
                device.write("LINK_TIMEOUT", VALUE=timeout)
            system.start()
            at(system, cycle)
            assert all(device.fields("STATUS")["BUSY"] for device in system.devices), moment
            bus.chips[chip].reset()
            assert_initial(system.devices[chip])
            others = [rank for rank in range(CHIPS) if rank != chip]
            # The next collective begins within the longest time between two.
            raised = bus.wait_interrupts(others, longest_gap() + timeout + 500)
            assert raised == dict.fromkeys(others, True), moment
            with pytest.raises(DeviceError) as caught:
                system.wait()
            told = str(caught.value).split("; ")
            assert told[chip] == f"chip {chip}: no run is on: the device was reset"
            for rank in others:
                ends = tuple(f"chip {rank}: collective engine: {word} (collective " for word in ("timeout", "neighbour"))
                assert told[rank].startswith(ends), told
            assert any("timeout" in sentence for sentence in told), told
            # Whatever its neighbours have told it since.
            assert_initial(system.devices[chip])
            system.reset()
            assert_clean(system)
        bus.chips[1].reset()
        with pytest.raises(DeviceError, match=r"^chip 1: the device refused to start: ring size$"):
            system.start()
        # Other software goes on where it stopped, whatever the chip that was reset says.
        system = System(bus, CONFIG)
        assert system.run_number == max(device.read("LINK_RUN") for device in system.devices) > 0
        system.reset()
        assert_clean(system)


def test_what_links_carry_at_a_reset_is_not_of_the_next_run() -> None:
    """Flits, credits and FAULT flits of the run before arrive when the next one is on."""
    link = LinkTiming(latency=1800, beat_sixteenths=64)
    with running() as (bus, system):
        bus.configure_links([link] * CHIPS)
        for number, cycle in enumerate(moments(link).values()):
            load(system)
            system.start()
            at(system, cycle)
            bus.chips[(number + 1) % CHIPS].reset()
            system.abort()
            system.reset()
            assert_clean(system, link)


def test_what_memory_owes_at_a_reset_never_comes() -> None:
    """Words of reads that the chip made before would come when it reads others."""
    with running() as (bus, system):
        for chip in range(CHIPS):
            way = bus.chips[chip]
            way.timing = dataclasses.replace(TIMING, latency=4000)
            way.inject(())
            load(system)
            system.start()
            bus.advance(40)
            way.reset()
            system.abort()
            way.timing = TIMING
            way.inject(())
            system.reset()
            assert_clean(system)


@pytest.mark.parametrize(("workload", "found"), [("llama_24_6_3_48,rows=2,context=7", "wrong length"), ("gated_24_48", "wrong id")])
def test_a_chip_with_another_program_ends_all_runs(workload: str, found: str) -> None:
    """Chip 1 is in another collective than its neighbours, or in the same, with more words. Whoever sees it first says so."""
    job, parts, networks = network()
    (other,) = chip_jobs(workload, 3, scale_bits=CONFIG.scale_bits)
    assert isinstance(other.graph, RowGraph)
    theirs = partition(other.graph, other.constants, CHIPS)
    odd = in_channels(compile_system(theirs, CONFIG)[1], networks[0].memory.channel_bytes)
    with running() as (_, system):
        system.load([networks[0].memory, odd.memory, networks[2].memory])
        for rank, inputs in enumerate((parts.cut(job.inputs)[0], theirs.cut(other.inputs)[1], parts.cut(job.inputs)[2])):
            for name, tensor in inputs.items():
                system.write_input(rank, name, tensor)
        with pytest.raises(DeviceError) as caught:
            system.run(max_cycles=LIMIT)
        told = str(caught.value).split("; ")
        assert len(told) == CHIPS
        assert any(f": collective engine: {found} (collective " in sentence for sentence in told), told
        assert all(f"chip {rank}: collective engine: " in sentence for rank, sentence in enumerate(told)), told
        assert_clean(system)
