import inspect
import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from towers import HTSAT, SETTINGS, sensitive_model, write_bert, write_roberta
from towers import changing_noise as noise

from flamlib.models import dual_encoder
from flamlib.models.flam import FLAM
from flamlib.sound_events.events import count_frames

CAPTIONS = ["a dog barks", "the bell rings", "rain"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def net(folder):
    return sensitive_model(folder)


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The paper's towers, small: HTS-AT, and RoBERTa with its pooler."""
    roberta = write_roberta(tmp_path_factory.mktemp("roberta"))
    torch.manual_seed(0)
    net = FLAM(roberta, **SETTINGS | {"audio": HTSAT, "caption": {"pooling": "pooler"}}).eval()
    net.folder = roberta
    return net


@pytest.fixture
def saved(net, tmp_path):
    net.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))


def test_a_waveform_is_a_clip(net):
    waveform = noise(9000)
    for one, many in zip(
        net.embed_audio(waveform, 16_000), net.embed_audio(waveform[None], 16_000), strict=True
    ):
        assert torch.equal(one, many)


def test_arrays_of_any_layout_are_heard(net):
    array = noise(9000).numpy()
    read_only = array.copy()
    read_only.flags.writeable = False
    expected = net.embed_audio(torch.from_numpy(array), 16_000).clip_emb
    for layout in (array, read_only, array[::-1].copy()[::-1], array.astype(np.float64)):
        assert torch.equal(net.embed_audio(layout, 16_000).clip_emb, expected)


def test_clips_do_not_hear_each_other(net):
    waveform = noise(3, 9000)
    together = net.embed_audio(waveform, 16_000)
    for i in range(3):
        assert_close(net.embed_audio(waveform[i], 16_000).frame_emb[0], together.frame_emb[i])


@pytest.mark.parametrize("seconds", [65.0, 82.0, 41.0])
def test_long_audio_in_blocks_is_as_in_one_pass(net, monkeypatch, seconds):
    waveform = noise(2, round(seconds * 16_000))
    in_blocks = net.embed_audio(waveform, 16_000)
    monkeypatch.setattr(dual_encoder, "BLOCK_FRAMES", 10_000)
    in_one = net.embed_audio(waveform, 16_000)
    assert in_one.frame_emb.shape[1] > 128
    assert in_one.frame_emb.std(dim=1).max() > 1e-2
    for one, other in zip(in_blocks, in_one, strict=True):
        assert_close(one, other, rtol=0, atol=1e-5)


def test_windows_and_blocks_end_together(paper, monkeypatch):
    """HTS-AT knows nothing beyond its window, so a block must not cut one."""
    waveform = noise(1, 12 * 48_000)
    in_one = paper.embed_audio(waveform, 48_000)
    monkeypatch.setattr(dual_encoder, "BLOCK_FRAMES", 32)
    assert_close(paper.embed_audio(waveform, 48_000).frame_emb, in_one.frame_emb)
    assert in_one.frame_emb.shape[1] == math.ceil(12 / paper.frame_s)


@given(
    st.sampled_from([8000, 11_025, 16_000, 22_050, 44_100, 44_099, 48_000, 96_000]),
    st.integers(1, 30_000),
)
def test_audio_of_any_rate_and_length_has_the_frames_it_reaches(net, sample_rate, n_samples):
    frame_emb, clip_emb = net.embed_audio(noise(n_samples), sample_rate)
    assert frame_emb.shape[1] == pytest.approx(n_samples / sample_rate / net.frame_s, abs=1.01)
    assert frame_emb.shape[1] >= 1
    assert frame_emb.isfinite().all()
    assert clip_emb.isfinite().all()


@pytest.mark.parametrize(("rate", "n_over"), [(44_100, 1), (48_000, 1), (96_000, 2), (192_000, 5)])
@pytest.mark.parametrize("n_frames", [1, 8])
def test_a_frame_that_hardly_begins_is_one_at_any_rate(net, rate, n_over, n_frames):
    n_samples = round(n_frames * net.frame_s * rate) + n_over
    assert count_frames(n_samples / rate, net.frame_s) == n_frames + 1
    assert net.embed_audio(noise(n_samples), rate).frame_emb.shape[1] == n_frames + 1


@pytest.mark.parametrize("n_samples", [1, 1600, 5000])
def test_short_audio_is_padded_and_not_stretched(net, n_samples):
    waveform = noise(n_samples)
    padded = torch.zeros(5120)
    padded[:n_samples] = waveform
    for one, other in zip(
        net.embed_audio(waveform, 16_000), net.embed_audio(padded, 16_000), strict=True
    ):
        assert torch.equal(one, other)


def test_silence_past_the_end_is_no_part_of_a_clip(paper):
    """HTS-AT looks at ten seconds, but a clip of four has the frames of four, and their mean."""
    frame_emb, _ = paper.embed_audio(noise(4 * 48_000), 48_000)
    assert frame_emb.shape[1] == 13
    with torch.no_grad():
        frames = paper.audio(paper.audio.log_mel(noise(4 * 48_000)[None]))[:, :13]
        whole = paper.audio_projection(frames.mean(dim=1))
    expected = whole / whole.norm(dim=1, keepdim=True)
    assert_close(paper.embed_audio(noise(4 * 48_000), 48_000).clip_emb, expected)


def padded(paper, padding):
    """The same model whose tower pads otherwise."""
    other = type(paper)(paper.folder, **paper.config | {"audio": HTSAT | {"padding": padding}})
    other.load_state_dict(paper.state_dict())
    return other.eval()


@pytest.mark.parametrize("padding", ["ignored", "silent", "repeated"])
@pytest.mark.parametrize("n_windows", [1, 5])
def test_ten_seconds_and_a_few_milliseconds_are_heard_as_ten_seconds(paper, padding, n_windows):
    """The frame that they begin is as the one before: detection has a frame for every instant."""
    net, n_frames = padded(paper, padding), 32 * n_windows
    waveform = noise(n_windows * 480_000 + 480)
    longer, exact = (net.embed_audio(w, 48_000) for w in (waveform, waveform[:-480]))
    assert longer.frame_emb.shape[1] == n_frames + 1
    assert torch.equal(longer.frame_emb[:, :n_frames], exact.frame_emb)
    assert torch.equal(longer.frame_emb[:, -1], exact.frame_emb[:, -1])
    assert torch.equal(longer.clip_emb, exact.clip_emb)


@pytest.mark.parametrize("seconds", [0.5, 4.2, 7.0, 13.0])
def test_what_fills_a_window_is_part_of_a_clip_where_the_tower_says_so(paper, seconds):
    waveform = noise(round(seconds * 48_000))
    n_filled = -(-len(waveform) // 480_000) * 480_000
    silent = torch.zeros(n_filled)
    silent[: len(waveform)] = waveform
    rest = waveform[len(waveform) // 480_000 * 480_000 :]
    n_times = 480_000 // len(rest)
    repeated = silent.clone()
    repeated[n_filled - 480_000 :][: n_times * len(rest)] = rest.repeat(n_times)
    for padding, filled in (("silent", silent), ("repeated", repeated)):
        found = padded(paper, padding).embed_audio(waveform, 48_000)
        whole = paper.embed_audio(filled, 48_000)
        assert torch.equal(found.clip_emb, whole.clip_emb)
        n_frames = math.ceil(seconds / paper.frame_s)
        assert torch.equal(found.frame_emb, whole.frame_emb[:, :n_frames])


def test_how_a_model_pads_is_saved_with_it(paper, tmp_path):
    net, waveform = padded(paper, "repeated"), noise(2 * 48_000)
    net.save_pretrained(tmp_path / "model")
    again = FLAM.from_pretrained(tmp_path / "model")
    assert torch.equal(
        again.embed_audio(waveform, 48_000).clip_emb, net.embed_audio(waveform, 48_000).clip_emb
    )
    assert not torch.allclose(
        again.embed_audio(waveform, 48_000).clip_emb, paper.embed_audio(waveform, 48_000).clip_emb
    )


def test_a_tone_sounds_alike_at_any_rate(net):
    def tone(sample_rate):
        return 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(2 * sample_rate) / sample_rate)

    expected = net.embed_audio(tone(16_000), 16_000).clip_emb
    for sample_rate in (8000, 22_050, 48_000):
        found = net.embed_audio(tone(sample_rate), sample_rate).clip_emb
        assert (found * expected).sum() > 0.99


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (torch.zeros(0), r"not empty, got \[0\]"),
        (
            torch.zeros(16_000, 2),
            r"\[16000, 2\], which looks like \[sample, channel\]: pass",
        ),
        (torch.zeros(2, 0), r"got \[2, 0\]"),
        (torch.zeros(1, 1, 9), r"got \[1, 1, 9\]"),
        (np.float32(0.5), r"got \[\]"),
        (torch.tensor([0.1, float("nan")]), "damaged"),
        (torch.tensor([0.1, -float("inf")]), "damaged"),
        (torch.ones(9, dtype=torch.int16), "floats, full scale 1, got torch.int16"),
    ],
)
def test_what_is_no_audio_is_refused(net, wrong, why):
    unchecked = inspect.unwrap(FLAM.embed_audio)
    with pytest.raises(ValueError, match=why), torch.inference_mode():
        unchecked(net, wrong, 16_000)


def test_samples_too_large_for_the_arithmetic_are_refused(net):
    """Each of them is a number, but their spectrum is not."""
    loud = 3e38 * torch.sign(noise(9000))
    with pytest.raises(ValueError, match=r"audio with samples up to 3e\+38 .* hold NaN"):
        net.embed_audio(loud, 16_000)


def test_what_are_no_captions_is_refused(net):
    for wrong in ([], "rain"):
        with pytest.raises(ValueError, match="a list of at least one text"):
            inspect.unwrap(FLAM.embed_captions)(net, wrong)
    with pytest.raises(ValueError, match="empty caption"):
        net.embed_captions(["rain", " "])


def test_a_step_gives_what_it_is_asked_for(net):
    """Tokens of a tower that learns and features of one that does not are read alike."""
    features = net.caption.embed(CAPTIONS)
    with torch.no_grad():
        by_features = net(None, features, None)
        by_tokens = net(None, net.caption.tokenize(CAPTIONS), None)
    assert by_features.audio is by_features.pair_audio is None
    for one, other in zip(by_features.captions, by_tokens.captions, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("which", ["net", "paper"])
def test_a_model_that_was_saved_is_the_same_exactly(which, request, tmp_path):
    net = request.getfixturevalue(which)
    net.save_pretrained(tmp_path / "model")
    again = FLAM.from_pretrained(str(tmp_path / "model"))
    assert again.config == net.config
    assert not again.training
    assert again.state_dict().keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    waveform = noise(20_000)
    assert torch.equal(
        again.score(waveform, 16_000, CAPTIONS), net.score(waveform, 16_000, CAPTIONS)
    )


def test_a_saved_model_needs_nothing_else(net, folder, tmp_path):
    """Neither the folder it was made from nor the place it was saved to."""
    copy = tmp_path / "bert"
    shutil.copytree(folder, copy)
    other = FLAM(copy, **SETTINGS)
    other.load_state_dict(net.state_dict())
    other.save_pretrained(tmp_path / "here")
    shutil.rmtree(copy)
    (tmp_path / "here").rename(tmp_path / "elsewhere")
    again = FLAM.from_pretrained(tmp_path / "elsewhere")
    assert torch.equal(again.embed_captions(CAPTIONS)[0], net.embed_captions(CAPTIONS)[0])


def test_a_saved_model_is_these_files(net, tmp_path):
    net.save_pretrained(tmp_path / "model", provenance={"seed": 7, "ü": [0.5]})
    files = {str(p.relative_to(tmp_path / "model")) for p in (tmp_path / "model").rglob("*")}
    assert files >= {"config.json", "model.safetensors", "training.json", "caption_tower"}
    assert json.loads((tmp_path / "model/training.json").read_text()) == {"seed": 7, "ü": [0.5]}
    config = json.loads((tmp_path / "model/config.json").read_text())
    heads = {"scale": "per_caption", "bias": "per_caption", "clip_projection": "shared"}
    assert config == {"format": 1, "n_known": 0, **SETTINGS, **heads}
    assert (tmp_path / "model/README.md").read_text().startswith("---\nlibrary_name: flamlib\n")


def test_no_pickle_is_written(saved):
    pickles = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
    assert not [path for path in saved.rglob("*") if path.suffix in pickles]


def test_provenance_stays_with_a_model_that_is_saved_again(net, tmp_path):
    net.save_pretrained(tmp_path / "first", provenance={"data": "0f9e"})
    again = FLAM.from_pretrained(tmp_path / "first")
    assert again.provenance == {"data": "0f9e"}
    again.save_pretrained(tmp_path / "second")
    assert json.loads((tmp_path / "second/training.json").read_text()) == {"data": "0f9e"}
    assert "| data | 0f9e |" in (tmp_path / "second/README.md").read_text()


def test_a_folder_of_the_first_release_still_loads(net, saved, tmp_path):
    """It has no card, and its settings name neither patches, a sample rate nor kinds of heads."""
    (saved / "README.md").unlink()
    change_config(saved, scale=None, bias=None)
    save_file(load_file(saved / "model.safetensors"), saved / "model.safetensors")
    again = FLAM.from_pretrained(saved)
    assert again.provenance is None
    assert torch.equal(again.embed_captions(CAPTIONS)[0], net.embed_captions(CAPTIONS)[0])


def test_what_is_pushed_to_the_hub_is_what_is_read(net, tmp_path, monkeypatch):
    uploaded = tmp_path / "repository"

    class Api:
        def __init__(self, **kwargs):
            pass

        def create_repo(self, repo_id, **kwargs):
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path, **kwargs):
            shutil.copytree(folder_path, uploaded)
            return f"commit to {repo_id}"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    assert net.push_to_hub("someone/flam") == "commit to someone/flam"
    names = {path.name for path in uploaded.iterdir()}
    assert names == {"config.json", "model.safetensors", "caption_tower", "README.md"}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **hub: str(uploaded))
    again = FLAM.from_pretrained("someone/flam", revision="main")
    assert torch.equal(again.embed_captions(CAPTIONS)[0], net.embed_captions(CAPTIONS)[0])


def test_a_model_that_is_not_on_the_hub_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder, and no such repository"):
        FLAM.from_pretrained("someone/flam", cache_dir=tmp_path)


def test_a_newer_model_takes_the_place_of_an_older_one(net, saved):
    net.save_pretrained(saved, provenance={})
    net.save_pretrained(saved)
    assert not (saved / "training.json").exists()
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_the_older_model(net, saved, monkeypatch):
    monkeypatch.setattr(net.caption, "save_config_and_tokenizer", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        net.save_pretrained(saved)
    FLAM.from_pretrained(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_no_other_folder_is_replaced(net, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="more than a saved model"):
        net.save_pretrained(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_training_mode_is_not_saved(folder, tmp_path):
    net = FLAM(folder, **SETTINGS).train()
    net.save_pretrained(tmp_path / "model")
    assert net.training
    assert not FLAM.from_pretrained(tmp_path / "model").training


@pytest.mark.parametrize(
    "name",
    ["", "config.json", "model.safetensors", "caption_tower", "caption_tower/tokenizer.json"],
)
def test_a_missing_part_is_named(saved, name):
    path = saved / name
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(FileNotFoundError, match=rf"{path} is missing"):
        FLAM.from_pretrained(saved)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": 3}, "format 3, of a newer flamlib; this one reads up to 2"),
        ({"format": None}, "not the config.json of a model saved"),
        ({"format": True}, "not the config.json of a model saved"),
        ({"dim": None}, "config.json: dim is missing"),
        ({"dims": 3}, "config.json: no parameter dims; did you mean dim?"),
        ({"model": []}, r"config.json: model = \[\]: expected the name of a kind"),
        ({"audio": {"tower": "panns"}}, "audio.tower = 'panns': expected one of yamnet, htsat"),
        ({"audio": HTSAT | {"heads": [1]}}, "config.json: HTS-AT with stages of widths"),
        ({"audio": HTSAT | {"depths": [10**9, 1, 1, 1]}}, "blocks in depths, at most 1000"),
        ({"dim": 10**9}, r"model.safetensors: \S+ has shape \[12\S*.*\], .* \[1000000000"),
        ({"dim": 10**30}, "config.json: no model has such sizes"),
        (
            {"dim": 13},
            r"audio_projection\.\S+ has shape \[12\S*.*\], the model expects \[13",
        ),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(saved, changes, why):
    change_config(saved, **changes)
    with pytest.raises(ValueError, match=why):
        FLAM.from_pretrained(saved)


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"format": "1"}'])
def test_another_configuration_is_refused(saved, text):
    (saved / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json is not the config.json of a model saved"):
        FLAM.from_pretrained(saved)


def test_half_a_configuration_is_refused(saved):
    text = (saved / "config.json").read_text()
    (saved / "config.json").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=r"config.json is not valid JSON .*truncated"):
        FLAM.from_pretrained(saved)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"log_temperature": None}, "1 missing tensors: log_temperature"),
        ({"extra": torch.ones(1)}, r"1 unexpected tensors: extra"),
        ({"log_temperature": torch.ones(2)}, r"log_temperature has shape \[2\], .* expects \[\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named(saved, change, why):
    tensors = load_file(saved / "model.safetensors") | change
    save_file({k: v for k, v in tensors.items() if v is not None}, saved / "model.safetensors")
    with pytest.raises(ValueError, match=rf"model.safetensors:? {why}"):
        FLAM.from_pretrained(saved)


@pytest.mark.parametrize("n_bytes", [0, 7, 1000, -1])
def test_a_truncated_file_is_said_to_be(saved, n_bytes):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=r"model.safetensors cannot be read .*truncated"):
        FLAM.from_pretrained(saved)


def test_an_unknown_tower_is_refused():
    with pytest.raises(ValueError, match="no audio tower 'unknown'"):
        dual_encoder.audio_tower(tower="unknown")
