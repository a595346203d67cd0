"""The fields of specs by dotted name: which there are, and which stands nearest to one that there isn't."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The spec classes inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, types.UnionType, tuple, dict):
        return [model for part in get_args(annotation) for model in models_in(part)]
    return []


def is_field(root: type[BaseModel], parts: Sequence[str]) -> bool:
    """Whether some variant of a spec has the field that the parts of a dotted name lead to."""
    models = [root]
    for depth, part in enumerate(parts):
        having = [model for model in models if part in model.model_fields]
        if not having:
            return False
        models = [inner for model in having for inner in models_in(model.model_fields[part].annotation)]
        if not models and depth < len(parts) - 1:
            return False
    return True


def dotted_fields(root: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields and sections, of all variants."""
    for name, info in root.model_fields.items():
        yield prefix + name
        for model in models_in(info.annotation):
            yield from dotted_fields(model, f"{prefix}{name}.")


def nearest(word: str, known: Sequence[str], parents: Sequence[str | int] = ()) -> str:
    """` (did you mean ...?)`, with the name's parents, or nothing where no known name is near."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not close and word in {name.split(".")[-1] for name in known}:
        close = [name for name in known if name.split(".")[-1] == word][:1]
    return f" (did you mean {'.'.join([*map(str, parents), close[0]])}?)" if close else ""
