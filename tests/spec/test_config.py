"""spec.config: every rule refuses with a sentence, and derived values are those by hand."""

import dataclasses
import re
from typing import Any

import pytest

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import (
    PLANES,
    ArrayConfig,
    ConfigError,
    MemoryConfig,
    NetworkConfig,
    PodConfig,
    PostConfig,
    PrefetchConfig,
    ProgramConfig,
    bits,
)
from podweave.spec.load_port import HostSelect, host_widths
from podweave.spec.presets import load_config
from tests.spec.legal_configs import CHIP, CHIP_RANGES, POD4, RANGES, SMALL


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, (low, high, _) in RANGES.items() for v in (low - 1, high + 1)])
def test_out_of_range_is_refused(field: str, value: int) -> None:
    low, high, beside = RANGES[field]
    with pytest.raises(ConfigError, match=f"^{field} must be between {low} and {high}, got {value}$"):
        SMALL.replace(**beside, **{field: value})


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, (low, high, _) in RANGES.items() for v in (low, high)])
def test_end_of_range_is_legal(field: str, value: int) -> None:
    config = SMALL.replace(**RANGES[field][2], **{field: value})
    owners = [n for n in (config.array, config.pod, config.memory) if field in {f.name for f in dataclasses.fields(n)}]
    assert [getattr(owner, field) for owner in owners] == [value]


@pytest.mark.parametrize(
    ("field", "value"),
    [(f, v) for f in (*RANGES, "pods", "banks") for v in (True, 4.0, "4", None)],
)
def test_what_is_not_an_integer_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{field} must be an integer, got {re.escape(repr(value))}$"):
        SMALL.replace(**{field: value})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rows": 6, "group_rows": 4}, "rows (6) must be a multiple of group_rows (4)"),
        ({"cols": 9, "group_cols": 2}, "cols (9) must be a multiple of group_cols (2)"),
        ({"pods": 0}, "pods must be between 1 and 256, got 0"),
        ({"pods": 257}, "pods must be between 1 and 256, got 257"),
        ({"pods": 2}, "banks (1) must be as many as pods (2)"),
        ({"banks": 0}, "banks must be between 1 and 256, got 0"),
        ({"rows": 8, "w_words": 7}, "w_words (7) must hold at least one weight tile of rows (8) words"),
        # Request to write: 1 + (12 + 12) + 1 cycles; 8 * (12 + 26) = 304.
        (
            {"rows": 12, "cols": 12, "time_width": 8},
            "time_width (8) is too small: an epoch of 2**time_width cycles must hold at least "
            "8 weight loads with their latency (304 cycles)",
        ),
        ({"row_registers": 16}, "row_registers (16) must be 0 with one pod: row functions need 2 or more"),
        *(
            ({"name": name}, f"name must be an ASCII identifier (letters, digits, underscores), got {name!r}")
            for name in ("", "4pod", "pod-4", "pod 4", "pöd", 4, None)
        ),
    ],
)
def test_illegal_combination_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        SMALL.replace(**changes)


@pytest.mark.parametrize(
    ("field", "value"), [(f, v) for f, (low, high) in CHIP_RANGES.items() for v in (low - 1, low, high, high + 1)]
)
def test_ranges_of_a_chip(field: str, value: int) -> None:
    low, high = CHIP_RANGES[field]
    if low <= value <= high:
        config = CHIP.replace(**{field: value})
        owners = [n for n in (config.network, config.post, config.program) if field in {f.name for f in dataclasses.fields(n)}]  # type: ignore[arg-type]
        assert [getattr(owner, field) for owner in owners] == [value]
    else:
        with pytest.raises(ConfigError, match=f"^{field} must be between {low} and {high}, got {value}$"):
            CHIP.replace(**{field: value})


@pytest.mark.parametrize("field", CHIP_RANGES)
@pytest.mark.parametrize("value", [True, 4.0, "4", None])
def test_what_is_not_an_integer_is_refused_for_chips(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{field} must be an integer, got {re.escape(repr(value))}$"):
        CHIP.replace(**{field: value})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        *(({"pods": pods}, f"pods must be a power of two, got {pods}") for pods in (3, 6, 255)),
        ({"banks": 1}, "banks (1) must be as many as pods (2)"),
        ({"pods": 4}, "banks (2) must be as many as pods (4)"),
        *(({name: planes}, f"{name} must be 1, 2, 4 or 8, got {planes}") for name in PLANES for planes in (3, 7)),
        *(
            (
                {"rows": rows, "cols": cols},
                f"of rows ({rows}) and cols ({cols}) one must be a multiple of the other: outputs become activations",
            )
            for rows, cols in ((6, 4), (4, 6), (10, 4))
        ),
        ({"kind": "mesh"}, "network kind must be one of butterfly, crossbar, got 'mesh'"),
        ({"kind": None}, "network kind must be one of butterfly, crossbar, got None"),
        # 64 inputs of 32 sums of 32 bits, 1 bit of address, 6 of the bank, 4 more.
        (
            {"pods": 64, "banks": 64, "cols": 32, "kind": "crossbar", "p_words": 2},
            "a crossbar may have 65536 bits of inputs; the one for partial sums has 66240",
        ),
        # 8 planes of 256 sums of 32 bits, 1 bit of address and 2 more; the same row for the host, 64 more.
        (
            {"rows": 64, "cols": 256, "p_planes": 8, "w_words": 64, "p_words": 2},
            "a P bank may have 65536 bits of inputs; 8 planes of 256 columns of psum_width 32 make 73816",
        ),
        ({"x_parts": 0}, "x_parts must be between 1 and 64, got 0"),
        ({"x_parts": 65}, "x_parts must be between 1 and 64, got 65"),
        ({"x_parts": 3}, "x_parts must be a power of two, got 3"),
        ({"x_parts": 2, "x_words": 96}, "x_words must be a power of two with several x_parts, got 96"),
        ({"x_parts": 8, "x_words": 8}, "x_words (8) must be at least two for each of the x_parts (8)"),
        ({"rows": 16, "w_words": 15}, "w_words (15) must hold at least one weight tile of rows (16) words"),
        # Request to write: 2 * 1 + 1 + (8 + 8) + 1 cycles; 8 * (16 + 20) = 288.
        (
            {"rows": 16, "cols": 16, "time_width": 8},
            "time_width (8) is too small: an epoch of 2**time_width cycles must hold at least "
            "8 weight loads with their latency (288 cycles)",
        ),
    ],
)
def test_illegal_chip_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        CHIP.replace(**changes)


def test_parts_of_x_banks_are_for_engines() -> None:
    assert CHIP.replace(x_parts=64, x_words=128).memory.x_part_words == 2
    sentence = "x_parts (4) of more than 1 are for engines: they need a table [prefetch]"
    for config in (dataclasses.replace(POD4, prefetch=None), dataclasses.replace(CHIP, prefetch=None)):
        with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
            config.replace(x_parts=4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"base_registers": -1}, "base_registers must be between 0 and 15, got -1"),
        ({"base_registers": 16}, "base_registers must be between 0 and 15, got 16"),
        ({"column_words": -1}, "column_words must be between 0 and 64, got -1"),
        ({"column_words": 65, "data_width": 512}, "column_words must be between 0 and 64, got 65"),
        ({"column_words": 9, "data_width": 64}, "column_words (9) must be at most 8: the bytes of a beat"),
        ({"column_words": 64, "data_width": 256}, "column_words (64) must be at most 32: the bytes of a beat"),
    ],
)
def test_illegal_engine_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        PrefetchConfig(**changes)
    PrefetchConfig(base_registers=15, column_words=64, data_width=512)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scale_bits": 15}, "scale_bits must be between 16 and 31, got 15"),
        ({"scale_bits": 32}, "scale_bits must be between 16 and 31, got 32"),
        ({"sum_bits": 19}, "sum_bits must be between 20 and 33, got 19"),
        ({"sum_bits": 34}, "sum_bits must be between 20 and 33, got 34"),
        ({"sum_bits": 32, "row_registers": 16}, "sum_bits must be 33 with row functions, whose results are wide, got 32"),
        (
            {"scale_bits": 16, "row_registers": 16},
            "scale_bits must be at least 17 with row functions, which scale by numbers of so many bits, got 16",
        ),
    ],
)
def test_illegal_post_processor_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        PostConfig(**changes)


def test_zero_points() -> None:
    """A parameter set has 8 bits more for each lane, with row functions too; TOML keeps them."""
    config = CHIP.replace(zero_points=True)
    assert config != CHIP
    assert ChipConfig.from_toml(config.to_toml()) == config
    for registers in (0, 16):
        widths = [host_widths(each.replace(row_registers=registers))[HostSelect.PARAMETERS][1] for each in (CHIP, config)]
        assert widths[1] - widths[0] == 8 * CHIP.array.cols
    with pytest.raises(ConfigError, match=r"^zero_points must be true or false, got 1$"):
        CHIP.replace(zero_points=1)


def test_scale_bits() -> None:
    """Those of the post-processors, and of an int32 where there are none; a parameter set takes as many bits as it has."""
    assert (POD4.scale_bits, CHIP.scale_bits, CHIP.replace(scale_bits=24).scale_bits) == (31, 31, 24)
    assert [PostConfig(scale_bits=16).scale_bits, PostConfig(scale_bits=17, row_registers=16).scale_bits] == [16, 17]
    widths = [host_widths(CHIP.replace(scale_bits=bits))[HostSelect.PARAMETERS][1] for bits in (31, 16)]
    assert widths == [(32 + bits + 6) * CHIP.array.cols for bits in (31, 16)]


def test_limits_of_chips_are_legal() -> None:
    for rows, cols in ((12, 4), (4, 12), (2, 2), (4, 4)):
        config = CHIP.replace(rows=rows, cols=cols)
        assert config.post_lanes == min(rows, cols)
    # 64 * (31 * 32 + 22 + 6 + 4) = 65536.
    full = {"rows": 31, "cols": 31, "group_rows": 1, "group_cols": 1, "p_words": 2**22}
    assert CHIP.replace(pods=64, banks=64, kind="crossbar", **full).network == NetworkConfig(kind="crossbar")
    assert CHIP.replace(pods=256, banks=256, cols=256, p_words=2**22).pods == 256


@pytest.mark.parametrize(("table", "kind"), [("network", NetworkConfig), ("post", PostConfig), ("program", ProgramConfig)])
def test_tables_of_chips_are_needed(table: str, kind: type) -> None:
    text = CHIP.to_toml()
    start = text.index(f"[{table}]")
    end = text.find("\n[", start)
    without = text[:start] + (text[end:] if end >= 0 else "")
    with pytest.raises(ConfigError, match=rf"^table \[{table}\] is missing$"):
        ChipConfig.from_toml(without)
    # An empty table is one of defaults.
    assert getattr(ChipConfig.from_toml(f"{without}\n[{table}]\n"), table) == kind()


@pytest.mark.parametrize(
    ("pods", "layers"),
    [(1, ()), (2, (1,)), (4, (2,)), (8, (3,)), (16, (4,)), (32, (3, 2)), (64, (3, 3)), (128, (4, 3)), (256, (4, 4))],
)
def test_network_by_hand(pods: int, layers: tuple[int, ...]) -> None:
    config = CHIP.replace(pods=pods, banks=pods)
    assert config.network_layers == layers
    assert config.network_latency == bits(pods) == sum(layers)
    assert config.read_latency == 2 * bits(pods) + 1
    # Layers have registers between them, whatever fits into one stretch.
    assert config.replace(pipeline=8).network_latency == len(layers)
    assert config.replace(kind="crossbar").network_latency == config.network_latency


def test_derived_values_of_chips_by_hand() -> None:
    small, large, largest = load_config("chip2x4"), load_config("chip16x32"), load_config("chip256x32")
    # Four stages, a register after every second; 2 + 2 groups; one level of host registers for every factor of 16 nodes.
    names = ("network_latency", "read_latency", "write_latency", "host_levels", "host_read_latency", "epoch_overhead", "post_lanes")
    assert [getattr(small, name) for name in names] == [1, 3, 8, 1, 5, 8, 4]
    assert [getattr(large, name) for name in names] == [2, 5, 10, 1, 5, 9, 32]
    assert [getattr(largest, name) for name in names] == [4, 9, 14, 2, 7, 13, 32]
    assert CHIP.replace(pods=32, banks=32, pipeline=2).network_latency == 3
    assert CHIP.replace(pods=128, banks=128, pipeline=3).network_latency == 3
    assert CHIP.replace(pods=32, banks=32).host_levels == 2
    assert [getattr(POD4, name) for name in names] == [0, 1, 4, 0, 3, 5, 4]
    assert [bits(count) for count in (1, 2, 3, 4, 5, 256)] == [0, 1, 2, 2, 3, 8]


def test_limits_of_combinations_are_legal() -> None:
    assert SMALL.replace(rows=8, w_words=8).memory.w_words == 8
    # 8 * (10 + 1 + 20 + 1) = 256.
    config = SMALL.replace(rows=10, cols=10, time_width=8)
    assert 8 * (config.array.rows + config.write_latency) == 2**config.pod.time_width


def test_configurations_are_frozen_and_keyword_only() -> None:
    nodes: list[tuple[Any, str]] = [(POD4, "name"), (POD4.pod, "count_width"), (POD4.array, "rows"), (POD4.memory, "banks")]
    nodes += [(CHIP.network, "kind"), (CHIP.post, "tables"), (CHIP.program, "load_jobs")]
    for node, field in nodes:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(node, field, 1)
    with pytest.raises(TypeError, match="positional"):
        ArrayConfig(4, 4)  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        PodConfig(POD4.array)  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        MemoryConfig(1, 1)  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        ChipConfig("pod4", 1)  # type: ignore[misc]


def test_replace_reaches_every_level_and_leaves_the_original() -> None:
    before = POD4.to_dict()
    changed = POD4.replace(name="other", rows=8, accumulator_rows=5, p_words=99)
    assert (changed.name, changed.array.rows, changed.pod.accumulator_rows) == ("other", 8, 5)
    assert changed.memory.p_words == 99
    assert changed.replace(name="pod4", rows=4, accumulator_rows=16, p_words=2048) == POD4
    assert POD4.to_dict() == before
    chip = CHIP.replace(pods=4, banks=4, kind="crossbar", tables=7, queue_depth=5, post_jobs=9)
    assert (chip.network, chip.post) == (NetworkConfig(kind="crossbar"), dataclasses.replace(CHIP.post, tables=7, queue_depth=5))
    assert chip.program == dataclasses.replace(CHIP.program, post_jobs=9)
    with pytest.raises(ConfigError, match=r"^unknown configuration fields: flit_bits$"):
        POD4.replace(flit_bits=2)
    with pytest.raises(ConfigError, match=r"^unknown configuration fields: bogus, colls$"):
        POD4.replace(colls=4, rows=4, bogus=1)


def test_derived_values_by_hand() -> None:
    pod32 = load_config("pod32")
    # 32 x 32 in 16 x 16 groups is 2 x 2 groups; a bank of 1 cycle, 2 + 2 through the groups, 1 through the accumulators.
    assert (pod32.array.row_groups, pod32.array.col_groups, pod32.array.multipliers) == (2, 2, 1024)
    assert (pod32.array.latency, pod32.write_latency) == (4, 6)
    odd = ArrayConfig(rows=12, cols=10, group_rows=3, group_cols=10)
    assert (odd.row_groups, odd.col_groups, odd.multipliers, odd.latency) == (4, 1, 120, 5)
    classic = ArrayConfig(rows=3, cols=5)
    assert (classic.row_groups, classic.col_groups, classic.latency) == (3, 5, 8)
    assert POD4.array is POD4.pod.array


@pytest.mark.parametrize("width", range(17, 33))
def test_max_reduction_is_the_last_that_cannot_wrap(width: int) -> None:
    k = ArrayConfig(rows=1, cols=1, psum_width=width).max_reduction
    largest_product = (-128) ** 2
    assert k * largest_product <= 2 ** (width - 1) - 1
    assert (k + 1) * largest_product > 2 ** (width - 1) - 1 or k == 2**16
