"""A small corpus in the form of data/: sounds whose beginning, end and level are known."""

import csv

import numpy as np
import soundfile

from flamlib.experiment.parameters import parse
from flamlib.experiment.params.sounds import MixtureConfig, VariantsConfig

RATE = 16000
COLUMNS = ["clip_id", "path", "role", "caption", "family", "split", "group", "onset", "offset"]

VARIANTS = {
    "n_foreground": 2,
    "n_background": 1,
    "speed": [0.8, 1.25],
    "eq_db": 6.0,
    "lowpass_prob": 0.5,
    "reverb_prob": 0.5,
    "pitch_semitones": [0, 0],
    "stretch": [1, 1],
    "rooms": None,
    "room_prob": 0,
    "codec_prob": 0,
}
COMMON_RULES = {  # of small mixtures; how long, and how much is cut and repeated, a test says
    "n_events": [1, 3],
    "max_polyphony": 2,
    "snr_db": [6, 30],
    "background_db": [-50, -40],
    "n_fragments": [2, 3],
    "n_repeats": [2, 3],
    "short_event_s": 0.2,
    "n_short_repeats": [2, 4],
    "pause_s": [0.05, 0.3],
    "fade_s": 0.01,
    "silence_dbfs": -70,
    "fill_gaps_below_s": 0.2,
    "drop_activity_below_s": 0.04,
    "event_position": [0, 1],
    "background_prob": 1,
    "masker_prob": 0,
    "masker_db": [0, 12],
    "package_weights": None,
}


def mixture_config(values, **changes):
    """A section `mixture`: these values, and those of COMMON_RULES where there are none."""
    return parse(MixtureConfig, {**COMMON_RULES, **values, **changes}, name="mixture")


def variants_config(**changes):
    """A section `variants`: VARIANTS with these values in their place."""
    return parse(VariantsConfig, {**VARIANTS, **changes}, name="variants")


def tone(hz, seconds, level=0.5, rate=RATE):
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def noise(seconds, level=0.1, rate=RATE, seed=0):
    return level * np.random.default_rng(seed).standard_normal(round(seconds * rate))


def silence(seconds, rate=RATE):
    return np.zeros(round(seconds * rate))


def bursts():
    """Half a second of noise, a pause of 0.6 s, another half second."""
    return np.concatenate([noise(0.5), silence(0.6), noise(0.5, seed=1)])


def bell():
    """A tone that decays by 60 dB a second."""
    return tone(1000, 1.5) * 10 ** (-3 * np.arange(1.5 * RATE) / RATE)


# clip_id: (samples, caption, family, split, group); half a second of silence goes around each
FOREGROUNDS = {
    "tone-a": (tone(440, 1.0), "a tone", "tone", "train", "1"),
    "tone-b": (tone(660, 1.5), "a tone", "tone", "train", "2"),
    "tone-c": (tone(660, 1.5, 0.1), "a tone", "tone", "train", "2"),
    "bursts": (bursts(), "noise comes and goes", "noise", "train", "3"),
    "bell": (bell(), "une cloche sonne – « ding »", "bell", "train", "4"),
    "click": (noise(0.03), "a click", "click", "train", "5"),
    "tick": (noise(0.005), "犬が時計を見る", "click", "train", "6"),
    "siren": (tone(1500, 14.0, 0.01), "a siren wails on", "siren", "train", "7"),
    "low": (tone(30, 1.0, 0.9), "a deep hum", "hum", "train", "8"),
    "valid-tone": (tone(550, 1.0), "a tone", "tone", "valid", "9"),
    "seen-tone": (tone(500, 1.2), "a tone", "tone", "seen_captions", "10"),
    "unseen-wobble": (bursts(), "something wobbles", "wobble", "unseen_captions", "11"),
}
BACKGROUNDS = {
    "rain": (noise(12, 0.05, seed=2), "rain", "ambience", "train", "20"),
    "short-rain": (noise(3, 0.05, seed=3), "rain", "ambience", "train", "21"),
    "sirens": (noise(11, 0.02, seed=4), "a town", "ambience", "train", "22"),
    "valid-rain": (noise(11, 0.05, seed=5), "rain", "ambience", "valid", "23"),
    "heldout-rain": (noise(11, 0.05, seed=6), "rain", "ambience", "heldout", "24"),
}
MASKERS = {
    "chirps": (tone(700, 0.3), "a person talks", "speech", "train", "30"),
    "chords": (tone(300, 12) + tone(450, 12), "music plays", "music", "train", "31"),
    "valid-chords": (tone(310, 12), "music plays", "music", "valid", "32"),
    "heldout-chords": (tone(320, 12), "music plays", "music", "heldout", "33"),
}
AUDIBLE = [("sirens", "siren"), ("chords", "tone"), ("heldout-chords", "tone")]


def write_data(folder, foregrounds=FOREGROUNDS, backgrounds=BACKGROUNDS, maskers=None):
    """clips.tsv, background_families.tsv and audio/ in a folder, which is returned."""
    (folder / "audio").mkdir(parents=True)
    rows = []
    of_role = {"foreground": foregrounds, "background": backgrounds, "masker": maskers or {}}
    for role, clips in of_role.items():
        for clip_id, (samples, caption, family, split, group) in clips.items():
            onset = 0.5 if role == "foreground" else 0.0
            offset = onset + len(samples) / RATE
            around = silence(onset)
            path = f"audio/{clip_id}.flac"
            soundfile.write(folder / path, np.concatenate([around, samples, around]), RATE)
            rows.append([clip_id, path, role, caption, family, split, group, onset, offset])
    write_table(folder / "clips.tsv", COLUMNS, rows)
    write_table(folder / "background_families.tsv", ["clip_id", "family"], AUDIBLE)
    return folder


def write_table(path, columns, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None).writerows(
            [columns, *rows]
        )


def write_endless(path, waveform, rate=16000):
    """A FLAC as an encoder writes it to a pipe: the 36 bits of its length, which it cannot go back
    to, are 0."""
    soundfile.write(path, waveform, rate)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
