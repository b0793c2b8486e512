"""Folders of score tables with their ground truth and durations, as `flam evaluate` takes them."""

from oracles import random_clips

from flamlib.sound_events import detection
from flamlib.sound_events.events import write_events
from flamlib.storage import tables


def write(folder, seed=0, **sizes):
    """Write a system's tables `scores`, and `truth.tsv` and `durations.tsv`; return what is in it.

    That is scores and edges, captions, truth, durations.
    """
    scores, edges, captions, truth, durations = random_clips(seed, **sizes)
    (folder / "scores").mkdir(parents=True)
    for clip, score in scores.items():
        detection.write_scores(folder / f"scores/{clip}.tsv", score, edges, captions)
    write_events(folder / "truth.tsv", {f"{clip}.wav": of for clip, of in truth.items()})
    write_durations(folder / "durations.tsv", durations)
    return scores, edges, captions, truth, durations


def write_durations(path, durations):
    rows = [(f"{clip}.wav", str(seconds)) for clip, seconds in durations.items()]
    tables.write(path, [("filename", "duration"), *rows])
