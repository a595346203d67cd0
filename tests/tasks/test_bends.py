"""Bends of fitted curves on disk, and curves from specs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file

from raymc.specs.curves import NamedCurve
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.tasks.bends import build_curve, read_bends, save_bends

CURVE: TypeAdapter[NamedCurve] = TypeAdapter(NamedCurve)


class Layout:
    """Two tensors with `gap` unused places between them."""

    names = ("x", "y")
    shapes = ((2, 2), (3,))

    def __init__(self, gap: int = 0):
        self.gap, self.flat = gap, torch.zeros(7 + gap)

    def views(self, buffer: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"x": buffer[:4].view(2, 2), "y": buffer[4 + self.gap :]}


def saved(folder: Path, count: int = 2, **body: Any) -> list[torch.Tensor]:
    torch.manual_seed(0)
    bends = [torch.randn(7) for _ in range(count)]
    save_bends(Layout(), bends, folder, torch.tensor([0.5]))
    written = {"at": [0.25, 0.5], "bends": count, "labels": ["no", "yes"], **body}
    (folder / "curve.json").write_text(json.dumps(written))
    return bends


def read(folder: Path, model: Any = None, order: tuple[str, ...] = ()) -> Any:
    return read_bends(model or Layout(), folder, order)


def test_bends_come_back_in_any_layout(tmp_path: Path):
    bends = saved(tmp_path)
    found, at = read(tmp_path)
    assert at == (0.25, 0.5)
    assert all(torch.equal(one, other) for one, other in zip(found, bends, strict=True))
    padded, _ = read(tmp_path, Layout(gap=5))
    for one, other in zip(padded, bends, strict=True):
        assert one.tolist() == [*other[:4].tolist(), *[0] * 5, *other[4:].tolist()]
    assert set(load_file(tmp_path / "curve.safetensors")) == {"1:x", "1:y", "2:x", "2:y", "gates"}


def test_no_t_is_that_of_a_bezier_curve(tmp_path: Path):
    saved(tmp_path, at=None)
    assert read(tmp_path)[1] is None


def test_other_tensors_than_the_models_are_refused(tmp_path: Path):
    saved(tmp_path)
    other = Layout()
    other.shapes = ((2, 2), (4,))
    with pytest.raises(RaymcError, match=r"1:y is \(3,\), the minima have \(4,\)"):
        read(tmp_path, other)
    saved(tmp_path, count=3, bends=2)
    with pytest.raises(RaymcError, match=r"3:x is \(2, 2\), the minima have absent"):
        read(tmp_path)


def test_a_folder_that_cannot_be_read_is_corrupt(tmp_path: Path):
    saved(tmp_path)
    tensors = load_file(tmp_path / "curve.safetensors")
    for damage in (
        lambda: (tmp_path / "curve.safetensors").write_bytes(b"none"),
        lambda: (tmp_path / "curve.json").write_text("{}"),
        lambda: (tmp_path / "curve.json").unlink(),
    ):
        damage()
        with pytest.raises(CorruptArtefact, match="can't be read"):
            read(tmp_path)
        save_file(tensors, tmp_path / "curve.safetensors")


@pytest.mark.parametrize(
    ("how", "middle"),
    [
        ("linear", [0.5, 0.5]),
        ("aligned", [0.5, 0.5]),
        ("spherical", [math.sqrt(0.5)] * 2),
        ("bezier", [0.25 + 0.5 * 3, 0.25 + 0.5 * 5]),
        ("polygonal", [3.0, 5.0]),
        ("gates", [3.0, 5.0]),
        ("autoneb", [3.0, 5.0]),
    ],
)
def test_a_spec_means_its_curve(how: str, middle: list[float]):
    spec, out = CURVE.validate_python(how), torch.zeros(2)
    bends = [torch.tensor([3.0, 5.0])] if spec.fitted else []
    curve = build_curve(spec, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), bends)
    curve.point(0.5, out)
    assert out.tolist() == pytest.approx(middle)


def test_a_chain_takes_the_t_of_its_bends():
    spec, out = CURVE.validate_python("autoneb"), torch.zeros(1)
    curve = build_curve(spec, torch.zeros(1), torch.ones(1), [torch.tensor([9.0])], (0.9,))
    curve.point(0.9, out)
    assert out.item() == 9.0


def test_no_curve_between_opposite_ends():
    with pytest.raises(RaymcError, match="curve spherical: no spherical path"):
        build_curve(CURVE.validate_python("spherical"), torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0]))
