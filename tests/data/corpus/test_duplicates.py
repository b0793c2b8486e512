"""Copies are found by what is heard in them."""

import io

import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.signal import lfilter

from flamlib.data.corpus import duplicates
from flamlib.waveforms import audio

RATE = 16000


def sound(seed, seconds=2.0):
    """Noise whose level and resonance move, as those of most sounds do."""
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(round(seconds / 0.1)):
        angle, radius = rng.uniform(0.1, 2.5), rng.uniform(0.8, 0.98)
        noise = rng.standard_normal(RATE // 10) * rng.uniform(0.2, 1)
        pieces.append(lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], noise))
    waveform = np.concatenate(pieces)
    return (0.5 * waveform / np.abs(waveform).max()).astype(np.float32)


def mp3(waveform, rate):
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format="MP3")
    file.seek(0)
    return soundfile.read(file, dtype="float32")


CHANGES = {
    "louder": lambda x: (1.9 * x, RATE),
    "quieter": lambda x: (0.01 * x, RATE),
    "inverted": lambda x: (-x, RATE),
    "cut at both ends": lambda x: (x[1111:-2345], RATE),
    "silence before it": lambda x: (np.pad(x, (7777, 0)), RATE),
    "coded": lambda x: mp3(x, RATE),
    "coded at another rate": lambda x: mp3(audio.resample(x, RATE, 44100), 44100),
    "of low rate": lambda x: (audio.resample(x, RATE, 11025), 11025),
    "all at once": lambda x: mp3(audio.resample(0.3 * x[999:-2000], RATE, 22050), 22050),
}
ORIGINALS = [sound(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def index():
    return duplicates.Index([duplicates.fingerprint(x, RATE) for x in ORIGINALS])


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_known_by_what_is_heard(index, change):
    for i, original in enumerate(ORIGINALS):
        waveform, rate = CHANGES[change](original)
        assert list(index.matches(waveform.astype(np.float32), rate)) == [i]


def test_other_sounds_are_no_copies(index):
    for seed in range(100, 140):
        assert list(index.matches(sound(seed), RATE)) == []


def test_what_says_nothing_is_like_nothing(index):
    for n in (RATE, 200, 1, 0):
        waveform = np.zeros(n, np.float32)
        bits, valid = duplicates.fingerprint(waveform, RATE)
        assert valid.sum() < duplicates.LEAST_FRAMES
        assert list(index.matches(waveform, RATE)) == []
        nothing = duplicates.Index([(bits, valid)])
        assert list(nothing.matches(ORIGINALS[0], RATE)) == []


def write(folder, name, waveform, rate=RATE):
    soundfile.write(folder / name, waveform, rate)
    return folder / name


def test_of_two_copies_the_one_that_is_held_out_stays(tmp_path):
    (tmp_path / "audio").mkdir()
    one, other = ORIGINALS[:2]
    waveforms = [one, 0.5 * one, other, other[500:], ORIGINALS[2], 0.9 * ORIGINALS[2], ORIGINALS[3]]
    splits = ["train", "seen_captions", "valid", "train", "train", "train", "train"]
    for i, waveform in enumerate(waveforms):
        write(tmp_path / "audio", f"{i}.flac", waveform)
    clips = pd.DataFrame(
        {
            "package": "lib",
            "member": [f"{i}.wav" for i in range(len(splits))],
            "path": [f"audio/{i}.flac" for i in range(len(splits))],
            "split": splits,
        }
    )
    test_set = {write(tmp_path, "test.wav", ORIGINALS[3][999:]): "esc50 test.wav"}
    kept, skipped = duplicates.split_copies(clips, tmp_path, test_set, n_jobs=1, progress=False)
    assert kept["member"].tolist() == ["1.wav", "2.wav", "4.wav", "5.wav"]
    assert [(row["member"], row["why"]) for row in skipped] == [
        ("0.wav", "sounds the same as lib 1.wav, which is held out"),
        ("3.wav", "sounds the same as lib 2.wav, which is held out"),
        ("6.wav", "sounds the same as esc50 test.wav, which is held out"),
    ]
    assert {p.stem for p in (tmp_path / "audio").iterdir()} == {"1", "2", "4", "5"}


def test_a_recording_that_cannot_be_read_is_no_copy(tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    good = write(tmp_path, "good.wav", ORIGINALS[0])
    paths = [good, tmp_path / "bad.wav", tmp_path / "none.wav"]
    assert duplicates.find_copies(paths, [0, 2, 2], progress=False) == {}
    assert duplicates.find_copies([good], [0], progress=False) == {}
    assert duplicates.find_copies([], [], progress=False) == {}
