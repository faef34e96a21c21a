"""`podweave chat`: a language model answers, on an accelerator or by its models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..chat.defaults import CHUNK
from .options import Beneath, Chips, Config, JsonFile, Links, Memory, Prefetch, Threads

CAPACITY = 512
"""Positions for which there is room by default, if the model was made for as many."""


def chat(
    model: Annotated[
        str, typer.Argument(help="What podweave quantise wrote; nano: the small model that comes with podweave.")
    ] = "nano",
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="What the model is asked, or the beginning of a text; of several, all are answered together."),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="How many are generated, at the most; it stops where the text ends.")] = 32,
    config: Config = "llm8x16",
    rtl: Annotated[bool, typer.Option("--rtl", help="Run in RTL, over AXI, and compare each run with the golden model.")] = False,
    by_model: Annotated[bool, typer.Option("--model", help="Predict cycles by the exact model.")] = False,
    golden: Annotated[bool, typer.Option("--golden", help="Only the golden model, without cycles.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The prompt as it is: not put as the model is asked questions.")] = False,
    context: Annotated[
        int | None,
        typer.Option(min=2, help=f"Positions for which there is room; by default {CAPACITY}, or as many as the model has."),
    ] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Tokens of the prompt that are run at a time, at the most.")] = CHUNK,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest token; else drawn, with logits divided by it.")] = 0.0,
    top: Annotated[int, typer.Option(min=0, help="Of how many of the likeliest tokens one is drawn; 0: of all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn, and of the simulator's initial state.")] = 0,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write text and caches, to go on with later.")] = None,
    restore: Annotated[
        Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Go on with what --save wrote.")
    ] = None,
    memory: Memory = None,
    chips: Chips = None,
    links: Links = None,
    prefetch: Prefetch = True,
    beneath: Beneath = True,
    threads: Threads = None,
    json_file: JsonFile = None,
) -> None:
    """Let a language model answer: text, cycles of each token, and, in RTL, whether all was as predicted."""
    ways = [name for name, chosen in (("rtl", rtl), ("model", by_model), ("golden", golden)) if chosen]
    if len(ways) > 1:
        raise typer.BadParameter(f"--{ways[0]} and --{ways[1]} exclude each other", param_hint=f"--{ways[1]}")
    way = ways[0] if ways else "model"
    prompts = prompt or [""]
    for option, given in (("--save", save), ("--restore", restore)):
        if given and len(prompts) > 1:
            raise typer.BadParameter(f"a file holds one text, got {len(prompts)} prompts", param_hint=option)
    for option, said in (("--links", links is not None), ("--no-beneath", not beneath)):
        if said and chips is None:
            raise typer.BadParameter("is for several chips: give --chips too", param_hint=option)
    if not beneath and not prefetch:
        raise typer.BadParameter("without prefetch there is none in collectives either", param_hint="--no-beneath")
    for file in (save, json_file):
        if file and file != Path("-"):
            file.parent.mkdir(parents=True, exist_ok=True)
    from .chat_answers import answer_prompts

    answer_prompts(
        model,
        prompts,
        tokens,
        config,
        way,
        raw=raw,
        capacity=context,
        most=CAPACITY,
        chunk=chunk,
        temperature=temperature,
        top=top,
        seed=seed,
        save=save,
        restore=restore,
        memory=memory,
        chips=chips or 1,
        links=links,
        prefetch=prefetch,
        beneath=beneath,
        threads=threads,
        json_file=json_file,
    )
