import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from raymc.tasks import grammar, mlm

TEXTS = grammar.corpus(400)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return mlm.train_tokenizer(TEXTS, model_max_length=24)


@pytest.fixture(scope="module")
def token_ids(tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    return tokenizer(TEXTS)["input_ids"]


def _batches(token_ids, tokenizer, **changes) -> mlm.MaskedBatches:
    return mlm.MaskedBatches(token_ids, tokenizer=tokenizer, **{"batch_size": 32, "seed": 5, **changes})


def _model(tokenizer, seed: int, **changes):
    sizes = {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 48, "dropout": 0.0}
    return mlm.build_model(tokenizer, seed=seed, **{**sizes, **changes})


def test_tokenizer_encodes_as_bert_does(tokenizer):
    assert tokenizer.convert_tokens_to_ids(list(mlm.SPECIAL_TOKENS)) == [0, 1, 2, 3, 4]
    assert tokenizer("The Baker, kindly.")["input_ids"] == [
        2,
        *tokenizer.convert_tokens_to_ids(["the", "baker", ",", "kindly", "."]),
        3,
    ]
    pair = tokenizer("the baker", "the king")
    assert pair["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
    assert tokenizer("the zeppelin")["input_ids"][2] == tokenizer.unk_token_id
    assert len(tokenizer("the " * 100, truncation=True)["input_ids"]) == 24


def test_tokenizer_knows_every_word_of_every_domain():
    tokenizer = mlm.train_tokenizer(grammar.corpus(4000))
    texts = [row["text"] for domain in grammar.DOMAINS for row in grammar.classification("test", 500, domain=domain)]
    assert all(tokenizer.unk_token_id not in ids for ids in tokenizer(texts)["input_ids"])


def test_tokenizer_survives_saving_beside_a_model(tokenizer, tmp_path: Path):
    _model(tokenizer, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    assert loaded("a", "b").keys() == tokenizer("a", "b").keys()
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert (loaded.model_max_length, loaded.pad_token_id, loaded.mask_token_id) == (24, 0, 4)
    assert loaded.padding_side == "right"


def test_tokenizer_is_the_same_in_another_process_and_order(tokenizer):
    code = (
        "from raymc.tasks import grammar; from raymc.tasks import mlm; import json\n"
        "print(json.dumps(mlm.train_tokenizer(reversed(grammar.corpus(400))).get_vocab(), sort_keys=True))"
    )
    root = Path(mlm.__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    assert json.loads(out) == tokenizer.get_vocab()


def test_model_depends_on_its_seed_alone_and_leaves_torch_random_state(tokenizer):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = _model(tokenizer, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = _model(tokenizer, seed=3).state_dict(), _model(tokenizer, seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["bert.embeddings.word_embeddings.weight"], other["bert.embeddings.word_embeddings.weight"]
    )


def test_model_sizes_and_saving(tokenizer, tmp_path: Path):
    model = _model(tokenizer, seed=0, dropout=0.25, init_std=0.08)
    config = model.config
    assert (config.vocab_size, config.max_position_embeddings, config.num_hidden_layers) == (len(tokenizer), 24, 2)
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.25, 0.25)
    words = model.bert.embeddings.word_embeddings.weight
    assert words.std().item() == pytest.approx(0.08, rel=0.05)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())


def test_batch_is_a_pure_function_of_seed_and_step(token_ids, tokenizer):
    straight = _batches(token_ids, tokenizer)
    run = [straight.batch(step) for step in range(40)]  # over three epochs
    torch.manual_seed(99)
    for step in (39, 0, 13, 12, 25, 11):
        resumed = _batches(token_ids, tokenizer).batch(step)
        assert all(torch.equal(resumed[key], run[step][key]) for key in resumed)
        assert all(torch.equal(straight.batch(step)[key], run[step][key]) for key in resumed)
    other = _batches(token_ids, tokenizer, seed=6).batch(0)
    assert other["input_ids"].shape != run[0]["input_ids"].shape or not torch.equal(
        other["input_ids"], run[0]["input_ids"]
    )


def test_epoch_visits_every_row_once_and_undoing_the_mask_gives_the_rows(token_ids, tokenizer):
    batches = _batches(token_ids, tokenizer, batch_size=40)
    assert batches.steps_per_epoch == 10
    orders = []
    for epoch in range(2):
        seen = []
        for step in range(epoch * 10, epoch * 10 + 10):
            batch = batches.batch(step)
            original = torch.where(batch["labels"] == mlm.IGNORED, batch["input_ids"], batch["labels"])
            lengths = batch["attention_mask"].sum(1).tolist()
            seen += [row[:length] for row, length in zip(original.tolist(), lengths, strict=True)]
            assert original.shape[1] == max(lengths)
            assert (original[batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()
        assert sorted(seen) == sorted(token_ids)
        orders.append(seen)
    assert orders[0] != orders[1]


def test_masking_fractions(token_ids, tokenizer):
    batches = _batches(token_ids, tokenizer, batch_size=100, mask_probability=0.3)
    words = predicted = masked = kept = 0
    for step in range(100):
        batch = batches.batch(step)
        chosen = batch["labels"] != mlm.IGNORED
        original = torch.where(chosen, batch["labels"], batch["input_ids"])
        special = torch.isin(original, torch.tensor(tokenizer.all_special_ids))
        assert not (chosen & special).any()
        assert chosen.any(1).all()
        shown = batch["input_ids"][chosen]
        assert set(shown.unique().tolist()) & set(tokenizer.all_special_ids) <= {tokenizer.mask_token_id}
        words += int((~special).sum())
        predicted += int(chosen.sum())
        masked += int((shown == tokenizer.mask_token_id).sum())
        kept += int((shown == batch["labels"][chosen]).sum())
    assert predicted / words == pytest.approx(0.3, abs=0.01)
    assert masked / predicted == pytest.approx(0.8, abs=0.01)
    assert kept / predicted == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("changes", [{"batch_size": 0}, {"batch_size": 401}, {"mask_probability": 0.0}])
def test_impossible_batches_are_refused(token_ids, tokenizer, changes):
    with pytest.raises(ValueError, match="must be in"):
        _batches(token_ids, tokenizer, **changes)
