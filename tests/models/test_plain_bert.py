import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from towers import WORDS, write_bert
from transformers import AutoConfig, AutoTokenizer, BertConfig, BertTokenizer

from flamlib.models import plain_bert

TEXTS = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=6),
        st.sampled_from([*WORDS, "dogs", "Bells", "[MASK]", "[unk]", "犬é", "É", "e\u0301", "##s"]),
    ),
    min_size=1,
    max_size=6,
).map(" ".join)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = write_bert(tmp_path_factory.mktemp("bert"))
    return plain_bert.read_tokenizer(folder), AutoTokenizer.from_pretrained(folder)


@given(texts=st.lists(TEXTS, min_size=1, max_size=3), length=st.none() | st.integers(1, 30))
def test_tokens_are_those_of_transformers(pair, texts, length):
    ours, theirs = pair
    padding = {"padding": True}
    if length is not None and all(len(ids) <= length for ids in theirs(texts)["input_ids"]):
        padding = {"padding": "max_length", "max_length": length}
    elif length is not None:
        length = None
    expected = theirs(texts, **padding, return_tensors="pt")
    found = ours.padded(texts, length)
    for name in ("input_ids", "attention_mask"):
        assert found[name].tolist() == expected[name].tolist()
    ids = ours(texts[0])["input_ids"]
    assert ids == theirs(texts[0])["input_ids"]
    assert ours.convert_ids_to_tokens(ids) == theirs.convert_ids_to_tokens(ids)


def test_what_is_known_of_a_tokenizer_is_what_transformers_knows(pair):
    ours, theirs = pair
    assert ours.get_vocab() == theirs.get_vocab()
    assert {*ours.all_special_ids} == {*theirs.all_special_ids}
    assert ours.unk_token_id == theirs.unk_token_id
    assert ours.model_max_length >= 10**9 <= theirs.model_max_length


@pytest.mark.parametrize("lower", [True, False])
def test_letters_are_made_small_where_the_files_say_so(tmp_path, lower):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "Dog", "é", "e"]
    vocab = {word: k for k, word in enumerate(words)}
    BertTokenizer(vocab=vocab, do_lower_case=lower, model_max_length=9).save_pretrained(tmp_path)
    ours, theirs = plain_bert.read_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.model_max_length == 9
    for text in ("Dog dog é É", "[MASK]Dog"):
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]


def test_settings_are_those_of_transformers(tmp_path):
    """Also where config.json leaves them open."""
    write_bert(tmp_path)
    path = tmp_path / "config.json"
    for said in (json.loads(path.read_text()), {"model_type": "bert", "hidden_size": 24}):
        path.write_text(json.dumps(said))
        ours, theirs = plain_bert.read_config(tmp_path), AutoConfig.from_pretrained(tmp_path)
        for name, value in vars(ours).items():
            # Of the one that it lacks, transformers knows only what was once the default.
            assert getattr(theirs, name, "absolute") == value, name


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "roberta"},
        {"hidden_size": "16"},
        {"hidden_size": 0},
        {"is_decoder": 1},
        {"pad_token_id": None},
        {"position_embedding_type": "relative_key"},
        {"quantization_config": {}},
    ],
)
def test_an_unusual_configuration_is_left_to_transformers(tmp_path, changes):
    BertConfig().save_pretrained(tmp_path)
    assert plain_bert.read_config(tmp_path) is not None
    change(tmp_path / "config.json", changes)
    assert plain_bert.read_config(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("tokenizer_config.json", {"do_lower_case": False}),  # the two disagree
        ("tokenizer_config.json", {"strip_accents": None}),
        ("tokenizer_config.json", {"cls_token": "[SEP]"}),
        ("tokenizer_config.json", {"padding_side": "left"}),
        ("tokenizer_config.json", {"model_max_length": "many"}),
        ("tokenizer_config.json", {"tokenizer_class": "DistilBertTokenizer"}),
        ("tokenizer_config.json", {"extra_special_tokens": ["[X]"]}),
        ("tokenizer.json", {"normalizer": None}),
        ("tokenizer.json", {"added_tokens": []}),
        ("tokenizer.json", {"post_processor": None}),
        ("tokenizer.json", {"model": {"type": "BPE"}}),
    ],
)
def test_an_unusual_tokenizer_is_left_to_transformers(tmp_path, name, changes):
    write_bert(tmp_path)
    assert plain_bert.read_tokenizer(tmp_path) is not None
    change(tmp_path / name, changes)
    assert plain_bert.read_tokenizer(tmp_path) is None


def change(path, changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_detector_waits_for_no_library_that_it_does_not_need():
    """Each takes a tenth of a second to half a second."""
    idle = ["transformers", "huggingface_hub", "torchaudio", "scipy", "yaml", "pandas"]
    code = (
        "import sys\n"
        "from flamlib.adaptation import adapter\n"
        "from flamlib.inference import detector, questions\n"
        f"print([name for name in {idle} if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
