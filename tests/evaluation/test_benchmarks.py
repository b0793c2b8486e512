from dataclasses import replace

import numpy as np
import pytest
import set_files
import soundfile
import torch
from heldouts import read_split, write_artifacts

from flamlib.data.datasets import testsets
from flamlib.data.datasets.annotations import AnnotatedSet, Clip, Query
from flamlib.evaluation import benchmarks
from flamlib.evaluation.benchmarks import BenchmarkSettings
from flamlib.metrics import calibration, outcomes
from flamlib.metrics.sed import Criteria
from flamlib.models.flam import FLAM
from flamlib.models.interface import AudioEmbeddings, CaptionEmbeddings
from flamlib.sound_events.events import Event, active_frames
from flamlib.sound_events.smoothing import Smoothing
from flamlib.waveforms import audio

CRITERIA = Criteria(
    segment_s=1.0, max_fpr=0.1, collar_s=0.2, collar_rate=0.2, smoothing=Smoothing(1)
)
SETTINGS = BenchmarkSettings(10.0, ["name", "ensemble"], "name", CRITERIA, 19, 10)


class Metronome:
    """Hears at what a waveform's sample values are: n in a frame is the n-th of its captions."""

    sample_rate, frame_s, context_frames = 100, 0.5, 0
    vocabulary = ("rest", "dog", "cat", "rain")

    def embed_audio(self, waveform, sample_rate):
        assert waveform.shape[1] >= self.frame_s * sample_rate
        per_frame = round(self.frame_s * sample_rate)
        padded = torch.nn.functional.pad(waveform, (0, -waveform.shape[1] % per_frame))
        value = padded.reshape(len(waveform), -1, per_frame).amax(dim=2)
        frames = torch.nn.functional.one_hot(value.round().long(), len(self.vocabulary)).float()
        return AudioEmbeddings(frames, frames[:, :, 1:].mean(dim=1).nan_to_num() @ torch.eye(4)[1:])

    def embed_captions(self, captions):
        ids = [
            max(i * (word in text) for i, word in enumerate(self.vocabulary)) for text in captions
        ]
        emb = torch.eye(4)[ids]
        return CaptionEmbeddings(emb, 9.0 * torch.ones(len(ids)), -4.0 * torch.ones(len(ids)))

    def score(self, waveform, sample_rate, captions, method="unbiased"):
        raise NotImplementedError("a benchmark makes scores of embeddings")

    score_embeddings = score


class Deaf(Metronome):
    def embed_audio(self, waveform, sample_rate):
        heard = super().embed_audio(waveform, sample_rate)
        return AudioEmbeddings(torch.ones_like(heard.frame_emb), torch.ones_like(heard.clip_emb))


@pytest.mark.parametrize("n_more", [0, 1, 24])
def test_ten_seconds_and_a_little_are_one_window(n_more):
    """A second one of ten milliseconds would weigh as much as the first."""
    waveform = np.repeat(np.float32([1, 2]), [500, 500 + n_more])
    [window] = benchmarks._windows(waveform, 100, Metronome(), 10.0)
    assert window[0].shape == (1, 1000 + n_more)
    assert window[1] == 20 + (n_more > 0)


def test_half_a_frame_more_is_a_window():
    windows = [*benchmarks._windows(np.ones(1025, np.float32), 100, Metronome(), 10.0)]
    assert [n for _, n in windows] == [20, 1]


def write_clip(path, *frames):
    """Each number for half a second; 32-bit floats, so that they come back as they are."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.repeat(np.float32(frames), 50), 100, subtype="FLOAT")
    return path


def dogs_and_cats(tmp_path):
    one = write_clip(tmp_path / "one.wav", 0, 1, 1, 0, 2, 2, 2, 0)
    two = write_clip(tmp_path / "two.wav", *[0] * 25, 3, 3)  # the rain is in its second window
    return [
        Clip(
            "one", one, 4.0, [Event(0.5, 1.5, "dog"), Event(2.0, 3.5, "cat")], ["a dog and a cat"]
        ),
        Clip("two", two, 13.5, [Event(12.5, 13.5, "rain")], ["rain", "it rains, rain"]),
        Clip("gone", None, 0.0, [Event(0.0, 1.0, "dog")], ["a dog"]),
    ]


def test_a_model_that_hears_all_finds_all_events_also_beyond_its_window(tmp_path):
    found = AnnotatedSet("mine", "sed", dogs_and_cats(tmp_path), ["cat", "dog", "rain"])
    numbers = benchmarks.evaluate_set(Metronome(), found, SETTINGS).metrics
    for name in ("auroc_macro", "auroc_pooled", "map", "f1", "psds1", "event_f1", "segment_f1"):
        assert numbers[name] == pytest.approx(1.0), name
    assert numbers["n_clips"] == 2  # what cannot be heard is not scored
    assert "ece" not in numbers  # it goes by cosine, and nothing says how probable that is
    clip_scores, sums = benchmarks.score_clips(Metronome(), found, SETTINGS)
    assert [len(score) for score in clip_scores.scores] == [8, 27]
    assert sums is None


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        ("filename\tonset\toffset\tevent_label", "1.0\t7.0\tdog"),
        ("filename\tcaption", "a dog"),
        ("filename\tlabel", "dog"),
    ],
)
def test_a_recording_that_is_damaged_is_not_scored_and_listed_as_missing(tmp_path, header, fields):
    names = set_files.write_damaged(tmp_path)
    late = "b.mp3\t7.5\t8.0\tcat" if "onset" in header else ""  # beyond what can be decoded
    rows = [f"{name}\t{fields}" for name in names]
    set_files.write_text(tmp_path / "t.tsv", header, *rows, late)
    found = testsets.read_own("mine", tmp_path / "t.tsv", tmp_path)
    assert found.missing == [name for name, is_heard in names.items() if not is_heard]
    numbers = benchmarks.evaluate_set(Deaf(), found, SETTINGS).metrics
    assert numbers["n_clips"] == len(found.present) == sum(names.values())


def test_retrieval_takes_the_captions_of_each_clip_together(tmp_path):
    clips = [
        Clip("a", write_clip(tmp_path / "a.wav", 1, 1), 1.0, captions=["dog", "one dog"]),
        Clip("b", write_clip(tmp_path / "b.wav", 2), 0.5, captions=["cat"]),
        Clip("c", write_clip(tmp_path / "c.wav", 3), 0.5, captions=["a dog", "rain", "some rain"]),
    ]
    outcome = benchmarks.evaluate_set(
        Metronome(), AnnotatedSet("mine", "retrieval", clips), SETTINGS
    )
    numbers = outcome.metrics
    assert (numbers["n_clips"], numbers["n_captions"]) == (3, 6)
    assert numbers["t2a_r1"] == pytest.approx(5 / 6)  # the dog of c sounds like that of a
    # Three captions are equally near to a, and one of them is wrong.
    assert numbers["a2t_r1"] == pytest.approx(2 / 3)
    [(n_clips, makers)] = outcome.resamplings
    once = np.ones(n_clips, dtype=int)
    for name, make in makers.items():
        assert make()(once) == pytest.approx(numbers[name]), name


class ShortOfBreath(Metronome):
    """As MGA-CLAP refuses what its authors would cut."""

    def embed_audio(self, waveform, sample_rate):
        raise AssertionError("an hour goes by")

    def embed_captions(self, captions):
        raise ValueError("caption of 31 tokens, but the encoder accepts at most 30")


@pytest.mark.parametrize("task", ["retrieval", "classification"])
def test_a_text_that_a_model_refuses_is_said_before_it_hears_anything(tmp_path, task):
    clips = [replace(clip, label="dog") for clip in dogs_and_cats(tmp_path)]
    some = AnnotatedSet("some", task, clips, ["dog"])
    with pytest.raises(ValueError, match="31 tokens"):
        benchmarks.evaluate_set(ShortOfBreath(), some, SETTINGS)


class KnowsEveryClip(Metronome):
    """Hears which row of its table a recording is, and knows the texts of each row."""

    def __init__(self, texts_of_clip):
        self.texts_of_clip = texts_of_clip
        texts = sorted({text for texts in texts_of_clip for text in texts})
        self.place = {text: i for i, text in enumerate(texts)}

    def embed_audio(self, waveform, sample_rate):
        emb = torch.zeros(len(waveform), len(self.place))
        for row, number in zip(emb, waveform.mean(dim=1).round().int().tolist(), strict=True):
            row[[self.place[text] for text in self.texts_of_clip[number]]] = 1
        emb = torch.nn.functional.normalize(emb, dim=1)
        return AudioEmbeddings(emb[:, None], emb)

    def embed_captions(self, captions):
        places = [self.place[text.lower()] for text in captions]
        emb = torch.nn.functional.one_hot(torch.tensor(places), len(self.place)).float()
        return CaptionEmbeddings(emb, torch.ones(len(places)), torch.zeros(len(places)))


def test_a_model_that_is_never_wrong_is_right_where_clips_share_their_captions(tmp_path):
    """A table in the layout of AudioCaps, in which 8 % of 200 captions are other clips' too."""
    texts_of_clip = [[f"sound {i} of {clip}" for i in range(5)] for clip in range(40)]
    for clip in range(0, 16, 2):
        texts_of_clip[clip][0] = texts_of_clip[clip + 1][3] = f"a woman speaks {clip // 4}"
    rows = ["audiocap_id,youtube_id,start_time,caption"]
    for clip, texts in enumerate(texts_of_clip):
        write_clip(tmp_path / f"audio/id_{clip:08d}.wav", *[clip] * 2)
        cased = [text.capitalize() if clip % 2 else text for text in texts]
        rows += [f"{len(rows) + i},id_{clip:08d},0,{text}" for i, text in enumerate(cased)]
    set_files.write_text(tmp_path / "dataset/test.csv", *rows)
    found = testsets.read("audiocaps", tmp_path)
    model = KnowsEveryClip(texts_of_clip)
    outcome = benchmarks.evaluate_set(model, found, SETTINGS)
    numbers = outcome.metrics
    assert (numbers["n_captions"], numbers["n_shared"], numbers["t2a_n"]) == (200, 16, 200)
    for way in ("t2a", "a2t"):
        for name in ("r1", "r5", "r10", "map10", "median_rank"):
            assert numbers[f"{way}_{name}"] == 1.0, (way, name)
        assert numbers[f"{way}_r1_own"] < 1.0
        assert numbers[f"{way}_r10_own"] == 1.0
    [(n_clips, _)] = outcome.resamplings
    assert n_clips == 40


def test_moments_are_those_of_each_query_of_each_recording(tmp_path):
    """A dog sounds at 0.5 to 1.5 s and again; the second query of a cat is elsewhere."""
    queries = [
        Query("1", "a dog", [(3.0, 3.5), (0.5, 1.5)]),
        Query("2", "a cat", [(2.0, 3.0)]),
        Query("3", "A cat", [(0.0, 0.5)]),
    ]
    path = write_clip(tmp_path / "one.wav", 0, 1, 1, 0, 2, 2, 1, 0)
    late = write_clip(tmp_path / "two.wav", *[0] * 25, 3, 3, 0)  # in its second window
    clips = [
        Clip("one", path, 4.0, queries=queries),
        Clip("two", late, 14.0, queries=[Query("4", "rain", [(12.5, 13.5)])]),
        Clip("silent", path, 4.0),  # none of its queries was left
        Clip("gone", None, queries=[Query("5", "rain", [(0.0, 1.0)])]),
    ]
    found = AnnotatedSet("mine", "moments", clips)
    outcome = benchmarks.evaluate_set(Metronome(), found, SETTINGS)
    numbers = outcome.metrics
    assert (numbers["n_clips"], numbers["n_moment_queries"], numbers["n_captions"]) == (2, 4, 3)
    for name in ("moment_r1_50", "moment_r1_70", "moment_map", "moment_map_50", "moment_map_75"):
        assert numbers[name] == 0.75, name
    [(n_clips, makers)] = outcome.resamplings
    assert makers["moment_map"]()(np.array([2, 0])) == pytest.approx(2 / 3)
    assert n_clips == 2


def test_classification_is_by_fold_and_template(tmp_path):
    clips = [
        Clip("a", write_clip(tmp_path / "a.wav", 1), 0.5, label="dog", fold=1),
        Clip("b", write_clip(tmp_path / "b.wav", 2), 0.5, label="dog", fold=2),
        Clip("c", write_clip(tmp_path / "c.wav", 3), 0.5, label="rain", fold=2),
    ]
    found = AnnotatedSet("mine", "classification", clips, ["cat", "dog", "rain"])
    numbers = benchmarks.evaluate_set(Metronome(), found, SETTINGS).metrics
    assert numbers["per_fold"] == {"1": 1.0, "2": 0.5}
    assert numbers["fold_mean"] == 0.75
    assert numbers["top1"] == numbers["top1_name"] == numbers["top1_ensemble"] == 2 / 3


def test_models_are_compared_on_the_same_clips(tmp_path):
    found = AnnotatedSet("mine", "sed", dogs_and_cats(tmp_path), ["cat", "dog", "rain"])
    judged = {
        "flam": benchmarks.evaluate_set(Metronome(), found, SETTINGS),
        "deaf": benchmarks.evaluate_set(Deaf(), found, SETTINGS),
    }
    table = outcomes.compare(judged, against="flam", n_resamples=19, seed=0)
    assert table["flam"]["auroc_macro_low"] == table["flam"]["auroc_macro_high"] == 1.0
    assert table["deaf"]["auroc_macro"] == 0.5
    assert table["difference"]["deaf"]["auroc_macro"] == pytest.approx(0.5)
    assert table["difference"]["deaf"]["auroc_macro_p"] == pytest.approx(2 / 20)


def test_a_flam_says_how_probable_a_class_is_on_any_set(folder, tmp_path):
    """Frame by frame of every clip, those of all windows; the deaf are not asked."""
    found = testsets.read("urbansed", set_files.urban_sed(tmp_path))
    model = FLAM.from_pretrained(folder / "artifacts/checkpoints/flam")
    outcome = benchmarks.evaluate_set(model, found, SETTINGS._replace(window_s=3.2))
    [clip] = found.present
    waveform = torch.from_numpy(audio.read(clip.path)[0][None])
    probs = []
    for start, n in ((0, 10), (51200, 10), (102400, 10), (153600, 2)):
        window = waveform[:, start : start + 51200]
        probs.append(model.score(window, 16000, list(found.captions), "biased")[0, :, :n].numpy())
    sizes = {"n_frames": 32, "frame_s": 0.32, "clip_s": 10.0}
    active = active_frames(clip.events, list(found.captions), **sizes)
    prob = np.concatenate(probs, axis=1)
    ece = calibration.expected_calibration_error(prob, active, 10)
    assert outcome.metrics["ece"] == pytest.approx(ece, abs=1e-6)
    assert outcome.metrics["brier"] == pytest.approx(calibration.brier(prob, active), abs=1e-6)
    assert outcome.reliability["count"].sum() == active.size
    table = outcomes.compare({"flam": outcome}, against="flam", n_resamples=3, seed=0)
    assert table["flam"]["ece_low"] == pytest.approx(ece, abs=1e-6)


def test_a_clip_of_a_sample_more_than_whole_frames_ends_no_evaluation(folder, tmp_path):
    """At 48 kHz, of which resampling to 16 kHz leaves nothing."""
    model, n_samples = FLAM.from_pretrained(folder / "artifacts/checkpoints/flam"), 2 * 15_360 + 1
    noise = 0.1 * np.random.default_rng(0).standard_normal(n_samples)
    soundfile.write(tmp_path / "a.wav", noise, 48_000, subtype="FLOAT")
    clip = Clip("a", tmp_path / "a.wav", n_samples / 48_000, [Event(0.0, 0.3, "rain")])
    scores, _ = benchmarks.score_clips(
        model, AnnotatedSet("one", "sed", [clip], ["rain"]), SETTINGS
    )
    assert [len(of_clip) for of_clip in scores.scores] == [3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("benchmarking"))


@pytest.mark.parametrize("name", testsets.SETS)
def test_every_public_set_goes_through_a_real_model(folder, tmp_path, name):
    found = testsets.read(name, set_files.WRITERS[name](tmp_path))
    model = FLAM.from_pretrained(folder / "artifacts/checkpoints/flam")
    outcome = benchmarks.evaluate_set(model, found, SETTINGS)
    table = outcomes.compare({"flam": outcome}, against="flam", n_resamples=3, seed=0)
    numbers = table["flam"]
    assert numbers["n_clips"] == len(found.present)
    keys = {
        "sed": ["psds2_mean", "brier"],
        "retrieval": ["t2a_r1", "a2t_map10"],
        "classification": ["top1", "top5", "fold_mean", "macro"],
        "moments": ["moment_r1_50", "moment_map"],
    }
    for key in keys[found.task]:
        assert 0 <= numbers[f"{key}_low"] <= numbers[f"{key}_high"] <= 1


def test_one_s_own_models_join_by_name(folder):
    saved = str(folder / "artifacts/checkpoints/flam")
    [(name, model)] = benchmarks.load_external_models(
        [{"name": "theirs", "folder": saved}], taken=["flam"]
    ).items()
    assert (name, type(model)) == ("theirs", FLAM)
    entry = {"name": "theirs", "folder": "artifacts/checkpoints/flam"}
    assert list(benchmarks.load_external_models([entry], taken=["flam"], base=folder)) == ["theirs"]
    with pytest.raises(ValueError, match="'flam' is taken already"):
        benchmarks.load_external_models([{"name": "flam", "folder": saved}], taken=["flam"])
    with pytest.raises(ValueError, match=r"testsets.models\[0\].folder is missing"):
        benchmarks.load_external_models([{"name": "flam"}], taken=[])


def test_the_held_out_classes_are_the_most_specific_captions(folder):
    _, bank, lexicon = read_split(folder)
    model = FLAM.from_pretrained(folder / "artifacts/checkpoints/flam")
    outcome, n_left_out = benchmarks.classify_held_out(
        model, bank, lexicon, "seen_captions", SETTINGS
    )
    # Whenever a bell rings, a tone is heard, so a tone is no class beside it.
    assert (outcome.metrics["n_captions"], outcome.metrics["n_clips"], n_left_out) == (3, 3, 1)
    assert 0 <= outcome.metrics["top1"] <= outcome.metrics["top5"] == 1
