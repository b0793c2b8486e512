import ast
import json
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.testing import assert_close
from towers import learnt, write_bert, write_roberta

import flamlib
from flamlib.models.text_tower import TextTower, UnknownWords

CAPTIONS = ["A dog barks", "the bell rings the bell", "rain", "un chien aboie – « ouaf »", "犬 é"]
KINDS = [("bert", "mean"), ("bert", "pooler"), ("roberta", "mean"), ("roberta", "pooler")]
WORDS = [("bert", "words"), ("roberta", "words")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    return {"bert": write_bert(folder / "bert"), "roberta": write_roberta(folder / "roberta")}


@pytest.fixture(scope="module")
def bert(folders):
    torch.manual_seed(0)
    return TextTower(folders["bert"], pooling="mean").eval()


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def tower(request, folders):
    kind, pooling = request.param
    torch.manual_seed(0)
    return TextTower(folders[kind], pooling=pooling).eval()


def slow_mean(tower, caption):
    """The mean of a caption's token vectors, the special ones too, without any padding."""
    ids = tower.tokenizer(caption)["input_ids"]
    with torch.no_grad():
        vectors = tower.encoder(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return sum(vectors) / len(ids)


def test_mean_pooling_is_the_mean_of_the_tokens(bert):
    expected = torch.stack([slow_mean(bert, caption) for caption in CAPTIONS])
    assert_close(bert.embed(CAPTIONS), expected)


def test_mean_pooling_leaves_padding_out_of_the_gradient_too(bert):
    """The same caption, alone and padded, asks the same of every weight."""

    def gradient(captions):
        bert.zero_grad()
        bert(**bert.tokenize(captions))[0].square().sum().backward()
        return [p.grad.clone() for p in bert.encoder.encoder.parameters()]

    assert_close(
        gradient(["rain"]), gradient(["rain", "the bell rings the bell"]), atol=1e-6, rtol=0
    )


def test_all_places_are_as_many_as_the_tower_reads(folders):
    """Padding among them, and so in every company the same."""
    tower = TextTower(folders["bert"], pooling="all").eval()
    tokens = tower.tokenize(["rain"])
    assert tokens["input_ids"].shape == (1, tower.max_tokens)
    with torch.no_grad():
        hidden = tower.encoder(**tokens).last_hidden_state[0]
    assert_close(tower.embed(["rain", "a bell rings"])[0], sum(hidden) / tower.max_tokens)
    with pytest.raises(ValueError, match="accepts at most"):
        tower.tokenize(["a " * 20])


@pytest.mark.parametrize(("kind", "pooling"), WORDS)
def test_words_are_the_vectors_of_a_captions_own_tokens(folders, kind, pooling):
    """In order, without the marks around them, alone or in company."""
    torch.manual_seed(0)
    tower = TextTower(folders[kind], pooling=pooling).eval()
    features = tower.embed(CAPTIONS, batch_size=2)
    for caption, found in zip(CAPTIONS, features, strict=True):
        ids = tower.tokenizer(caption)["input_ids"]
        with torch.no_grad():
            vectors = tower.encoder(input_ids=torch.tensor([ids])).last_hidden_state[0]
        words = found[~found.isnan().any(dim=1)]
        assert_close(words, vectors[1:-1])
        assert len(words) > 0


def test_a_word_that_the_tokenizer_does_not_know_is_a_word(folders):
    tower = TextTower(folders["bert"], pooling="words").eval()
    unknown = tower.tokenizer.unk_token_id
    assert unknown in tower.tokenize(["theremin"])["input_ids"]
    assert tower.embed(["theremin"]).isnan().any(dim=2).tolist() == [[True, False, True]]


def test_a_caption_without_words_is_refused_where_those_are_asked_for(folders):
    tower = TextTower(folders["bert"], pooling="words")
    with pytest.raises(ValueError, match=r"caption without words: '\\x00\\x01'"):
        tower.tokenize(["rain", "\x00\x01"])


def test_a_caption_means_the_same_in_any_company(tower):
    together = tower.embed(CAPTIONS)
    for caption, vector in zip(CAPTIONS, together, strict=True):
        assert_close(tower.embed([caption]), vector[None], atol=1e-6, rtol=1e-5)


def test_batches_change_nothing(tower):
    assert_close(tower.embed(CAPTIONS, batch_size=2), tower.embed(CAPTIONS), atol=1e-6, rtol=1e-5)


def test_one_caption_is_not_a_special_case(tower):
    assert tower.embed(["rain"]).shape == (1, tower.width)


@given(st.text(st.characters(codec="utf-8"), max_size=3).filter(lambda text: text.strip()))
def test_any_text_will_do(bert, text):
    assert bert.embed([text]).isfinite().all()


@pytest.mark.parametrize("empty", ["", "  \n"])
def test_an_empty_caption_is_refused(tower, empty):
    with pytest.raises(ValueError, match="empty caption"):
        tower.tokenize(["rain", empty])


def test_a_caption_is_never_cut_short(bert):
    longest = " ".join(["rain"] * (bert.max_tokens - 2))  # beside [CLS] and [SEP]
    assert bert.embed([longest]).isfinite().all()
    with pytest.raises(
        ValueError, match=r"of 13 tokens, but the encoder accepts at most 12: 'rain"
    ):
        bert.tokenize(["a dog", longest + " rain"])


def test_roberta_reads_as_many_tokens_as_it_has_positions_for(folders):
    tower = TextTower(folders["roberta"], pooling="pooler").eval()
    assert tower.max_tokens == 40
    ids = torch.full((1, 40), 5)
    assert tower(ids, torch.ones_like(ids)).isfinite().all()


def test_the_pooler_looks_at_the_first_token(folders):
    tower = TextTower(folders["roberta"], pooling="pooler").eval()
    tokens = tower.tokenize(["a dog barks"])
    with torch.no_grad():
        first = tower.encoder(**tokens).last_hidden_state[:, 0]
        expected = torch.tanh(tower.encoder.pooler.dense(first))
        assert_close(tower(**tokens), expected)


def test_every_weight_learns(tower):
    """None is left out: data-parallel training waits for all of them."""
    tower.zero_grad()
    tower(**tower.tokenize(CAPTIONS)).square().sum().backward()
    unmoved = [name for name, p in tower.named_parameters() if p.grad is None]
    assert unmoved == []


@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_a_checkpoint_fits_whatever_heads_it_has(folders, tmp_path, pooling):
    published = TextTower(folders["bert"], pooling="pooler")
    head = {"cls.predictions.bias": torch.zeros(3), "embeddings.position_ids": torch.arange(4)}
    save_file(published.encoder.state_dict() | head, tmp_path / "model.safetensors")
    tower = TextTower(folders["bert"], pooling=pooling)
    tower.load_weights(tmp_path / "model.safetensors")
    for name, tensor in tower.encoder.state_dict().items():
        assert torch.equal(tensor, published.encoder.state_dict()[name]), name


def test_a_checkpoint_that_lacks_weights_is_refused(folders, tmp_path):
    tower = TextTower(folders["bert"], pooling="mean")
    weights = tower.encoder.state_dict()
    weights.pop("embeddings.word_embeddings.weight")
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 missing tensors: .*word_embeddings"):
        tower.load_weights(tmp_path / "model.safetensors")


def test_the_tokenizer_is_saved_as_it_was(tower, tmp_path):
    tower.save_config_and_tokenizer(tmp_path / "saved")
    again = TextTower(tmp_path / "saved", pooling=tower.pooling).eval()
    again.load_state_dict(tower.state_dict())
    for caption in CAPTIONS:
        assert torch.equal(
            again.tokenize([caption])["input_ids"], tower.tokenize([caption])["input_ids"]
        )
    assert torch.equal(again.embed(CAPTIONS), tower.embed(CAPTIONS))


def test_another_pooling_is_refused(folders):
    with pytest.raises(ValueError, match="not 'max'"):
        TextTower(folders["bert"], pooling="max")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_folder_must_hold_configuration_and_tokenizer(tmp_path, name):
    """Without the second, transformers would read every word as unknown."""
    (write_bert(tmp_path) / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing"):
        TextTower(tmp_path, pooling="mean")


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_activations_computed_twice_give_the_same_gradients(folders, kind):
    torch.manual_seed(0)
    tower = TextTower(folders[kind], pooling="pooler").train()
    assert tower.encoder.config.hidden_dropout_prob > 0
    tokens = tower.tokenize(CAPTIONS)
    expected, n_all = learnt(lambda: tower(**tokens), tower.parameters())
    tower.enable_checkpointing()
    found, n_few = learnt(lambda: tower(**tokens), tower.parameters())
    assert n_few < 0.6 * n_all
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_a_tower_is_float32_whatever_its_configuration_says(folders, tmp_path, dtype, key):
    change(folders["bert"], tmp_path, "config.json", **{key: dtype})
    torch.manual_seed(0)
    tower = TextTower(tmp_path / "tower", pooling="mean").eval()
    torch.manual_seed(0)
    usual = TextTower(folders["bert"], pooling="mean").eval()
    assert {p.dtype for p in tower.parameters()} == {torch.float32}
    assert torch.equal(tower.embed(CAPTIONS), usual.embed(CAPTIONS))
    tower.save_config_and_tokenizer(tmp_path / "saved")
    assert dtype not in (tmp_path / "saved/config.json").read_text()


def change(folder, tmp_path, name, **changes):
    shutil.copytree(folder, tmp_path / "tower")
    path = tmp_path / "tower" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", {"auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}}),
        ("config.json", {"auto_map": {"AutoConfig": "own.Own"}, "model_type": "own"}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Own", None]}}),
    ],
)
def test_code_of_a_folder_is_not_run_and_nobody_is_asked_to(
    folders, tmp_path, monkeypatch, name, changes
):
    change(folders["bert"], tmp_path, name, **changes)
    ran = tmp_path / "ran"
    (tmp_path / "tower/own.py").write_text(
        f"open({str(ran)!r}, 'w').close()\nfrom transformers import BertConfig as Own\n"
    )
    asked = []
    monkeypatch.setattr("builtins.input", lambda *a: asked.append(a) or "y")
    with pytest.raises(ValueError, match=rf"{name} names code of its own \(auto_map\)"):
        TextTower(tmp_path / "tower", pooling="mean")
    assert not ran.exists()
    assert not asked


def test_no_reader_of_models_may_run_their_code():
    """Every reader of `transformers` that could is told not to, in so many words."""
    n_readers = 0
    for path in Path(flamlib.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for call in ast.walk(ast.parse(text)):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            name = ast.unparse(call.func)
            if re.search(r"\bAuto\w+\.from_(pretrained|config)$", name):
                n_readers += 1
                said = {k.arg: ast.unparse(k.value) for k in call.keywords}
                shared = re.search(rf"{said.get(None)} = .*trust_remote_code.*False", text)
                assert said.get("trust_remote_code") == "False" or shared, (path, name)
    assert n_readers >= 5


@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000: expected"),
        ("config.json", {"num_attention_heads": 3}, "not a multiple"),
        ("config.json", {"hidden_size": "16"}, "hidden_size"),
        ("config.json", {"model_type": "whisper"}, "config.json"),
        ("config.json", {"vocab_size": 5}, "token 16, but config.json has vocab_size = 5"),
        ("tokenizer_config.json", {"model_max_length": 0}, "captions of 0 tokens"),
        ("tokenizer_config.json", {"model_max_length": "many"}, "tokenizer.json"),
    ],
)
def test_what_cannot_be_a_tower_is_refused_by_name(folders, tmp_path, name, changes, why):
    change(folders["bert"], tmp_path, name, **changes)
    with pytest.raises(ValueError, match=why) as caught:
        TextTower(tmp_path / "tower", pooling="mean")
    assert str(tmp_path / "tower") in str(caught.value)


def test_a_tokenizer_that_is_empty_is_named(folders, tmp_path):
    change(folders["bert"], tmp_path, "config.json")
    (tmp_path / "tower/tokenizer.json").write_text("")
    with pytest.raises(ValueError, match=r"tokenizer.json cannot be used"):
        TextTower(tmp_path / "tower", pooling="mean")


def test_words_that_the_tower_does_not_know_are_named(bert, folders):
    with pytest.warns(UnknownWords) as told:
        features = bert.embed(["🐕", "the dog 🐕 barks", "ᚠ", "rain", "☃"])
    assert_close(features[0], features[2])  # which is why it is said
    [text] = [str(each.message) for each in told]
    assert text.startswith("the model cannot read a word of '🐕': all such captions score alike; ")
    assert "cannot read 🐕 in 'the dog 🐕 barks': say it in other words" in text
    assert text.endswith("and 1 more")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bert.embed(["a dog barks", "the rain"])
        TextTower(folders["roberta"], pooling="mean").embed(["🐕"])  # byte by byte


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_a_language_model_as_published_is_a_tower(folders, tmp_path, kind):
    """Its encoder is under the name of its architecture, beside a head, and has no pooler."""
    torch.manual_seed(3)
    saved = TextTower(folders[kind], pooling="mean").encoder.state_dict()
    published = {f"{kind}.{name}": tensor.contiguous() for name, tensor in saved.items()}
    save_file(published | {"lm_head.bias": torch.zeros(9)}, tmp_path / "model.safetensors")
    mean = TextTower(folders[kind], pooling="mean")
    mean.load_weights(tmp_path / "model.safetensors")
    pooled = TextTower(folders[kind], pooling="pooler")
    with pytest.warns(UserWarning, match=r"model\.safetensors has no pooler: it keeps random"):
        pooled.load_weights(tmp_path / "model.safetensors")
    for name, tensor in saved.items():
        assert torch.equal(mean.encoder.state_dict()[name], tensor)
        assert torch.equal(pooled.encoder.state_dict()[name], tensor)
