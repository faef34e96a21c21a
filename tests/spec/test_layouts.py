"""spec.jobs, spec.errors and spec.load_port: words by hand, extreme values that fit, and codes that never change."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.golden.cycle.pod import tiles as pod_model
from podweave.golden.cycle.pod.jobs import ERRORS
from podweave.spec.config import ChipConfig
from podweave.spec.errors import PodError
from podweave.spec.jobs import Accumulate, Emit, load_job_layout, post_job_layout, stream_job_layout
from podweave.spec.layout import Field, Layout, bits_for_index, step_width
from podweave.spec.presets import load_config

POD4 = load_config("pod4").replace(pods=2, banks=2, x_words=1024, w_words=1024, p_words=1024, tile_width=0)
TILES = POD4.replace(tile_width=7)

# Name, offset, width, signed. 4 rows, 2 banks, 1 plane of each, 1024 words, times of 24 bits, counts of 16, 16 accumulators.
LOAD_JOB = [
    ("start", 0, 24, False),
    ("rows", 24, 3, False),
    ("w_bank", 27, 1, False),
    ("w_base", 28, 10, False),
    ("w_step", 38, 11, True),
]
STREAM_JOB = [
    ("start", 0, 24, False),
    ("swap", 24, 1, False),
    ("n0", 25, 16, False),
    ("n1", 41, 16, False),
    ("n2", 57, 16, False),
    ("x_bank", 73, 1, False),
    ("x_base", 74, 10, False),
    ("x_step0", 84, 11, True),
    ("x_step1", 95, 11, True),
    ("x_step2", 106, 11, True),
    ("accumulate", 117, 2, False),
    ("accumulator_base", 119, 4, False),
    ("emit", 123, 2, False),
    ("p_bank", 125, 1, False),
    ("p_base", 126, 10, False),
    ("p_step0", 136, 11, True),
    ("p_step1", 147, 11, True),
    ("p_step2", 158, 11, True),
]


@pytest.mark.parametrize(
    ("layout", "name", "width", "fields"),
    [
        (load_job_layout(POD4), "load_job", 49, LOAD_JOB),
        (stream_job_layout(POD4), "stream_job", 169, STREAM_JOB),
        (load_job_layout(TILES), "load_job", 72, [*LOAD_JOB, ("tiles", 49, 7, False), ("period", 56, 16, False)]),
        (
            stream_job_layout(TILES),
            "stream_job",
            204,
            [
                *STREAM_JOB,
                ("tiles", 169, 7, False),
                ("period", 176, 16, False),
                ("x_tile_step", 192, 11, True),
                ("x_turn", 203, 1, False),
            ],
        ),
    ],
)
def test_pod4_by_hand(layout: Layout, name: str, width: int, fields: list[tuple[str, int, int, bool]]) -> None:
    assert (layout.name, layout.width) == (name, width)
    assert [(f.name, layout.offset(f.name), f.width, f.signed) for f in layout.fields] == fields


def test_offset_of_an_unknown_field_is_refused() -> None:
    with pytest.raises(KeyError, match="colour"):
        load_job_layout(POD4).offset("colour")


def test_a_plane_is_named_only_where_there_are_several() -> None:
    single = load_config("chip2x4")
    places = {
        "x_planes": stream_job_layout,
        "w_planes": load_job_layout,
        "p_planes": stream_job_layout,
        "y_planes": post_job_layout,
    }
    for name, place in (places | {"y_planes": post_job_layout}).items():
        several = single.replace(**{name: 8})
        for layout in (load_job_layout, stream_job_layout, post_job_layout):
            before, after = layout(single), layout(several)
            assert not any("plane" in field.name for field in before.fields)
            found = [field for field in after.fields if field not in before.fields]
            assert [field.width for field in found] == ([3] if layout is place else [])
            assert all(field.doc == f"plane of the {name[0].upper()} network" for field in found)


@st.composite
def configs(draw: st.DrawFn) -> ChipConfig:
    size = st.integers(2, 70000)
    side = 4 * 2 ** draw(st.integers(0, 5))
    rows, cols = draw(st.permutations([side, side * draw(st.integers(1, 256 // side))]))
    return POD4.replace(
        rows=rows,
        cols=cols,
        accumulator_rows=draw(st.integers(0, 65536)),
        time_width=draw(st.integers(14, 32)),
        count_width=draw(st.integers(4, 24)),
        **dict.fromkeys(("pods", "banks"), 2 ** draw(st.integers(0, 8))),
        **{f"{name}_planes": draw(st.sampled_from((1, 2, 4))) for name in "xwp"},
        x_words=draw(size),
        w_words=draw(st.integers(256, 70000)),
        p_words=draw(size),
    )


def extremes(config: ChipConfig) -> dict[str, tuple[int, int]]:
    """The smallest and the largest legal value of every field."""
    memory, pod = config.memory, config.pod
    time, count = (0, 2**pod.time_width - 1), (0, 2**pod.count_width - 1)
    bank = (0, memory.banks - 1)
    values = {"rows": (0, config.array.rows), "w_bank": bank, "start": time, "swap": (0, 1)}
    values |= {"n0": count, "n1": count, "n2": count, "x_bank": bank, "p_bank": bank}
    values |= {"x_plane": (0, memory.x_planes - 1), "w_plane": (0, memory.w_planes - 1), "p_plane": (0, memory.p_planes - 1)}
    values |= {"accumulate": (0, max(Accumulate)), "emit": (0, max(Emit))}
    values |= {"accumulator_base": (0, max(0, pod.accumulator_rows - 1))}
    for kind, words in (("w", memory.w_words), ("x", memory.x_words), ("p", memory.p_words)):
        values[f"{kind}_base"] = (0, words - 1)
        for step in ("step", "step0", "step1", "step2"):
            values[f"{kind}_{step}"] = (-(words - 1), words - 1)
    return values


def holds(field: Field, width: int, value: int) -> bool:
    return -(2 ** (width - 1)) <= value < 2 ** (width - 1) if field.signed else 0 <= value < 2**width


@settings(derandomize=True, deadline=None, max_examples=150)
@given(configs())
def test_fields_hold_the_extreme_legal_values_and_no_bit_more(config: ChipConfig) -> None:
    legal = extremes(config)
    for layout in (load_job_layout(config), stream_job_layout(config)):
        end = 0
        for field in layout.fields:
            low, high = legal[field.name]
            assert holds(field, field.width, low)
            assert holds(field, field.width, high)
            # A bit less would not do, unless there is only one.
            assert not (holds(field, field.width - 1, low) and holds(field, field.width - 1, high)) or field.width == 1
            assert layout.offset(field.name) == end
            assert field.doc
            end += field.width
        assert layout.width == end
        assert len({field.name for field in layout.fields}) == len(layout.fields)


@pytest.mark.parametrize(("count", "bits"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (257, 9)])
def test_bits_for_index(count: int, bits: int) -> None:
    assert bits_for_index(count) == bits
    assert step_width(count) == bits + 1


def test_codes_are_stable() -> None:
    assert {code.name: code.value for code in Accumulate} == {"BYPASS": 0, "INIT": 1, "ADD": 2}
    assert {code.name: code.value for code in Emit} == {"NONE": 0, "STORE": 1, "ACCUMULATE": 2}
    assert {error.name: error.value for error in PodError} == {
        "LATE_LOAD": 0,
        "LATE_STREAM": 1,
        "LOAD_OVERFLOW": 2,
        "STREAM_OVERFLOW": 3,
        "ILLEGAL_LOAD": 4,
        "ILLEGAL_STREAM": 5,
        "W_ADDRESS": 6,
        "X_ADDRESS": 7,
        "P_ADDRESS": 8,
        "ACCUMULATOR_ADDRESS": 9,
        "WEIGHTS_NOT_LOADED": 10,
        "WEIGHTS_OVERWRITTEN": 11,
        "EPOCH_OVERFLOW": 12,
    }


def test_cycle_model_has_the_same_codes_and_errors() -> None:
    # The two are written apart and may not import each other: only a test can hold them together.
    model = pod_model
    assert [getattr(model, code.name) for code in Accumulate] == [code.value for code in Accumulate]
    assert [getattr(model, code.name) for code in Emit] == [code.value for code in Emit]
    assert list(ERRORS) == [error.name.lower() for error in sorted(PodError)]
