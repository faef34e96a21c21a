"""podweave.language.nano.learning: the network in PyTorch is that of the NumPy one, and it learns, always the same."""

from itertools import islice

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from podweave.language.nano import NanoSizes, load_nano, stories
from tests.podweave.language.nano.float_forward import logits

torch = pytest.importorskip("torch")
from podweave.language.nano import learning  # noqa: E402

NANO = load_nano()


def test_logits_are_those_of_numpy() -> None:
    network = learning.Network(NANO.sizes, {name: torch.from_numpy(tensor) for name, tensor in NANO.tensors.items()})
    for text in islice(stories.texts(held_out=True), 5):
        tokens = NANO.tokenizer.encode(text)
        with torch.no_grad():
            found = network.logits(torch.tensor([tokens]))[0].numpy()
        assert_allclose(found, logits(NANO, tokens), atol=2e-3)


def test_sequences_are_texts_behind_each_other() -> None:
    found = list(islice(learning.sequences(NANO.tokenizer, 256), 3))
    kept = stories.texts(held_out=False)
    for sequence in found:
        assert sequence.shape == (257,)
        assert sequence[0] == NANO.tokenizer.begin
        left = list(sequence[1:])
        while left:
            expected = [*NANO.tokenizer.encode(next(kept))[1:], NANO.tokenizer.end]
            assert left[: len(expected)] == expected[: len(left)]
            left = left[len(expected) :]


def test_training_learns_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "WARM_UP", 5)
    monkeypatch.setattr(learning, "LEARNING_RATE", 0.03)
    monkeypatch.setattr(learning, "HELD_OUT_TEXTS", 50)
    sizes = NanoSizes(hidden=16, layers=1, heads=2, kv_heads=1, head=8, intermediate=16, context=256)
    one, two, other = (learning.train(sizes, NANO.tokenizer, 20, seed).parameters for seed in (0, 0, 1))
    name = "model.layers.0.mlp.up_proj.weight"
    assert_array_equal(one[name].detach().numpy(), two[name].detach().numpy())
    assert not np.array_equal(one[name].detach().numpy(), other[name].detach().numpy())
    untrained = learning.held_out_loss(learning.initial(sizes, NANO.tokenizer.size), NANO.tokenizer)
    assert learning.held_out_loss(learning.Network(sizes, one), NANO.tokenizer) < untrained - 1
