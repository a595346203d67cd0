"""Curves as specs: what tables call them, what is hashed of them, and which ends they share with the minima."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from raymc.specs.connectivity import ConnectivitySpec
from raymc.specs.curves import FitSpec, NamedCurve, exact_ends
from raymc.specs.fitting import Fitting, fit_content
from raymc.specs.task import TaskSpec

CURVE: TypeAdapter[Any] = TypeAdapter(NamedCurve)
GRAMMAR = {"dataset": {"builtin": "grammar"}}
FITTED = ("bezier", "polygonal", "gates", "autoneb")

FIT = {  # one value of each field that isn't its default
    "steps": 7,
    "batch_size": 5,
    "optimizer": "sgd",
    "learning_rate": 0.5,
    "schedule": "cosine",
    "warmup": 0.25,
    "weight_decay": 0.125,
    "clip_norm": None,
    "t": "stratified",
    "draws": 3,
    "dropout": False,
    "seed": 4,
    "task": "other",
    "select": "validation",
    "select_every": 11,
    "select_at": (0.5,),
}
OWN: dict[str, dict[str, Any]] = {
    "linear": {"moves": ("attention", "norms"), "layers": (0, 2), "rest": "b"},
    "spherical": {"moves": ("head",), "layers": (1,), "rest": "b"},
    "aligned": {"permute": ("heads",)},
    "bezier": {"bends": 2},
    "polygonal": {"bends": 3},
    "gates": {"groups": "tensor"},
    "autoneb": {"pivots": 2, "cycles": 5, "insert": 0, "threshold": 0.5},
}


def curve(**fields: Any) -> Any:
    return CURVE.validate_python(fields)


@st.composite
def curves(draw: st.DrawFn) -> dict[str, Any]:
    """Any kind of path, each of its fields left out, or as above."""
    kind = draw(st.sampled_from(list(OWN)))
    known = OWN[kind] | {"space": draw(st.sampled_from(["auto", "delta_w", "factors"])), "name": "a-name"}
    body = {name: value for name, value in known.items() if draw(st.booleans())}
    if kind in FITTED and draw(st.booleans()):
        body["fit"] = {name: value for name, value in FIT.items() if draw(st.booleans())}
    return {"curve": kind, **body}


def test_every_field_is_varied_below():
    assert set(FIT) == set(FitSpec.model_fields)
    assert all(FitSpec.model_validate(FIT).model_dump()[name] != FitSpec().model_dump()[name] for name in FIT)
    for kind, fields in OWN.items():
        shared = {"curve", "name", "space", *(["fit"] if kind in FITTED else [])}
        assert set(type(curve(curve=kind)).model_fields) == {*fields, *shared}


@given(curves())
def test_a_curve_survives_being_written(body: dict[str, Any]):
    made = curve(**body)
    for again in (
        CURVE.validate_json(CURVE.dump_json(made)),
        CURVE.validate_python(made.model_dump(mode="json")),
        CURVE.validate_python(made.model_dump(mode="json", exclude_defaults=True)),
    ):
        assert again == made
        assert (again.title, again.content, again.learning_rate) == (made.title, made.content, made.learning_rate)


@given(st.lists(curves(), min_size=1, max_size=4))
def test_curves_of_a_sweep_are_told_apart_by_what_tables_call_them(bodies: list[dict[str, Any]]):
    titles = [curve(**body).title for body in bodies]
    if len(set(titles)) < len(titles):
        with pytest.raises(ValidationError, match=r"two are called .*: give one of them another name"):
            ConnectivitySpec.model_validate({"curves": bodies})
        return
    spec = ConnectivitySpec.model_validate({"curves": bodies})
    assert spec.curve_names == tuple(titles)
    assert [spec.curve(title) for title in titles] == list(spec.curves)
    assert ConnectivitySpec.model_validate_json(spec.model_dump_json()) == spec
    assert all(" " not in title and "/" not in title for title in titles)
    with pytest.raises(KeyError):
        spec.curve("none of them")


@pytest.mark.parametrize(
    ("body", "title"),
    [
        ({"curve": "linear"}, "linear"),
        ({"curve": "linear", "moves": ["attention", "norms"]}, "linear-attention-norms"),
        ({"curve": "spherical", "layers": [0, 2], "rest": "b"}, "spherical-layers-0-2-rest_b"),
        ({"curve": "bezier", "bends": 1}, "bezier"),
        ({"curve": "bezier", "bends": 3, "space": "factors"}, "bezier-3-factors"),
        ({"curve": "polygonal", "bends": 2, "space": "auto"}, "polygonal-2"),
        ({"curve": "gates", "groups": "sublayer"}, "gates-sublayer"),
        ({"curve": "autoneb", "name": "band", "space": "delta_w"}, "band"),
        ({"curve": "aligned", "permute": ["neurons"]}, "aligned"),
    ],
)
def test_titles(body: dict[str, Any], title: str):
    assert curve(**body).title == title


@pytest.mark.parametrize("kind", OWN)
def test_a_name_alone_is_that_curve_with_its_defaults(kind: str):
    made = CURVE.validate_python(kind)
    assert made == curve(curve=kind)
    assert made.title == kind
    assert made.content == ({"curve": kind, "fit": {}} if kind in FITTED else {"curve": kind})
    assert (made.fitted is not None) == (kind in FITTED)
    assert made.learning_rate == (0.05 if kind == "gates" else 1e-4)


def test_what_is_a_set_is_one_in_keys():
    some = {"curve": "linear", "moves": ["head", "attention"], "layers": [2, 0]}
    turned = {**some, "moves": ["attention", "head", "head"], "layers": [0, 2]}
    assert curve(**some).content == curve(**turned).content == {**turned, "moves": ["attention", "head"]}
    assert curve(curve="aligned", permute=["neurons", "heads"]).content == {"curve": "aligned"}


def test_the_ends_that_are_minima_as_they_are():
    ends = {
        (True, True): [curve(curve=kind) for kind in ("linear", "spherical", *FITTED)],
        (True, False): [
            curve(curve="aligned"),
            curve(curve="linear", moves=["attention"]),
            curve(curve="spherical", layers=[0]),
        ],
        (False, True): [curve(curve="linear", layers=[1], rest="b")],
    }
    assert all(exact_ends(one) == exact for exact, some in ends.items() for one in some)
    assert exact_ends(curve(curve="linear", rest="b")) == (True, True)  # all moves, so nothing is left to rest


# Keys ----------------------------------------------------------------------------------------------------------------


def fitting(body: dict[str, Any], task: Any = None, **fields: Any) -> Fitting:
    ends = {"a": "0" * 20, "b": "1" * 20, "space": "weights", "kind": "classifier", "task": task or GRAMMAR}
    return Fitting.model_validate({**ends, "curve": body, **fields})


@given(curves().filter(lambda body: body["curve"] in FITTED))
def test_fields_at_their_defaults_are_no_part_of_a_key(body: dict[str, Any]):
    written = curve(**body).model_dump(mode="json")
    assert fitting(written).key == fitting(body).key
    assert fitting({**body, "name": "other", "space": None}).key == fitting(body).key  # Fitting.space decides
    fit = {name: value for name, value in body.get("fit", {}).items() if name != "task"}
    assert fitting({**body, "fit": {**fit, "task": "renamed"}}).key == fitting(body).key  # its rows do
    defaults = TaskSpec.model_validate(GRAMMAR).model_dump(mode="json")
    assert fitting(body, defaults).key == fitting(body).key


@pytest.mark.parametrize("kind", FITTED)
def test_every_field_of_a_fit_that_matters_is_part_of_its_key(kind: str):
    plain = {"curve": kind}
    changed = [{**plain, name: value} for name, value in OWN[kind].items()]
    changed += [{**plain, "fit": {name: value}} for name, value in FIT.items() if name != "task"]
    keys = [fitting(body).key for body in (plain, *changed)]
    keys += [fitting(plain, **{name: value}).key for name, value in (("a", "2"), ("b", "2"), ("space", "delta_w"))]
    keys += [fitting({"curve": other}).key for other in FITTED if other != kind]
    assert len(set(keys)) == len(keys)


def test_a_fit_s_key_holds_its_rows_and_not_where_they_lie(make_files: Callable[[Path], Any], tmp_path: Path):
    here, there = (make_files(tmp_path / name)["task"] for name in ("here", "there"))
    plain, choosing = {"curve": "bezier"}, {"curve": "bezier", "fit": {"select": "validation"}}
    keys = [fitting(body, here).key for body in (plain, choosing)]
    assert [fitting(body, there).key for body in (plain, choosing)] == keys
    (tmp_path / "there/rows/validation.jsonl").write_text("changed")  # on which the one is chosen
    assert fitting(plain, there).key == keys[0]
    assert fitting(choosing, there).key != keys[1]
    (tmp_path / "there/rows/train.jsonl").write_text("changed")
    assert fitting(plain, there).key != keys[0]


def test_a_profile_s_content_holds_what_its_curve_was_fitted_on(make_files: Callable[[Path], Any], tmp_path: Path):
    task = TaskSpec.model_validate(make_files(tmp_path / "here")["task"])
    assert fit_content(curve(curve="linear"), task) == {"curve": {"curve": "linear"}}
    before = fit_content(curve(curve="gates"), task)
    (tmp_path / "here/rows/train.jsonl").write_text("changed")
    after = fit_content(curve(curve="gates"), task)
    assert before.pop("rows") != after.pop("rows")
    assert before == after == {"curve": {"curve": "gates", "fit": {}}, "task": {}}
