"""Passwords in URIs: nothing that is shown, logged or stored has them."""

from __future__ import annotations

import re

_NAMED = re.compile(
    r"(?i)([?&;](?:[\w.-]*(?:pass(?:word|wd)?|pwd|secret|token|(?:api|access|account)[_-]?key|credential|signature)[\w.-]*)=)[^&;\s'\"]+"
)
_USER = re.compile(r"(?<=://)[^/\s'\"]*@")
_WITH_PASSWORD = re.compile(r"(?<=://)[^/@:\s'\"]*:(?!\d+/)[^\s'\"]*@")  # a password that has a slash in it


def without_secrets(text: str) -> str:
    """A text whose URIs have no name and password in them, and no value of a parameter that is named like a secret."""
    return _NAMED.sub(r"\1…", _USER.sub("", _WITH_PASSWORD.sub("", text)))
