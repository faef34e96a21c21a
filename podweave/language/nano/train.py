"""Trains the model of `podweave.language.nano` and writes its vocabulary and weights: python -m podweave.language.nano.train.

On one core, with PyTorch. What is in the repository was written with the defaults.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter
from pathlib import Path

from podweave.program import extra, program

from . import FOLDER, NanoSizes, load_nano, save_nano, stories
from .tokenizer import MARKS, Tokenizer
from .world import HE_NAMES, SHE_NAMES

STEPS = 2500
VOCABULARY_TEXTS = 20_000


def vocabulary() -> Tokenizer:
    """A token for each word of the stories, the most frequent first."""
    counts: Counter[str] = Counter()
    for number in range(VOCABULARY_TEXTS):
        counts.update(re.findall(r"[a-z]+", stories.text(number, made_up=False).lower()))
    names = {name.lower(): name for name in (*HE_NAMES, *SHE_NAMES, "I")}
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return Tokenizer([*MARKS, *(names.get(word, word) for word in words)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write; by default over what comes with podweave")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    with program():
        with extra("train", "training"):
            import torch

            from .learning import HELD_OUT_TEXTS, Network, held_out_loss, train
        torch.set_num_threads(1)
        sizes, tokenizer = NanoSizes(), vocabulary()
        network = train(sizes, tokenizer, options.steps, options.seed)
        save_nano(options.folder, {name: p.detach().numpy() for name, p in network.parameters.items()}, tokenizer)
        for file in sorted(options.folder.glob("*.[nt][px][zt]")):
            print(f"{file}: {file.stat().st_size} bytes")
        rounded = {name: torch.from_numpy(tensor) for name, tensor in load_nano(options.folder).tensors.items()}
        for kind, parameters in (("as trained", network.parameters), ("as stored", rounded)):
            loss = held_out_loss(Network(sizes, parameters), tokenizer)
            print(f"{HELD_OUT_TEXTS} texts held out, {kind}: {loss:.4f} nats per token, perplexity {math.exp(loss):.4f}")


if __name__ == "__main__":
    main()
