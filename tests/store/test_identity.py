"""A storage's identity: one for all who open it, also at once, and wherever it moves."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from raymc.specs.errors import StorageFault
from raymc.store.identity import FILE, identity
from raymc.store.objects import Objects


def test_one_for_all_who_ask_at_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        told = {*pool.map(lambda _: identity(Objects(tmp_path / "a")), range(32))}
    [own] = told
    assert re.fullmatch("[0-9a-f]{12}", own)
    assert identity(Objects(tmp_path / "b")) != own
    shutil.move(tmp_path / "a", tmp_path / "c")
    assert identity(Objects(tmp_path / "c")) == own


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"id": "0123456789a"}', '{"id": "0123456789ag"}'])
def test_one_that_cannot_be_read_is_told(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(StorageFault, match=r"storage\.json can't be read"):
        identity(Objects(tmp_path))
