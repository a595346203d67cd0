"""Rows and labels as text, how prompts are cut, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymc.specs.errors import RaymcError
from raymc.specs.task import TaskSpec
from raymc.tasks.backbones import load_tokenizer
from raymc.tasks.prompts import choices, prompt_fault, prompt_ids, prompt_texts, target_fault
from raymc.tasks.rows import Rows
from raymc.tasks.tokens import tokenize


def task(**fields: Any) -> TaskSpec:
    return TaskSpec.model_validate({"dataset": {"builtin": "grammar"}, **fields})


PAIRS = Rows(["a {text} b", "{", "good"], ["}{text_pair}", "", "bad day"], ["x", "y", "x"])


def test_a_prompt_is_filled_in_whatever_braces_the_data_hold():
    spec = task(text_pair="second", prompt="{{1}} {text_pair} | {text}, {text}.")
    assert prompt_texts(spec, PAIRS) == [
        "{1} }{text_pair} | a {text} b, a {text} b.",
        "{1}  | {, {.",
        "{1} bad day | good, good.",
    ]


def test_without_a_prompt_the_texts_have_a_line_each():
    assert prompt_texts(task(text_pair="second"), PAIRS)[2] == "good\nbad day"
    assert prompt_texts(task(), Rows(["one"], None, ["x"])) == ["one"]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("{text} {label}", "{label} is neither {text} nor {text_pair}; a brace is written twice"),
        ("{} {text}", "{} is neither {text} nor {text_pair}; a brace is written twice"),
        ("{text.upper}", "{text.upper} is neither {text} nor {text_pair}; a brace is written twice"),
        ("{text!r}", "{text!r} is neither {text} nor {text_pair}; a brace is written twice"),
        ("{text:>9}", "{text:>9} is neither {text} nor {text_pair}; a brace is written twice"),
        ("{text} }", "Single '}' encountered in format string; a brace that stands for itself is written twice"),
        ("{text", "expected '}' before end of string; a brace that stands for itself is written twice"),
        ("Is it good?", "it has neither {text} nor {text_pair}, so all rows would be the same"),
        ("{{text}}", "it has neither {text} nor {text_pair}, so all rows would be the same"),
        ("{text} {text_pair}", "it has {text_pair}, and the task has no text_pair"),
    ],
)
def test_a_prompt_that_cannot_be_filled_in_is_refused(prompt: str, said: str):
    spec = task(prompt=prompt)
    assert prompt_fault(spec) == said
    with pytest.raises(RaymcError) as caught:
        prompt_texts(spec, Rows(["a"], None, ["x"]))
    assert str(caught.value) == f"task.prompt: {said}"


@pytest.mark.parametrize(
    ("targets", "labels", "said"),
    [
        ({"z": "bad"}, ("x", "y"), "no label 'z' (labels: x, y)"),
        ({"x": "  "}, ("x", "y"), "the text of label 'x' is empty"),
        ({"x": "y"}, ("x", "y"), "labels 'x' and 'y' have the same text 'y'"),
        ({"x": "a", "y": " a "}, None, "labels 'x' and 'y' have the same text 'a'"),
        ({"x": "a", "y": "b"}, ("x", "y"), None),
        ({}, None, None),
    ],
)
def test_targets_that_tell_nothing_are_refused(targets, labels, said):
    assert target_fault(task(targets=targets), labels) == said


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_goes_into_a_prompt_as_it_is(first: str, second: str):
    spec = task(text_pair="second", prompt="<{text}|{text_pair}>")
    assert prompt_texts(spec, Rows([first], [second], ["x"])) == [f"<{first}|{second}>"]


# Token ids -----------------------------------------------------------------------------------------------------------

LABELS = ("n", "p")
TARGETS = {"n": "bad", "p": "good day"}
CAUSAL = ("gpt2", "llama", "qwen2")


@pytest.fixture
def tokenizer_of(text_backbone):
    return lambda kind: load_tokenizer(str(text_backbone(kind)))


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_target_goes_on_where_its_prompt_ends(tokenizer_of, name: str):
    """Prompt and target are the tokens of one text: the prompt, a space, the target."""
    tokenizer = tokenizer_of(name)
    spec = task(prompt="{text}:", targets=TARGETS)
    rows = Rows(["the cat runs", "rain"], None, ["n", "p"])
    found = choices(tokenizer, LABELS, spec, "causal")
    prompts = prompt_ids(tokenizer, rows, spec, "causal", 99)
    for text, ids in zip(rows.text, prompts, strict=True):
        for label, target in zip(LABELS, found, strict=True):
            joined = tokenizer(f"{text}: {TARGETS[label]}")["input_ids"]
            assert [*ids, *target] == [*joined, tokenizer.eos_token_id]


def test_trailing_spaces_of_a_causal_prompt_are_the_targets(tokenizer_of):
    rows = Rows(["rain"], None, ["n"])
    with_, without = (
        prompt_ids(tokenizer_of("gpt2"), rows, task(prompt=prompt), "causal", 99) for prompt in ("{text}: ", "{text}:")
    )
    assert with_ == without


def test_a_causal_prompt_has_no_end_that_the_tokenizer_puts_there(tokenizer_of):
    tokenizer = tokenizer_of("t5")  # encodes as text </s>
    assert prompt_ids(tokenizer, Rows(["rain"], None, ["n"]), task(), "causal", 9) == [
        tokenizer.convert_tokens_to_ids(["rain"])
    ]


def test_an_empty_causal_prompt_is_one_token(tokenizer_of):
    for name in CAUSAL:
        tokenizer = tokenizer_of(name)
        (ids,) = prompt_ids(tokenizer, Rows([""], None, ["n"]), task(), "causal", 9)
        assert ids == [tokenizer.bos_token_id if name == "llama" else tokenizer.eos_token_id]


def test_seq2seq_targets_end_with_the_end_of_text(tokenizer_of):
    tokenizer = tokenizer_of("t5")
    found = choices(tokenizer, LABELS, task(targets=TARGETS), "seq2seq")
    assert [tokenizer.convert_ids_to_tokens(list(ids)) for ids in found] == [["bad", "</s>"], ["good", "day", "</s>"]]
    found = choices(tokenizer_of("gpt2"), LABELS, task(targets=TARGETS), "seq2seq")  # puts no end there itself
    assert all(ids[-1] == 0 and 0 not in ids[:-1] for ids in found)


def test_label_names_are_the_targets_that_are_not_given(tokenizer_of):
    tokenizer = tokenizer_of("t5")
    assert choices(tokenizer, ("bad", "p"), task(targets={"p": "good"}), "seq2seq") == choices(
        tokenizer, ("bad", "good"), task(), "seq2seq"
    )


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_targets_of_equal_tokens_are_refused(tokenizer_of, kind: str):
    with pytest.raises(
        RaymcError, match=r"^task.targets: the target 'zebra' has the same tokens as the target 'okapi'$"
    ):
        choices(tokenizer_of("t5"), ("zebra", "okapi"), task(), kind)  # both unknown


def test_a_target_that_begins_another_is_refused_where_nothing_ends_it(tokenizer_of):
    tokenizer = tokenizer_of("llama")
    choices(tokenizer, ("good", "good day"), task(), "causal")
    tokenizer.eos_token = tokenizer.sep_token = None
    with pytest.raises(RaymcError, match=r"^task.targets: the target 'good' begins the target 'good day'$"):
        choices(tokenizer, ("good", "good day"), task(), "causal")
    with pytest.raises(RaymcError, match="its tokenizer has no end-of-text token"):
        choices(tokenizer, ("good", "bad"), task(), "seq2seq")


# Length --------------------------------------------------------------------------------------------------------------


def words(tokenizer: Any, ids: list[int]) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(ids))


def test_long_prompts_are_cut_in_the_data_alone_the_longer_text_first(tokenizer_of):
    tokenizer = tokenizer_of("t5")
    spec = task(text_pair="second", prompt="a : {text} , day {text_pair} : good")
    rows = Rows(["cat dog bird rain wind", "cat"], ["runs sits", "runs"], ["n", "p"])
    for room, cut in (
        (99, "cat dog bird rain wind , day runs sits"),
        (13, "cat dog bird rain , day runs sits"),
        (10, "cat , day runs sits"),
        (9, "cat , day runs"),
        (8, ", day runs"),
        (7, ", day"),
    ):
        first, second = prompt_ids(tokenizer, rows, spec, "seq2seq", room)
        assert words(tokenizer, first) == f"a : {cut} : good </s>"
        assert len(first) <= room
        if room >= 9:
            assert words(tokenizer, second) == "a : cat , day runs : good </s>"
    with pytest.raises(RaymcError, match=r"^task.prompt: its own words are longer than task.max_length leaves room"):
        prompt_ids(tokenizer, rows, spec, "seq2seq", 6)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_causal_prompts_leave_room_for_the_longest_target(tokenizer_of, name: str):
    tokenizer = tokenizer_of(name)
    spec = task(prompt="{text} :", targets=TARGETS, max_length=16)
    rows = Rows(["the cat runs and the dog sits and the bird sits " * 3, "rain"], None, ["n", "p"])
    tokens = tokenize(tokenizer, rows, LABELS, spec, "causal")
    longest = max(map(len, tokens.choices))
    assert tokens.lengths[0] + longest == 16
    colon = tokenizer(" :" if name == "gpt2" else ":", add_special_tokens=False)["input_ids"]
    assert tokens.ids[: tokens.offsets[1]][-len(colon) :].tolist() == colon
    with pytest.raises(RaymcError, match=r"^task.max_length: 3 leaves no room beside a target of \d+ tokens$"):
        tokenize(tokenizer, rows, LABELS, task(targets=TARGETS, max_length=3), "causal")


def test_cutting_keeps_what_it_keeps(tokenizer_of):
    """Of subwords and bytes: the ids of a cut prompt are those of the whole, with one gap."""
    tokenizer = tokenizer_of("gpt2")
    spec = task(prompt="say: {text} ok")
    text = "naïve zebras 日本語 in the rain"
    (whole,) = prompt_ids(tokenizer, Rows([text], None, ["n"]), spec, "causal", 999)
    for room in range(len(whole) - 12, len(whole)):
        (ids,) = prompt_ids(tokenizer, Rows([text], None, ["n"]), spec, "causal", room)
        assert len(ids) == room
        tail = len(tokenizer(" ok")["input_ids"])
        assert ids == [*whole[: room - tail], *whole[-tail:]]
