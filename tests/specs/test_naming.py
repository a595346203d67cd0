"""How minima are called: by the axes that tell them apart."""

from __future__ import annotations

from typing import Any

from raymc.specs.naming import name_of
from raymc.specs.sweep import SweepSpec


def names(**sections: Any) -> list[str]:
    body = {"name": "one", "model": {"backbone": "a/b"}, "task": {"dataset": {"hub": "c/d"}}, **sections}
    return [name_of(point) for point in SweepSpec.model_validate(body).points]


def test_values_on_the_axes():
    assert names(axes={"train.learning_rate": [1e-4], "seeds.order": [1, 2]}) == [
        "lr=0.0001 order=1",
        "lr=0.0001 order=2",
    ]
    assert names() == ["base"]


def test_a_zipped_group_goes_by_its_first_axis_where_that_tells_all():
    tuning = [{"method": "full"}, {"method": "lora", "rank": 2}]
    assert names(zip=[{"tuning": tuning, "train.learning_rate": [1e-4, 1e-3]}]) == ["tuning=full", "tuning=lora,2"]
    same_first = [{"seeds.init": [1, 1], "seeds.head": [1, 2]}]
    assert names(zip=same_first) == ["init=1 head=1", "init=1 head=2"]


def test_sections_go_by_the_ends_of_their_paths():
    task = [{"dataset": {"path": "/far/away/films"}, "labels": ["a", "b"]}, {"dataset": {"hub": "owner/books"}}]
    assert names(axes={"task": task}) == ["task=films", "task=books"]


def test_a_minimum_that_exists_has_the_name_that_it_is_given():
    assert names(minima=[{"name": "old", "uri": "e/f"}]) == ["base", "old"]
