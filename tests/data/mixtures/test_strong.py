import json
import pickle

import numpy as np
import pytest
import soundfile
from bad_files import GOOD, write_bad_files
from hypothesis import given
from hypothesis import strategies as st
from set_files import write_audio, write_text
from sounds import noise, silence, tone

from flamlib.data.datasets import testsets
from flamlib.data.mixtures import recipes, strong
from flamlib.sound_events.events import Event, active_frames
from flamlib.waveforms import audio

RATE, CLIP_S = 16000, 2.0
HOW = {"sample_rate": RATE, "clip_s": CLIP_S, "n_jobs": 1, "progress": False}
FRAMES = {"n_frames": 4, "frame_s": 0.5, "clip_s": CLIP_S}


def desed(root):
    """The training list in DESED's layout: two long pieces, a short one, one without an event, one
    that is silent and one that is gone."""
    write_text(
        root / "metadata/train/audioset_strong.tsv",
        "filename\tonset\toffset\tevent_label",
        "Ylong.wav\t1.5\t4.25\tDog",
        "Ylong.wav\t0.0\t0.5\tSpeech",
        "Yshort.wav\t0.25\t9.0\tVacuum_cleaner",
        "Ynothing.wav\t\t\t",
        "Ysilent.wav\t0.0\t1.0\tDog",
        "Ygone.wav\t0.0\t1.0\tCat",
    )
    folder = root / "audio/train/strong_label_real"
    write_audio(folder / "Ylong.wav", 5.0, seed=1)
    write_audio(folder / "Yshort.wav", 1.5, seed=2, rate=22050)
    write_audio(folder / "Ynothing.wav", 2.0, seed=3)
    soundfile.write(folder / "Ysilent.wav", silence(2.0), RATE)
    return root


def free_text(root):
    write_text(
        root / "events.tsv",
        "filename\tonset\toffset\tevent_label",
        "a.wav\t0.0\t1.0\tein Hund bellt – « wau »",
        "b.wav\t0.5\t1.5\ta tone, then nothing",
    )
    write_audio(root / "audio/a.wav", 2.0)
    soundfile.write(root / "audio/b.wav", tone(440, 2.0), RATE)
    entry = {"name": "mine", "table": root / "events.tsv", "audio": root / "audio"}
    return testsets.training_set(entry | {"closed": False})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("strong")
    entry = {"name": "desed", "folder": desed(root / "official")}
    numbers = strong.build([testsets.training_set(entry), free_text(root)], root / "strong", **HOW)
    assert json.loads((root / "strong/sets.json").read_text()) == numbers
    return root / "strong"


@pytest.fixture(scope="module")
def closed(folder):
    return strong.StrongSet.open(folder / "desed")


def test_a_set_says_what_became_of_its_recordings(folder, closed):
    numbers = json.loads((folder / "sets.json").read_text())["desed"]
    assert numbers["n_recordings"] == 3
    assert numbers["n_missing"] == 2  # of which one is there, but silent
    assert len(numbers["skipped"]) == 2
    assert sorted("silent" in why for why in numbers["skipped"].values()) == [False, True]
    assert numbers["n_clips"] == len(closed.clips) == 5
    assert numbers["n_captions"] == len(closed.captions) == 10
    assert numbers["repairs"] == {"clipped": 1}
    skipped = (folder / "desed/skipped.tsv").read_text()
    assert "Ysilent.wav" in skipped
    assert "silent" in skipped


def test_a_clip_is_the_recording_and_its_labels_are_the_official_events(folder, closed):
    official = folder.parent / "official/audio/train/strong_label_real"
    whole, _ = audio.read(official / "Ylong.wav")
    starts = [0.0, 1.5, 3.0]
    pieces = [clip for clip in closed.clips if clip.background.clip_id == "Ylong.wav"]
    assert [clip.background.start / RATE for clip in pieces] == starts
    for start, clip in zip(starts, pieces, strict=True):
        heard = recipes.render(closed.bank, clip)
        first = round(start * RATE)
        step = closed.bank.get(0, "scale")  # of sixteen bits
        assert np.abs(heard - whole[first : first + len(heard)]).max() <= step
    assert [clip.labels for clip in pieces] == [
        (Event(0.0, 0.5, "speech"), Event(1.5, 4.25, "dog")),
        (Event(0.0, 2.75, "dog"),),
        (Event(-1.5, 1.25, "dog"),),
    ]


def test_a_clip_has_the_active_frames_that_its_recording_has_there(tmp_path):
    """Also where a long event reaches into it by a hundredth of a second alone."""
    rows = ["filename\tonset\toffset\tevent_label"]
    events = [(0.3, 2.01), (1.99, 3.1), (1.7, 2.3), (1.9, 2.1), (2.0, 3.0), (1.0, 2.0)]
    for i, (onset, offset) in enumerate(events):
        write_audio(tmp_path / f"audio/{i}.wav", 2 * CLIP_S, seed=i)
        rows.append(f"{i}.wav\t{onset}\t{offset}\ta sound")
    write_text(tmp_path / "events.tsv", *rows)
    entry = {"name": "mine", "table": tmp_path / "events.tsv", "audio": tmp_path / "audio"}
    strong.build([testsets.training_set(entry)], tmp_path / "strong", **HOW)
    mine = strong.StrongSet.open(tmp_path / "strong/mine")
    found, known = mine.label([clip.labels for clip in mine.clips], ["a sound"], **FRAMES)
    assert known.all()
    whole = {"n_frames": 8, "frame_s": 0.5, "clip_s": 2 * CLIP_S}
    for i, (onset, offset) in enumerate(events):
        [expected] = active_frames([Event(onset, offset, "a sound")], ["a sound"], **whole)
        of_clips = [n for n, c in enumerate(mine.clips) if c.background.clip_id == f"{i}.wav"]
        assert found[of_clips, 0].ravel().tolist() == expected.tolist(), (onset, offset)


def test_a_short_recording_ends_in_silence(closed):
    [clip] = [clip for clip in closed.clips if clip.background.clip_id == "Yshort.wav"]
    heard = recipes.render(closed.bank, clip)
    assert len(heard) == CLIP_S * RATE
    assert np.abs(heard[round(1.45 * RATE) : round(1.5 * RATE)]).max() > 0.01
    assert not heard[round(1.5 * RATE) :].any()
    assert clip.labels == (Event(0.25, 1.5, "vacuum cleaner"),)


def test_a_clip_without_an_event_stays_as_one(closed):
    [clip] = [clip for clip in closed.clips if clip.background.clip_id == "Ynothing.wav"]
    assert clip.labels == ()
    _, known = closed.label([clip.labels], sorted(closed.captions), **FRAMES)
    assert known.all()


def test_in_a_closed_set_what_is_not_annotated_does_not_sound(closed):
    queries = ["dog", "cat", "a dog barks"]
    labels = [clip.labels for clip in closed.clips]
    active, known = closed.label(labels, queries, **FRAMES)
    assert known.tolist() == [[True, True, False]] * len(labels)
    for one, events in zip(active, labels, strict=True):
        np.testing.assert_array_equal(one, active_frames(events, queries, **FRAMES))


def test_a_caption_may_be_spelled_otherwise_than_in_the_set(closed):
    labels, queries = [clip.labels for clip in closed.clips], sorted(closed.captions)
    otherwise = [f" {query.upper()}\u200b" for query in queries]
    for one, other in zip(
        closed.label(labels, otherwise, **FRAMES),
        closed.label(labels, queries, **FRAMES),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_of_free_text_nothing_is_known_elsewhere(folder):
    free = strong.StrongSet.open(folder / "mine")
    texts = [event.caption for clip in free.clips for event in clip.labels]
    assert set(texts) == free.captions
    active, known = free.label([clip.labels for clip in free.clips], [*texts, "dog"], **FRAMES)
    assert known.tolist() == [[True, False, False], [False, True, False]]
    assert active[0, 0].tolist() == [True, True, False, False]
    assert active[1, 1].tolist() == [False, True, True, False]


def test_labels_have_their_shape_without_queries_or_clips(closed):
    assert closed.label([()], [], **FRAMES)[0].shape == (1, 0, 4)
    assert closed.label([], ["dog"], **FRAMES)[1].shape == (0, 1)


def test_another_process_hears_the_same(closed):
    again = pickle.loads(pickle.dumps(closed))
    for one, other in zip(closed.clips, again.clips, strict=True):
        assert one == other
        heard = recipes.render(closed.bank, one)
        np.testing.assert_array_equal(heard, recipes.render(again.bank, other))


def test_processes_change_nothing(folder, tmp_path):
    entry = {"name": "desed", "folder": folder.parent / "official"}
    strong.build([testsets.training_set(entry)], tmp_path / "strong", **HOW | {"n_jobs": 2})
    for name in ("00000.bin", "sources.arrow", "clips.parquet", "set.json"):
        made = (tmp_path / "strong/desed" / name).read_bytes()
        assert made == (folder / "desed" / name).read_bytes(), name


@given(n_samples=st.integers(1, 5000), n_clip=st.integers(1, 1000))
def test_as_few_clips_as_cover_a_recording(n_samples, n_clip):
    starts = strong.windows(n_samples, n_clip)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert max(starts) + n_clip <= max(n_samples, n_clip)
    gaps = np.diff(starts)
    assert not (gaps > n_clip).any()  # nothing between them is left out
    lost = n_samples - (starts[-1] + n_clip)
    assert lost <= strong.LEFT_OUT * n_clip + 1e-6
    assert (len(starts) - 1) * n_clip < n_samples  # one less would not do


def test_weights_become_shares(folder):
    sets, shares = strong.select_sets(folder, {"synthetic": 3, "mine": 1, "desed": 0})
    assert [each.name for each in sets] == ["mine"]
    assert shares == (0.25,)
    assert strong.select_sets(folder, {"mine": 1.0})[1] == (1.0,)
    assert strong.select_sets(folder, {"synthetic": 1.0}) == ((), ())
    assert strong.select_sets(folder / "nowhere", None) == ((), ())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "not all 0"),
        ({"synthetic": 0}, "not all 0"),
        ({"synthetic": 1, "desed": -0.5}, "numbers from 0"),
        ({"synthetic": float("nan")}, "numbers from 0"),
        ({"dsed": 1}, r"no set 'dsed' in .*\['desed', 'mine'\]"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(folder, weights, message):
    with pytest.raises(ValueError, match=f"set_weights: .*{message}"):
        strong.select_sets(folder, weights)


def test_no_sets_are_a_folder_all_the_same(tmp_path):
    """So that a stage has what it says it makes."""
    assert strong.build([], tmp_path / "strong", **HOW) == {}
    assert json.loads((tmp_path / "strong/sets.json").read_text()) == {}


def test_names_are_a_set_s_own(folder, tmp_path):
    entry = {"name": "desed", "folder": folder.parent / "official"}
    for names in (["a", "a"], ["synthetic"], ["../a"]):
        sets = [testsets.replace(testsets.training_set(entry), name=name) for name in names]
        with pytest.raises(ValueError, match="cannot name a set"):
            strong.build(sets, tmp_path / "strong", **HOW)
    assert not (tmp_path / "strong").exists()


def test_what_is_no_set_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no set\.json; 02_mix makes"):
        strong.StrongSet.open(tmp_path)


def test_a_set_of_silence_is_an_error_and_leaves_the_old_folder(tmp_path):
    old = strong.build([free_text(tmp_path)], tmp_path / "strong", **HOW)
    for path in (tmp_path / "audio").iterdir():
        soundfile.write(path, np.zeros(RATE), RATE)
    entry = {"name": "mine", "table": tmp_path / "events.tsv", "audio": tmp_path / "audio"}
    with pytest.raises(ValueError, match="none of 2 recordings could be used"):
        strong.build([testsets.training_set(entry)], tmp_path / "strong", **HOW)
    assert json.loads((tmp_path / "strong/sets.json").read_text()) == old


def test_the_loudest_moments_survive_sixteen_bits(tmp_path):
    loud = np.concatenate([noise(1.0, 0.01), tone(440, 1.0, 1.0)])
    free = free_text(tmp_path)
    soundfile.write(tmp_path / "audio/a.wav", loud, RATE)
    strong.build([free], tmp_path / "strong", **HOW)
    made = strong.StrongSet.open(tmp_path / "strong/mine")
    assert np.abs(recipes.render(made.bank, made.clips[0])).max() == pytest.approx(1.0, abs=1e-3)


def test_of_bad_files_a_set_to_train_on_uses_the_good_one_and_lists_the_others(tmp_path):
    bad = write_bad_files(tmp_path / "audio")
    rows = [f"{name}\t0.1\t0.5\tdog" for name in [GOOD, *bad]]
    write_text(tmp_path / "t.tsv", "filename\tonset\toffset\tevent_label", *rows)
    entry = {"name": "mine", "table": str(tmp_path / "t.tsv"), "audio": str(tmp_path / "audio")}
    numbers = strong.build([testsets.training_set(entry)], tmp_path / "strong", **HOW)["mine"]
    assert (numbers["n_recordings"], numbers["n_clips"], numbers["n_events"]) == (1, 1, 1)
    assert sorted(numbers["skipped"]) == bad
    assert all(numbers["skipped"].values())
