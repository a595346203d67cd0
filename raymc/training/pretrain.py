"""Pre-train backbones, snapshots of one run, and put them into the store as Hugging Face folders."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from raymc.specs.content import backbone_key, backbone_trajectory
from raymc.specs.errors import RaymcError
from raymc.specs.model import GrammarBackbone, Pretrained
from raymc.specs.task import GRAMMAR_POSITIONS
from raymc.specs.text import TextBackbone
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks import backbones as starts
from raymc.tasks import grammar, mlm
from raymc.tasks.corpus import Corpus, pack, read_corpus, token_stream
from raymc.tasks.corruption import Batches, corrupted, corruption_of
from raymc.tasks.networks import check_reload, network_of, tokenizer_of
from raymc.training.checkpoint import Checkpoints
from raymc.training.language import LanguageModelling, Validation, validate
from raymc.training.loop import Keep, Recipe, Report, train
from raymc.training.memory import MicroBatch, Setting
from raymc.training.parallel import Group
from raymc.training.provenance import commit_of_raymc, versions

_TOKENIZER_ROWS = 4000  # of text: every word of the grammar occurs in them
_VALIDATION_SEED = 0  # of the corruption of validation text: the same for all backbones, whatever their seed


@dataclass(frozen=True)
class _Run:
    """What trains, how, and how well it does: `score` is None where there is no validation text."""

    model: Any
    tokenizer: Any
    objective: LanguageModelling
    recipe: Recipe
    score: Callable[[Any], Validation] | None
    text: dict[str, Any]


def pretrain(
    backbones: Sequence[Pretrained],
    store: Store,
    group: Group,
    *,
    checkpoint_every: int,
    log_every: int,
    report: Report,
    micro_batch: Setting = None,
) -> None:
    """Train one run and store each of `backbones`, snapshots of it, under its key. All workers of the run call it.

    Those that the store has already are left as they are. A folder holds network, tokenizer, training curve and
    backbone.json. `report` gets points of the training curve with `steps` added, and at a snapshot (past update 0)
    with `perplexity`. Raises RaymcError for faults of the input and TrainingFault for those of the training; nothing
    is visible in the store until its folder is whole.
    """
    starts.quiet()
    started = time.perf_counter()
    one = backbones[0]
    run_key = backbone_trajectory(one)
    if any(backbone_trajectory(other) != run_key for other in backbones):
        raise ValueError("backbones of several runs")
    if one.batch_size < group.size:
        raise RaymcError(f"model.backbone.batch_size: {one.batch_size} can't be split over {group.size} workers")
    there = group.agreed([store.has(layout.BACKBONES, backbone_key(backbone)) for backbone in backbones])
    due = {_step(backbone): backbone for backbone, done in zip(backbones, there, strict=True) if not done}
    checkpoints = Checkpoints(store, run_key, checkpoint_every)
    if not due:
        if group.rank == 0:  # stopped when all were stored, and before this
            checkpoints.clear()
        return

    def made() -> _Run:
        return _grammar_run(one, log_every) if isinstance(one, GrammarBackbone) else _text_run(one, group, log_every)

    run = group.together(made)
    alike = one.model_dump(mode="json", exclude={"seed", "steps", "snapshot", "learning_rate"})
    micro = MicroBatch(micro_batch, alike, checkpoints)
    perplexities: dict[int, float] = {}

    def told(point: dict[str, float]) -> None:
        step = int(point["step"])
        known = {"perplexity": perplexities[step]} if step in perplexities else {}
        report({**point, **known, "steps": max(due)})

    def keeper(backbone: Pretrained, step: int) -> Keep:
        def keep(wrapped: Any, curve: list[dict[str, float]]) -> None:
            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            state = get_model_state_dict(wrapped, options=options)
            scored = run.score(wrapped) if run.score else None
            if scored is not None:
                perplexities[step] = scored.perplexity
                last = curve[-1] if curve else {"step": step}
                curve = [*curve[:-1], {**last, "perplexity": scored.perplexity}]
            provenance = {
                "key": backbone_key(backbone),
                "trajectory": run_key,
                "backbone": backbone.model_dump(mode="json"),
                "steps": step,
                **({"validation": scored.as_dict()} if scored else {}),
                **run.text,
                "seconds": {"total": time.perf_counter() - started},
                "device": group.device,
                "micro_batch": micro.rows,
                "workers": group.size,
                "versions": versions(),
                "commit": commit_of_raymc(),
            }
            group.first(lambda: _store(run, state, provenance, curve, store))
            if step and step % log_every and step != run.recipe.steps:  # the loop tells of no such step
                told(curve[-1])

        return keep

    snapshots = {step: keeper(backbone, step) for step, backbone in due.items()}
    with warnings.catch_warnings():
        # Logits are a view of what sharded networks return; nothing changes them in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
        train(run.model, run.objective, run.recipe, group, checkpoints, told, snapshots, micro=micro)
    if group.rank == 0:
        checkpoints.clear()
    group.wait()


def _step(backbone: Pretrained) -> int:
    """After how many updates of its run a backbone is taken."""
    snapshot = backbone.snapshot if isinstance(backbone, TextBackbone) else None
    return backbone.steps if snapshot is None else snapshot


def _store(
    run: _Run,
    state: Mapping[str, Any],
    provenance: dict[str, Any],
    curve: list[dict[str, float]],
    store: Store,
) -> None:
    tied = getattr(run.model, "all_tied_weights_keys", {})  # name: of which it is another name; shards know no such
    once = {name: tensor for name, tensor in state.items() if tied.get(name) not in state}
    with store.create(layout.BACKBONES, provenance["key"]) as folder:
        run.model.save_pretrained(folder, state_dict=once)
        run.tokenizer.save_pretrained(folder)
        (folder / layout.TRAINING_CURVE).write_text("".join(json.dumps(point) + "\n" for point in curve))
        (folder / "backbone.json").write_text(json.dumps(provenance, indent=1))


def _grammar_run(backbone: GrammarBackbone, log_every: int) -> _Run:
    """Initialization, order of the text and masking come from `backbone.seed`.

    Raises RaymcError for a domain that the grammar doesn't have.
    """
    try:
        texts = grammar.corpus(backbone.rows, domain=backbone.domain)
    except ValueError as error:
        raise RaymcError(f"model.backbone: {error}") from error
    # One tokenizer for all built-in backbones, whatever their own text: else no path could join them.
    tokenizer = mlm.train_tokenizer(grammar.corpus(_TOKENIZER_ROWS), model_max_length=GRAMMAR_POSITIONS)
    model = mlm.build_model(
        tokenizer,
        hidden_size=backbone.hidden_size,
        layers=backbone.layers,
        heads=backbone.heads,
        intermediate_size=backbone.intermediate_size,
        seed=starts.derived_seed("pretraining", backbone.seed, "init"),
        dropout=backbone.dropout,
        init_std=backbone.init_std,
    )
    seed = starts.derived_seed("pretraining", backbone.seed, "batches")
    batches = mlm.MaskedBatches(
        tokenizer(texts)["input_ids"],  # type: ignore[arg-type]
        batch_size=backbone.batch_size,
        seed=seed,
        tokenizer=tokenizer,
        mask_probability=backbone.mask_probability,
    )
    recipe = Recipe(
        steps=backbone.steps,
        learning_rate=backbone.learning_rate,
        warmup=backbone.warmup,
        dropout_seed=seed,
        log_every=log_every,
    )
    return _Run(model, tokenizer, LanguageModelling(batches), recipe, None, {})


def _text_run(backbone: TextBackbone, group: Group, log_every: int) -> _Run:
    """Initialization, order of the text, corruption and dropout come from `backbone.seed`, each a stream of its own."""
    corpus = read_corpus(backbone.text)
    tokenizer = tokenizer_of(backbone, corpus.train)
    model = network_of(backbone, tokenizer)
    check_reload(tokenizer, model, corpus.train[:100])
    corruption = corruption_of(backbone, tokenizer, model)

    def packed(texts: list[str]) -> Any:
        stream = token_stream(tokenizer, texts, corruption.separator)
        return pack(stream, corruption.length, corruption.before, corruption.after)

    rows, held = packed(corpus.train), packed(corpus.validation)[: backbone.validation_rows]
    seed = starts.derived_seed("pretraining", backbone.seed, "batches")
    batches = Batches(rows, corruption, batch_size=backbone.batch_size, seed=seed)
    options = {} if backbone.pretrain == "masked" else {"use_cache": False}  # keys and values of no later token
    fixed = corrupted(held, corruption, _VALIDATION_SEED, 0)
    recipe = Recipe(
        steps=backbone.steps,
        learning_rate=backbone.learning_rate,
        schedule=backbone.schedule,
        warmup=backbone.warmup,
        weight_decay=backbone.weight_decay,
        clip_norm=backbone.clip_norm,
        dropout_seed=seed,
        log_every=log_every,
    )
    return _Run(
        model,
        tokenizer,
        LanguageModelling(batches, **options),
        recipe,
        lambda wrapped: validate(wrapped, fixed, backbone.batch_size, group.device, **options),
        {"text": _said(corpus, rows.size, held.size, len(tokenizer))},
    )


def _said(corpus: Corpus, train: int, validation: int, vocabulary: int) -> dict[str, Any]:
    return {
        "lines": {"train": len(corpus.train), "validation": len(corpus.validation)},
        "held_out_of_train": corpus.held_out,
        "tokens": {"train": train, "validation": validation},
        "vocabulary": vocabulary,
    }
