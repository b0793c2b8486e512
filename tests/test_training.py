import json
import socket
from functools import partial

import pytest
import tiny
import torch
from accelerate import notebook_launcher
from accelerate.state import AcceleratorState, GradientState, PartialState
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from flamlib import lexicon, mgaclap, model, recipes, training
from flamlib.bank import Bank

NETWORK = {
    "audio": {"tower": "ear"},
    "caption": {"tower": "reader", "pooling": "mean"},
    "dim": 8,
    "dropout": 0.2,
    "scale_init": 10.0,
    "bias_init": -2.0,
    "temperature_init": 0.07,
}
FLAM = {"clip": 1.0, "frame": 20.0, "prior": 1.0}
GLOBAL = {"clip": 1.0, "frame": 0.0, "prior": 0.0}
MGA = {
    "objective": {"hard": 1.0, "even": 1.0},
    "codebook": {"n_codes": 32, "code_temperature": 1.0},
}
SETTINGS = {
    "seed": 0,
    "clip_s": tiny.CLIP_S,
    "rules": tiny.RULES,
    "network": NETWORK,
    "objective": FLAM,
    "codebook": None,
    "hardness": 0.15,
    "n_steps": 6,
    "batch_size": 4,
    "n_pairs": 4,
    "pair_s": 1.28,
    "pair_background_share": 0.5,
    "n_parents": 1,
    "wording_share": 0.5,
    "caption_noise": 0.1,
    "lr_audio": 1e-3,
    "lr_caption": 1e-3,
    "lr_heads": 1e-3,
    "n_warmup": 2,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "ema_decay": 0.9,
    "n_frozen": 0,
    "mixed_precision": "no",
    "n_processes": 1,
    "n_workers": 0,
    "save_every": 3,
    "log_every": 1,
}
TIMES = ("clips_per_s", "compute_share")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    tiny.write_corpus(folder)
    tiny.write_reader(folder / "weights/reader")
    return folder


@pytest.fixture(autouse=True)
def ear(monkeypatch):
    """The tower of ten lines; and no Accelerator of an earlier test."""
    monkeypatch.setattr(model, "audio_tower", lambda *, tower: tiny.Ear())
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


@pytest.fixture
def fit(corpus, tmp_path):
    return partial(run, corpus, tmp_path)


def run(corpus, folder, name="model", **changes):
    """A training run; returns where its model is."""
    training.fit(
        folder / name,
        bank=corpus / "bank",
        mixtures=changes.pop("mixtures", corpus / "train.parquet"),
        captions=corpus / "data/captions.tsv",
        weights=corpus / "weights",
        resume=folder / f"{name}.resume",
        curves=folder / f"{name}.curves",
        **SETTINGS | changes,
    )
    return folder / name


def untrained(corpus, codebook=None, **changes):
    """What a run with these settings starts from."""
    torch.manual_seed(SETTINGS["seed"])
    net = training.pretrained(corpus / "weights", codebook=codebook, **NETWORK | changes)
    return net.state_dict()


def stop_at(monkeypatch, stop):
    """Step number `stop` is not reached."""
    schedule = training.schedule

    def stopping(step, **given):
        if step == stop:
            raise KeyboardInterrupt
        return schedule(step, **given)

    monkeypatch.setattr(training, "schedule", stopping)


def stopped(fit, stop, **changes):
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, stop)
        with pytest.raises(KeyboardInterrupt):
            fit(**changes)


def weights(folder):
    return load_file(folder / "model.safetensors")


def history(folder):
    """Without the times, of which no two are equal."""
    return [
        {k: v for k, v in row.items() if k not in TIMES} for row in training.read_history(folder)
    ]


def moved(some, others):
    """The tensors in which two models differ."""
    return {k for k in some.keys() | others.keys() if not torch.equal(some[k], others[k])}


def same(some, others):
    return not moved(some, others)


def test_a_stopped_run_ends_as_one_that_was_not(fit):
    """Stopped after step 4, it goes on from the state of step 3: bit for bit the same model."""
    straight = fit("straight")
    stopped(fit, 4)
    assert not (straight.parent / "model").exists()
    resumed = fit()
    assert same(weights(resumed), weights(straight))
    assert history(resumed) == history(straight)
    assert [row["step"] for row in history(resumed)] == [1, 2, 3, 4, 5, 6]


def test_the_curves_show_each_step_of_a_resumed_run_once(fit):
    stopped(fit, 4)
    out = fit()
    table = out.with_suffix(".curves") / "plots/metrics/loss.tsv"
    steps = [line.split("\t")[-2] for line in table.read_text().splitlines()[1:]]
    assert steps == ["1", "2", "3", "4", "5", "6"]


def test_a_run_that_ends_well_leaves_nothing_to_resume(fit):
    assert not fit().with_suffix(".resume").exists()


@pytest.mark.parametrize("change", [{"seed": 1}, {"lr_heads": 2e-3}, {"n_steps": 5}])
def test_a_run_with_other_parameters_starts_anew(fit, change):
    fresh = fit("fresh", **change)
    stopped(fit, 4)
    out = fit(**change)
    assert same(weights(out), weights(fresh))


def test_a_run_on_other_mixtures_starts_anew(fit, corpus, tmp_path):
    others = tmp_path / "train.parquet"
    recipes.write(others, recipes.table(reversed(recipes.read(corpus / "train.parquet"))))
    fresh = fit("fresh", mixtures=others)
    stopped(fit, 4)
    assert same(weights(fit(mixtures=others)), weights(fresh))


def test_a_state_of_other_parameters_is_refused_by_name(fit, tmp_path):
    stopped(fit, 4)
    [path] = tmp_path.rglob(training.STATE)
    state = json.loads(path.read_text())
    state["parameters"]["lr_heads"] = 0.5
    path.write_text(json.dumps(state))
    with pytest.raises(ValueError, match=r"made with lr_heads = 0\.5, not 0\.001: remove it"):
        fit()


def test_the_same_run_twice_gives_the_same_model(fit):
    assert same(weights(fit("one")), weights(fit("two")))


def test_what_is_read_is_known_by_its_content(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_text("1")
    before = training.checksum(tmp_path)
    assert training.checksum(tmp_path) == before
    (tmp_path / "a/x").rename(tmp_path / "a/y")
    renamed = training.checksum(tmp_path)
    (tmp_path / "a/y").write_text("2")
    assert len({before, renamed, training.checksum(tmp_path)}) == 3


def test_a_rate_of_zero_freezes_the_caption_tower(fit, corpus):
    start, end = untrained(corpus), weights(fit(lr_caption=0.0))
    caption_tower = {name for name in end if name.startswith("caption.")}
    assert caption_tower
    assert moved(start, end).isdisjoint(caption_tower)
    assert "audio.first.weight" in moved(start, end)


def test_the_lowest_convolutions_can_stay_as_they_are(fit, corpus):
    start, end = untrained(corpus), weights(fit(n_frozen=1))
    assert "audio.first.weight" not in moved(start, end)
    learnt = {"audio.second.weight", "caption.encoder.embeddings.word_embeddings.weight"}
    assert learnt <= moved(start, end)


def test_without_frames_the_heads_are_left_untouched(fit, corpus):
    start, end = untrained(corpus), weights(fit(objective=GLOBAL))
    heads = {name for name in end if name.startswith(("scale_head", "bias_head"))}
    assert heads
    assert moved(start, end).isdisjoint(heads)
    assert {"audio.first.weight", "log_temperature"} <= moved(start, end)


@pytest.mark.parametrize("lr_caption", [0.0, 1e-3])
def test_mga_clap_is_trained_by_the_same_loop(fit, corpus, lr_caption):
    """Its caption tower gives words, from the frozen tower's features or by learning."""
    out = fit(lr_caption=lr_caption, **MGA)
    start, end = untrained(corpus, codebook=MGA["codebook"]), weights(out)
    assert mgaclap.MGACLAP.from_pretrained(out).config["n_codes"] == 32
    assert {"audio.first.weight", "codes", "log_temperature"} <= moved(start, end)
    assert any(name.startswith("caption.") for name in moved(start, end)) == bool(lr_caption)
    assert {"hard_nats", "even_nats"} <= history(out)[-1].keys()
    assert "clip_nats" not in history(out)[-1]


def test_a_stopped_mga_clap_ends_as_one_that_was_not(fit):
    straight = fit("straight", **MGA)
    stopped(fit, 4, **MGA)
    assert same(weights(fit(**MGA)), weights(straight))


def test_hard_negatives_can_be_had_for_flam_too(fit, corpus):
    out = fit(objective={"hard": 1.0, "frame": 20.0, "prior": 1.0})
    assert {"hard_nats", "frame_nats", "prior_nats"} <= history(out)[-1].keys()
    assert "log_temperature" in moved(untrained(corpus), weights(out))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_mixtures(fit, tmp_path):
    with pytest.raises(FloatingPointError, match=r"not finite at step 0: see .*json"):
        fit(network=NETWORK | {"scale_init": 1e40})
    report = json.loads((tmp_path / "model.resume/not_finite.json").read_text())
    assert report["step"] == 0
    assert len(set(report["mixtures"])) == SETTINGS["batch_size"]
    assert report["losses"]["frame"] in ("nan", "inf")
    assert not (tmp_path / "model").exists()


@given(n_warmup=st.integers(0, 50), n_rest=st.integers(1, 200))
def test_the_rate_rises_to_its_peak_and_falls_towards_zero(n_warmup, n_rest):
    n_steps = n_warmup + n_rest
    rates = [training.schedule(s, n_warmup=n_warmup, n_steps=n_steps) for s in range(n_steps)]
    assert rates[:n_warmup] == sorted(rates[:n_warmup])
    assert rates[n_warmup:] == sorted(rates[n_warmup:], reverse=True)
    assert max(rates) == rates[n_warmup] == 1.0
    assert min(rates) > 0
    assert rates[-1] < 5 / n_rest**2 or n_rest < 3


def test_the_precision_is_one_that_accelerate_knows():
    assert training.precision("auto") in ("no", "bf16")
    assert training.precision("fp16") == "fp16"


def test_a_process_that_would_train_alone_is_refused(fit):
    with pytest.raises(RuntimeError, match="2 processes are to share the training, but 1 take"):
        fit(n_processes=2)


def test_audio_at_a_rate_that_the_tower_does_not_hear_is_refused(fit, monkeypatch):
    monkeypatch.setattr(tiny.Ear, "sample_rate", 48000)
    with pytest.raises(ValueError, match="audio of 16000 Hz, but the audio tower hears 48000 Hz"):
        fit()


def fit_and_keep(corpus, folder):
    """In a process of its own: train, and save what this process ended with."""
    kept, pretrained = [], training.pretrained
    training.pretrained = lambda *args, **given: kept.append(pretrained(*args, **given)) or kept[0]
    run(corpus, folder, n_processes=2)
    save_file(
        {k: v.contiguous() for k, v in kept[0].state_dict().items()},
        folder / f"rank{PartialState().process_index}.safetensors",
    )


def test_two_processes_end_with_the_same_model(corpus, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    notebook_launcher(fit_and_keep, (corpus, tmp_path), num_processes=2, use_port=port)
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in (0, 1))
    assert same(first, second)
    assert not same(first, untrained(corpus))
    assert len(training.read_history(tmp_path / "model")) == SETTINGS["n_steps"]


def test_it_learns_when_three_tones_sound(fit, corpus):
    attentive = {"network": NETWORK | {"dim": 32, "dropout": 0.0}, "ema_decay": 0.5}
    out = fit(n_steps=120, lr_audio=1e-2, lr_heads=1e-2, log_every=60, save_every=200, **attentive)
    bank, words = Bank.open(corpus / "bank"), lexicon.Lexicon.read(corpus / "data/captions.tsv")
    mixtures, captions = recipes.read(corpus / "train.parquet"), list(tiny.TONES)
    net = model.FLAM.from_pretrained(out)
    waveform = torch.stack([torch.from_numpy(recipes.render(bank, r)) for r in mixtures])
    scores = net.score(waveform, bank.sample_rate, captions)
    frames = {"n_frames": scores.shape[2], "frame_s": net.frame_s}
    labels = [recipe.labels for recipe in mixtures]
    active, known = words.label(labels, [()] * len(mixtures), captions, **frames)
    assert known.all()
    assert roc_auc_score(active.ravel(), scores.numpy().ravel()) > 0.9
