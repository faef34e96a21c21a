"""Holds a chip program against the rules of the hardware: whatever would set an error bit, or read a word that is not there.

Jobs are intervals of cycles. What can be told from intervals is; words are only looked at one by one where a rule is about
addresses, or where intervals on a wire overlap.
"""

from __future__ import annotations

import numpy as np

from ..epoch_program import EpochProgram
from .activations import check_activations, check_swaps, check_weights
from .fields import check_engines, check_fields, check_values
from .jobs import ProgramView
from .networks import check_network, pod_traffic, sent_traffic
from .parts import check_parts
from .sums import check_accumulators, check_partial_sums


def check_chip(program: EpochProgram) -> None:
    """Raises `ProgramError` for the first rule that a program breaks; the message names the job, the cycle and the place.

    Each tile of a job over several is held against the rules as a job of its own.

    Beyond what sets an error bit, words must be there when they are read: each address of a P bank holds one result per epoch,
    which is stored once, complete before it is read, and not written after; each slot of an X word is written once, and not on
    top of what the host put there; a pod adds only to accumulators of the same operation that it has initialised and
    whose sum it has not yet emitted. Accumulators of earlier epochs may be read, and must not be written but by the operation that
    adds to them; of a reduction over several operations, each writes every word of sums, and only the last is read. The zero word
    is read by jobs with a constant set, which in turn read nothing else.
    """
    check_values(ProgramView.of(program))
    view = ProgramView.tile_by_tile(program)
    check_fields(view)
    check_engines(view)
    for traffic in (*pod_traffic(view), sent_traffic(view, np.arange(len(program.posts["start"])))):
        check_network(view, traffic)
    check_swaps(view)
    tile_of_stream = check_weights(view)
    check_partial_sums(view)
    check_parts(view)
    check_activations(view, tile_of_stream)
    check_accumulators(view)
