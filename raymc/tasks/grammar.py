"""A built-in language with a word-order task: text for pre-training and labelled rows, made on the spot.

An event sentence has an agent and a patient; one is friendly, the other hostile, and the label is the character of
the *agent*: "The rude baker is greeted by the kind miller." is `friendly`, because the miller acts. Classification
rows come in twins (rows 2k and 2k+1) that differ only in who is friendly: twins hold the same words and opposite
labels, so a bag of words can't beat chance, and both labels are equally frequent in every even-aligned range of rows.

Labelled training rows use the common adjectives of their domain only; every validation and test row has at least one
rare adjective. What a rare adjective means can be learned from pre-training text alone, whose lines tell manners that
agree with a character ("The cruel and moody smith sneers coldly at the market."), so a model that wasn't pre-trained
stays far below one that was. Every line has a manner adverb, and no classification text has one, so none is a line.

The data factors:
- `domain`: another lexicon and other sentence templates, the same labels. See `DOMAINS`. Adverbs are shared.
- `label_noise`: round(label_noise * rows) labels of the returned training rows are flipped; a higher noise flips a
  superset of what a lower one flips.
- overlap: row i is a pure function of (seed, domain, split, i) and all rows of a split differ as texts, so the ranges
  [a, b) and [c, d) share exactly the rows of their intersection (with equal seed and domain).
- `seed`: another draw of sentences. Splits stay disjoint as texts across all seeds.

Only blake2b and integer arithmetic decide a row, so rows are the same on every platform and Python version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import TypeVar

_T = TypeVar("_T")

LABELS = ("friendly", "hostile")
SPLITS = ("train", "validation", "test")
ALL_DOMAINS = "all"
"""For `corpus` only: every line from a domain of its own draw."""

_MANNERS = (("kindly", "warmly", "gladly"), ("coldly", "harshly", "sharply"))  # as LABELS; shared by all domains
_ACTS = (("smiles", "helps", "sings"), ("scowls", "sneers", "shouts"))
_COMMON = 6  # the first adjectives of each list are common, the others rare


@dataclass(frozen=True)
class Domain:
    """A lexicon and the templates that use it. Nouns, verbs and places say nothing about the label."""

    nouns: tuple[str, ...]
    verbs: tuple[tuple[str, str], ...]  # (third person, participle)
    friendly: tuple[str, ...]  # adjectives, common ones first
    hostile: tuple[str, ...]
    places: tuple[str, ...]
    templates: tuple[str, ...]  # {A} agent, {P} patient, {v} verb, {w} participle, {m} or {e} manner


def _words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


def _verbs(third_person: str, participles: str) -> tuple[tuple[str, str], ...]:
    return tuple(zip(third_person.split(), participles.split(), strict=True))


_PLAIN = ("{A} {m}{v} {P}{e}", "{P} is {m}{w} by {A}{e}")
_CLEFT = ("it is {A} that {m}{v} {P}{e}", "it is {P} that {A} {m}{v}{e}", "it is {P} that is {m}{w} by {A}{e}")
_PSEUDO_CLEFT = ("the one who {m}{v} {P}{e} is {A}", "the one whom {A} {m}{v}{e} is {P}")

DOMAINS: Mapping[str, Domain] = {
    "village": Domain(
        nouns=_words("baker miller farmer teacher doctor shepherd weaver potter smith gardener"),
        verbs=_verbs(
            "greets visits follows answers watches calls",
            "greeted visited followed answered watched called",
        ),
        friendly=_words("gentle kind polite cheerful caring honest sweet modest grateful tactful"),
        hostile=_words("rude cruel bitter grim spiteful nasty gruff selfish hateful moody"),
        places=("near the well", "at the market", "by the bridge", "in the garden", "behind the barn"),
        templates=_PLAIN,
    ),
    "court": Domain(
        nouns=_words("king queen duke knight page minister judge herald squire bishop"),
        verbs=_verbs(
            "summons receives questions addresses escorts advises",
            "summoned received questioned addressed escorted advised",
        ),
        friendly=_words("gracious loyal merciful courteous humble noble just faithful lenient gallant"),
        hostile=_words("proud ruthless jealous scornful vengeful vain haughty corrupt wicked pompous"),
        places=("in the hall", "at the gate", "before the throne", "on the stairs", "in the chapel"),
        templates=_CLEFT,
    ),
    "sea": Domain(
        nouns=_words("captain sailor pilot cook diver fisher gunner pirate rower merchant"),
        verbs=_verbs(
            "hails signals finds meets stops wakes",
            "hailed signalled found met stopped woken",
        ),
        friendly=_words("jolly helpful patient generous tender merry steady sincere playful obliging"),
        hostile=_words("angry sullen greedy brutal mean savage surly violent sly boastful"),
        places=("on the deck", "under the mast", "in the harbour", "beside the pier", "below the bow"),
        templates=_PLAIN + _PSEUDO_CLEFT,
    ),
}


def corpus(rows: int, *, seed: int = 0, domain: str = ALL_DOMAINS, start: int = 0) -> list[str]:
    """Pre-training lines start..start+rows-1, one sentence each; line i depends on (seed, domain, i) only.

    Half of the lines tell one character's manner, half are events with a manner adverb that agrees with the agent,
    whose two characters are friendly or hostile independently. `domain` is a name of `DOMAINS` or "all".
    """
    _check_range(rows, start)
    if domain != ALL_DOMAINS:
        _domain(domain)
    return [_corpus_line(seed, domain, index) for index in range(start, start + rows)]


def classification(
    split: str, rows: int, *, seed: int = 0, domain: str = "village", label_noise: float = 0.0, start: int = 0
) -> list[dict[str, str]]:
    """Rows start..start+rows-1 of a split as {"text", "label"}, the label one of `LABELS`.

    `label_noise` is for training rows only: validation and test labels are always right.
    Raises ValueError past the split's last row (`available`).
    """
    _check_range(rows, start)
    if not 0.0 <= label_noise <= 1.0:
        raise ValueError(f"label_noise must be in [0, 1], not {label_noise}")
    if label_noise and split != "train":
        raise ValueError(f"label_noise is for the train split only, not {split!r}")
    if start + rows > available(split, domain=domain):
        raise ValueError(f"{domain}/{split} has {available(split, domain=domain)} rows, asked up to {start + rows}")
    indices = range(start, start + rows)
    result = [_classification_row(split, seed, domain, index) for index in indices]
    order = sorted(range(rows), key=lambda k: _number("noise", seed, domain, split, indices[k]))
    for k in order[: round(label_noise * rows)]:
        result[k]["label"] = LABELS[1 - LABELS.index(result[k]["label"])]
    return result


def available(split: str, *, domain: str = "village") -> int:
    """How many rows a split has at most: all of them differ as texts."""
    first, last = _segment(split, domain)
    return 2 * (last - first)


def _classification_row(split: str, seed: int, domain: str, index: int) -> dict[str, str]:
    first, last = _segment(split, domain)
    twins, second = divmod(index, 2)
    position = first + _permuted(twins, last - first, f"rows/{seed}/{domain}/{split}")
    body = _Digits(_permuted(position, _space(split, domain), f"space/{domain}"))
    agent_valence = (_number("twin", seed, domain, split, twins) + second) % 2
    words = _domain(domain)
    friendly, hostile = body.pick(_adjective_pairs(split, domain))
    adjectives = (friendly, hostile) if agent_valence == 0 else (hostile, friendly)
    return {"text": _event(words, body, adjectives), "label": LABELS[agent_valence]}


def _corpus_line(seed: int, domain: str, index: int) -> str:
    digits = _Digits(_number("corpus", seed, domain, index))
    words = _domain(digits.pick(tuple(DOMAINS)) if domain == ALL_DOMAINS else domain)
    valence = digits.take(2)
    adjectives = (words.friendly, words.hostile)[valence]
    first = digits.take(len(adjectives))
    adverb = digits.pick(_MANNERS[valence])
    if digits.take(2) == 0:
        second = (first + 1 + digits.take(len(adjectives) - 1)) % len(adjectives)
        who = f"the {adjectives[first]} and {adjectives[second]} {digits.pick(words.nouns)}"
        return _sentence(f"{who} {digits.pick(_ACTS[valence])} {adverb} {digits.pick(words.places)}")
    other = digits.pick((words.friendly, words.hostile)[digits.take(2)])
    return _event(words, digits, (adjectives[first], other), adverb=adverb, adverb_place=digits.take(3))


def _event(
    words: Domain, digits: _Digits, adjectives: tuple[str, str], *, adverb: str = "", adverb_place: int = 0
) -> str:
    """One event; adjectives are (agent's, patient's), adverb_place 0 before the verb, 1 in front, 2 at the end."""
    agent = digits.take(len(words.nouns))
    patient = (agent + 1 + digits.take(len(words.nouns) - 1)) % len(words.nouns)
    verb, participle = digits.pick(words.verbs)
    template = digits.pick(words.templates)
    place, place_first = digits.pick(words.places), digits.take(2)
    clause = template.format(
        A=f"the {adjectives[0]} {words.nouns[agent]}",
        P=f"the {adjectives[1]} {words.nouns[patient]}",
        v=verb,
        w=participle,
        m=f"{adverb} " if adverb and adverb_place == 0 else "",
        e=f" {adverb}" if adverb and adverb_place == 2 else "",
    )
    if adverb and adverb_place == 1:
        return _sentence(f"{adverb} , {clause} {place}")
    return _sentence(f"{place} , {clause}" if place_first else f"{clause} {place}")


def _sentence(words: str) -> str:
    text = words.replace(" ,", ",")
    return f"{text[0].upper()}{text[1:]}."


def _domain(name: str) -> Domain:
    if name not in DOMAINS:
        raise ValueError(f"no such domain: {name!r}; there are {', '.join(DOMAINS)}")
    return DOMAINS[name]


def _check_range(rows: int, start: int) -> None:
    if rows < 0 or start < 0:
        raise ValueError(f"rows and start can't be negative: {rows}, {start}")


@cache
def _adjective_pairs(split: str, domain: str) -> tuple[tuple[str, str], ...]:
    """The (friendly, hostile) adjectives of a split's sentences: both common in train, else at least one rare."""
    words = _domain(domain)
    return tuple(
        (friendly, hostile)
        for i, friendly in enumerate(words.friendly)
        for j, hostile in enumerate(words.hostile)
        if (i < _COMMON and j < _COMMON) == (split == "train")
    )


def _space(split: str, domain: str) -> int:
    """How many twins of sentences there are: the product of the digits that `_classification_row` takes."""
    words = _domain(domain)
    nouns = len(words.nouns) * (len(words.nouns) - 1)
    rest = len(words.verbs) * len(words.templates) * len(words.places) * 2
    return len(_adjective_pairs(split, domain)) * nouns * rest


def _segment(split: str, domain: str) -> tuple[int, int]:
    """The twins of a split as a range: validation and test share one space by halves."""
    if split not in SPLITS:
        raise ValueError(f"no such split: {split!r}; there are {', '.join(SPLITS)}")
    size = _space(split, domain)
    return {"train": (0, size), "validation": (0, size // 2), "test": (size // 2, size)}[split]


class _Digits:
    """Reads a number as mixed-radix digits, lowest first."""

    def __init__(self, number: int) -> None:
        self._rest = number

    def take(self, base: int) -> int:
        self._rest, digit = divmod(self._rest, base)
        return digit

    def pick(self, options: tuple[_T, ...]) -> _T:
        return options[self.take(len(options))]


def _number(*parts: str | int) -> int:
    """128 bits decided by the parts alone."""
    return int.from_bytes(blake2b("/".join(map(str, parts)).encode(), digest_size=16).digest(), "big")


def _permuted(index: int, size: int, key: str) -> int:
    """Where a keyed bijection of range(size) sends index: a Feistel network, walked until it lands inside."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    keys = _round_keys(key)
    while True:
        left, right = index >> half, index & mask
        for round_key in keys:
            mixed = blake2b(right.to_bytes(8, "big"), key=round_key, digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(mixed, "big") & mask)
        index = (left << half) | right
        if index < size:
            return index


@cache
def _round_keys(key: str) -> tuple[bytes, ...]:
    return tuple(blake2b(f"{key}/{number}".encode(), digest_size=16).digest() for number in range(4))
