"""Answers of language models to prompts of the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from podweave.ir.layers import WorkloadError
from podweave.spec.presets import load_config
from podweave.tb.build.make import cores

from ..chat.accelerators import Accelerators
from ..chat.batch import generate_together
from ..chat.generate import Sampling, Token, generate
from ..chat.machine import Step
from ..chat.session import Session, open_sessions
from ..language.checkpoint import PLAIN_PROMPT
from ..language.integer_model import IntegerModel
from ..language.load import load_quantised
from ..language.tokenizer import Tokenizer
from ..program import EXIT_CODES
from ..reports.chat import print_chat, print_chats
from .chip_commands import memory_timing
from .finish import finish
from .progress import Progress
from .system_commands import link_timing


def answer_prompts(
    model: str,
    prompts: list[str],
    tokens: int,
    config: str,
    way: str,
    *,
    raw: bool,
    capacity: int | None,
    most: int,
    chunk: int,
    temperature: float,
    top: int,
    seed: int,
    save: Path | None,
    restore: Path | None,
    memory: str | None,
    chips: int,
    links: str | None,
    prefetch: bool,
    beneath: bool,
    threads: int | None,
    json_file: Path | None,
) -> None:
    """What `podweave.cli.chat_command.chat` does, once what was typed is known to go together.

    ``capacity``: positions for which there is room; by default ``most``, or as many as the model was made for.
    """
    accelerators = Accelerators(load_config(config), chips, memory_timing(memory), link_timing(links), prefetch, beneath)
    chosen = accelerators.config
    if way != "golden" and not chosen.prefetch:
        raise WorkloadError(f"a language model runs from memory, and {chosen.name} has no table [prefetch]; llm8x16 has one")
    sampling = Sampling(temperature, top, seed)
    streams = json_file != Path("-")
    out = Console(markup=False, highlight=False, soft_wrap=True) if streams else None
    report: dict[str, Any] = {"config": chosen.name, "chips": chips, "way": way, "seed": seed}
    with Progress() as progress:
        progress(f"reading {model}")
        integer = load_quantised(model)
        report |= {"model": integer.name, "digest": integer.digest}
        capacity = capacity or min(most, integer.context)
        continues = raw or integer.prompt_format == PLAIN_PROMPT
        asked = [_prompt(integer, text, raw=raw, continued=restore is not None) for text in prompts]
        with open_sessions(
            integer,
            accelerators,
            way,
            len(asked),
            capacity=capacity,
            chunk=chunk,
            threads=threads or cores(),
            seed=seed,
            progress=progress,
        ) as sessions:
            if restore:
                sessions[0].restore(restore)
            if len(sessions) == 1:
                report |= _answer(sessions[0], asked[0], tokens, sampling, progress, out, continues=continues)
            else:
                report |= _answer_together(sessions, asked, tokens, sampling)
            caches = [session.compare_caches() for session in sessions]
            if save:
                sessions[0].save(save)
    steps = report["steps"]
    if way == "rtl":
        differing = sum(each.mismatches for each in caches if each)
        exact = all(step["verdict"] == "pass" for step in steps) and not differing
        report |= {"verdict": "pass" if exact else "fail", "caches_differing": differing}
    finish(report, json_file, print_chat if len(prompts) == 1 else print_chats)
    if way == "rtl" and EXIT_CODES[report["verdict"]]:
        raise typer.Exit(EXIT_CODES[report["verdict"]])


def _prompt(model: IntegerModel, text: str, *, raw: bool, continued: bool) -> list[int]:
    """The tokens of a prompt, without those in front of all texts."""
    if not text:
        what = "to go on with" if continued else "to begin with"
        raise WorkloadError(f"the prompt has no tokens: --prompt TEXT says what there is {what}")
    form = "{prompt}" if raw else model.prompt_format
    if continued and model.tokenizer:
        form = next_turn(form, model.tokenizer)
    return model.tokens(form.replace("{prompt}", text))[len(model.prefix) :]


def next_turn(form: str, tokenizer: Tokenizer) -> str:
    """How a question is put behind an answer: as behind a system prompt, from the token on that ends that."""
    before = form.partition("{prompt}")[0]
    ends = [text for text in map(tokenizer.decode, ([token] for token in tokenizer.ends)) if text]
    return form[max([0, *map(before.rfind, ends)]) :]


def _answer(
    session: Session,
    asked: list[int],
    tokens: int,
    sampling: Sampling,
    progress: Progress,
    out: Console | None,
    *,
    continues: bool,
) -> dict[str, Any]:
    """Generate, showing text as it comes; ``continues``: with that of the prompt in front."""
    tokenizer = session.model.tokenizer
    assert tokenizer
    steps, answer, shown, ended = [], list[int](), "", False
    if continues:
        # The answer goes on with the prompt, and is shown behind it.
        shown = tokenizer.decode(asked)
        if out:
            out.print(shown, end="")
    for item in generate(session, asked, tokens, sampling):
        if isinstance(item, Step):
            steps.append(item.row())
            continue
        assert isinstance(item, Token)
        ended = item.ends
        if not ended:
            answer.append(item.token)
            text = tokenizer.decode([*asked, *answer] if continues else answer)
            if out:
                progress.pause()
                out.print(_whole(text[len(shown) :]), end="")
                sys.stdout.flush()
                progress.resume()
            shown = _whole(text)
    if out:
        out.print()
    return {
        "prompt_tokens": asked,
        "answer_tokens": answer,
        "answer": _whole(tokenizer.decode(answer)),
        "ended": ended,
        "steps": steps,
    }


def _whole(text: str) -> str:
    """What a token adds may wait for the next one: letters of several bytes."""
    return text.removesuffix("\ufffd")


def _answer_together(sessions: list[Session], asked: list[list[int]], tokens: int, sampling: Sampling) -> dict[str, Any]:
    """Generate for several texts at once."""
    tokenizer = sessions[0].model.tokenizer
    assert tokenizer
    steps: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = [{"prompt_tokens": prompt, "answer_tokens": [], "ended": False} for prompt in asked]
    for item in generate_together(sessions, asked, tokens, sampling):
        if isinstance(item, Step):
            steps.append(item.row())
            continue
        text = texts[item.text]
        text["ended"] = item.token.ends
        if not item.token.ends:
            text["answer_tokens"].append(item.token.token)
    for text in texts:
        text["answer"] = _whole(tokenizer.decode(text["answer_tokens"]))
    return {"texts": texts, "steps": steps}
