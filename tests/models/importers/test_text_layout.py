import json

import pytest
import torch
from originals_layout import write_t5_tokenizer
from torch.testing import assert_close
from towers import write_bert, write_roberta
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
    T5Config,
    T5EncoderModel,
)

from flamlib.models.importers import text_layout
from flamlib.models.text_tower import TextTower

CAPTIONS = ["a dog barks", "rain"]
BERTS = {
    "bert": (write_bert, BertConfig, BertModel, {}),
    "roberta": (
        write_roberta,
        RobertaConfig,
        RobertaModel,
        {"pad_token_id": 1, "layer_norm_eps": 1e-5},
    ),
}


@pytest.mark.parametrize("kind", BERTS)
def test_a_bert_is_built_again_from_its_tensors(kind, tmp_path):
    write, config_class, model_class, more = BERTS[kind]
    tokenizer = AutoTokenizer.from_pretrained(write(tmp_path / "tokenizer"))
    torch.manual_seed(0)
    config = config_class(
        vocab_size=len(tokenizer), hidden_size=128, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=20, max_position_embeddings=80, type_vocab_size=2, **more,
    )  # fmt: skip
    theirs = model_class(config, add_pooling_layer=False).eval()
    tensors = theirs.state_dict()
    limits = {"config_class": config_class, "max_tokens": 30}
    text_layout.write_bert(tmp_path / "ours", tensors, tmp_path / "tokenizer", **limits)
    ours = TextTower(tmp_path / "ours", pooling="words").eval()
    assert ours.max_tokens == 30
    ours.encoder.load_state_dict(tensors)
    tokens = ours.tokenize(CAPTIONS)
    with torch.no_grad():
        expected = theirs(**tokens).last_hidden_state
        found = ours.encoder(**tokens).last_hidden_state
    assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activation", ["gated-gelu", "relu"])
def test_the_encoder_of_a_t5_is_built_again_from_its_tensors(activation, tmp_path):
    tokenizer = write_t5_tokenizer(tmp_path / "tokenizer")
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer) + 5, d_model=12, d_kv=6, d_ff=20, num_layers=3, num_heads=2,
        relative_attention_num_buckets=16, feed_forward_proj=activation,
    )  # fmt: skip
    theirs = T5EncoderModel(config).eval()
    tensors = theirs.encoder.state_dict()
    text_layout.write_t5(tmp_path / "ours", tensors, tmp_path / "tokenizer", max_tokens=20)
    ours = TextTower(tmp_path / "ours", pooling="all").eval()
    ours.encoder.load_state_dict(tensors)
    tokens = ours.tokenize(CAPTIONS)
    assert tokens["input_ids"].shape == (2, 20)
    with torch.no_grad():
        expected = theirs(**tokens).last_hidden_state
        assert_close(ours(**tokens), expected.mean(dim=1), atol=1e-5, rtol=1e-5)


def test_a_tensor_that_tells_the_shape_is_named_if_it_is_missing(tmp_path):
    write_bert(tmp_path / "bert")
    limits = {"config_class": BertConfig, "max_tokens": 9}
    with pytest.raises(ValueError, match=r"not a text encoder: tensor embeddings\.word_embeddings"):
        text_layout.write_bert(tmp_path / "ours", {}, tmp_path / "bert", **limits)
    with pytest.raises(ValueError, match=r"not a T5 encoder: tensor embed_tokens\.weight is"):
        text_layout.write_t5(tmp_path / "ours", {}, tmp_path / "bert", max_tokens=9)


def read(folder, kind="roberta", max_tokens=30):
    usual = {"roberta": RobertaTokenizer, "bert": BertTokenizer}[kind]
    return text_layout._read_tokenizer(folder, max_tokens, usual)


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_a_tokenizers_words_alone_are_enough(kind, tmp_path):
    """vocab.json and merges.txt, or vocab.txt, as they are published beside checkpoints."""
    written = AutoTokenizer.from_pretrained(BERTS[kind][0](tmp_path / "whole"))
    (tmp_path / "words").mkdir()
    vocab = sorted(written.get_vocab(), key=written.get_vocab().get)
    if kind == "roberta":
        model = json.loads((tmp_path / "whole/tokenizer.json").read_text())["model"]
        (tmp_path / "words/vocab.json").write_text(json.dumps(model["vocab"]))
        merges = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
        (tmp_path / "words/merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    else:
        (tmp_path / "words/vocab.txt").write_text("\n".join(vocab))
    found = read(tmp_path / "words", kind)
    assert found.get_vocab() == written.get_vocab()
    assert found(CAPTIONS)["input_ids"] == written(CAPTIONS)["input_ids"]
    assert found.model_max_length == 30


@pytest.mark.parametrize("source", ["/no/such/folder", "./tokenizers/roberta", "a/b/c"])
def test_a_folder_that_is_not_there_is_said_to_be_missing(source):
    with pytest.raises(FileNotFoundError, match=f"tokenizer {source}: no such folder; pass one"):
        read(source)


def test_an_id_that_the_hub_cannot_give_is_named():
    with pytest.raises(FileNotFoundError, match="tokenizer someone/none: no such folder, and"):
        read("someone/none")


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        FileNotFoundError, match=r"expected tokenizer.json, or vocab.json and merge"
    ):
        read(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="holds no tokenizer"):
        read(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer.json cannot be used"):
        read(tmp_path)
