"""Where a sweep's storage may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from raymc.specs.load import load_spec


@pytest.mark.parametrize("value", ["s3://bucket/a/prefix", "gs://bucket", "s3://bucket"])
def test_object_storage_is_left_as_it_is_written(value: str, write, base: str):
    assert load_spec(write(f"{base}storage: {value}\n")).storage == value


def test_a_folder_is_taken_from_the_spec_s_own(write, base: str, tmp_path: Path):
    assert load_spec(write(f"{base}storage: ../there\n")).storage == str(tmp_path.parent / "there")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hdfs://host/x", "a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, not hdfs://"),
        ("S3://bucket", "a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, not S3://"),
        ("s3://", "no bucket is named: s3://BUCKET/PREFIX"),
        ("gs:///", "no bucket is named: gs://BUCKET/PREFIX"),
        ("s3://key:secret@bucket/x", "names and passwords belong in the environment, not in the URI"),
    ],
)
def test_what_is_neither_is_refused_where_it_is_written(value: str, message: str, write, base: str, faults_of):
    path = write(f"{base}storage: {value}\n")
    (fault,) = faults_of(path)
    assert (fault.path, fault.line, fault.column) == ("storage", base.count("\n") + 1, 10)
    assert message in fault.message
    assert "secret" not in str(fault)
