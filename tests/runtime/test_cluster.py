"""What a cluster has room for, now and a head that isn't there."""

from __future__ import annotations

import pytest

from raymc.runtime.cluster import Cluster, Shape, Unplaceable, connect, to_come
from raymc.specs.errors import RaymcError, Unreachable


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


def test_nodes_that_an_autoscaler_may_add_count_as_room():
    assert to_come([], "") == []
    assert to_come([(4.0, 1.0), (16.0, 0.0), (4.0, 1.0)], "3x4CPU+1GPU, 1x16CPU") == [(4.0, 1.0)]
    assert Cluster(tuple(to_come([], "8x4CPU+1GPU"))).require(Shape(2, 1), 2, "resources.trial", "workers") == 4
    for text in ("8", "4CPU", "8x1GPU", "x4CPU", "8x4CPU+GPU"):
        with pytest.raises(RaymcError, match=r"RAYMC_GROWS_TO: .* is no group of nodes, such as 8x4CPU"):
            to_come([], text)
