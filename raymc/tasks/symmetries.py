"""Which parts of each architecture are interchangeable: attention heads and feed-forward neurons, by tensor names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raymc.landscape.matching import Axis, Symmetry
from raymc.specs.errors import RaymcError

HEADS, NEURONS = "heads", "neurons"


@dataclass(frozen=True)
class Rule:
    """Blocks of one kind. Patterns are regular expressions of tensor names: what `block` matches (after any prefix)
    names the block, the others follow it and a dot.

    rows: tensors that make the units (units along the outputs, biases too); columns: tensors that read them (units
    along the inputs). shared: rows of which several heads share one (grouped keys and values). count: the config's
    entry that says how many units; without it, as many as the rows have entries. parts: rows hold so many tensors,
    one after another (query, key, value). transposed: weights are [in, out] (GPT-2's Conv1D), not [out, in].
    """

    what: str
    block: str
    rows: str
    columns: str
    count: str | None = None
    shared: str | None = None
    parts: int = 1
    transposed: bool = False


def _neurons(block: str, rows: str, columns: str, transposed: bool = False) -> Rule:
    return Rule(NEURONS, block, rf"(?:{rows})\.(?:weight|bias)", rf"{columns}\.weight", transposed=transposed)


def _heads(block: str, rows: str, columns: str, count: str = "num_attention_heads", **other: Any) -> Rule:
    return Rule(HEADS, block, rf"(?:{rows})\.(?:weight|bias)", rf"(?:{columns})\.weight", count=count, **other)


_BERT = (
    _heads(r"layer\.\d+\.attention", r"self\.(?:query|key|value)", r"output\.dense"),
    _neurons(r"layer\.\d+", r"intermediate\.dense", r"output\.dense"),
)
_DISTILBERT = (
    _heads(r"layer\.\d+\.attention", r"[qkv]_lin", r"out_lin"),
    _neurons(r"layer\.\d+\.ffn", r"lin1", r"lin2"),
)
_DEBERTA = (
    _heads(r"layer\.\d+\.attention", r"self\.(?:query|key|value|pos_key|pos_query)_proj", r"output\.dense"),
    _neurons(r"layer\.\d+", r"intermediate\.dense", r"output\.dense"),
)
_ALBERT = (  # each is used by many layers, which all see the same order
    _heads(r"albert_layers\.\d+\.attention", r"query|key|value", r"dense"),
    _neurons(r"albert_layers\.\d+", r"ffn", r"ffn_output"),
)
_GPT2 = (
    _heads(r"h\.\d+\.attn", r"c_attn", r"c_proj", parts=3, transposed=True),
    _neurons(r"h\.\d+\.mlp", r"c_fc", r"c_proj", transposed=True),
)
_NEOX = (  # query, key and value of a head lie together
    _heads(r"layers\.\d+\.attention", r"query_key_value", r"dense"),
    _neurons(r"layers\.\d+\.mlp", r"dense_h_to_4h", r"dense_4h_to_h"),
)
_T5_CROSS = _heads(r"decoder\.block\.\d+\.layer\.1\.EncDecAttention", r"[qkv]", r"o")
_T5_NEURONS = _neurons(r"block\.\d+\.layer\.\d+\.DenseReluDense", r"wi|wi_0|wi_1", r"wo")
_T5_SELF = r"block\.\d+\.layer\.0\.SelfAttention"
_T5 = (
    # The first block's table of position biases, [buckets, heads], serves all blocks of its stack: one order for all.
    _heads(r"(?:encoder|decoder)", rf"{_T5_SELF}\.[qkv]", rf"{_T5_SELF}\.(?:o|relative_attention_bias)"),
    _T5_CROSS,
    _T5_NEURONS,
)
_UMT5 = (_heads(_T5_SELF, r"[qkv]", r"o|relative_attention_bias"), _T5_CROSS, _T5_NEURONS)  # a table in each block
_BART = (
    _heads(r"encoder\.layers\.\d+\.self_attn", r"[qkv]_proj", r"out_proj", "encoder_attention_heads"),
    _heads(r"decoder\.layers\.\d+\.(?:self|encoder)_attn", r"[qkv]_proj", r"out_proj", "decoder_attention_heads"),
    _neurons(r"layers\.\d+", r"fc1", r"fc2"),
)
_OPT = (
    _heads(r"layers\.\d+\.self_attn", r"[qkv]_proj", r"out_proj"),
    _neurons(r"layers\.\d+", r"fc1", r"fc2"),
)
_LLAMA = (  # rotary positions turn within a head, and are the same in all of them
    _heads(r"layers\.\d+\.self_attn", r"q_proj", r"o_proj", shared=r"[kv]_proj\.(?:weight|bias)"),
    _neurons(r"layers\.\d+\.mlp", r"gate_proj|up_proj", r"down_proj"),
)

# model_type of a config: its rules. What a rule gets wrong, alignment finds by changed outputs.
RULES: dict[str, tuple[Rule, ...]] = {
    **dict.fromkeys(("bert", "camembert", "electra", "roberta", "xlm-roberta"), _BERT),
    "distilbert": _DISTILBERT,
    "deberta-v2": _DEBERTA,
    "albert": _ALBERT,
    "gpt2": _GPT2,
    "gpt_neox": _NEOX,
    **dict.fromkeys(("t5", "mt5"), _T5),
    "umt5": _UMT5,
    **dict.fromkeys(("bart", "mbart"), _BART),
    "opt": _OPT,
    **dict.fromkeys(("gemma", "llama", "mistral", "qwen2", "qwen3"), _LLAMA),
}


def symmetries(config: Any, shapes: Mapping[str, tuple[int, ...]]) -> list[Symmetry]:
    """The interchangeable units of a network with this config and these tensors, a block at a time.

    Raises RaymcError where the architecture isn't known, or its tensors aren't named as they are there.
    """
    rules = RULES.get(config.model_type)
    if rules is None:
        raise RaymcError(
            f"minima of type {config.model_type} can't be aligned: which of their heads and neurons are "
            f"interchangeable is known of {', '.join(sorted(RULES))}"
        )
    found = [symmetry for rule in rules for symmetry in _blocks(rule, config, shapes)]
    if {symmetry.what for symmetry in found} != {rule.what for rule in rules}:
        raise RaymcError(
            f"minima of type {config.model_type} can't be aligned: their tensors have other names than transformers'"
        )
    return found


def _blocks(rule: Rule, config: Any, shapes: Mapping[str, tuple[int, ...]]) -> list[Symmetry]:
    rows, columns = _axes(rule, rule.rows, True, shapes), _axes(rule, rule.columns, False, shapes)
    shared = _axes(rule, rule.shared, True, shapes) if rule.shared else {}
    found: list[Symmetry] = []
    for block in rows:
        units = (*rows[block], *columns.get(block, ()))
        first = rows[block][0]
        count = getattr(config, rule.count) if rule.count else shapes[first.name][first.dim]
        if block in shared:
            groups = config.num_key_value_heads
            found.append(Symmetry(rule.what, groups, shared[block], count // groups, units))
        else:
            found.append(Symmetry(rule.what, count, units))
    return found


def _axes(rule: Rule, pattern: str, rows: bool, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Axis, ...]]:
    """Tensors of each block, in the order of the names: {block: axes}."""
    names = re.compile(rf"((?:.*\.)?{rule.block})\.(?:{pattern})")
    found: dict[str, tuple[Axis, ...]] = {}
    for name, shape in shapes.items():
        if match := names.fullmatch(name):
            dim = 0 if len(shape) == 1 or rows != rule.transposed else 1
            found[match[1]] = (*found.get(match[1], ()), Axis(name, dim, rule.parts if rows else 1))
    return found
