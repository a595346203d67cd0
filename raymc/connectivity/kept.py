"""What a stored result is made of, row by row, as a sweep's store keeps it."""

from __future__ import annotations

from raymc.connectivity.pairs import Connections
from raymc.specs.errors import CorruptArtefact
from raymc.specs.results import Evaluation, Profile
from raymc.store.rows import RowTable, read_rows


def path_rows(connections: Connections, a: str, b: str, curve: str, split: str) -> RowTable | None:
    """The rows of the stored path between two minima, None where it isn't there or its rows aren't kept.

    Raises CorruptArtefact as `rows_of`.
    """
    found = connections.profile(a, b, curve, split)
    return rows_of(connections, found) if found is not None and found.row_file else None


def rows_of(connections: Connections, found: Evaluation | Profile) -> RowTable:
    """The rows of an evaluation or a profile that `connections` gave and whose rows are kept.

    Raises CorruptArtefact where the file isn't what was written. It is set aside first, so that the next run, which
    looks at such files by their names alone, makes it again.
    """
    if isinstance(found, Evaluation):
        group = connections.evaluation_key(found.split, connections.space(found.minimum))
        name = found.minimum
    else:
        group = connections.profile_key(found.split, found.space, found.curve, found.head)
        name = f"{found.a}-{found.b}"
    try:
        return read_rows(connections.store, group, name, found.row_file)
    except CorruptArtefact as error:
        connections.store.set_aside(error.kind, error.key)
        raise CorruptArtefact(error.kind, error.key, f"{error.reason}; set aside, `raymc run` makes it anew") from error
