"""Files as safetensors writes them, read once; and files that are none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from raymc.tasks.weight_file import WeightFile

LARGE = torch.arange(700_001, dtype=torch.float32)  # more than one piece of what is read at a time
TENSORS = {
    "b.large": LARGE,
    "a.scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "half": torch.ones(3, 5, dtype=torch.bfloat16),
    "ids": torch.arange(7),
    "c.matrix": torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "some.safetensors", metadata={"format": "pt"})
    return tmp_path / "some.safetensors"


@pytest.mark.parametrize("names", [set(TENSORS) - {"half", "ids"}, {"c.matrix"}, set()])
def test_tensors_are_those_of_safetensors_and_the_hash_that_of_the_file(path: Path, names: set[str]):
    with WeightFile(path) as file:
        assert {name: (entry.dtype, entry.shape) for name, entry in file.entries.items()} == {
            name: ("I64" if name == "ids" else tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS.items()
        }
        into = {name: torch.full_like(TENSORS[name], 9.0) for name in names}
        assert file.read(into, hashed=True) == hashlib.sha256(path.read_bytes()).hexdigest()
    expected = load_file(path)
    assert all(torch.equal(into[name], expected[name]) for name in names)
    again = {name: torch.zeros_like(TENSORS[name]) for name in names}
    with WeightFile(path) as file:
        assert file.read(again, hashed=False) == ""
    assert all(torch.equal(again[name], expected[name]) for name in names)


def test_a_tensor_of_another_shape_is_refused(path: Path):
    with WeightFile(path) as file, pytest.raises(ValueError, match=r"c\.matrix is torch\.float32"):
        file.read({"c.matrix": torch.zeros(3, 4)}, hashed=True)


def written(path: Path, header: object, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (b"{not json", b""),
        ([1], b""),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"12345"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}, b""),
        ({"a": {"dtype": "F4", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        ({"a": {"dtype": "F32", "shape": [1]}}, b"1234"),
        ({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}, b"1234"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, header: object, data: bytes):
    with pytest.raises(ValueError, match=r"\bits? "):
        WeightFile(written(tmp_path / "bad", header, data))


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_file_cut_short_is_refused(path: Path, kept: int):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"\bits? "):
        WeightFile(path)
