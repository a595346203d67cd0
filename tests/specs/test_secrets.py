"""Passwords leave every text, and nothing else does."""

from __future__ import annotations

import json

import pytest

from raymc.specs.resources import Tracking
from raymc.specs.secrets import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://person:secret@host:5000/x", "http://host:5000/x"),
        ("postgresql+psycopg2://person:se%40cret@host/db", "postgresql+psycopg2://host/db"),
        ("https://person:se@cr/et@host:1/", "https://host:1/"),
        ("no 'http://a:secret@b' nor s3://key:secret@bucket/x.", "no 'http://b' nor s3://bucket/x."),
        (
            "postgresql://host/db?user=me&password=secret&sslmode=require",
            "postgresql://host/db?user=me&password=…&sslmode=require",
        ),
        ("http://host/?access_token=secret", "http://host/?access_token=…"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("http://host/?viewStateShareKey=a1&x-api-key=b2", "http://host/?viewStateShareKey=a1&x-api-key=…"),
        ("sqlite:////tmp/x", "sqlite:////tmp/x"),
        ("mail me@home about http://host", "mail me@home about http://host"),
    ],
)
def test_only_secrets_go(text, shown):
    assert without_secrets(text) == shown


def test_a_spec_keeps_the_password_and_never_writes_it():
    tracking = Tracking(uri="http://person:secret@host")
    assert tracking.uri == "http://person:secret@host"
    for body in (
        tracking.model_dump_json(),
        json.dumps(tracking.model_dump()),
        json.dumps(tracking.model_dump(mode="json")),
    ):
        assert "secret" not in body
        assert "person" not in body
