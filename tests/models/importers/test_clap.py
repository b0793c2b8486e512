import json
import math

import pytest
import torch
from openflam_layout import random_state
from torch.testing import assert_close
from towers import write_roberta
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    RobertaTokenizer,
)

from flamlib.models import htsat
from flamlib.models.flam import FLAM
from flamlib.models.htsat import HTSAT
from flamlib.models.importers import clap

CAPTIONS = ["a dog barks", "rain"]
AUDIO = {
    "patch_embeds_hidden_size": 8,
    "hidden_size": 64,
    "depths": [2, 1, 1, 1],
    "num_attention_heads": [1, 2, 2, 4],
    "projection_dim": 12,
    "projection_hidden_size": 12,
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return RobertaTokenizer.from_pretrained(write_roberta(tmp_path_factory.mktemp("roberta")))


@pytest.fixture(scope="module")
def theirs(tokenizer):
    torch.manual_seed(0)
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 24, "projection_dim": 12,
        "layer_norm_eps": 1e-3,
    }  # fmt: skip
    model = ClapModel(ClapConfig(text_config=text, audio_config=AUDIO, projection_dim=12)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def folder(theirs, tokenizer, tmp_path):
    """As it is published: weights, tokenizer, front end."""
    theirs.save_pretrained(tmp_path / "clap")
    tokenizer.save_pretrained(tmp_path / "clap")
    ClapFeatureExtractor(truncation="rand_trunc", frequency_min=50).save_pretrained(
        tmp_path / "clap"
    )
    return tmp_path / "clap"


def noise(n_samples):
    return 0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(0))


def test_clips_and_captions_meet_where_clap_puts_them(folder, theirs, tokenizer):
    """Through its own front end, too."""
    ours = clap.read(folder)
    waveform = noise(480_000)
    extract = ClapFeatureExtractor(truncation="rand_trunc", frequency_min=50)
    features = extract(waveform.numpy(), sampling_rate=48_000, return_tensors="pt")
    tokens = tokenizer(CAPTIONS, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = theirs(**tokens, input_features=features["input_features"].float())
    assert_close(ours.embed_audio(waveform, 48_000).clip_emb, out.audio_embeds, atol=1e-4, rtol=0)
    assert_close(ours.embed_captions(CAPTIONS).caption_emb, out.text_embeds, atol=1e-5, rtol=0)
    assert ours.log_temperature.item() == pytest.approx(theirs.logit_scale_a.item())


@pytest.mark.parametrize("seconds", [0.5, 2, 4, 5, 7, 10])
def test_short_clips_are_repeated_as_claps_own_extractor_does(folder, theirs, seconds, tmp_path):
    """Also after the model was saved and loaded; its frames are those of the audio."""
    clap.read(folder).save_pretrained(tmp_path / "ours")
    ours, waveform = FLAM.from_pretrained(tmp_path / "ours"), noise(round(seconds * 48_000))
    extract = ClapFeatureExtractor.from_pretrained(folder)
    features = extract(waveform.numpy(), sampling_rate=48_000, return_tensors="pt")
    with torch.no_grad():
        expected = theirs.get_audio_features(features["input_features"].float()).pooler_output
    found = ours.embed_audio(waveform, 48_000)
    expected = torch.nn.functional.normalize(expected, dim=1)
    assert_close(found.clip_emb, expected, atol=1e-6, rtol=0)
    assert found.frame_emb.shape[1] == math.ceil(seconds / 0.3125)


@pytest.mark.parametrize(("said", "padding"), [("repeatpad", "repeated"), ("pad", "silent")])
@pytest.mark.parametrize("today", [False, True])
def test_the_folder_says_how_short_clips_are_padded(folder, tokenizer, said, padding, today):
    """Today's processors say it in another file than older ones did."""
    path = folder / "preprocessor_config.json"
    extractor = ClapFeatureExtractor.from_pretrained(folder, padding=said)
    path.unlink()
    (ClapProcessor(extractor, tokenizer) if today else extractor).save_pretrained(folder)
    assert path.exists() != today
    assert clap.read(folder).config["audio"]["padding"] == padding


def test_frames_are_projected_like_clips(folder, theirs):
    ours, waveform = clap.read(folder), noise(480_000)
    with torch.no_grad():
        cells = theirs.audio_model(ours.audio.log_mel(waveform[None])[:, None]).last_hidden_state
        frames = theirs.audio_projection(cells.mean(dim=2).transpose(1, 2))
    expected = torch.nn.functional.normalize(frames, dim=2)
    assert_close(ours.embed_audio(waveform, 48_000).frame_emb, expected, atol=1e-5, rtol=1e-4)


def test_an_import_is_the_same_every_time_and_survives_saving(folder, tmp_path):
    one, other = clap.read(folder), clap.read(folder)
    one.save_pretrained(tmp_path / "ours")
    again = FLAM.from_pretrained(tmp_path / "ours")
    for name, tensor in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
        assert torch.equal(again.state_dict()[name], tensor), name
    assert again.provenance["imported from"] == "CLAP, clap"
    assert "learned nothing" in again.provenance["heads"]


def test_weights_of_older_repositories_are_read_too(folder, theirs):
    """pytorch_model.bin, with the buffers that older versions kept in it: the same model."""
    expected = clap.read(folder).state_dict()
    (folder / "model.safetensors").unlink()
    state = theirs.state_dict() | {"text_model.embeddings.position_ids": torch.arange(514)[None]}
    torch.save(state, folder / "pytorch_model.bin")
    found = clap.read(folder).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"enable_fusion": True}, "enable_fusion of the audio tower is True, expected False"),
        ({"num_mel_bins": 128}, "num_mel_bins of the audio tower is 128"),
        ({"hidden_act": "relu"}, "hidden_act of the audio tower is relu"),
    ],
)
def test_another_architecture_is_refused(folder, change, why):
    config = json.loads((folder / "config.json").read_text())
    config["audio_config"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=why):
        clap.read(folder)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"padding": "repeat"}, "padding is 'repeat', expected repeatpad or pad"),
        ({"max_length_s": 5}, "max_length_s is 5"),
        ({"top_db": 80}, "top_db is 80"),
        ({"truncation": "fusion"}, "truncation is fusion, expected rand_trunc"),
        ({"sampling_rate": 44_100}, "sampling_rate is 44100"),
        ({"frequency_min": 0}, "frequency_min is 0"),
    ],
)
def test_another_front_end_is_refused(folder, change, why):
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=rf"preprocessor_config.json: {why}"):
        clap.read(folder)


def test_another_front_end_is_refused_in_todays_file_too(folder, tokenizer):
    extractor = ClapFeatureExtractor.from_pretrained(folder, sampling_rate=44_100)
    (folder / "preprocessor_config.json").unlink()
    ClapProcessor(extractor, tokenizer).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"processor_config.json: sampling_rate is 44100"):
        clap.read(folder)


def test_a_size_that_the_weights_do_not_have_takes_no_memory(folder):
    config = json.loads((folder / "config.json").read_text())
    config["projection_dim"] = 10**9
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"model.safetensors: \S+ has shape \[12.*\[1000000000"):
        clap.read(folder)


def test_code_of_a_folder_is_not_run(folder):
    config = json.loads((folder / "config.json").read_text()) | {"auto_map": {"AutoModel": "a.B"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config.json names code of its own"):
        clap.read(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"audio_config": 3}'])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_configuration_that_is_damaged_is_named(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=str(folder)):
        clap.read(folder)


def test_tensors_that_do_not_map_are_named(folder, theirs):
    (folder / "model.safetensors").unlink()
    state = theirs.state_dict()
    del state["text_projection.linear2.bias"]
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"1 missing tensors: caption_projection.4.bias"):
        clap.read(folder)
    torch.save(theirs.state_dict() | {"gate": torch.ones(1)}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"1 unexpected tensors: gate"):
        clap.read(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    missing = name if name == "config.json" else "pytorch_model.bin"
    with pytest.raises(FileNotFoundError, match=f"{missing} is missing"):
        clap.read(folder)


def test_a_missing_tokenizer_is_noticed(folder):
    for path in folder.glob("*token*"):
        path.unlink()
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises((ValueError, OSError)):
        clap.read(folder)


def test_another_activation_between_the_projections_is_refused(folder):
    config = json.loads((folder / "config.json").read_text()) | {"projection_hidden_act": "gelu"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="projection_hidden_act is gelu, expected relu"):
        clap.read(folder)


# HTS-AT alone

TINY = {
    "embed": 8,
    "depths": [1, 2, 1, 1],
    "heads": [1, 2, 2, 4],
    "drop_path": 0.0,
    "drop_hidden": 0.0,
    "drop_attention": 0.0,
}


@pytest.fixture(scope="module")
def state():
    text = {"words": 9, "width": 64, "layers": 1, "inner": 8, "positions": 9}
    state = random_state(embed=8, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4), text=text, dim=4)
    prefix = "audio_branch."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


@pytest.mark.parametrize("prefix", ["", "sed_model.", "module.audio_branch."])
def test_a_tower_trained_on_audioset_is_one_to_start_from(state, tmp_path, prefix):
    """Lightning's wrapping and the classifier of 527 classes are left aside."""
    classifier = {"tscam_conv.weight": torch.ones(527, 64, 2, 3), "head.bias": torch.ones(527)}
    named = {f"{prefix}{name}": tensor for name, tensor in {**state, **classifier}.items()}
    torch.save({"state_dict": named | {"loss.weight": torch.ones(1)} if prefix else named},
               tmp_path / "HTSAT.ckpt")  # fmt: skip
    tower = clap.read_tower(tmp_path / "HTSAT.ckpt")
    clap.write_tower(tmp_path / "htsat", tower)
    again = HTSAT(**TINY).eval()
    again.load_weights(tmp_path / "htsat/model.safetensors")
    log_mel = tower.log_mel(noise(9000)[None])
    with torch.no_grad():
        assert torch.equal(again(log_mel), tower(log_mel))


def test_a_tower_at_32_khz_is_recognised(state, tmp_path):
    front_end = htsat.LogMel(32_000)
    torch.save(state | {"logmel_extractor.melW": front_end.mel.mel_scale.fb}, tmp_path / "a.ckpt")
    assert clap.read_tower(tmp_path / "a.ckpt").sample_rate == 32_000


def test_a_tower_of_another_rate_is_not_taken_for_one_of_this(tmp_path):
    """AudioSet's HTS-AT hears 32 kHz, the paper's 48: their weights are of the same shapes."""
    clap.write_tower(tmp_path / "htsat", HTSAT(**TINY, sample_rate=32_000))
    path = tmp_path / "htsat/model.safetensors"
    HTSAT(**TINY, sample_rate=32_000, padding="repeated").load_weights(path)
    with pytest.raises(ValueError, match=r"htsat.* with sample_rate 32000, .* has 48000"):
        HTSAT(**TINY).load_weights(path)
    with pytest.raises(ValueError, match=r"htsat.* with filters slaney, .* has htk"):
        HTSAT(**TINY, sample_rate=32_000, filters="htk").load_weights(path)


def test_no_tower_is_said_to_be_none(state, tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="is not an HTS-AT: 0 tensors are called patch_embed"):
        clap.read_tower(tmp_path / "other.ckpt")
    partial = {k: v for k, v in state.items() if k != "norm.bias"}
    torch.save(partial, tmp_path / "partial.ckpt")
    with pytest.raises(ValueError, match=r"1 missing tensors: audio_encoder.norm.bias"):
        clap.read_tower(tmp_path / "partial.ckpt")


def test_other_files_are_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="contains other files"):
        clap.write_tower(tmp_path, HTSAT(**TINY))
    clap.write_tower(tmp_path / "tower", HTSAT(**TINY))
    clap.write_tower(tmp_path / "tower", HTSAT(**TINY))  # its own
    (tmp_path / "tower/config.json").write_text("{}")  # of a whole model, now
    with pytest.raises(FileExistsError, match="contains other files"):
        clap.write_tower(tmp_path / "tower", HTSAT(**TINY))
