import itertools
import json
import os
import shutil
import signal
import socket
import warnings
from functools import partial, partialmethod

import pytest
import ranks
import soundfile
import tiny
import torch
from accelerate import notebook_launcher
from accelerate.state import PartialState
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from sounds import RATE, tone
from torch.testing import assert_close

from flamlib.data.datasets.annotations import AnnotatedSet, Clip
from flamlib.data.mixtures import lexicon, recipes, strong
from flamlib.data.mixtures.bank import Bank
from flamlib.losses import frame_wise
from flamlib.models import class_features, dual_encoder, flam, mga_clap, yamnet
from flamlib.sound_events.events import Event
from flamlib.training import fit as training
from flamlib.training import inputs as step_inputs
from flamlib.training import resume
from flamlib.training.objective import Objective
from flamlib.training.resume import STATE, checksum

GLOBAL = {"clip": 1.0, "frame": 0.0, "prior": 0.0}
MGA = {
    "objective": {"hard": 1.0, "even": 1.0},
    "codebook": {"n_codes": 32, "code_temperature": 1.0},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    tiny.write_corpus(folder)
    tiny.write_text_tower(folder / "weights/tiny_text")
    return folder


@pytest.fixture(scope="module")
def ears(corpus):
    """YAMNet with lively weights, among the towers."""
    folder = corpus / "weights/yamnet"
    folder.mkdir()
    tiny.write_lively_yamnet(folder)


@pytest.fixture(autouse=True)
def ear(monkeypatch):
    """The tower of ten lines; and no Accelerator of an earlier test."""
    monkeypatch.setattr(dual_encoder, "audio_tower", lambda **settings: tiny.TinyAudioTower())
    tiny.forget_processes()


@pytest.fixture
def fit(corpus, tmp_path):
    return partial(run, corpus, tmp_path)


def run(corpus, folder, name="model", **changes):
    """A training run; returns where its model is."""
    given = {"sets": corpus / "strong"}
    given |= {k: changes.pop(k) for k in ("mixtures", "sets", "init_from") if k in changes}
    inputs = tiny.train_inputs(corpus, **given)
    model = "mga_clap" if "codebook" in changes else "flam"
    folders = {"resume": folder / f"{name}.resume", "curves": folder / f"{name}.curves"}
    training.fit(tiny.config(**changes), model, inputs, folder / name, **folders)
    return folder / name


def untrained(corpus, **changes):
    """What a run with these settings starts from."""
    config = tiny.config(**changes)
    torch.manual_seed(config.seed)
    codebook = config.codebook if "codebook" in changes else None
    return training.pretrained(corpus / "weights", config.network, codebook).state_dict()


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
    return training.read_history(folder)


def found(folder, name):
    """The one file of that name among a run's own states."""
    [path] = (folder / "model.resume").glob(f"*/{name}")
    return path


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


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "training.json", None])
def test_a_best_model_that_is_damaged_is_not_replaced_by_a_worse_one(fit, name):
    stopped(fit, 4, select="best", valid_every=1)
    best = found(fit.args[1], "best")
    if name is None:
        shutil.rmtree(best)
    else:
        (best / name).write_bytes((best / name).read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"best.* to start anew"):
        fit(select="best", valid_every=1)


def test_the_curves_show_each_step_of_a_resumed_run_once(fit):
    stopped(fit, 4)
    out = fit()
    table = out.with_suffix(".curves") / "plots/metrics/loss.tsv"
    steps = [line.split("\t")[-2] for line in table.read_text().splitlines()[1:]]
    assert steps == ["1", "2", "3", "4", "5", "6"]


def test_a_folder_that_would_not_be_replaced_is_refused_before_the_first_step(fit, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="model contains more than a saved model"):
        fit()
    assert not (tmp_path / "model.curves").exists()
    assert not (tmp_path / "model.resume").exists()


def test_a_run_that_ends_well_leaves_nothing_to_resume(fit):
    assert not fit().with_suffix(".resume").exists()


@pytest.mark.parametrize("change", [{"n_workers": 1}, {"save_every": 2}, {"keep_last": 1}])
def test_a_run_goes_on_with_other_ways_to_do_the_same(fit, tmp_path, change):
    """Their numbers change nothing of the model, which is that of a run that was not stopped."""
    straight = fit("straight")
    stopped(fit, 4)
    [newest] = tmp_path.glob("model.resume/*/step_000003")
    (newest / "kept").touch()
    stopped(fit, 3, **change)  # before the first step after the state
    assert (newest / "kept").exists()
    assert len([*(tmp_path / "model.resume").iterdir()]) == 1
    assert same(weights(fit(**change)), weights(straight))


@pytest.mark.parametrize("change", [{"seed": 1}, {"lr_heads": 2e-3}, {"n_steps": 5}])
def test_a_run_with_other_parameters_starts_anew(fit, change):
    fresh = fit("fresh", **change)
    stopped(fit, 4)
    out = fit(**change)
    assert same(weights(out), weights(fresh))


def test_a_run_on_other_mixtures_starts_anew(fit, corpus, tmp_path):
    others = tmp_path / "train.parquet"
    recipes.write(others, recipes.to_table(reversed(recipes.read(corpus / "train.parquet"))))
    fresh = fit("fresh", mixtures=others)
    stopped(fit, 4)
    assert same(weights(fit(mixtures=others)), weights(fresh))


def test_a_state_of_other_parameters_is_refused_by_name(fit, tmp_path):
    stopped(fit, 4)
    [path] = tmp_path.rglob(STATE)
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
    before = checksum(tmp_path)
    assert checksum(tmp_path) == before
    (tmp_path / "a/x").rename(tmp_path / "a/y")
    renamed = checksum(tmp_path)
    (tmp_path / "a/y").write_text("2")
    assert len({before, renamed, checksum(tmp_path)}) == 3


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


@pytest.mark.parametrize("changes", [{"objective": GLOBAL}, MGA], ids=["global", "mga_clap"])
def test_not_to_render_what_no_loss_asks_for_changes_nothing(fit, monkeypatch, changes):
    rendered = []
    whole = recipes.render
    monkeypatch.setattr(recipes, "render", lambda *given: rendered.append(1) or whole(*given))
    quick, pair_batch_size = weights(fit("quick", **changes)), len(rendered)
    monkeypatch.setattr(step_inputs, "has_loss", lambda weights, of: True)
    assert same(weights(fit("all", **changes)), quick)
    n_mixtures = tiny.TRAIN["n_steps"] * tiny.TRAIN["batch_size"]
    assert len(rendered) == 2 * pair_batch_size + n_mixtures


def test_the_speed_is_that_of_what_is_heard(fit, monkeypatch):
    """Mixtures; or pairs, where no mixture is heard."""
    counted = []
    rates = training.Clock.rates
    monkeypatch.setattr(
        training.Clock, "rates", lambda clock, n: counted.append(n) or rates(clock, n)
    )
    fit("flam", pair_batch_size=2, n_steps=1)
    fit("global", pair_batch_size=2, n_steps=1, objective=GLOBAL)
    assert counted == [tiny.TRAIN["batch_size"], 2]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A closed set whose two captions no corpus has: one lower and one higher tone."""
    folder = tmp_path_factory.mktemp("sets")
    clips = []
    for i, (caption, hz) in enumerate({"a hum": 500, "a whistle": 3000}.items()):
        path = folder / f"{i}.wav"
        soundfile.write(path, tone(hz, tiny.CLIP_S), RATE)
        clips.append(Clip(path.name, path, tiny.CLIP_S, [Event(0.5, 2.0, caption)]))
    found = AnnotatedSet("timed", "sed", clips, ["a hum", "a whistle"])
    how = {"sample_rate": RATE, "clip_s": tiny.CLIP_S, "n_jobs": 1, "progress": False}
    strong.build([found], folder / "strong", **how)
    return folder / "strong"


@pytest.mark.parametrize("lr_caption", [0.0, 1e-3])
def test_recordings_that_others_have_timed_join_the_training(fit, sets, lr_caption):
    mixed = {"sets": sets, "set_weights": {"synthetic": 1.0, "timed": 1.0}, "valid_every": 3}
    mixed["lr_caption"] = lr_caption
    straight = weights(fit("straight", **mixed))
    stopped(fit, 4, **mixed)
    assert same(weights(fit(**mixed)), straight), "a run that was stopped ends as one that was not"
    assert moved(straight, weights(fit("plain", lr_caption=lr_caption)))


def test_sets_without_a_weight_change_nothing(fit, sets):
    plain = weights(fit("plain"))
    for i, shares in enumerate([None, {"synthetic": 2.0}, {"synthetic": 1.0, "timed": 0.0}]):
        assert same(weights(fit(f"model-{i}", sets=sets, set_weights=shares)), plain)


def test_what_only_a_set_names_is_learnt_from_it(fit, sets):
    attentive = {"network": {"dim": 32, "dropout": 0.0}, "ema_decay": 0.5}
    how = {"sets": sets, "set_weights": {"timed": 1.0}, "objective": {"frame": 20.0, "prior": 1.0}}
    out = fit(n_steps=80, lr_audio=1e-2, lr_heads=1e-2, save_every=200, **how, **attentive)
    net = flam.FLAM.from_pretrained(out)
    heard = torch.stack([torch.from_numpy(tone(hz, tiny.CLIP_S)).float() for hz in (500, 3000)])
    hum, whistle = net.score(heard, RATE, ["a hum", "a whistle"]).mean(dim=2).T
    assert hum[0] > hum[1]
    assert whistle[1] > whistle[0]


def test_nothing_to_validate_says_nothing(fit):
    """The recordings of this corpus are all trained on, and FLAM-Global hears no mixtures."""
    alone = {"objective": GLOBAL, "batch_size": 0, "valid_every": 6}
    assert history(fit(**alone))[-1]["valid_loss"] == 0
    with pytest.raises(ValueError, match="nothing says which weights are the best"):
        fit(**alone, select="best")


def test_a_set_that_is_not_there_is_refused(fit, sets):
    with pytest.raises(ValueError, match=r"no set 'desed' in .*\['timed'\]"):
        fit(sets=sets, set_weights={"desed": 1.0})


def test_without_frames_the_heads_are_left_untouched(fit, corpus):
    start, end = untrained(corpus), weights(fit(objective=GLOBAL))
    heads = {name for name in end if name.startswith(("scale_head", "bias_head"))}
    assert heads
    assert moved(start, end).isdisjoint(heads)
    assert {"audio.first.weight", "log_temperature"} <= moved(start, end)


def test_a_model_knows_what_it_was_trained_on(fit, corpus):
    model = flam.FLAM.from_pretrained(
        fit(trust_known=[0.5, 0.5, -1.0], trust_novel=[0.2, 0.2, 0.0])
    )
    assert model.known(["a low tone", "a high tone"]).tolist() == [1, 1]
    alike = flam.FLAM.from_pretrained(fit("alike"))
    assert alike.familiarity is None
    known, trained = (each.embed_captions(["a low tone"]) for each in (model, alike))
    assert_close(known.logit_bias, trained.logit_bias)
    clip = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    trusted, plain = (
        each.score(clip, 16_000, ["a low tone"], "biased").logit() for each in (model, alike)
    )
    assert_close(trusted - trusted.mean(), (plain - plain.mean()) * 0.5, atol=1e-4, rtol=1e-3)


def test_a_model_of_clips_alone_knows_nothing(fit):
    model = fit(objective=GLOBAL, trust_known=[0.5, 0.5, 0.0], trust_novel=[0.5, 0.5, 0.0])
    assert flam.FLAM.from_pretrained(model).familiarity is None


@pytest.mark.parametrize("lr_caption", [0.0, 1e-3])
def test_mga_clap_is_trained_by_the_same_loop(fit, corpus, lr_caption):
    """Its caption tower gives words, from the frozen tower's features or by learning."""
    out = fit(lr_caption=lr_caption, **MGA)
    start, end = untrained(corpus, codebook=MGA["codebook"]), weights(out)
    assert mga_clap.MGACLAP.from_pretrained(out).config["n_codes"] == 32
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
        fit(network={"scale_init": 1e40})
    report = json.loads(found(tmp_path, "not_finite.json").read_text())
    assert report["step"] == 0
    assert len(set(report["mixtures"])) == tiny.TRAIN["batch_size"]
    assert report["losses"]["frame"] in ("nan", "inf")
    assert not (tmp_path / "model").exists()


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_moves_a_weight(
    fit, tmp_path, monkeypatch
):
    """Else a state of no numbers would be saved, from which the same call goes on for ever."""
    backward = Objective.backward

    def overflowing(objective, accelerator, net, batch, **how):
        losses = backward(objective, accelerator, net, batch, **how)
        if next(steps) == 2:
            next(p for p in net.parameters() if p.grad is not None).grad.view(-1)[0] = float("inf")
        return losses

    steps = itertools.count()
    monkeypatch.setattr(Objective, "backward", overflowing)
    with pytest.raises(FloatingPointError, match=r"gradient is not finite at step 2: see .*json"):
        fit(save_every=1)
    assert json.loads(found(tmp_path, "not_finite.json").read_text())["step"] == 2
    fit(save_every=1)  # the step is not bad as such: the run goes on from the state before it
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "model").values())


@given(n_warmup=st.integers(0, 50), n_rest=st.integers(1, 200))
def test_the_rate_rises_to_its_peak_and_falls_towards_zero(n_warmup, n_rest):
    n_steps = n_warmup + n_rest
    rates = [training.schedule(s, n_warmup=n_warmup, n_steps=n_steps) for s in range(n_steps)]
    assert rates[:n_warmup] == sorted(rates[:n_warmup])
    assert rates[n_warmup:] == sorted(rates[n_warmup:], reverse=True)
    assert max(rates) == rates[n_warmup] == 1.0
    assert min(rates) > 0
    assert rates[-1] < 5 / n_rest**2 or n_rest < 3


def test_a_process_that_would_train_alone_is_refused(fit):
    with pytest.raises(RuntimeError, match="2 processes are to share the training, but 1 take"):
        fit(n_processes=2)


@pytest.fixture
def unread(monkeypatch):
    """A bank that takes an hour to read."""

    def read(path):
        raise AssertionError(f"{path} is read")

    monkeypatch.setattr(step_inputs, "checksum", read)


@pytest.mark.usefixtures("unread")
def test_audio_at_a_rate_that_the_tower_does_not_hear_is_refused(fit, monkeypatch):
    monkeypatch.setattr(tiny.TinyAudioTower, "sample_rate", 48000)
    with pytest.raises(ValueError, match="audio of 16000 Hz, but the audio tower takes 48000 Hz"):
        fit()


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"batch_size": 0}, "train.batch_size is 0"),
        ({"pair_batch_size": 0, "objective": GLOBAL}, "train.pair_batch_size is 0"),
        ({"sync_batch_norm": True}, "sync_batch_norm: torch cannot do so on a CPU"),
        ({"network": {"caption": {"tower": "absent", "pooling": "mean"}}}, "absent.* is missing"),
    ],
)
def test_what_cannot_be_is_said_before_the_bank_is_read(fit, changes, why):
    with pytest.raises((ValueError, FileNotFoundError), match=why):
        fit(**changes)


def fit_and_count(corpus, folder):
    """Note what this process reads from beginning to end."""

    def counting(path):
        with open(folder / f"read{PartialState().process_index}", "a") as log:
            print(path.name, file=log)
        return checksum(path)

    step_inputs.checksum = counting
    run(corpus, folder, n_processes=2, n_steps=1)


def test_what_is_read_is_summed_in_one_process_only(corpus, tmp_path):
    ranks.launched(2, fit_and_count, corpus, tmp_path)
    assert (tmp_path / "read0").read_text().split() == [
        *("bank", "train.parquet", "valid.parquet", "captions.tsv", "weights")
    ]
    assert not (tmp_path / "read1").exists()


def fit_and_keep(corpus, folder, n_ranks, changes):
    """Train, and save what this process ended with."""
    kept, pretrained = [], training.pretrained
    training.pretrained = lambda *args, **given: kept.append(pretrained(*args, **given)) or kept[0]
    run(corpus, folder, n_processes=n_ranks, **changes)
    save_file(
        {k: v.contiguous() for k, v in kept[0].state_dict().items()},
        folder / f"rank{PartialState().process_index}.safetensors",
    )


def trained_by(n_ranks, corpus, folder, **changes):
    """The weights that each of so many processes ends with, and the history."""
    folder.mkdir()
    ranks.launched(n_ranks, fit_and_keep, corpus, folder, n_ranks, changes)
    ends = [load_file(folder / f"rank{rank}.safetensors") for rank in range(n_ranks)]
    return ends, history(folder / "model")


def test_two_processes_end_with_the_same_model(corpus, tmp_path):
    (first, second), rows = trained_by(2, corpus, tmp_path / "two")
    assert same(first, second)
    assert not same(first, untrained(corpus))
    assert len(rows) == tiny.TRAIN["n_steps"]


def test_the_notebooks_launcher_starts_several_processes(corpus, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = (corpus, tmp_path, 2, {"n_steps": 2})
    notebook_launcher(fit_and_keep, arguments, num_processes=2, use_port=port)
    assert len(training.read_history(tmp_path / "model")) == 2


# Nothing is random but what is drawn for the whole step, and a step moves by its gradient.
STILL = {"network": {"dropout": 0.0}, "caption_noise": 0.0, "batch_size": 12}
STILL |= {"n_steps": 3, "n_warmup": 0, "max_grad_norm": 1e6, "ema_decay": 0.0}
RATES = {"lr_audio": 1e-3, "lr_caption": 1e-3, "lr_heads": 1e-3}


@pytest.fixture
def plain_descent(monkeypatch):
    """Adam divides by the gradient's own size, and so makes much of one that is only rounding."""
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, **_: torch.optim.SGD(groups, lr=0.01))


@pytest.mark.usefixtures("plain_descent")
@pytest.mark.parametrize("lr_caption", [0.0, 1e-3])
def test_many_processes_do_what_one_would(corpus, tmp_path, lr_caption):
    """Every weight after three steps, and every loss on the way, whoever shared the clips."""
    changes = STILL | RATES | {"lr_caption": lr_caption, "valid_every": 3, "pair_batch_size": 3}
    [one], rows = trained_by(1, corpus, tmp_path / "1", **changes)
    start = untrained(corpus, network={"dropout": 0.0})
    assert {"audio.first.weight", "scale_head.layers.0.weight", "log_temperature"} <= (
        moved(start, one)
    )
    for n_ranks in (2, 3) if lr_caption else (2,):
        ends, logged = trained_by(n_ranks, corpus, tmp_path / str(n_ranks), **changes)
        for end in ends:
            for name, tensor in one.items():
                assert_close(end[name], tensor, rtol=1e-5, atol=1e-5, msg=f"{n_ranks}: {name}")
        for row, expected in zip(logged, rows, strict=True):
            assert row == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("plain_descent")
@pytest.mark.parametrize(("n_ranks", "micro_batch"), [(1, 1), (1, 5), (2, 5), (1, 12)])
def test_parts_of_a_batch_do_what_the_whole_would(corpus, tmp_path, n_ranks, micro_batch):
    changes = STILL | RATES | {"pair_batch_size": 3}
    [one], rows = trained_by(1, corpus, tmp_path / "whole", **changes)
    parts = {"micro_batch": micro_batch, "checkpointing": micro_batch == 5}
    ends, logged = trained_by(n_ranks, corpus, tmp_path / "parts", **changes | parts)
    for end in ends:
        for name, tensor in one.items():
            assert_close(end[name], tensor, rtol=1e-5, atol=1e-5, msg=name)
    for row, expected in zip(logged, rows, strict=True):
        assert row == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("plain_descent", "ears")
def test_tags_come_and_go_alike_however_a_step_is_shared(corpus, tmp_path, monkeypatch):
    """Two processes, parts of a batch and both: what one would, in steps with tags and without."""
    monkeypatch.setattr(
        dual_encoder,
        "audio_tower",
        lambda *, tags, **settings: yamnet.YAMNet(tags=tags),
    )
    asked, put = [], class_features.concat_unit

    def watched(learned, side):
        if side.ndim == 2:  # of captions
            asked.append(bool(side.any()))
        return put(learned, side)

    network = STILL["network"] | {"audio": {"tower": "yamnet", "tags": True}}
    changes = STILL | RATES | {"network": network, "pair_batch_size": 3, "batch_size": 4}
    with monkeypatch.context() as patch:
        patch.setattr(class_features, "concat_unit", watched)
        run(corpus, tmp_path, "watched", **changes)
    assert set(asked) == {True, False}
    tiny.forget_processes()
    [one], rows = trained_by(1, corpus, tmp_path / "whole", **changes)
    start, frozen = untrained(corpus, network=network), ("audio.layers.", "audio.classifier.")
    assert "audio.local.4.weight" in moved(start, one)
    assert not {name for name in moved(start, one) if name.startswith(frozen)}
    for n_ranks, micro_batch, checkpointing in ((2, None, False), (1, 1, False), (2, 1, True)):
        how = {"micro_batch": micro_batch, "checkpointing": checkpointing}
        folder = tmp_path / f"{n_ranks}-{micro_batch}"
        ends, logged = trained_by(n_ranks, corpus, folder, **changes | how)
        for end in ends:
            for name, tensor in one.items():
                assert_close(end[name], tensor, rtol=1e-5, atol=1e-5, msg=f"{how}: {name}")
        for row, expected in zip(logged, rows, strict=True):
            assert row == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("plain_descent")
def test_compiled_towers_learn_the_same(fit, monkeypatch):
    """Also while the validation clips are looked at in between, by the average, which is not.

    The towers are traced, forwards and backwards, and run as traced: what is ours. The kernels that
    torch's default backend then compiles take minutes for the shapes here; see test_init.py.
    """
    changes = STILL | RATES | {"pair_batch_size": 3, "valid_every": 1}
    eager = fit("eager", **changes)
    traced = partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    compiled = fit("compiled", **changes, compile=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for name, tensor in weights(eager).items():
        assert_close(weights(compiled)[name], tensor, rtol=1e-5, atol=1e-5, msg=name)
    for row, expected in zip(history(compiled), history(eager), strict=True):
        assert row == pytest.approx(expected, rel=1e-4)


def fit_until_killed(corpus, folder, stop, changes):
    """Train; at step `stop` this process is gone, without a chance to tidy up."""
    schedule = training.schedule

    def lethal(step, **given):
        if step == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return schedule(step, **given)

    training.schedule = lethal
    run(corpus, folder, **changes)


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_a_killed_run_ends_as_one_that_was_not(corpus, tmp_path, n_ranks):
    """kill -9 at step 5, after the state of step 4; then the same call: the same, bit for bit."""
    changes = {"save_every": 2, "n_processes": n_ranks, "valid_every": 2, "micro_batch": 1}
    for name, stop in (("straight", None), ("killed", 5), ("killed", None)):
        (tmp_path / name).mkdir(exist_ok=True)
        arguments = (corpus, tmp_path / name, stop, changes)
        if stop is None:
            ranks.launched(n_ranks, fit_until_killed, *arguments)
        else:
            with pytest.raises(torch.multiprocessing.ProcessExitedException, match="SIGKILL"):
                ranks.launched(n_ranks, fit_until_killed, *arguments)
            assert not (tmp_path / name / "model").exists()
            states = (tmp_path / name).rglob(STATE)
            assert {path.parent.name for path in states} == {"step_000002", "step_000004"}
    straight, killed = (tmp_path / name / "model" for name in ("straight", "killed"))
    assert same(weights(killed), weights(straight))
    assert history(killed) == history(straight)


def fit_from_different_states(corpus, folder, changes):
    """The second of two processes cannot read the newest state."""
    read = resume.state_dict.read

    def torn(path):
        if "step_000004" in str(path) and PartialState().process_index == 1:
            raise OSError("Stale file handle")
        return read(path)

    resume.state_dict.read = torn
    warnings.simplefilter("ignore")  # of the state that cannot be read
    with pytest.raises(RuntimeError, match=r"model.resume.* after steps \(4, 2\)"):
        run(corpus, folder, **changes)
    (folder / f"stopped{os.environ['RANK']}").touch()


def test_processes_never_go_on_from_different_steps(corpus, tmp_path):
    changes = {"save_every": 2, "n_processes": 2}
    with pytest.raises(torch.multiprocessing.ProcessExitedException, match="SIGKILL"):
        ranks.launched(2, fit_until_killed, corpus, tmp_path, 5, changes)
    ranks.launched(2, fit_from_different_states, corpus, tmp_path, changes)
    assert (tmp_path / "stopped0").exists()
    assert (tmp_path / "stopped1").exists()


def test_the_last_states_are_kept(fit, tmp_path):
    stopped(fit, 5, save_every=1, keep_last=3)
    kept = sorted(path.parent.name for path in tmp_path.rglob(STATE))
    assert kept == ["step_000003", "step_000004", "step_000005"]


def test_the_best_model_can_be_chosen(fit, monkeypatch):
    """Here the losses on the validation mixtures are told, and the second is the lowest."""
    told = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(training, "schedule", lambda step, **given: 1.0)
    monkeypatch.setattr(training, "validate", lambda *args, **given: next(told))
    best = fit("best", valid_every=2, select="best")
    assert [row["valid_loss"] for row in history(best) if "valid_loss" in row] == [3.0, 1.0, 2.0]
    monkeypatch.setattr(training, "validate", lambda *args, **given: 0.0)
    last, four = fit("last"), fit("four", n_steps=4)
    assert same(weights(best), weights(four))
    assert not same(weights(best), weights(last))


def test_looking_at_the_validation_mixtures_changes_nothing(fit):
    blind, looking = fit("blind"), fit("looking", valid_every=1)
    assert same(weights(blind), weights(looking))
    assert len({row["valid_loss"] for row in history(looking)}) == tiny.TRAIN["n_steps"]


def test_activations_computed_twice_change_nothing(fit):
    once = fit("once", n_steps=3)
    twice = fit("twice", n_steps=3, checkpointing=True)
    assert same(weights(once), weights(twice))


def test_looking_holds_no_more_in_memory_than_learning(fit, monkeypatch):
    """And its loss is that of all clips at once."""
    most = {True: 0, False: 0}  # clips in a tower at a time, by whether it trains
    encode_audio = flam.FLAM.encode_audio

    def watched(net, waveform):
        most[net.training] = max(most[net.training], len(waveform))
        return encode_audio(net, waveform)

    monkeypatch.setattr(flam.FLAM, "encode_audio", watched)
    still = {"lr_audio": 0.0, "lr_caption": 0.0, "lr_heads": 0.0, "n_steps": 1, "valid_every": 1}
    whole = fit("whole", **still)
    assert most == {True: 4, False: 4}
    most.update({True: 0, False: 0})
    parts = fit("parts", micro_batch=1, **still)
    assert most == {True: 1, False: 1}
    frame_wise = [history(out)[-1]["valid_loss"] for out in (whole, parts)]
    assert frame_wise[1] == pytest.approx(frame_wise[0], rel=1e-5)


def test_the_validation_loss_is_that_of_what_is_saved(fit, corpus):
    """The frame-wise loss over all validation mixtures, from the saved model."""
    frames = {"clip": 0.0, "frame": 2.0, "prior": 0.0}
    out = fit(objective=frames, valid_every=6, batch_size=8)
    net, words = flam.FLAM.from_pretrained(out), lexicon.Lexicon.read(corpus / "data/captions.tsv")
    mixtures, bank = recipes.read(corpus / "valid.parquet"), Bank.open(corpus / "bank")
    captions = sorted({event.caption for recipe in mixtures for event in recipe.labels})
    waveform = torch.stack([torch.from_numpy(recipes.render(bank, r)) for r in mixtures])
    labels = [recipe.labels for recipe in mixtures]
    sizes = {"n_frames": net.audio.n_frames(waveform.shape[1]), "frame_s": net.frame_s}
    active, known = words.label(labels, [()] * len(mixtures), captions, **sizes, clip_s=tiny.CLIP_S)
    logits = frame_wise.frame_logits(
        net.embed_audio(waveform, bank.sample_rate).frame_emb, *net.embed_captions(captions)
    )
    expected = 2 * frame_wise.framewise_loss(
        logits, torch.from_numpy(active), torch.from_numpy(known)
    )
    assert history(out)[-1]["valid_loss"] == pytest.approx(expected.item(), rel=1e-4)


def test_a_model_can_start_from_another(fit, corpus, tmp_path):
    """FLAM from FLAM-Global: all weights are those of the other, before the first step."""
    other = fit("global", objective=GLOBAL)
    out = fit("flam", init_from=other, lr_audio=0.0, lr_caption=0.0, lr_heads=0.0)
    assert same(weights(out), weights(other))


def fit_with_a_bad_clip(corpus, folder):
    """The second of two processes hears NaN."""
    move = training._to

    def moved(batch, device):
        batch = move(batch, device)
        bad = batch._replace(audio=batch.audio * torch.nan)
        return bad if PartialState().process_index == 1 else batch

    training._to = moved
    with pytest.raises(FloatingPointError, match="not finite at step 0"):
        run(corpus, folder, n_processes=2)
    (folder / f"stopped{PartialState().process_index}").touch()


def test_a_loss_that_is_not_finite_in_one_process_stops_all(corpus, tmp_path):
    ranks.launched(2, fit_with_a_bad_clip, corpus, tmp_path)
    assert (tmp_path / "stopped0").exists()
    assert (tmp_path / "stopped1").exists()
    report = json.loads(found(tmp_path, "not_finite.json").read_text())
    assert len(set(report["mixtures"])) == tiny.TRAIN["batch_size"]  # of both processes


def test_it_learns_when_three_tones_sound(fit, corpus):
    attentive = {"network": {"dim": 32, "dropout": 0.0}, "ema_decay": 0.5}
    out = fit(n_steps=120, lr_audio=1e-2, lr_heads=1e-2, log_every=60, save_every=200, **attentive)
    bank, words = Bank.open(corpus / "bank"), lexicon.Lexicon.read(corpus / "data/captions.tsv")
    mixtures, captions = recipes.read(corpus / "train.parquet"), list(tiny.TONES)
    net = flam.FLAM.from_pretrained(out)
    waveform = torch.stack([torch.from_numpy(recipes.render(bank, r)) for r in mixtures])
    scores = net.score(waveform, bank.sample_rate, captions)
    frames = {"n_frames": scores.shape[2], "frame_s": net.frame_s}
    labels = [recipe.labels for recipe in mixtures]
    active, known = words.label(
        labels, [()] * len(mixtures), captions, **frames, clip_s=tiny.CLIP_S
    )
    assert known.all()
    assert roc_auc_score(active.ravel(), scores.numpy().ravel()) > 0.9
