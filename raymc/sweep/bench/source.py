"""Where the minima come from that a benchmark joins: a sweep's own, or a few of the built-in model trained just now."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from raymc.specs.content import backbone_key
from raymc.specs.errors import RaymcError
from raymc.specs.model import GrammarBackbone
from raymc.specs.sweep import SweepSpec
from raymc.store import layout
from raymc.store.store import Store


def builtin() -> SweepSpec:
    """The quickstart's model and task, twice as wide, trained for a few seconds: three minima."""
    return SweepSpec.model_validate(
        {
            "name": "bench",
            "model": {
                "backbone": {"builtin": "grammar-bert", "hidden_size": 128, "intermediate_size": 256, "steps": 60}
            },
            "task": {"dataset": {"builtin": "grammar", "train_rows": 256, "validation_rows": 512}, "max_length": 32},
            "train": {"steps": 40, "batch_size": 64, "learning_rate": 5e-4, "warmup": 0.1},
            "axes": {"seeds.order": [1, 2, 3]},
            "connectivity": {"curves": ["linear"], "splits": ["validation"]},
        }
    )


def train_builtin(spec: SweepSpec, store: Store) -> None:
    """Make the minima of `builtin` that the store lacks, in this process."""
    from raymc.training.finetune import finetune
    from raymc.training.parallel import Group
    from raymc.training.pretrain import pretrain

    group = Group()
    for point in spec.points:
        backbone = point.trial.model.backbone
        if isinstance(backbone, GrammarBackbone) and not store.has(layout.BACKBONES, backbone_key(backbone)):
            pretrain([backbone], store, group, checkpoint_every=0, log_every=20, report=lambda _: None)
        finetune([point.trial], store, group, checkpoint_every=0, log_every=20, report=lambda _: None)


def linked(store: Store, home: Path, minima: Iterable[str]) -> Store:
    """A new store with links to minima, backbones and fitted curves of another, which nothing is written to.

    Raises RaymcError where links can't be made.
    """
    wanted = {layout.MINIMA: set(minima), layout.BACKBONES: store.keys(layout.BACKBONES)}
    wanted[layout.CURVES] = store.keys(layout.CURVES)
    try:
        for kind, keys in wanted.items():
            (home / kind).mkdir(parents=True)
            for key in keys:
                (home / kind / key).symlink_to(store.folder(kind, key), target_is_directory=True)
    except OSError as error:
        raise RaymcError(f"{home}: {error.strerror or error}") from error
    found = Store(home)
    found.prepare()
    return found
