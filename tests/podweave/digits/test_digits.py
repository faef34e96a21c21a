"""podweave.digits and podweave.digits.train: the stored CNN on every held-out image, its quantisation, its training."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from podweave import digits
from podweave.digits import train as train_digits
from podweave.golden.graph import evaluate
from podweave.ir.constants import Parameters

Ints = NDArray[np.int8]


def integer_logits(images: Ints, parameters: dict[str, Parameters]) -> Ints:
    tensors = evaluate(digits.digits_graph(len(images)), parameters, {"image": images})
    return tensors["logits"].reshape(-1, digits.CLASSES)


def accuracy(logits: NDArray, labels: NDArray[np.int64]) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def test_held_out_images() -> None:
    (training, training_labels), (held_out, labels) = digits.training_images(), digits.test_images()
    assert (training.shape, held_out.shape) == ((1297, 8, 8, 1), (500, 8, 8, 1))
    assert training.dtype == held_out.dtype == np.int8
    assert np.unique(np.concatenate([training, held_out])).tolist() == list(range(0, 113, 7))
    # No image is in both parts; every class is in both in proportion.
    assert not {image.tobytes() for image in training} & {image.tobytes() for image in held_out}
    assert_allclose(np.bincount(labels) / 500, np.bincount(training_labels) / 1297, atol=0.002)
    assert_array_equal(digits.test_images()[0], held_out)
    (kept, kept_labels), (checked, checked_labels) = train_digits.training_parts()
    assert sorted(image.tobytes() for image in np.concatenate([kept, checked])) == sorted(image.tobytes() for image in training)
    assert len(kept) == len(kept_labels) == 1097
    assert len(checked) == len(checked_labels) == 200


def test_accuracy_on_all_held_out_images() -> None:
    images, labels = digits.test_images()
    real, integer = digits.float_logits(images), integer_logits(images, digits.digits_parameters())
    assert accuracy(real, labels) >= 0.98
    assert accuracy(integer, labels) >= 0.98
    assert (real.argmax(axis=1) == integer.argmax(axis=1)).mean() >= 0.99
    # No tie decides: the class would depend on the order of the logits.
    top = np.sort(integer, axis=1)
    assert (top[:, -1] == top[:, -2]).mean() <= 0.004


def follow(images: Ints, parameters: dict[str, Parameters]) -> None:
    """Hold every tensor in integers against that in floating point: proportional but for rounding, and wide in its range."""
    real = digits.float_tensors(images, digits.float_layers())
    integer = evaluate(digits.digits_graph(len(images)), parameters, {"image": images})
    assert list(integer) == list(real)
    for name, tensor in real.items():
        assert tensor.shape == integer[name].shape
        correlation = np.corrcoef(tensor.ravel(), integer[name].ravel().astype(np.float64))[0, 1]
        assert correlation > 0.997, f"{name}: correlation {correlation}"
        assert np.abs(integer[name].astype(np.int64)).max() >= 110, name


def test_integers_follow_the_real_tensors() -> None:
    follow(digits.test_images()[0], digits.digits_parameters())


def test_an_image_by_itself_has_the_same_logits() -> None:
    images, _ = digits.test_images()
    held = digits.digits_parameters()
    assert_array_equal(integer_logits(images[7:8], held), integer_logits(images[:16], held)[7:8], strict=True)


def test_parameters() -> None:
    held = digits.digits_parameters()
    graph = digits.digits_graph(3)
    assert list(held) == [node.name for node in graph.operations]
    for node in graph.operations:
        p, outputs = held[node.name], node.output[3]
        assert [w.shape for w in p.weights] == [operand.layer.weight_shape for operand in node.operands]
        assert {w.dtype for w in p.weights} == {np.dtype(np.int8)}
        assert p.bias.shape == p.multiplier.shape == p.shift.shape == (outputs,)
        assert p.bias.dtype == p.multiplier.dtype == p.shift.dtype == np.int32
        assert (p.table is not None) == (node.name in digits.LAYERS[:-1])
    residual = held["block_2"].weights[1]
    assert residual.shape == (1, 1, 1, 16)
    assert residual.min() >= 1
    assert (held["max_pool"].multiplier.max(), held["max_pool"].shift.max()) == (1, 0)
    assert digits.WEIGHTS.stat().st_size < 100_000


def test_stored_integers_are_the_quantised_weights() -> None:
    (images, _), _ = train_digits.training_parts()
    stored, again = digits.digits_parameters(), train_digits.quantise(digits.float_layers(), images)
    assert list(stored) == list(again)
    for name, expected in again.items():
        # Another BLAS may differ in the last bit of the largest activations.
        for ours, theirs in zip(stored[name].weights, expected.weights, strict=True):
            assert_allclose(ours, theirs, atol=1)
        assert_allclose(stored[name].bias, expected.bias, atol=1 + np.abs(expected.bias).max() * 1e-5)
        scales = [np.ldexp(p.multiplier.astype(np.float64), -p.shift) for p in (stored[name], expected)]
        assert_allclose(*scales, rtol=1e-5)


@pytest.mark.parametrize(
    ("fault", "first"),
    [("residual lost", "block_2"), ("weights of another order", "wide_2"), ("no table", "stem"), ("bias lost", "block_1")],
)
def test_comparison_sees_a_fault(fault: str, first: str) -> None:
    # Accuracy alone would not: without its biases, or its residual, the network still has 98% of the images right.
    held = digits.digits_parameters()
    block, wide = held["block_2"], held["wide_2"]
    if fault == "residual lost":
        held["block_2"] = replace(block, weights=(block.weights[0], np.zeros_like(block.weights[1])))
    if fault == "weights of another order":
        held["wide_2"] = replace(wide, weights=(wide.weights[0].transpose(1, 0, 2, 3),))
    if fault == "no table":
        held = {name: replace(p, table=None) for name, p in held.items()}
    if fault == "bias lost":
        held = {name: replace(p, bias=np.zeros_like(p.bias)) for name, p in held.items()}
    with pytest.raises(AssertionError, match=f"{first}: correlation"):
        follow(digits.test_images()[0], held)


def test_accuracy_sees_a_network_that_does_not_fit() -> None:
    images, labels = digits.test_images()
    held = digits.digits_parameters()
    logits = held["logits"]
    held["logits"] = replace(logits, weights=(np.roll(logits.weights[0], 1, axis=3),))
    assert accuracy(integer_logits(images, held), labels) < 0.1


def test_gradients_are_differences() -> None:
    rng = np.random.default_rng(0)
    images, labels = (part[:3] for part in digits.training_images())
    # In float64, with weights large enough that the second layer of the block counts.
    layers = {
        name: digits.FloatLayer(w.astype(np.float64) * 1.5, rng.normal(0, 0.1, b.shape))
        for name, (w, b) in train_digits.initial_layers(rng).items()
    }
    _, slopes = train_digits.gradients(layers, images, labels)
    for name, layer in layers.items():
        for part, slope in zip(layer, slopes[name], strict=True):
            assert part.shape == slope.shape
            for entry in rng.integers(0, part.size, 3):
                kept, losses = part.flat[entry], []
                for step in (1e-6, -1e-6):
                    part.flat[entry] = kept + step
                    losses.append(train_digits.gradients(layers, images, labels)[0])
                part.flat[entry] = kept
                assert_allclose(slope.flat[entry], (losses[0] - losses[1]) / 2e-6, rtol=1e-4, atol=2e-8)


def test_training_learns_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_digits, "EPOCHS", 5)
    monkeypatch.setattr(train_digits, "BATCH", 16)
    images, labels = (part[:64] for part in digits.training_images())
    before = train_digits.initial_layers(np.random.default_rng(1))
    after = train_digits.train(images, labels, seed=1)
    losses = [train_digits.gradients(layers, images, labels)[0] for layers in (before, after)]
    assert losses[1] < 0.97 * losses[0]
    monkeypatch.setattr(train_digits, "EPOCHS", 1)
    one, two, other = (train_digits.train(images[:32], labels[:32], seed=seed)["stem"].weights for seed in (1, 1, 2))
    assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_weights_that_do_not_fit_beside_the_residual_are_refused() -> None:
    images, _ = digits.training_images()
    layers = digits.float_layers()
    layers["block_2"] = layers["block_2"]._replace(weights=layers["block_2"].weights * 1000)
    with pytest.raises(ValueError, match="block_2: weights are too large beside the residual"):
        train_digits.quantise(layers, images[:50])


def test_moved_images_by_hand() -> None:
    image = np.zeros((1, 8, 8, 1), dtype=np.int8)
    image[0, 2, [0, 4]] = [[5], [9]]
    rng = np.random.default_rng(0)
    seen = {tuple(train_digits.moved(image, rng)[0, 2, :, 0].tolist()) for _ in range(30)}
    assert seen == {(5, 0, 0, 0, 9, 0, 0, 0), (0, 0, 0, 9, 0, 0, 0, 0), (0, 5, 0, 0, 0, 9, 0, 0)}
