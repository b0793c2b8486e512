import os

import numpy as np
import pytest
import soundfile
import torch
from heldouts import write_model
from sounds import RATE, noise, tone
from unit_frames import unit_frames, write_index

from flamlib.inference import detector
from flamlib.models import baselines
from flamlib.models.interface import CaptionEmbeddings, CosineScoring
from flamlib.search import archive, codes, indexing, peaks, query
from flamlib.sound_events import smoothing
from flamlib.sound_events.smoothing import Smoothing

CAPTIONS = ["a dog barks", "rain falls"]
SMOOTHED = 3  # frames of the median filter, as docs/search.md says


class Spellings(CosineScoring):
    """A model that knows captions by heart, and hears nothing."""

    sample_rate, frame_s, context_frames = RATE, 0.5, 0

    def __init__(self, **known):
        self.known_captions = known

    def embed_audio(self, waveform, sample_rate):
        raise NotImplementedError

    def embed_captions(self, captions):
        of = torch.tensor(np.stack([self.known_captions[name] for name in captions]))
        return CaptionEmbeddings(of, torch.ones(len(of)), torch.zeros(len(of)))


def slow(index, caption, k):
    """Every hit of every recording, by what is stored."""
    found = []
    for part in index.parts:
        at = 0
        for stored in part.recordings:
            cosine = codes.decode(part.coded)[at : at + stored.n_frames] @ caption
            at += stored.n_frames
            if stored.sha256 in index.paths:
                smooth = smoothing.median_filter(cosine, SMOOTHED)
                path = str(index.paths[stored.sha256][0])
                found += [(hit.cosine, path, hit.start, hit.stop) for hit in peaks.find(smooth)]
    return sorted(found, key=lambda hit: -hit[0])[:k]


@pytest.mark.parametrize("k", [1, 7, 10_000])
def test_hits_are_the_best_of_all_frames(tmp_path, k):
    recordings = {f"/{n}.wav": unit_frames(1 + 13 * n, 16, n) for n in range(9)}
    index = write_index(tmp_path, recordings, n_in_part=4)
    asked = unit_frames(2, 16, 99)
    model = Spellings(rain=asked[0], wind=asked[1])
    found = query.by_text(index, model, ["rain", "wind"], k)
    for caption, vector in zip(("rain", "wind"), asked, strict=True):
        expected = slow(index, vector, k)
        hits = [
            (2 * hit.score - 1, str(path), round(hit.onset * 2), round(hit.offset * 2))
            for path, hit, _ in found[caption]
        ]
        assert [hit[1:] for hit in hits] == [hit[1:] for hit in expected]
        assert [hit[0] for hit in hits] == pytest.approx([hit[0] for hit in expected], abs=1e-4)
        assert {hit.detection.caption for hit in found[caption]} == {caption}


def test_a_planted_event_is_found_to_the_frame(tmp_path):
    [asked] = unit_frames(1, 64, 999)
    recordings = {f"/{n}.wav": unit_frames(200, 64, n) for n in range(20)}
    recordings["/13.wav"][40:44] = asked
    index = write_index(tmp_path, recordings)
    found = query.by_text(index, Spellings(rain=asked), ["rain"], 3)["rain"]
    best = found[0]
    assert (str(best.path), best.detection.onset, best.detection.offset) == ("/13.wav", 20, 22)
    assert best.detection.score == pytest.approx(1, abs=1e-3)
    assert best.detection.score > found[1].detection.score + 0.2


def test_recordings_without_evidence_and_no_recordings_have_no_hits(tmp_path):
    [asked] = unit_frames(1, 8, 0)
    index = write_index(tmp_path, {"/a.wav": np.tile(-asked, (4, 1))})
    model = Spellings(rain=asked)
    assert query.by_text(index, model, ["rain"], 5) == {"rain": []}
    assert query.by_text(index._replace(parts=[], paths={}), model, ["rain"], 5) == {"rain": []}


@pytest.fixture(scope="module")
def archived(tmp_path_factory):
    """A model, and an index of two recordings."""
    folder = tmp_path_factory.mktemp("archived")
    write_model(folder / "model")
    sounds = {"a.wav": np.concatenate([noise(9.0), tone(700, 4.0)]), "犬.wav": tone(900, 0.1)}
    (folder / "sounds").mkdir()
    for name, samples in sounds.items():
        soundfile.write(folder / "sounds" / name, samples, RATE)
    paths = sorted((folder / "sounds").iterdir())
    indexing.update(folder / "model", paths, folder / "index")
    return folder


def test_a_hit_has_the_score_that_detection_gives_these_frames(archived):
    model = baselines.load(archived / "model")
    index = archive.read(archived / "index")
    found = query.by_text(index, model, CAPTIONS, 100)
    assert list(found) == CAPTIONS
    scores = {
        path: detector.score(
            model, path, CAPTIONS, method="unbiased", smoothing=Smoothing(SMOOTHED)
        )
        for path in (archived / "sounds").iterdir()
    }
    for j, caption in enumerate(CAPTIONS):
        best = max(each.scores[:, j].max() for each in scores.values())
        assert [hit.detection.score for hit in found[caption]][:1] == pytest.approx(
            [best] if best > 0.5 else [], abs=5e-3
        )
        for path, hit, is_there in found[caption]:
            part = detector.excerpt(scores[path], hit.onset, hit.offset)
            assert part.scores[:, j].max() == pytest.approx(hit.score, abs=5e-3)
            assert is_there


def test_a_file_that_is_gone_is_said_and_a_copy_takes_its_place(tmp_path):
    [asked] = unit_frames(1, 8, 0)
    index = write_index(tmp_path, {"/gone.wav": np.tile(asked, (4, 1))})
    model = Spellings(rain=asked)
    [hit] = query.by_text(index, model, ["rain"], 5)["rain"]
    assert (str(hit.path), hit.is_there) == ("/gone.wav", False)
    (tmp_path / "copy.wav").touch()
    [sha256] = index.paths
    index.paths[sha256].append(tmp_path / "copy.wav")
    [hit] = query.by_text(index, model, ["rain"], 5)["rain"]
    assert (hit.path, hit.is_there) == (tmp_path / "copy.wav", True)


def test_of_a_disk_that_was_lost_moments_are_still_found(tmp_path, monkeypatch):
    [asked] = unit_frames(1, 8, 0)
    index = write_index(tmp_path, {"/nas/a.wav": np.tile(asked, (4, 1))})
    stat = os.stat

    def lost(path, *given, **how):
        if str(path).startswith("/nas"):
            raise OSError(112, "Host is down", str(path))
        return stat(path, *given, **how)

    monkeypatch.setattr(os, "stat", lost)
    [hit] = query.by_text(index, Spellings(rain=asked), ["rain"], 5)["rain"]
    assert (str(hit.path), hit.is_there) == ("/nas/a.wav", False)


def test_an_example_is_compared_without_what_all_frames_share(tmp_path):
    """By the slow way: every frame less the mean of all, and its cosine."""
    shared = 3 * unit_frames(1, 12, 50)
    recordings = {}
    for n in range(6):
        frames = unit_frames(30, 12, n) + shared
        recordings[f"/{n}.wav"] = frames / np.linalg.norm(frames, axis=1, keepdims=True)
    index = write_index(tmp_path, recordings, n_in_part=4)
    example = recordings["/3.wav"][10:12]
    hits = query.by_example(index, example.astype(np.float16), "it", 4)

    ordinary = np.concatenate(list(recordings.values())).mean(axis=0)
    asked = example.mean(axis=0) - ordinary
    expected = []
    for path, frames in recordings.items():
        rest = frames - ordinary
        cosine = rest @ asked / np.linalg.norm(rest, axis=1) / np.linalg.norm(asked)
        smooth = smoothing.median_filter(cosine, SMOOTHED)
        expected += [(peak.cosine, path) for peak in peaks.find(smooth)]
    expected = sorted(expected, reverse=True)[:4]
    assert [str(hit.path) for hit in hits] == [path for _, path in expected]
    scores = [(1 + cosine) / 2 for cosine, _ in expected]
    assert [hit.detection.score for hit in hits] == pytest.approx(scores, abs=0.01)
    assert str(hits[0].path) == "/3.wav"
    assert {hit.detection.caption for hit in hits} == {"it"}
    assert query.by_example(index._replace(parts=[]), example, "it", 4) == []
