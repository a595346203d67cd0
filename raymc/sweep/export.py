"""A minimum, a point of a path or a soup as an ordinary Hugging Face folder, scored beside what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raymc.connectivity.work import PairTask
from raymc.specs.curves import AlignedCurve, LinearCurve, NamedCurve, SphericalCurve
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.spaces import spaces_of
from raymc.store import layout
from raymc.sweep.exported import Chosen, Exported, write
from raymc.sweep.ingredients import cluster_of, find, members_of, ranked
from raymc.sweep.results import Sweep
from raymc.sweep.workbench import Workbench

SOUPS = ("uniform", "greedy", "cluster")


def export(
    sweep: Sweep,
    out: str | Path,
    *,
    minimum: str | None = None,
    path: tuple[str, str] | None = None,
    t: float | str | None = None,
    curve: str | None = None,
    soup: str | None = None,
    choose: str | None = None,
    report: str | Sequence[str] | None = None,
    members: Sequence[str] | None = None,
    cluster: str | int | None = None,
    merged: bool = False,
    threshold: float | None = None,
) -> Exported:
    """Write one of three things into the new folder `out`, and score it in fp32 on the sweep's row sets.

    `minimum`: a copy of its folder; `merged`: of a parameter-efficient one, the whole model. `path`: the point `t` of
    the path from one minimum to another along `curve` (left out: the sweep's first), or t="best": that of lowest loss
    on the row set `choose` among the points that were scored. `soup`: the mean of minima: uniform; greedy (Wortsman et
    al. 2022, Recipe 1, by the first metric on `choose`); cluster: of one cluster alone (`cluster`: its number or a
    minimum in it, else that of the best minimum on `choose`; `threshold`: the highest linear barrier in it, in nats),
    to which `cluster` or `threshold` limit the others too. `members`: what soups may be made of; left out, all minima
    above the floor, of snapshots of one run the last.

    `choose`: a row set; left out, the first that fits. `report`: the others to score on; left out, all. Minima go by
    key, the start of it (6 characters or more) or name. Raises RaymcError for what isn't there or doesn't fit.
    """
    asked = [name for name, one in (("minimum", minimum), ("path", path), ("soup", soup)) if one is not None]
    if len(asked) != 1:
        raise RaymcError(f"give one of minimum, path and soup, not {' and '.join(asked) or 'none'}")
    given = {"t": t, "curve": curve, "members": members, "cluster": cluster, "threshold": threshold}
    given |= {"merged": merged or None, "choose": choose}
    of_soup = ("members", "cluster", "threshold", "choose")
    fits = {"minimum": ("merged",), "path": ("t", "curve", "choose"), "soup": of_soup}[asked[0]]
    if wrong := [name for name, one in given.items() if one is not None and name not in fits]:
        raise RaymcError(f"{wrong[0]} doesn't go with {asked[0]}")
    for split in [*([choose] if choose else []), *([report] if isinstance(report, str) else report or [])]:
        if split not in sweep.splits:
            raise RaymcError(f"sweep {sweep.name} has no row set {split!r} (it has {', '.join(sweep.splits)})")

    from raymc.tasks.export import destination

    with destination(out) as folder:
        bench = Workbench(sweep, choose)
        if minimum is not None:
            chosen = _minimum(bench, minimum, merged)
        elif path is not None:
            chosen = _path(bench, path, t, curve)
        else:
            chosen = _soup(bench, str(soup), members, cluster, threshold)
        splits = [report] if isinstance(report, str) else report
        provenance, table = write(bench, chosen, folder, splits)
    return Exported(Path(out), provenance, table)


def _minimum(bench: Workbench, asked: str, merged: bool) -> Chosen:
    key = find(bench.names, asked)
    space, spaces = bench.connections.space(key), spaces_of(bench.trials[key])
    if merged and not {"weights", "delta_w"} & set(spaces):
        raise RaymcError(f"{bench.names[key]} can't be merged into the weights; leave merged out")
    space = space if not merged or space == "weights" else "delta_w"
    score, point = bench.mixture([key], space)
    whole = merged and space == "delta_w"
    what = {"what": "minimum", "recipe": "merged into the backbone's weights" if whole else "a copy"}
    return Chosen(what, space, key, {key: 1.0}, score, point if whole else None, None, [])


def _path(bench: Workbench, asked: tuple[str, str], t: float | str | None, curve: str | None) -> Chosen:
    from raymc.connectivity.mixtures import PathPoint, shared_labels

    first, last = (find(bench.names, end) for end in asked)
    if first == last:
        raise RaymcError(f"{bench.names[first]} is both ends of the path")
    a, b = sorted((first, last))
    title, how = _curve(bench, curve)
    heads = bench.connections.heads(a, b)
    split = bench.choose or next(iter(heads), None)
    if split is None or split not in heads:
        raise RaymcError(f"the path isn't scored on {split or 'any row set'}; it is on {', '.join(heads) or 'none'}")
    owner = {"path": "", "a": a, "b": b}[heads[split]]
    notes, chosen_on = [], None
    if t == "best":
        along, chosen_on = _best(bench, a, b, title, split), split
        notes.append(f"t is that of lowest loss on {split} among the points scored there")
        if along in (0.0, 1.0):
            notes.append("no point of the path that was scored is better than this end of it")
    else:
        along = _number(t) if first == a else 1 - _number(t)
    known = title in bench.spec.connectivity.curve_names
    space = bench.connections.space(a, b, curve=title if known else None)
    fit = bench.connections.fit_key(a, b, title) if known else ""
    task = PairTask(a, b, space, title, (), (), how, fit)
    if not owner:
        shared_labels({key: bench.made(key) for key in (a, b)})
    point = PathPoint(bench.evaluator, task, along, owner)
    try:
        weights, digest, fit_chosen_on = point.told(bench.made(owner or a).labels if bench.classifies else ())
    except CorruptArtefact as error:
        if error.kind != layout.CURVES:
            raise
        bench.store.set_aside(error.kind, error.key)  # a run looks at what it needs: all pairs may be scored
        raise CorruptArtefact(error.kind, error.key, f"{error.reason}; set aside, `raymc run` makes it anew") from error
    if how.fitted is not None:
        notes.append("the coefficients are those of the ends; the rest of the point is of the curve's bends")
    notes += _ends_of(how, bench.names, a, b)
    if fit_chosen_on:
        notes.append(f"the curve itself was chosen on {fit_chosen_on}, so figures on that row set are optimistic")
    if owner:
        notes.append(f"with the head of {bench.names[owner]}, fixed along the path")
    place = _number(t) if t != "best" else along if first == a else 1 - along  # as seen from the first
    recipe = f"the point t = {place:.6g} of the {title} path from the first ingredient to the second"
    what = {"what": "path", "recipe": recipe, "curve": title, "curve_spec": how.model_dump(mode="json")}
    what |= {"fit": digest, "t": place, "head": owner or "path"}
    by_key = dict(zip((a, b), weights, strict=True))
    coefficients = {key: by_key[key] for key in (first, last)}
    return Chosen(what, space, owner or a, coefficients, point.score, point.point, chosen_on, notes)


def _soup(
    bench: Workbench, recipe: str, asked: Sequence[str] | None, cluster: str | int | None, threshold: float | None
) -> Chosen:
    from raymc.analysis import soups
    from raymc.connectivity.mixtures import Ingredient, Mixtures, common_space, shared_labels

    if recipe not in SOUPS:
        raise RaymcError(f"no soup is called {recipe!r}: it is one of {', '.join(SOUPS)}")
    keys, notes = members_of(bench.sweep, bench.points, asked)
    shared_labels({key: bench.made(key) for key in keys})
    split = bench.choose or bench.splits(keys[0])[0]
    what: dict[str, Any] = {"what": "soup"}
    chosen_on = None
    order = ranked(bench.minima, keys, split, bench.metric)
    if recipe == "cluster" or cluster is not None or threshold is not None:
        inside, told, said = cluster_of(bench.sweep, order, split, cluster, threshold)
        order, what["cluster"], chosen_on = inside, told, split
        notes += said
    space = common_space(bench.connections, {key: bench.trials[key] for key in order})
    if recipe == "greedy":
        mixtures = Mixtures(bench.evaluator, space)

        def taste(some: Sequence[str]) -> float:
            return mixtures.score([Ingredient(key) for key in some], split).metrics[bench.metric]

        found, chosen_on = soups.greedy(order, taste), split
        what["recipe"] = (
            f"greedy soup (Wortsman et al. 2022, Recipe 1): by falling {bench.metric} on {split}, a minimum stays "
            f"if the mean's {bench.metric} there doesn't fall"
        )
        what["history"] = [{"key": s.key, bench.metric: s.score, "kept": s.kept} for s in found.history]
    else:
        found = soups.uniform(order)
        what["recipe"] = "uniform soup: the mean" + (" of one cluster" if "cluster" in what else "")
    if len(found.keys) == 1:
        notes.append("a soup of one: it is that minimum")
    score, point = bench.mixture(found.keys, space)
    weights = found.weights
    return Chosen(what, space, found.keys[0], weights, score, point, chosen_on, notes)


def _number(t: float | str | None) -> float:
    try:
        found = float(t if t is not None else "nan")
    except ValueError:
        found = float("nan")
    if not 0 <= found <= 1:
        raise RaymcError(f"t is {t!r}; give a number from 0 to 1, or best" if t is not None else "a path needs t")
    return found


def _curve(bench: Workbench, title: str | None) -> tuple[str, Any]:
    connectivity = bench.spec.connectivity
    if title is None:
        return connectivity.curves[0].title, connectivity.curves[0]
    if title in connectivity.curve_names:
        return title, connectivity.curve(title)
    if title == "linear":
        return title, LinearCurve(curve="linear")
    raise RaymcError(f"sweep {bench.sweep.name} has no curve {title!r} (it has {', '.join(connectivity.curve_names)})")


def _ends_of(how: NamedCurve, names: Mapping[str, str], a: str, b: str) -> list[str]:
    """What the coefficients of two minima mean where an end of the path between them is no minimum as it is."""
    if isinstance(how, AlignedCurve):
        return [f"{names[b]} has its {' and '.join(how.permute)} in the order that lies nearest to {names[a]}'s"]
    if isinstance(how, (LinearCurve, SphericalCurve)) and how.partial:
        kept = names[a if how.rest == "a" else b]
        return [f"the coefficients are those of the weights that move; the others are {kept}'s"]
    return []


def _best(bench: Workbench, a: str, b: str, curve: str, split: str) -> float:
    table = bench.sweep.profiles()
    here = (table["a"] == a) & (table["b"] == b) & (table["curve"] == curve) & (table["split"] == split)
    if not here.any():
        raise RaymcError(f"the {curve} path was not scored on {split}, so its best point isn't known; give t")
    along = table[here].sort_values("t")
    t, loss = along["t"].to_numpy(), along["loss"].to_numpy()
    end = 0 if loss[0] <= loss[-1] else len(t) - 1
    lowest = int(loss.argmin())
    return float(t[lowest if loss[lowest] < loss[end] else end])  # of equal ones an end, as in analysis.best
