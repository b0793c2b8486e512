import dataclasses
import inspect
import pickle
import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from flamlib.experiment import config as configuration
from flamlib.experiment import params
from flamlib.experiment.config import Config, load_config
from flamlib.experiment.overrides import read_yaml
from flamlib.experiment.parameters import ParameterError, allowed, plain
from flamlib.experiment.params.trials import DetectConfig
from flamlib.inference import detector
from flamlib.sound_events.smoothing import Smoothing

ROOT = Path(__file__).parents[2]
# What a small run has less of; everything else is the experiment's.
SIZES = {
    "source.only", "variants.n_foreground", "variants.n_background", "mix.n_train", "mix.n_valid",
    "mix.n_heldout", "codebook.n_codes", "train.n_steps", "train.batch_size",
    "train.pair_batch_size", "train.n_warmup", "train.ema_decay", "train.n_workers",
    "train.save_every", "train.keep_last", "train.valid_every", "train.log_every",
    "evaluate.n_clips", "evaluate.batch_size", "evaluate.n_resamples", "ablate.budget",
    "dependency.frequent", "dependency.rare",
    "dependency.n_train", "dependency.n_test", "dependency.n_thresholds", "dependency.budget",
    "testsets.templates", "testsets.n_resamples", "testsets.n_examples",
}  # fmt: skip


@pytest.fixture
def project(monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")


def sections():
    """The classes that `Config` is made of, and itself."""
    modules = [
        import_module(f"flamlib.experiment.params.{name}")
        for _, name, _ in iter_modules(params.__path__)
    ]
    return [
        kind
        for module in (configuration, *modules)
        for kind in vars(module).values()
        if dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
    ]


def flat(values, prefix=""):
    found = {}
    for key, value in values.items():
        found |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        )
    return found


def test_the_experiments_parameters_fit(project):
    config = load_config()
    assert plain(config) == read_yaml(ROOT / "params.yaml") | {
        "objectives": plain(config.objectives)  # where losses of no weight are left out
    }
    assert pickle.loads(pickle.dumps(config)) == config


def test_small_differs_in_sizes_and_two_captions_alone(project):
    """A quick run labels, learns and judges by the experiment's rules."""
    small, whole = plain(load_config(small=True)), plain(load_config())
    changed = {
        f"{section}.{name}"
        for section in whole
        if isinstance(whole[section], dict)
        for name in whole[section]
        if small[section][name] != whole[section][name]
    }
    assert small["seed"] == whole["seed"]
    assert changed <= SIZES
    assert "train.n_steps" in changed
    names = set(whole["ablate"]["budget"]) | set(small["ablate"]["budget"])
    names |= set(whole["dependency"]["budget"]) | set(small["dependency"]["budget"])
    assert names <= SIZES | {"train.n_hypernyms"}


def test_overrides_go_before_overlays_and_these_before_small(project, tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("train: {n_steps: 7, n_warmup: 1}\n")
    config = load_config(small=True, overlays=[overlay], overrides="train.n_steps=9 seed=4")
    assert (config.train.n_steps, config.train.n_warmup, config.seed) == (9, 1, 4)
    assert config.train.batch_size == load_config(small=True).train.batch_size


def test_sections_given_to_a_notebook_replace_the_values_that_they_name(project):
    """As papermill gives them, -y "train: {n_steps: 3}", among all other names of the notebook."""
    names = {"train": {"n_steps": 3}, "seed": 4, "detect": object(), "pd": {"n_steps": 9}}
    config = load_config(small=True, given=names)
    assert (config.train.n_steps, config.seed) == (3, 4)
    assert config.train.n_warmup == load_config(small=True).train.n_warmup
    assert load_config(given=names, overrides="train.n_steps=9").train.n_steps == 9
    wrong = {"train": {"n_step": 3}}
    with pytest.raises(ParameterError, match=r"parameters of the notebook: .*mean train\.n_steps"):
        load_config(given=wrong)
    with pytest.raises(ParameterError, match=r"train: expected names and values, got 'n_steps=3'"):
        load_config(given={"train": "n_steps=3"})


def test_values_of_sections_are_set_by_name(project):
    """As the lines that papermill makes of `-p train.n_steps 3` do."""
    names = configuration.sections()
    assert load_config(given=names) == load_config()
    names["train"].n_steps = 3
    names["network"].audio.tags = False
    names["objectives"].flam.frame = 50.0
    names["detect"].captions = "[a dog barks, rain]"
    config = load_config(given=names, overrides="detect.n_absent=1")
    assert (config.train.n_steps, config.network.audio.tags) == (3, False)
    assert (config.objectives["flam"].frame, config.objectives["flam"].clip) == (50.0, 1.0)
    assert (config.detect.captions, config.detect.n_absent) == (["a dog barks", "rain"], 1)
    assert load_config(given=names, overrides="train.n_steps=9").train.n_steps == 9
    names["train"].n_step = 3
    with pytest.raises(
        ParameterError, match=r"no parameter train\.n_step; did you mean train\.n_s"
    ):
        load_config(given=names)


def test_detection_has_the_same_defaults_everywhere(project):
    """In the code, where `flam detect` finds them, and in params.yaml, where they are seen."""
    values = {f.name: f.default for f in dataclasses.fields(DetectConfig)}
    defaults = {k: v for k, v in values.items() if v is not dataclasses.MISSING}
    kept = read_yaml(ROOT / "params.yaml")["detect"]
    assert {name: kept[name] for name in defaults} == defaults
    assert {"threshold", "median_frames", "method"} <= defaults.keys()
    parameters = inspect.signature(detector.detect).parameters
    assert parameters["threshold"].default is None, "the model's own, where it has any"
    assert parameters["smoothing"].default is None, "as these were chosen"
    smoothing = Smoothing(defaults["median_frames"], defaults["hysteresis"])
    assert load_config().detect.smoothing == smoothing
    for name in defaults.keys() - {"threshold", "median_frames", "hysteresis"}:
        assert parameters[name].default == defaults[name]


def test_a_change_is_checked_as_the_file_is(project):
    config = load_config()
    assert config.override({"train.n_steps": 3}).train.n_steps == 3
    with pytest.raises(ParameterError, match=r"train\.select = 'bset'.*did you mean best"):
        config.override({"train.select": "bset"})
    with pytest.raises(ParameterError, match=r"train: select: best needs valid_every"):
        config.override({"train.select": "best", "train.valid_every": 0})


def test_an_unknown_model_is_named(project):
    with pytest.raises(ValueError, match="no model 'flan'; known: flam, flam_global, mga_clap"):
        load_config().objective("flan")


def test_every_parameter_is_documented():
    assert Config in sections()
    for kind in sections():
        assert kind.__doc__
        for field in dataclasses.fields(kind):
            assert field.metadata["doc"], f"{kind.__name__}.{field.name}"
            assert isinstance(allowed(field), str)
            for suffix, unit in (("_s", "s"), ("_db", "dB"), ("_dbfs", "dBFS")):
                if field.name.endswith(suffix) and field.name != "background_db":
                    assert field.metadata["unit"] == unit, f"{kind.__name__}.{field.name}"


def test_a_set_to_train_on_may_be_open():
    entry = "{name: mine, table: labels, audio: audio, closed: false}"
    [strong] = load_config(overrides=f"mix.strong=[{entry}]").mix.strong
    assert strong == {"name": "mine", "table": "labels", "audio": "audio", "closed": False}


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        ("mix.strong=[{name: mine, table: a, audio: b, closed: flase}]",
         "mix.strong[0].closed = 'flase': expected true or false"),
        ("mix.strong=[{name: desde, folder: a}]", "mix.strong[0].name = 'desde': expected one of"),
        ("mix.strong=[{name: desed, foldr: a}]",
         "no parameter mix.strong[0].foldr; did you mean mix.strong[0].folder?"),
        ("mix.strong=[{name: mine, table: a}]", "mix.strong[0].audio is missing"),
        ("mix.strong=[mine]", "mix.strong[0] = 'mine': expected names and values"),
        ("testsets.own=[{name: mine, table: 3, audio: b}]",
         "testsets.own[0].table = 3: expected text"),
        ("testsets.models=[{folder: a}]", "testsets.models[0].name is missing"),
        ("testsets.folders={ecs50: a}",
         "no parameter testsets.folders.ecs50; did you mean testsets.folders.esc50?"),
        ("mixture.package_weights={owm: 1}",
         "no parameter mixture.package_weights.owm; did you mean mixture.package_weights.own?"),
        ("train.set_weights={synthetic: 0.5, desed: 0.5}",
         "no parameter train.set_weights.desed; known: synthetic"),
    ],
)  # fmt: skip
def test_what_is_open_to_names_is_checked_by_name_and_type(project, overrides, why):
    with pytest.raises(ParameterError, match=re.escape(why)):
        load_config(overrides=overrides)


def test_names_that_there_are_pass(project):
    weights = "package_weights={own: 1, scratch: 2} train.set_weights={synthetic: 0.5, desed: 0.5}"
    config = load_config(overrides=f"mix.strong=[{{name: desed, folder: a}}] mixture.{weights}")
    assert config.mix.strong == [{"name": "desed", "folder": "a"}]


def test_collections_have_weights_by_what_they_are_called(project):
    entries = "{kind: fsd50k, folder: a}, {kind: ucs, folder: b, name: metals}"
    given = f"source.collections=[{entries}] mixture.package_weights="
    weights = load_config(overrides=given + "{fsd50k: 0.8, metals: 0.2}").mixture.package_weights
    assert weights == {"fsd50k": 0.8, "metals": 0.2}
    with pytest.raises(ParameterError, match=r"no parameter mixture.package_weights.ucs"):
        load_config(overrides=given + "{ucs: 1}")
