"""The command line: thin verbs over the Python API."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from raymc.cli.parser import parser
from raymc.cli.verbs import BAD_INPUT, DONE, INTERRUPTED, UNREACHABLE, schema
from raymc.specs.errors import RaymcError, Unreachable

__all__ = ["main", "parser", "schema"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. Bad input is one line on stderr, never a traceback."""
    options = parser().parse_args(arguments)
    try:
        return options.verb(options)
    except Unreachable as error:
        print(error, file=sys.stderr)
        return UNREACHABLE
    except RaymcError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; finished work is in the store, and the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
