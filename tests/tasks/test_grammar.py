import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from raymc.specs.task import GRAMMAR_VERSION
from raymc.tasks import grammar

GOLDEN = {
    "corpus/all": "fd6bbee01d55c75d",
    "corpus/village": "ac1c6c02f5a47b53",
    "corpus/court": "df8b4e9c87091726",
    "corpus/sea": "250e1565eb992765",
    "village/train": "dcf619e1737f245d",
    "village/validation": "d26e884b75c24b1a",
    "village/test": "ca0ea2792dd194f3",
    "court/train": "77d4b94fd356f1bc",
    "court/validation": "69feca0fe72eb6eb",
    "court/test": "546f72c8fa538918",
    "sea/train": "f4636a8477aae41f",
    "sea/validation": "0dd379fe2bec4146",
    "sea/test": "c75efdaa038432e0",
    "noise": "0d3947c7ca50c679",
}  # the first 16 hex digits of a sha256


def _texts(*args, **kwargs) -> list[str]:
    return [row["text"] for row in grammar.classification(*args, **kwargs)]


def _digest(rows) -> str:
    return sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


def test_rows_never_change_under_one_version():
    """A failure here means trained artefacts no longer fit their keys: bump GRAMMAR_VERSION, then these."""
    assert GRAMMAR_VERSION == 1
    found = {f"corpus/{domain}": _digest(grammar.corpus(200, domain=domain)) for domain in ("all", *grammar.DOMAINS)}
    for domain in grammar.DOMAINS:
        for split in grammar.SPLITS:
            found[f"{domain}/{split}"] = _digest(grammar.classification(split, 200, domain=domain))
    found["noise"] = _digest(grammar.classification("train", 200, seed=3, label_noise=0.1, start=7))
    assert found == GOLDEN


def test_another_process_with_another_hash_seed_makes_the_same_rows_without_heavy_imports():
    code = (
        "import json, sys; from raymc.tasks import grammar as g\n"
        "rows = [g.corpus(50), g.classification('train', 50, label_noise=0.2)]\n"
        "print(json.dumps([rows, [m for m in ('torch', 'transformers', 'numpy') if m in sys.modules]]))"
    )
    root = Path(grammar.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={"PYTHONHASHSEED": "77", "PYTHONPATH": str(root)},
    )
    rows, heavy = json.loads(done.stdout)
    assert rows == [grammar.corpus(50), grammar.classification("train", 50, label_noise=0.2)]
    assert heavy == []


@pytest.mark.parametrize("domain", grammar.DOMAINS)
def test_splits_are_disjoint_across_seeds_and_rows_are_distinct(domain: str):
    texts = {split: [_texts(split, 2000, seed=seed, domain=domain) for seed in (0, 1, 2)] for split in grammar.SPLITS}
    for runs in texts.values():
        assert all(len(set(run)) == 2000 for run in runs)
        assert runs[0] != runs[1]
    pooled = [set().union(*runs) for runs in texts.values()]
    assert sum(map(len, pooled)) == len(set().union(*pooled))


def test_a_whole_split_is_distinct(monkeypatch: pytest.MonkeyPatch):
    """On a lexicon cut down until every sentence can be enumerated."""
    words = grammar.DOMAINS["village"]
    small = grammar.Domain(
        nouns=words.nouns[:3],
        verbs=words.verbs[:2],
        friendly=words.friendly[:7],
        hostile=words.hostile[:7],
        places=words.places[:2],
        templates=words.templates,
    )
    monkeypatch.setattr(grammar, "DOMAINS", {"small": small})
    sizes = {split: grammar.available(split, domain="small") for split in grammar.SPLITS}
    texts = {split: _texts(split, size, domain="small") for split, size in sizes.items()}
    everything = set().union(*texts.values())
    twins = 7 * 7 * (3 * 2) * 2 * 2 * 2 * 2  # adjectives, nouns, verbs, templates, places, place first or last
    assert sum(sizes.values()) == len(everything) == 2 * twins
    with pytest.raises(ValueError, match="asked up to"):
        grammar.classification("train", sizes["train"], start=1, domain="small")


def test_corpus_shares_no_text_with_the_task():
    lines = set(grammar.corpus(20000))
    for domain in grammar.DOMAINS:
        for split in grammar.SPLITS:
            assert lines.isdisjoint(_texts(split, 2000, domain=domain))
    manners = {word for words in grammar._MANNERS for word in words}
    assert all(len(manners & set(line.lower().replace(",", "").strip(".").split())) == 1 for line in lines)


def test_rare_adjectives_are_missing_from_training_rows_only():
    words = grammar.DOMAINS["village"]
    rare = {*words.friendly[6:], *words.hostile[6:]}

    def has_rare(text: str) -> bool:
        return not rare.isdisjoint(text.strip(".").split())

    assert not any(map(has_rare, _texts("train", 2000)))
    assert all(map(has_rare, _texts("validation", 1000) + _texts("test", 1000)))
    assert rare <= {word for line in grammar.corpus(2000, domain="village") for word in line.split()}


@pytest.mark.parametrize("domain", grammar.DOMAINS)
@pytest.mark.parametrize("split", grammar.SPLITS)
def test_twins_hold_the_same_words_and_opposite_labels(split: str, domain: str):
    rows = grammar.classification(split, 400, domain=domain, start=100)
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        assert one["text"] != other["text"]
        assert sorted(one["text"].strip(".").lower().split()) == sorted(other["text"].strip(".").lower().split())
        assert {one["label"], other["label"]} == set(grammar.LABELS)
    assert 60 < sum(row["label"] == "friendly" for row in rows[::2]) < 140  # the first twin doesn't tell


def test_label_is_the_agents_character():
    """An independent reading of the plain and cleft sentences."""
    for domain in ("village", "court"):
        words = grammar.DOMAINS[domain]
        for row in grammar.classification("validation", 500, domain=domain):
            sentence = row["text"].strip(".").lower()
            tokens = sentence.replace(",", "").split()
            who = [word for word in tokens if word in words.friendly + words.hostile]
            passive = any(f"{participle} by" in sentence for _, participle in words.verbs)
            object_cleft = (
                not passive
                and domain == "court"
                and any(f"{noun} {verb}" in sentence for noun in words.nouns for verb, _ in words.verbs)
            )
            agent = who[1 if passive or object_cleft else 0]
            assert row["label"] == ("friendly" if agent in words.friendly else "hostile"), row


def test_label_noise_flips_an_exact_nested_count():
    clean = grammar.classification("train", 333, start=11)
    flipped = {}
    for noise in (0.0, 0.1, 0.25, 1.0):
        noisy = grammar.classification("train", 333, start=11, label_noise=noise)
        assert [row["text"] for row in noisy] == [row["text"] for row in clean]
        flipped[noise] = {i for i in range(333) if noisy[i]["label"] != clean[i]["label"]}
        assert len(flipped[noise]) == round(noise * 333)
    assert flipped[0.1] < flipped[0.25]


def test_overlap_is_the_intersection_of_ranges():
    first, second = _texts("train", 400), _texts("train", 400, start=300)
    assert len(set(first) & set(second)) == 100
    assert first[300:] == second[:100]
    assert grammar.corpus(100)[60:] == grammar.corpus(40, start=60)


def test_a_bag_of_words_is_at_chance_and_so_are_bigrams():
    text = pytest.importorskip("sklearn.feature_extraction.text")
    linear = pytest.importorskip("sklearn.linear_model")
    for domain in grammar.DOMAINS:
        train = grammar.classification("train", 2000, domain=domain)
        test = grammar.classification("test", 1000, domain=domain)
        for ngrams, limit in (((1, 1), 0.5), ((1, 2), 0.6)):
            bag = text.CountVectorizer(ngram_range=ngrams)
            model = linear.LogisticRegression(max_iter=1000)
            model.fit(bag.fit_transform(row["text"] for row in train), [row["label"] for row in train])
            score = model.score(bag.transform(row["text"] for row in test), [row["label"] for row in test])
            assert score <= limit


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grammar.classification("dev", 2), "no such split: 'dev'"),
        (lambda: grammar.classification("train", 2, domain="moon"), "no such domain: 'moon'"),
        (lambda: grammar.corpus(2, domain="moon"), "no such domain: 'moon'"),
        (lambda: grammar.classification("train", -1), "can't be negative"),
        (lambda: grammar.classification("train", 2, label_noise=1.5), r"in \[0, 1\]"),
        (lambda: grammar.classification("test", 2, label_noise=0.1), "train split only"),
    ],
)
def test_senseless_requests_are_refused(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
