"""rtl.config: every rule refuses with a sentence, and what is legal survives the way through TOML."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtl.config import PRESET_DIRECTORY, ArrayConfig, ChipConfig, ConfigError, MemoryConfig, PodConfig, load_config, preset_names

POD4 = load_config("pod4")
SMALL = POD4.replace(name="small", rows=2, cols=2, group_rows=1, group_cols=1)

# Field: smallest and largest legal value, and what must change beside it for them to be legal in SMALL.
RANGES: dict[str, tuple[int, int, dict[str, int]]] = {
    "rows": (1, 256, {}),
    "cols": (1, 256, {}),
    "group_rows": (1, 64, {"rows": 64}),
    "group_cols": (1, 64, {"cols": 64}),
    "psum_width": (17, 32, {}),
    "accumulator_rows": (0, 65536, {}),
    "load_queue_depth": (2, 64, {}),
    "stream_queue_depth": (2, 64, {}),
    "time_width": (8, 32, {}),
    "count_width": (4, 24, {}),
    "banks": (1, 256, {}),
    "planes": (1, 8, {}),
    "x_words": (2, 2**22, {}),
    "w_words": (2, 2**22, {}),
    "p_words": (2, 2**22, {}),
    "latency": (1, 64, {}),
}


@st.composite
def legal_configs(draw: st.DrawFn) -> ChipConfig:
    values = {name: draw(st.integers(low, high)) for name, (low, high, _) in RANGES.items()}
    for axis in ("rows", "cols"):
        values[axis] = values[f"group_{axis}"] * draw(st.integers(1, 256 // values[f"group_{axis}"]))
    values["w_words"] = max(values["w_words"], values["rows"])
    values["time_width"] = max(values["time_width"], 13)
    name = draw(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True))
    return POD4.replace(name=name, **values)


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


@pytest.mark.parametrize("field", [*RANGES, "pods"])
@pytest.mark.parametrize("value", [True, 4.0, "4", None])
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
        ({"pods": 2}, "pods must be 1 until the butterfly network is there to connect more, got 2"),
        ({"rows": 8, "w_words": 7}, "w_words (7) must hold at least one weight tile of rows (8) words"),
        # Request to write: 20 + (2 + 2) + 1 cycles; 8 * (8 + 25) = 264.
        (
            {"rows": 8, "cols": 8, "group_rows": 4, "group_cols": 4, "latency": 20, "time_width": 8},
            "time_width (8) is too small: an epoch of 2**time_width cycles must hold at least "
            "8 weight loads with their latency (264 cycles)",
        ),
        *(
            ({"name": name}, f"name must be an ASCII identifier (letters, digits, underscores), got {name!r}")
            for name in ("", "4pod", "pod-4", "pod 4", "pöd", 4, None)
        ),
    ],
)
def test_illegal_combination_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        SMALL.replace(**changes)


def test_limits_of_combinations_are_legal() -> None:
    assert SMALL.replace(rows=8, w_words=8).memory.w_words == 8
    # 8 * (8 + 19 + 4 + 1) = 256.
    config = SMALL.replace(rows=8, cols=8, group_rows=4, group_cols=4, latency=19, time_width=8)
    assert 8 * (config.array.rows + config.write_latency) == 2**config.pod.time_width


def test_configurations_are_frozen_and_keyword_only() -> None:
    for node, field in ((POD4, "name"), (POD4.pod, "count_width"), (POD4.array, "rows"), (POD4.memory, "banks")):
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
    changed = POD4.replace(name="other", rows=8, accumulator_rows=5, latency=2, p_words=99)
    assert (changed.name, changed.array.rows, changed.pod.accumulator_rows) == ("other", 8, 5)
    assert (changed.memory.latency, changed.memory.p_words) == (2, 99)
    assert changed.replace(name="pod4", rows=4, accumulator_rows=16, latency=3, p_words=1024) == POD4
    assert POD4.to_dict() == before
    with pytest.raises(ConfigError, match=r"^unknown configuration fields: bogus, colls$"):
        POD4.replace(colls=4, rows=4, bogus=1)


def test_derived_values_by_hand() -> None:
    pod32 = load_config("pod32")
    # 32 x 32 in 16 x 16 groups is 2 x 2 groups; a memory of 4 cycles, 2 + 2 through the groups, 1 through the accumulators.
    assert (pod32.array.row_groups, pod32.array.col_groups, pod32.array.multipliers) == (2, 2, 1024)
    assert (pod32.array.latency, pod32.write_latency) == (4, 9)
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


def test_presets() -> None:
    assert preset_names() == ["pod4", "pod8", "pod16", "pod32"]
    assert {path.stem for path in PRESET_DIRECTORY.iterdir()} == set(preset_names())
    for name in preset_names():
        config = load_config(name)
        size = int(name.removeprefix("pod"))
        group = min(size, 16)
        assert config.name == name
        assert (config.array.rows, config.array.cols) == (size, size)
        assert (config.array.group_rows, config.array.group_cols) == (group, group)
        assert config.array.max_reduction == 2**16


@pytest.mark.parametrize("name", preset_names())
def test_presets_survive_toml(name: str) -> None:
    assert ChipConfig.from_toml(load_config(name).to_toml()) == load_config(name)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(legal_configs())
def test_any_legal_configuration_survives_toml_and_dict(config: ChipConfig) -> None:
    assert ChipConfig.from_toml(config.to_toml()) == config
    content = config.to_dict()
    assert ChipConfig.from_dict(content) == config
    assert content == config.to_dict()


PATHS = {(): "the top level", ("pod",): "table [pod]", ("pod", "array"): "table [pod.array]", ("memory",): "table [memory]"}


def at(content: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for key in path:
        content = content[key]
    return content


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ((), "name, pods"),
        (("pod",), "accumulator_rows, load_queue_depth, stream_queue_depth, time_width, count_width"),
        (("pod", "array"), "rows, cols, group_rows, group_cols, psum_width"),
        (("memory",), "banks, planes, x_words, w_words, p_words, latency"),
    ],
)
def test_unknown_key_is_refused_at_every_table(path: tuple[str, ...], allowed: str) -> None:
    content = POD4.to_dict()
    at(content, path)["colour"] = 3
    with pytest.raises(ConfigError, match=f"^unknown key 'colour' in {re.escape(PATHS[path])}; allowed: {allowed}$"):
        ChipConfig.from_dict(content)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ((), "name"),
        (("pod", "array"), "rows"),
        (("pod", "array"), "cols"),
        (("memory",), "x_words"),
        (("memory",), "w_words"),
        (("memory",), "p_words"),
    ],
)
def test_missing_key_is_refused(path: tuple[str, ...], key: str) -> None:
    content = POD4.to_dict()
    del at(content, path)[key]
    with pytest.raises(ConfigError, match=f"^key '{key}' is missing in {re.escape(PATHS[path])}$"):
        ChipConfig.from_dict(content)


def test_every_other_key_may_be_left_out() -> None:
    text = 'name = "least"\n[pod.array]\nrows = 2\ncols = 3\n[memory]\nx_words = 9\nw_words = 9\np_words = 9\n'
    config = ChipConfig.from_toml(text)
    assert (config.pods, config.array.group_rows, config.array.psum_width, config.memory.banks) == (1, 1, 32, 1)
    assert config.pod == PodConfig(array=ArrayConfig(rows=2, cols=3))


@pytest.mark.parametrize("path", [("pod",), ("pod", "array"), ("memory",)])
def test_missing_or_wrong_table_is_refused(path: tuple[str, ...]) -> None:
    dotted = re.escape(".".join(path))
    content = POD4.to_dict()
    at(content, path[:-1])[path[-1]] = 7
    with pytest.raises(ConfigError, match=rf"^\[{dotted}\] must be a table, got 7$"):
        ChipConfig.from_dict(content)
    del at(content, path[:-1])[path[-1]]
    with pytest.raises(ConfigError, match=rf"^table \[{dotted}\] is missing$"):
        ChipConfig.from_dict(content)


def test_load_config_reads_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SMALL.to_toml())
    assert load_config(path) == SMALL
    assert load_config(str(path)) == SMALL


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "configuration file {path!r} does not exist"),
        (b"name = ", "{path}: not valid TOML: Invalid value"),
        (b'name = "x"\n', "{path}: table [pod] is missing"),
        (SMALL.to_toml().replace("latency = 3", "latency = 65").encode(), "{path}: latency must be between 1 and 64, got 65"),
        (b"\xff\xfe", "{path}: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_load_config_names_the_file_that_it_refuses(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="^" + re.escape(sentence.format(path=str(path)))):
        load_config(path)


@pytest.mark.parametrize("name", ["pod5", "POD4", "", "pod4.tml", "../presets/pod4"])
def test_unknown_preset_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^unknown preset {name!r}; presets are pod4, pod8, pod16, pod32"):
        load_config(name)
