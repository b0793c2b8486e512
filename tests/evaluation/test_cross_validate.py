import csv
import json
from contextlib import contextmanager

import pytest
import tiny
import yaml
from heldouts import CLIP_S, EVALUATE, VARIANTS, write_model
from sounds import RATE, noise, tone, write_data, write_table

from flamlib import paths
from flamlib.data.mixtures import bank, recipes
from flamlib.evaluation import ablation, cross_validate
from flamlib.experiment.parameters import ParameterError, plain
from flamlib.paths import Places

CONFIG = tiny.config().override(
    {"mixture.clip_s": CLIP_S, "mix.n_train": 6, "mix.n_valid": 5, "mix.n_heldout": 6}
    | {"mix.n_jobs": 1, "ablate.budget": {"train.n_steps": 2}}
    | {f"evaluate.{key}": value for key, value in EVALUATE.items()}
)
SHARED = {"a tone": "tone", "a hum": "hum"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two packages with two families in common and one of its own each."""
    root = tmp_path_factory.mktemp("crossed")
    tiny.write_inputs(root)
    (root / "params.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(plain(CONFIG)))))
    for name in ("bank", "mixtures"):
        (root / "artifacts" / name).rmdir()
    (root / "data/captions.tsv").unlink()
    clips, package = {}, {}
    for i, place in enumerate(("one", "two")):
        for caption, family in ((f"sound {i}", f"family {i}"), *SHARED.items()):
            for split in ("train", "valid"):
                name = f"{place}-{caption.replace(' ', '-')}-{split}"
                hz = 200 * (i + 1) + 500 * len(clips)
                clips[name] = (tone(hz, 0.7), caption, family, split, name)
                package[name] = place
    behind = {
        f"noise-{i}": (noise(4.0, 0.05, seed=i), "rain", "ambience", split, f"rain {i}")
        for i, split in enumerate(["train", "train", "train", "valid", "heldout"])
    }
    write_data(root / "new", clips, behind)
    with open(root / "new/clips.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    columns = [*rows[0], "package"]
    given = [[*row.values(), package.get(row["clip_id"], "behind")] for row in rows]
    write_table(root / "new/clips.tsv", columns, given)
    captions = [[f"sound {i}", f"family {i}", "train", "", ""] for i in range(2)]
    captions += [[caption, family, "train", "", ""] for caption, family in SHARED.items()]
    columns = ["caption", "family", "split", "wordings", "parents"]
    write_table(root / paths.CAPTIONS, columns, captions)
    settings = {"seed": 0, "sample_rate": RATE, "clip_s": CLIP_S, "variants": VARIANTS}
    bank.build(root / "new", root / paths.BANK, **settings, n_jobs=1, progress=False)
    write_model(root / "trained")
    return root


@pytest.fixture
def trainings(project, monkeypatch):
    """Instead of training, take a model that has learned nothing; which were asked for."""
    asked = []

    @contextmanager
    def trained(places, out, mixtures, model, config):
        splits = {path.stem: len(recipes.read(path)) for path in mixtures.glob("*.parquet")}
        asked.append((places.root.name, model, config.train.n_steps, splits, mixtures.name))
        yield project / "trained"

    monkeypatch.setattr(ablation, "trained", trained)
    monkeypatch.chdir(project)
    return asked


def run(project, changes=None):
    return cross_validate.cross_validate(Places(project), CONFIG, changes or {}, n_folds=2)


def test_every_fold_is_trained_once_and_judged_on_what_it_did_not_hear(project, trainings):
    trials = run(project)
    assert list(trials) == ["default"]
    assert list(trials["default"]) == ["0", "1"]
    for numbers in trials["default"].values():
        for part, n_captions in (("seen_captions", 1), ("unseen_captions", 2)):
            assert numbers[part]["n_captions"] == n_captions
            assert numbers[part]["nats"] > 0
    assert [steps for _, _, steps, *_ in trainings] == [2, 2]
    assert trainings[0][3]["train"] == 6
    assert len({name for name, *_ in trainings}) == 2
    run(project)
    assert len(trainings) == 2, "what is done is not done again"

    path = project / "reports/cross_validation/default.json"
    kept = json.loads(path.read_text())
    del kept["folds"]["1"]
    path.write_text(json.dumps(kept))
    assert run(project) == trials
    assert len(trainings) == 3


def test_a_trial_is_compared_with_the_default_fold_by_fold(project, trainings, capsys):
    run(project)
    changes = {"train.lr_heads": 2e-3, "model": "flam_global"}
    trials = run(project, changes)
    name = "model=flam_global,train.lr_heads=0.002"
    assert list(trials) == ["default", name]
    assert trainings[-1][1] == "flam_global"
    text = cross_validate.as_table(trials, name)
    alone = cross_validate.as_table(trials, cross_validate.DEFAULT).splitlines()[0]
    assert alone.split() == ["arm", cross_validate.DEFAULT], "one column for one trial"
    assert "nats gained on a constant, unseen" in text
    assert "+0.000 [+0.000, +0.000]" in text


def test_mixtures_to_train_on_follow_a_trial_and_those_of_the_test_do_not(project, trainings):
    run(project, {"train.lr_heads": 3e-3})
    run(project, {"mix.n_train": 3, "mixture.max_polyphony": 1})
    before, after = trainings[0], trainings[2]
    assert (before[0], before[4]) == (after[0], "mixtures")
    assert (after[3]["train"], after[3]["valid"]) == (3, before[3]["valid"])
    assert after[4] != "mixtures"


def test_what_cannot_be_tried_is_said(project, trainings):
    with pytest.raises(ParameterError, match="variants: the folds share the recordings"):
        run(project, {"variants.n_foreground": 2})
    with pytest.raises(ValueError, match=r"no parameter train\.lr_head; did you mean"):
        run(project, {"train.lr_head": 2})
    assert trainings == []


def test_a_trial_of_other_recordings_is_not_compared(project, trainings):
    run(project)
    path = project / "reports/cross_validation/older.json"
    kept = json.loads((project / "reports/cross_validation/default.json").read_text())
    path.write_text(json.dumps(kept))
    assert "older" in run(project)
    path.write_text(json.dumps(kept | {"provenance": kept["provenance"] | {"data": "other"}}))
    assert "older" not in run(project)


def test_names_of_trials_are_names_of_files():
    assert cross_validate.trial_name({}) == "default"
    assert cross_validate.trial_name({"a.b": 1, "a.a": None}) == "a.a=None,a.b=1"
    long = cross_validate.trial_name({f"train.n{i}": [1, 2] for i in range(40)})
    assert len(long) < 120
    assert "/" not in cross_validate.trial_name({"train.init_from": "a/b"})


def test_the_command_line_says_what_is_wrong(project, trainings, capsys):
    with pytest.raises(SystemExit) as stopped:
        cross_validate.main(["-p", "source.profile", "full"])
    assert stopped.value.code == 2
    assert "change params.yaml" in capsys.readouterr().err
