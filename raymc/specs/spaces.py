"""In which space a pair of minima is joined, and which tuning methods have a point in it."""

from __future__ import annotations

from raymc.specs.connectivity import Space
from raymc.specs.errors import RaymcError
from raymc.specs.methods import peft_type
from raymc.specs.taken import existing_peft
from raymc.specs.trial import TrialSpec

# Method: the spaces that its minima have a point in, the default first. peft's own types are told apart by name.
SPACES: dict[str, tuple[str, ...]] = {
    "full": ("weights",),
    "bitfit": ("weights",),
    "lora": ("delta_w", "factors"),
    "ia3": ("factors", "delta_w"),
    "houlsby": ("factors",),
    "prefix": ("factors",),
    "prompt": ("factors",),
}
# peft types (of 0.21) whose change of the weights can be merged into them, on every model that they fit
MERGEABLE = frozenset(
    {
        *("ADALORA", "ADAMSS", "BOFT", "C3A", "DEFT", "DELORA", "FOURIERFT", "FROD", "GLORA", "GRALORA", "HIRA", "HRA"),
        *("IA3", "LN_TUNING", "LOHA", "LOKR", "LORA", "MISS", "OFT", "PEANUT", "PSOFT", "PVERA", "RANDLORA", "ROAD"),
        *("SHIRA", "SUPERTUNING", "TINYLORA", "TRAINABLE_TOKENS", "UNILORA", "VBLORA", "VERA", "WAVEFT"),
    }
)


def spaces_of(trial: TrialSpec) -> tuple[str, ...]:
    """The spaces in which a trial's minimum is a point, the default first. Raises RaymcError for a broken folder."""
    method = trial.tuning.method
    if method == "existing":
        kind = existing_peft(trial.model)
        if kind is None:
            return ("weights",)
        return _of_peft(kind)
    return _of_peft(trial.tuning.type) if trial.tuning.method == "peft" else SPACES[method]


def _of_peft(kind: str) -> tuple[str, ...]:
    kind = kind.upper()
    if kind == "LORA":
        return SPACES["lora"]
    return ("factors", "delta_w") if kind in MERGEABLE else ("factors",)


def joining_space(one: TrialSpec, other: TrialSpec, asked: Space) -> str:
    """weights (full minima), delta_w (merged weights) or factors (what the method trains, on one base).

    Raises RaymcError, saying why and what instead, for a pair that no such space holds both ends of.
    """
    first, second = spaces_of(one), spaces_of(other)
    if first == second == ("weights",):
        return "weights"
    whole = [any(space in ("weights", "delta_w") for space in spaces) for spaces in (first, second)]
    alike = _alike(one, other)
    if asked == "factors" or (asked == "auto" and alike and first[0] == "factors"):
        if "factors" not in first or "factors" not in second:
            fixed = next((trial for trial, merges in zip((one, other), whole, strict=True) if not merges), None)
            raise RaymcError(
                "a full minimum has no factors; use connectivity.space: delta_w, or pairs: {within: tuning}"
                if fixed is None
                else f"a full minimum has no factors, and {_said(fixed)} can't be merged into the weights; "
                "use pairs: {within: tuning}"
            )
        if not alike:
            raise RaymcError(
                f"factors of {_said(one)} and {_said(other)} have unlike shapes or scales; "
                + ("use connectivity.space: delta_w" if all(whole) else "use pairs: {within: tuning}")
            )
        return "factors"
    for trial, mergeable in zip((one, other), whole, strict=True):
        if not mergeable:
            raise RaymcError(
                f"{_said(trial)} can't be merged into the weights, so it has no point in delta_w; "
                + ("use connectivity.space: factors" if alike else "join it to its like: pairs: {within: tuning}")
            )
    return "delta_w"


def _alike(one: TrialSpec, other: TrialSpec) -> bool:
    """Whether two trials' factors have the same shapes and scales, as far as their specs tell.

    Dropout and the draw at the start don't matter. Of a minimum that exists already, its type alone is known here.
    """
    if "existing" in (one.tuning.method, other.tuning.method):
        return peft_type(one) == peft_type(other)
    bodies = [trial.tuning.model_dump(mode="json", exclude={"dropout", "init_std", "up_std"}) for trial in (one, other)]
    return bodies[0] == bodies[1]


def _said(trial: TrialSpec) -> str:
    body = trial.tuning.model_dump(mode="json", exclude_defaults=True)
    method = body.pop("method")
    if method == "existing":
        return f"existing ({existing_peft(trial.model) or 'a whole model'})"
    return method + (f" ({', '.join(f'{name} {value}' for name, value in body.items())})" if body else "")
