"""Training takes audio, or reads what a trunk made of it: the same steps, losses and gradients."""

import pytest
import tiny
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

from flamlib.models.yamnet import YAMNet
from flamlib.training import feature_extraction, fit

TAGS = {"audio": {"tower": "yamnet", "tags": True, "dropout": 0.2}}
GLOBAL = {"clip": 1.0, "frame": 0.0, "prior": 0.0}


@pytest.fixture(autouse=True)
def no_accelerator():
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    tiny.write_experiment(folder)
    folders = {name: folder / name for name in ("bank", "mixtures", "weights")}
    feature_extraction.extract(
        config(), **folders, sets=folder / "strong", out=folder / "features", progress=False
    )
    return folder


def config(network=None, **train):
    return tiny.config(network=network or TAGS, **{"n_pair_takes": 1, "lr_caption": 0.0} | train)


def build(made, tmp_path, settings, *, stored, model="flam"):
    inputs = tiny.train_inputs(made, features=made / "features" if stored else None)
    state = fit.build(settings, model, inputs, tmp_path / "resume")
    state.wrapped.train()
    return state


def gradients(state, step):
    torch.manual_seed(step)
    state.net.zero_grad()
    losses = state.objective.backward(
        state.accelerator, state.wrapped, state.batches[step], micro_batch=None
    )
    learning = {n: p.grad for n, p in state.net.named_parameters() if p.requires_grad}
    return losses, learning


@pytest.mark.parametrize("model", ["flam", "flam_global", "mga_clap"])
def test_the_same_draws_give_the_same_losses_and_gradients(made, tmp_path, model):
    states = [
        build(made, tmp_path, config(), stored=stored, model=model) for stored in (True, False)
    ]
    assert [state.batches.features is None for state in states] == [False, True]
    for step in range(2):
        (one, moved), (other, expected) = (gradients(state, step) for state in states)
        for name, loss in other.items():
            torch.testing.assert_close(one[name], loss, rtol=5e-4, atol=1e-5)
        assert distance(moved, expected) < 1e-2, "half precision of weights that are random"


@pytest.mark.parametrize("model", ["flam", "flam_global", "mga_clap"])
def test_but_for_the_rounding_they_are_equal(made, tmp_path, model, monkeypatch):
    """To a step that takes audio, and then rounds what the trunk makes of it."""
    exact = YAMNet.trunk
    monkeypatch.setattr(YAMNet, "trunk", lambda tower, waveform: exact(tower, waveform).half())
    states = [
        build(made, tmp_path, config(), stored=stored, model=model) for stored in (True, False)
    ]
    (one, moved), (other, expected) = (gradients(state, 0) for state in states)
    for name, loss in other.items():
        torch.testing.assert_close(one[name], loss, rtol=1e-5, atol=1e-6)
    assert distance(moved, expected) < 1e-4


def distance(gradients, expected):
    """Of all weights together, relative to the size of what is expected."""
    assert gradients.keys() == expected.keys()
    difference = sum((gradients[n] - g).square().sum() for n, g in expected.items())
    return (difference / sum(g.square().sum() for g in expected.values())).sqrt()


def test_validation_reads_what_is_stored_too(made, tmp_path):
    found = []
    for stored in (True, False):
        state = build(made, tmp_path, config(valid_every=1), stored=stored)
        assert (state.valid_batches.features is not None) == stored
        found.append(fit.validate(state))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_pair_takes": None},  # drawn anew in each step
        {"network": {"audio": {"tower": "yamnet", "tags": False}}},  # all of the tower learns
        {"network": {"audio": {"tower": "yamnet", "tags": True, "frame_hops": 8}}},
    ],
)
def test_where_something_is_not_stored_audio_is_rendered(made, tmp_path, changes):
    state = build(made, tmp_path, config(**changes), stored=True)
    assert state.batches.features is None
    assert state.batches[0].audio.ndim == 2


def test_other_recordings_than_those_stored_are_refused(made, tmp_path):
    with pytest.raises(ValueError, match=r"pairs_train: of other clips \(recordings differ\)"):
        build(made, tmp_path, config(pair_s=0.96), stored=True)


def test_a_run_says_which_trunk_it_went_on_from(made, tmp_path):
    of_features, of_audio = (build(made, tmp_path, config(), stored=s) for s in (True, False))
    assert of_features.parameters["input"] == of_features.net.trunk_id()
    assert of_audio.parameters["input"] == "audio"
    assert of_features.checkpoints.folder != of_audio.checkpoints.folder


def test_without_a_loss_of_clips_single_recordings_need_not_be_stored(made, tmp_path):
    settings = config(n_pair_takes=None)
    settings = settings.override({"objectives.flam": {"clip": 0.0, "frame": 200.0, "prior": 1.0}})
    assert build(made, tmp_path, settings, stored=True).batches.features.pairs is None
