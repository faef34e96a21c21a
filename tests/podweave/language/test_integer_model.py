"""podweave.language.integer_model and podweave.language.quantise: integers beside floating point, files, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from podweave.golden.graph import evaluate
from podweave.ir.constants import Parameters
from podweave.ir.frontends.language_models import DecoderSizes, HeadSettings, LayerSettings, TextRows, decoder
from podweave.ir.layers import WorkloadError
from podweave.language.checkpoint import CheckpointError
from podweave.language.float_model import Rows, hidden_states, logits
from podweave.language.integer_model import LOGIT_FRACTION, IntegerModel, load_model
from podweave.language.quantise import Recipe, quantise
from tests.podweave.language.tiny import SIZES, VOCABULARY, tiny_checkpoint, tiny_texts

PREFIX = (1,)


@pytest.fixture(scope="module")
def model() -> IntegerModel:
    return quantise(tiny_checkpoint(), tiny_texts(8, 40), PREFIX)


def integer_logits(model: IntegerModel, text: list[int]) -> np.ndarray:
    return model.evaluate(text)["head"][0, 0] / 2.0**LOGIT_FRACTION


@pytest.mark.parametrize(
    ("sizes", "tied", "biases", "prefix"),
    [
        (SIZES, True, False, (1,)),
        (SIZES, False, True, (1, 5)),
        (DecoderSizes(hidden=48, heads=3, kv_heads=1, intermediate=80, layers=1), True, False, ()),
        (DecoderSizes(hidden=32, heads=4, kv_heads=4, intermediate=64, layers=3, head=12), True, True, (1,)),
    ],
    ids=["tied", "biases", "no_prefix", "one_head_each"],
)
def test_integers_are_near_to_floating_point(sizes: DecoderSizes, tied: bool, biases: bool, prefix: tuple[int, ...]) -> None:
    optional = dict.fromkeys(("q_bias", "k_bias", "v_bias"), biases)
    checkpoint = tiny_checkpoint(seed=3, tied=tied, sizes=sizes, **optional)
    model = quantise(checkpoint, tiny_texts(8, 40, prefix=prefix), prefix)
    (text,) = tiny_texts(1, 60, seed=2, prefix=prefix)
    real = logits(checkpoint, hidden_states(checkpoint, Rows.of([text])))[len(prefix) :]
    error = integer_logits(model, text) - real
    # Logits of random weights spread by several units; weights of 8 bits are right to a part in 127.
    assert np.sqrt((error**2).mean()) < 0.04 * real.std()
    # Nothing is constant, and nothing saturated.
    assert real.std() > 1


def test_what_a_recipe_costs() -> None:
    checkpoint, texts, (text,) = tiny_checkpoint(), tiny_texts(24, 40), tiny_texts(1, 60, seed=2)
    real = logits(checkpoint, hidden_states(checkpoint, Rows.of([text])))[1:]
    best, narrow, too_narrow, too_wide = (
        np.abs(integer_logits(quantise(checkpoint, texts, PREFIX, recipe), text) - real).mean()
        for recipe in (Recipe(multiplier_bits=31), Recipe(), Recipe(multiplier_bits=5), Recipe(headroom=150))
    )
    # 16 bits of a multiplier are as good as 31; five are not, nor is a part of the range.
    assert narrow < 1.02 * best
    assert too_narrow > 1.2 * best
    assert too_wide > 1.2 * best


def test_multipliers_have_the_bits_that_are_asked_for() -> None:
    model = quantise(tiny_checkpoint(), tiny_texts(2, 20), PREFIX, Recipe(multiplier_bits=16))
    most = {name: int(held.multiplier.max()) for name, held in model.constants.items() if not name.endswith("norm")}
    assert all(2**15 <= multiplier < 2**16 for multiplier in most.values())


def test_token_by_token_is_all_at_once(model: IntegerModel) -> None:
    (text,) = tiny_texts(1, 12, seed=7)
    whole = model.evaluate(text)["head"]
    caches = model.caches(1)
    found = []
    for begin, end in ((1, 5), (5, 6), (6, 13)):
        caches = {name: np.pad(cache, ((0, 0), (0, 0), (0, end - begin), (0, 0))) for name, cache in caches.items()}
        run = model.graph(end - begin, end)
        tensors = evaluate(run, model.constants, model.inputs(text[begin:end], caches))
        caches = {name: tensors[f"{name}_now"] for name in caches}
        found.append(tensors["head"])
    assert_array_equal(np.concatenate(found, axis=2), whole, strict=True)


def test_names_and_formats(model: IntegerModel) -> None:
    graph = model.graph(3, 9)
    assert graph.outputs == ("head",)
    assert graph.shape("head") == (1, 1, 3, VOCABULARY)
    assert set(graph.inputs) == {"x", "angles", "lengths", *(f"layer{i}.{what}" for i in (0, 1) for what in ("keys", "values"))}
    assert model.graph(3, 9, head=False).outputs == ("layer1.down",)
    assert model.graph(1, 1, head=False).operations[0].name == "layer0.attention_norm"
    norms = [operation for operation in graph.operations if operation.name.endswith("norm")]
    assert [operation.scale_shift for operation in norms] == [  # type: ignore[attr-defined]
        *(getattr(layer, name).scale_shift for layer in model.layers for name in ("attention_norm", "ffn_norm")),
        model.head.norm.scale_shift,
    ]


def test_inputs(model: IntegerModel) -> None:
    caches = model.caches(6)
    assert_array_equal(caches["layer1.values"][0, 0, 0], model.prefix_values[1, 0], strict=True)
    assert not caches["layer1.values"][0, 0, 1:].any()
    inputs = model.inputs([7, 7], caches)
    assert inputs["lengths"].tolist() == [[[[5, 6]]]]
    assert_array_equal(inputs["x"][0, 0, 0], model.embedding[7], strict=True)
    # Of the first pair, position 4 is 4 radians.
    assert inputs["angles"][0, 0, 0, :2].tolist() == np.rint(2**14 * np.array([np.cos(4), np.sin(4)])).tolist()


@pytest.mark.parametrize(
    ("tokens", "context", "sentence"),
    [
        ([], 4, "a run needs at least one token, got 0"),
        ([3, 3, 3, 3], 4, "4 tokens and the 1 that all texts begin with do not fit a context of 4"),
        ([3, 128], 4, r"tokens must be in \[0, 128\), got 128"),
        ([-1, 3], 4, r"tokens must be in \[0, 128\), got -1"),
        ([3], 0, "a cache must hold at least the 1 tokens that all texts begin with, got 0"),
    ],
)
def test_inputs_that_are_refused(model: IntegerModel, tokens: list[int], context: int, sentence: str) -> None:
    with pytest.raises(WorkloadError, match=sentence):
        model.inputs(tokens, model.caches(context))


def test_a_text_without_the_prefix_is_refused(model: IntegerModel) -> None:
    with pytest.raises(WorkloadError, match=r"tiny: texts begin with tokens \(1,\), got \(5,\)"):
        model.evaluate([5, 6])
    with pytest.raises(WorkloadError, match="tiny has no tokenizer"):
        model.tokens("a")


def test_round_trip(model: IntegerModel, tmp_path: Path) -> None:
    path = tmp_path / "tiny.model"
    model.save(path)
    found = load_model(path)
    assert found.digest == model.digest
    assert (found.name, found.sizes, found.layers, found.head) == (model.name, model.sizes, model.layers, model.head)
    assert (found.prefix, found.context, found.rope_theta, found.prompt_format) == (PREFIX, 256, 10_000.0, "{prompt}")
    assert found.embedding.dtype == np.int32
    (text,) = tiny_texts(1, 9, seed=4)
    assert_array_equal(found.evaluate(text)["head"], model.evaluate(text)["head"], strict=True)


def test_a_large_embedding_keeps_all_bits(model: IntegerModel, tmp_path: Path) -> None:
    large = replace(model, embedding=model.embedding * 1000)
    large.save(tmp_path / "large")
    assert_array_equal(load_model(tmp_path / "large").embedding, large.embedding, strict=True)


def test_files_that_are_refused(model: IntegerModel, tmp_path: Path) -> None:
    path = tmp_path / "model"
    model.save(path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(WorkloadError, match=r"model is no model that podweave quantise wrote, or not a whole one"):
            load_model(path)
    np.savez(tmp_path / "other", about=np.arange(3))
    with pytest.raises(WorkloadError, match="is no model that podweave quantise wrote"):
        load_model(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "nothing")
    path.write_bytes(whole)

    def changed(**values: object) -> Path:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays["about"].tobytes())
        for name, value in values.items():
            if value is None:
                del arrays[name]
            elif isinstance(value, np.ndarray):
                arrays[name] = value
            else:
                about[name] = value
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        with (tmp_path / "changed").open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return tmp_path / "changed"

    scales = model.constants["layer0.v"].multiplier.copy()
    scales[3] += 1
    for values, sentence in (
        ({"format": "podweave language model 0"}, "the format must be 'podweave language model 1', got"),
        ({"layer0.v/multiplier": scales}, "what it holds has the hash .*, and it says"),
        ({"layer0.v/multiplier": scales[1:]}, r"layer0.v takes a multiplier of \(32,\), got \(31,\)"),
        ({"layer0.v/shift": None}, "the model lacks 'shift'"),
        ({"embedding": None}, "the model lacks 'embedding'"),
        ({"prefix_keys": np.zeros((2, 1, 8), np.int8)}, r"prefix_keys must be int8 \(2, 1, 32\), got int8 \(2, 1, 8\)"),
        ({"tokenizer": ["letters", ""]}, "a tokenizer must be one of tokenizers, words, got letters"),
        ({"rope_theta": 10_001.0}, "what it holds has the hash .*, and it says"),
    ):
        with pytest.raises(WorkloadError, match=sentence):
            load_model(changed(**values))
    assert load_model(changed()).digest == model.digest


def test_constants_that_belong_to_no_operation_are_refused(model: IntegerModel) -> None:
    more = {**model.constants, "layer2.v": model.constants["layer1.v"]}
    with pytest.raises(WorkloadError, match=r"tiny: there are constants for layer2.v, which is no operation"):
        replace(model, constants=more)
    fewer: dict[str, Parameters] = {name: held for name, held in model.constants.items() if name != "norm"}
    with pytest.raises(WorkloadError, match="there are no constants for norm"):
        replace(model, constants=fewer)


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(WorkloadError, match="tiny: there are settings of 1 layers for 2"):
        decoder(SIZES, [TextRows(1, 1)], "tiny", [LayerSettings()])
    with pytest.raises(WorkloadError, match="tiny: vocabulary must be at least 1, got 0"):
        decoder(SIZES, [TextRows(1, 1)], "tiny", [LayerSettings()] * 2, HeadSettings(0))


def test_what_has_no_operation_is_refused() -> None:
    with pytest.raises(CheckpointError, match="tiny: layer 0 normalises queries or keys, head by head"):
        quantise(tiny_checkpoint(q_norm=True), tiny_texts(1, 4), PREFIX)
    with pytest.raises(CheckpointError, match="calibration needs at least one text"):
        quantise(tiny_checkpoint(), [], PREFIX)
    with pytest.raises(CheckpointError, match=r"texts must begin with \[1\] and go on, got \[2, 3\]"):
        quantise(tiny_checkpoint(), [[2, 3]], PREFIX)
