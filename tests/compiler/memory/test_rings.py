"""compiler.memory.rings: descriptors of each tag in the order in which they may begin, the last one marked."""

import numpy as np

from podweave.compiler.memory.rings import RingBuilder
from podweave.spec.descriptors import DESCRIPTOR_BYTES, DescriptorKind
from podweave.spec.load_port import HostSelect


def test_tags_keep_their_order_and_what_may_begin_first_comes_first_in_each() -> None:
    builder = RingBuilder()
    for base, after in ((0, 2), (1, 0), (2, 2), (3, 1)):
        builder.add(HostSelect.W, 0, base, 1, 64 * base, after=after)
    builder.end_tag()
    builder.end_tag()
    for base, after in ((4, 1), (5, 0)):
        builder.add(HostSelect.X, 0, base, 1, 64 * base, after=after)
    builder.end_tag()
    ring = builder.build(base=4096, offset=8192)
    assert ring.base == 4096 + 8192
    assert len(ring) == 7
    expected = {
        "tag": [0, 0, 0, 0, 1, 2, 2],
        "last": [0, 0, 0, 1, 1, 0, 1],
        "base": [1, 3, 0, 2, 0, 5, 4],
        "after": [0, 1, 2, 2, 0, 0, 1],
    }
    assert {name: ring.fields[name].tolist() for name in expected} == expected
    kinds = [DescriptorKind.LOAD] * 4 + [DescriptorKind.NOP] + [DescriptorKind.LOAD] * 2
    np.testing.assert_array_equal(ring.fields["kind"], kinds)
    # What names no byte of the channel is not moved with it.
    np.testing.assert_array_equal(ring.fields["address"], [8256, 8384, 8192, 8320, 0, 8512, 8448])
    assert ring.packed().size == len(ring) * DESCRIPTOR_BYTES
