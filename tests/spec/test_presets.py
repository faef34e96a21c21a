"""spec.presets: what is legal survives the way through TOML, and files are refused with a sentence that names the place."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ArrayConfig, ConfigError, PodConfig
from podweave.spec.presets import PRESET_DIRECTORY, load_config, preset_names
from tests.spec.legal_configs import CHIP, POD4, SMALL, legal_chips

PRESETS = [
    "pod4",
    "chip2x4",
    "pod8",
    "pod16",
    "chip4x16",
    "pod32",
    "llm8x16",
    "chip16x32",
    "chip16x32_attention",
    "chip16x32_onnx",
    "chip16x32_products",
    "llm16x32",
    "chip256x32",
]


def test_presets() -> None:
    assert preset_names() == PRESETS
    assert {path.stem for path in PRESET_DIRECTORY.iterdir()} == set(preset_names())
    for name in preset_names():
        config = load_config(name)
        pods, size = map(int, re.fullmatch(r"(?:pod|(?:chip|llm)(\d+)x)(\d+)(?:_onnx|_products|_attention)?", name).groups(1))  # type: ignore[union-attr]
        assert (config.pods, config.memory.banks) == (pods, pods)
        # The smallest chip shows what happens between groups.
        group = 2 if name == "chip2x4" else min(size, 16)
        assert config.name == name
        assert (config.array.rows, config.array.cols) == (size, size)
        assert (config.array.group_rows, config.array.group_cols) == (group, group)
        assert config.array.max_reduction == 2**16


def test_a_chip_for_files_is_another_in_post_processors_only() -> None:
    # Words of jobs that name one of 8 tables have as many bytes if times have 20 bits.
    exact = {"rounding": "half_even", "scale_bits": 24, "sum_bits": 33, "zero_points": True, "tables": 8, "time_width": 20}
    assert load_config("chip16x32").replace(name="chip16x32_onnx", **exact) == load_config("chip16x32_onnx")
    multiplies = {"row_registers": 16, "tables": 16, "time_width": 22}
    assert load_config("chip16x32_onnx").replace(name="chip16x32_products", **multiplies) == load_config("chip16x32_products")
    attends = {"row_registers": 256, "column_words": 16}
    assert load_config("chip16x32_products").replace(name="chip16x32_attention", **attends) == load_config("chip16x32_attention")


@pytest.mark.parametrize("name", preset_names())
def test_presets_survive_toml(name: str) -> None:
    assert ChipConfig.from_toml(load_config(name).to_toml()) == load_config(name)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(legal_chips())
def test_any_legal_chip_survives_toml_and_dict(config: ChipConfig) -> None:
    assert ChipConfig.from_toml(config.to_toml()) == config
    content = config.to_dict()
    assert ChipConfig.from_dict(content) == config
    assert content == config.to_dict()


PATHS = {(): "the top level", ("pod",): "table [pod]", ("pod", "array"): "table [pod.array]", ("memory",): "table [memory]"}
PATHS |= {(name,): f"table [{name}]" for name in ("network", "post", "program")}


def test_planes_of_all_networks_at_once_are_refused() -> None:
    content = CHIP.to_dict()
    content["memory"]["planes"] = 2
    sentence = "key 'planes' in table [memory] is x_planes, w_planes, p_planes, y_planes now: planes of each network"
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        ChipConfig.from_dict(content)


def test_a_latency_of_the_memory_is_refused() -> None:
    content = POD4.to_dict()
    content["memory"]["latency"] = 4
    sentence = "key 'latency' in table [memory] is gone: what lies between pods and banks is table [network]"
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        ChipConfig.from_dict(content)


def at(content: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for key in path:
        content = content[key]
    return content


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ((), "name, pods"),
        (("pod",), "accumulator_rows, load_queue_depth, stream_queue_depth, time_width, count_width, tile_width"),
        (("pod", "array"), "rows, cols, group_rows, group_cols, psum_width"),
        (("memory",), "banks, x_planes, w_planes, p_planes, y_planes, x_words, w_words, p_words, x_parts"),
        (("network",), "kind, pipeline"),
        (
            ("post",),
            "parameter_sets, tables, queue_depth, window_width, lanes, row_registers, rounding, scale_bits, sum_bits, zero_points",
        ),
        (("program",), "load_jobs, stream_jobs, post_jobs"),
    ],
)
def test_unknown_key_is_refused_at_every_table(path: tuple[str, ...], allowed: str) -> None:
    content = CHIP.to_dict()
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
    text = 'name = "least"\n[pod.array]\nrows = 2\ncols = 4\n[memory]\nx_words = 9\nw_words = 9\np_words = 9\n'
    config = ChipConfig.from_toml(text + "[network]\n[post]\n[program]\n")
    assert (config.pods, config.array.group_rows, config.array.psum_width, config.memory.banks) == (1, 1, 32, 1)
    assert config.pod == PodConfig(array=ArrayConfig(rows=2, cols=4))


@pytest.mark.parametrize("table", ["network", "post", "program"])
def test_wrong_table_of_a_chip_is_refused(table: str) -> None:
    with pytest.raises(ConfigError, match=rf"^\[{table}\] must be a table, got 7$"):
        ChipConfig.from_dict(CHIP.to_dict() | {table: 7})


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
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.to_toml().replace("\n", "\r\n").encode())
    assert load_config(path) == SMALL


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "configuration file {path!r} does not exist"),
        (b"name = ", "{path}: not valid TOML: Invalid value"),
        (b'name = "x"\n', "{path}: table [pod] is missing"),
        (SMALL.to_toml().replace("pipeline = 1", "pipeline = 9").encode(), "{path}: pipeline must be between 1 and 8, got 9"),
        (b"\xff\xfe", "{path}: line 1: not UTF-8 (byte 0xff)"),
        (b'name = "x"\n# \xe9\n', "{path}: line 2: not UTF-8 (byte 0xe9)"),
        (b'name = "x"\nbanks = \n', "{path}: not valid TOML: Invalid value (at line 2, column 9)"),
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
    with pytest.raises(ConfigError, match=f"^unknown preset {name!r}; presets are {', '.join(PRESETS)} "):
        load_config(name)
