"""What the search reads of Tune."""

from __future__ import annotations

from types import SimpleNamespace

from raymc.runtime.losses import loss_of
from raymc.runtime.search import _last_error


def test_the_last_of_several_errors_counts(tmp_path):
    file = tmp_path / "error.txt"
    file.write_text(
        "Failure # 1 (occurred at 2026-11-21_23-59-30)\nThe actor died because its node has died. Node Id: 32\n"
        "Failure # 1 (occurred at 2026-11-21_23-59-59)\nray::train()\nValueError: no such thing\n"
    )
    assert loss_of(_last_error(SimpleNamespace(error_file=str(file)))).reason == "ValueError: no such thing"
    assert _last_error(SimpleNamespace(error_file=None)) == ""
