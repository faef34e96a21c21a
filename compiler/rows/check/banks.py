"""Words in P and X banks: ports, and every word there when it is read."""

from __future__ import annotations

import numpy as np

from podweave.ir.row_operations import Append, Attention
from podweave.spec.jobs import Emit
from podweave.spec.load_port import HostSelect
from podweave.spec.row_functions import ELEMENT_WIDTH, Destination

from ...chip.bank_words import zero_word
from ...chip.check.jobs import Bools, Ints, expand
from ...chip.check.networks import check_network, pod_traffic, sent_traffic
from ...jobs import ProgramError
from ..program import RowProgram
from .history import Access, Bank, check_history
from .state import State
from .view import RowView, joined


def check_row_networks(view: RowView) -> None:
    """Raises `ProgramError` for two words that meet on a wire or at a bank."""
    destination = view.posts["destination"]
    sends, planes = np.flatnonzero(view.into_x), np.flatnonzero(destination == Destination.PLANES)
    later = joined([np.zeros_like(sends), np.ones_like(planes)])
    for traffic in (*pod_traffic(view), sent_traffic(view, np.concatenate([sends, planes]), later)):
        check_network(view, traffic)


def check_p_banks(view: RowView, state: State) -> None:
    """Ports of P banks, and their words; see `check_history`."""
    streams, posts, config = view.streams, view.posts, view.config
    depth = config.memory.p_words
    stream, word = expand(np.flatnonzero(view.emits), view.streamed[view.emits])
    at = streams["p_bank"][stream] * depth + view.p_walk.at(stream, word)
    sums = Access.of_streams(view, stream, at, streams["start"][stream] + word + config.write_latency + config.network_latency)
    made = view.made(np.flatnonzero(view.own))
    at = posts["bank"][made.job] * depth + view.sent_walk.at(made.job, made.word)
    own = Access.of_posts(view, made.job, at, made.read + config.post_latency + view.program.turning[made.job])
    adds = [streams["emit"][stream] == Emit.ACCUMULATE, posts["destination"][made.job] == Destination.ADD]
    job, word = expand(np.arange(len(posts["start"])), view.read)
    address = view.read_walk.at(job, word)
    at = posts["bank"][job] * depth + address
    made_word = word // view.window[job]
    time = posts["start"][job] + made_word * view.period[job] + word % view.window[job]
    bank = Bank(
        kind="P",
        view=view,
        owners=state.owners,
        depth=depth,
        writes=Access.joined(sums, own),
        adds=np.concatenate(adds),
        void=np.concatenate([np.zeros(len(stream), bool), _nothing(view, state, made.job, made.in_row, made.row)]),
        reads=Access.of_posts(view, job, at, time),
        needless=_nothing(view, state, job, made_word % posts["n2"][job], made_word // posts["n2"][job])
        | (address == zero_word(config)),
        lag=2,
        owner=state.owner[HostSelect.P],
    )
    bank.require_one_at_a_time(bank.writes, "write")
    bank.require_one_at_a_time(Access.joined(bank.reads, bank.writes[bank.adds]), "read, or add,")
    state.owner[HostSelect.P] = check_history(bank)


def _nothing(view: RowView, state: State, job: Ints, in_row: Ints, row: Ints) -> Bools:
    """Words that post jobs make of nothing: whatever they read, it is multiplied by 0, or beyond the end of its row."""
    posts = view.posts
    node = posts["bank"][job]
    vanishes = state.vanishes[node, posts["parameters"][job] + posts["parameters_step"][job] * in_row]
    vanishes &= posts["row_scale"][job] == 0
    masked = posts["masked"][job] == 1
    length = np.where(masked, posts["length"][job] + posts["length_step"][job] * row, 0)
    # No row sees more keys than there are.
    operations = view.program.graph.operations
    contexts = np.full(len(operations), 1 << ELEMENT_WIDTH)
    for index in np.unique(posts["operation"]).tolist():
        operation = operations[index]
        if isinstance(operation, Attention):
            contexts[index] = max(operation.contexts)
    most = np.minimum(state.most[node, length], contexts[posts["operation"][job]])
    return vanishes | masked & (posts["element"][job] + posts["element_step"][job] * in_row >= most)


def check_x_banks(view: RowView, state: State) -> None:
    """Words of X banks; see `check_history`."""
    streams, posts, config = view.streams, view.posts, view.config
    depth, to_bank = config.memory.x_words, config.post_latency + config.network_latency
    made = view.made(np.flatnonzero(view.into_x))
    at = posts["x_bank"][made.job] * depth + view.sent_walk.at(made.job, made.word)
    first = Access.of_posts(view, made.job, at, made.read + to_bank + view.program.turning[made.job])
    planes = posts["destination"][made.job] == Destination.PLANES
    second = Access(first.job, first.at + 1, first.time + 1, first.operation)[planes]
    stream, word = expand(np.arange(len(streams["start"])), view.streamed)
    at = streams["x_bank"][stream] * depth + view.x_walk.at(stream, word)
    writes, nothing = Access.joined(first, second), _nothing(view, state, made.job, made.in_row, made.row)
    bank = Bank(
        kind="X",
        view=view,
        owners=state.owners,
        depth=depth,
        writes=writes,
        adds=np.zeros(len(writes.job), bool),
        void=np.concatenate([nothing, nothing[planes]]),
        reads=Access.of_streams(view, stream, at, streams["start"][stream] + word + config.network_latency),
        needless=np.zeros(len(stream), bool),
        lag=1,
        owner=state.owner[HostSelect.X],
    )
    state.owner[HostSelect.X] = check_history(bank)


def check_stored(program: RowProgram, state: State) -> None:
    """Raises `ProgramError` for words that go into memory behind an epoch, but are not what should be there."""
    for words in program.outputs:
        depth = len(state.owner[words.select]) // program.config.pods
        number = state.owners.number(words.tensor)
        there = np.flatnonzero((words.numbers >= 0).any(axis=1)) + words.base
        _require_owner(state, words.select, words.node, there, depth, number)
    appends = {operation.cache: i for i, operation in enumerate(program.graph.operations) if isinstance(operation, Append)}
    depth = program.config.memory.x_words
    for rows in program.appended:
        there = np.arange(rows.base, rows.base + rows.words)
        _require_owner(state, HostSelect.X, rows.node, there, depth, appends[rows.tensor])


def _require_owner(state: State, select: HostSelect, node: int, words: Ints, depth: int, number: int) -> None:
    wrong = state.owner[select][node * depth + words] != number
    if wrong.any():
        at = int(words[np.argmax(wrong)])
        raise ProgramError(f"{select.name} bank {node} address {at} is stored as {state.owners.names[number]}, which is not there")
