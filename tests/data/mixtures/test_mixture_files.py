import numpy as np
import pandas as pd
import pytest
import soundfile
from sounds import RATE, variants_config, write_data
from test_recipes import EMPTY, RECIPE

from flamlib.data.mixtures import bank, mixture_files, recipes
from flamlib.data.mixtures.recipes import Background
from flamlib.sound_events.events import read_events


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture_files")
    settings = {"seed": 0, "sample_rate": RATE, "clip_s": 10.0, "variants": variants_config()}
    bank.build(write_data(folder / "data"), folder / "bank", **settings, n_jobs=1, progress=False)
    return bank.Bank.open(folder / "bank")


def test_audio_and_labels_are_written_for_other_tools(sounds, tmp_path):
    mixture_files.write_audio(sounds, [RECIPE, EMPTY], tmp_path / "train", n_jobs=2)
    for recipe, name in ((RECIPE, "00003.flac"), (EMPTY, "00004.flac")):
        waveform, rate = soundfile.read(tmp_path / "train" / name, dtype="float32")
        assert rate == RATE
        np.testing.assert_allclose(waveform, recipes.render(sounds, recipe), atol=2**-16)
    events = read_events(tmp_path / "train/events.tsv")
    assert events == {"00003.flac": list(RECIPE.labels), "00004.flac": []}
    durations = pd.read_csv(tmp_path / "train/durations.tsv", sep="\t")
    assert durations.to_dict("list") == {
        "filename": ["00003.flac", "00004.flac"],
        "duration": [10.0, 10.0],
    }


def test_a_peak_of_one_does_not_wrap_around(sounds, tmp_path):
    row = sounds.row("rain", 0)
    loud = Background("rain", 0, 0, 1 / sounds.peak(row, 0, 10 * RATE), 0.0)
    mixture_files.write_audio(
        sounds, [EMPTY._replace(background=loud)], tmp_path / "loud", n_jobs=1
    )
    waveform, _ = soundfile.read(tmp_path / "loud/00004.flac", dtype="float32")
    expected = recipes.render(sounds, EMPTY._replace(background=loud))
    np.testing.assert_allclose(waveform, expected, atol=2**-14)
