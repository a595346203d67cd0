"""What a cluster has room for, now and a head that isn't there."""

from __future__ import annotations

import pytest

from raymc.runtime.cluster import Cluster, Shape, Unplaceable, connect
from raymc.specs.errors import Unreachable


def test_room_is_counted_within_nodes():
    cluster = Cluster(((3.0, 0.0), (2.0, 1.0), (0.0, 4.0)))
    assert cluster.fits(Shape(1.0, 0.0)) == 5
    assert cluster.fits(Shape(2.0, 0.0)) == 2
    assert cluster.fits(Shape(0.5, 0.25)) == 4
    assert cluster.require(Shape(1.0, 0.0), 2, "resources.trial", "workers") == 2
    with pytest.raises(Unplaceable, match=r"resources\.trial: 2 workers of 1 CPU and 1 GPU .* on 3 nodes, room for 1"):
        cluster.require(Shape(1.0, 1.0), 2, "resources.trial", "workers")


def test_a_head_that_isnt_there_is_one_line():
    with pytest.raises(Unreachable, match=r"Ray 127\.0\.0\.1:1: nothing answers there"), connect("127.0.0.1:1", False):
        pass
