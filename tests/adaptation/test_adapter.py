import json
import shutil

import numpy as np
import own_thresholds
import pytest
import torch
from heldouts import write_mga_clap, write_model
from sounds import noise

from flamlib.adaptation import adapter
from flamlib.adaptation.adapter import Adapted
from flamlib.models.flam import FLAM

THRESHOLDS = own_thresholds.made({"rain": (0.4, 3)}, min_events=1, fallback=0.7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter") / "flam"
    write_model(folder)
    return folder


@pytest.fixture
def saved(folder, tmp_path):
    """An adapter of `rain`, whose weights are random."""
    dim = FLAM.from_pretrained(folder).embed_captions(["rain"]).caption_emb.shape[1]
    weights = np.random.default_rng(0).normal(size=(1, dim + 1))
    adapter.save(tmp_path / "mine", folder, ["rain"], weights, THRESHOLDS, {"level": "heads"})
    return tmp_path / "mine", weights


def test_other_captions_score_as_before_and_fitted_ones_by_their_weights(folder, saved):
    base = FLAM.from_pretrained(folder)
    adapted = adapter.load(folder, saved[0])
    sound, captions = noise(3.0), ["wind", " Rain", "a bell"]
    for method in ("unbiased", "biased", "approximate"):
        before = base.score(sound, 16_000, captions, method)
        after = adapted.score(sound, 16_000, captions, method)
        assert after[:, ::2].numpy() == pytest.approx(before[:, ::2].numpy(), abs=1e-5)
    frames = base.embed_audio(sound, 16_000).frame_emb.numpy()
    logits = frames @ saved[1][0, :-1] + saved[1][0, -1]
    expected = 1 / (1 + np.exp(-logits))
    assert after[:, 1].numpy() == pytest.approx(expected, abs=1e-5)


def test_embeddings_are_unit_vectors_and_the_thresholds_its_own(folder, saved):
    adapted = adapter.load(folder, saved[0])
    audio, captions = adapted.embed_audio(noise(2.0), 16_000), adapted.embed_captions(["rain", "x"])
    for part in (*audio, captions.caption_emb):
        assert torch.linalg.norm(part, dim=-1).numpy() == pytest.approx(1, abs=1e-5)
    assert adapted.known(["RAIN"]).tolist() == [1.0]
    both = adapted.read_captions(["RAIN", "x"])
    expected = *captions, adapted.known(["rain", "x"])
    for one, other in zip((*both[0], both[1]), expected, strict=True):
        assert one.numpy() == pytest.approx(other.numpy(), abs=1e-6)
    found = [each.threshold for each in adapted.thresholds.threshold_for(["rain", "wind"])]
    assert found == [0.4, 0.7]


def test_without_fitted_captions_it_is_the_model(folder, tmp_path):
    base = FLAM.from_pretrained(folder)
    dim = base.embed_captions(["rain"]).caption_emb.shape[1]
    adapter.save(tmp_path / "mine", folder, [], np.zeros((0, dim + 1)), THRESHOLDS, {})
    adapted = adapter.load(folder, tmp_path / "mine")
    assert isinstance(adapted, Adapted)
    before = base.score(noise(1.0), 16_000, ["rain"]).numpy()
    assert adapted.score(noise(1.0), 16_000, ["rain"]).numpy() == pytest.approx(before, abs=1e-5)


def test_what_is_not_the_models_or_damaged_is_refused(folder, saved, tmp_path):
    mine = saved[0]
    other = tmp_path / "other"
    write_model(other, seed=1)
    with pytest.raises(ValueError, match=r"adapter.json: an adapter of another model than"):
        adapter.load(other, mine)

    def broken(change):
        copy = tmp_path / "broken"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(mine, copy)
        change(copy)
        return copy

    def about(**changes):
        def change(copy):
            path = copy / "adapter.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | changes))

        return change

    for change, why in (
        (about(format=2), "adapter.json: format 2, expected 1"),
        (about(captions="rain"), "captions must be a list of texts"),
        (about(captions=["rain", "wind"]), "adapter.safetensors: not weights of 2 captions"),
        (lambda at: (at / "adapter.safetensors").write_bytes(b"x"), "safetensors: damaged"),
        (lambda at: (at / "adapter.json").write_text("[]"), "adapter.json"),
        (lambda at: (at / "thresholds.json").write_text("{}"), "thresholds.json"),
    ):
        with pytest.raises(ValueError, match=why):
            adapter.load(folder, broken(change))
    with pytest.raises(FileNotFoundError, match=r"thresholds.json is missing"):
        adapter.load(folder, broken(lambda at: (at / "thresholds.json").unlink()))


def test_a_model_without_scales_is_not_adapted_and_no_other_folder_is_replaced(tmp_path):
    write_mga_clap(tmp_path / "clap")
    with pytest.raises(ValueError, match="MGACLAP has no scales and priors to fit"):
        adapter.base_of(tmp_path / "clap")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/thesis.txt").write_text("years")
    with pytest.raises(FileExistsError, match="more than an adapter"):
        adapter.check_place(tmp_path / "notes")
