import pytest
from set_files import write_audio, write_damaged, write_text

from flamlib.data.datasets import annotations
from flamlib.data.datasets.annotations import AnnotatedSet, AudioFolder, Clip, RawEvent
from flamlib.sound_events.events import Event
from flamlib.storage.tables import Row
from flamlib.waveforms import audio


def repaired(tmp_path, *times, audio=True):
    write_audio(tmp_path / "a.wav", 4.0)
    rows = [RawEvent(f"t.tsv, line {n}", *of, "rain") for n, of in enumerate(times, start=2)]
    path = tmp_path / "a.wav" if audio else None
    found = annotations.make_event_set("mine", {"a": rows}, {"a": path}, ["rain"])
    return found.clips[0], dict(found.repairs)


def test_what_cannot_be_scored_is_mended_and_counted(tmp_path):
    clip, repairs = repaired(
        tmp_path, (0.0, 1.0), (0.5, 2.0), (2.0, 2.5), (3.0, 3.0), (3.5, 5.0), (4.0, 4.5)
    )
    assert clip.events == [Event(0.0, 2.5, "rain"), Event(3.5, 4.0, "rain")]
    assert repairs == {"merged": 2, "zero_length": 1, "clipped": 1, "beyond": 1}


def test_good_events_are_left_alone(tmp_path):
    clip, repairs = repaired(tmp_path, (0.0, 1.0), (1.5, 4.0))
    assert (len(clip.events), repairs, clip.duration_s) == (2, {}, 4.0)


@pytest.mark.parametrize(("later_s", "repairs"), [(2e-15, {}), (3e-5, {}), (0.001, {"clipped": 1})])
def test_half_a_sample_beyond_the_end_is_no_repair(tmp_path, later_s, repairs):
    clip, found = repaired(tmp_path, (1.0, 4.0 + later_s))
    assert (clip.events, found) == ([Event(1.0, 4.0, "rain")], repairs)


def test_without_audio_nobody_knows_where_it_ends(tmp_path):
    clip, repairs = repaired(tmp_path, (3.0, 50.0), audio=False)
    assert (clip.path, clip.events, repairs) == (None, [Event(3.0, 50.0, "rain")], {})


@pytest.mark.parametrize("times", [(2.0, 1.0), (-1.0, 1.0)])
def test_an_event_that_ends_before_it_begins_is_refused_with_its_line(tmp_path, times):
    with pytest.raises(ValueError, match=r"t.tsv, line 3: an event from"):
        repaired(tmp_path, (0.0, 1.0), times)


def test_coverage_counts_what_has_audio(tmp_path):
    write_audio(tmp_path / "a.wav", 1.0)
    write_text(tmp_path / "broken.wav", "no audio at all")
    heard = annotations.probe_audio(tmp_path / "a.wav")
    assert (heard.path, heard.duration_s, heard.why) == (tmp_path / "a.wav", 1.0, "")
    broken = annotations.probe_audio(tmp_path / "broken.wav")
    assert (broken.path, broken.duration_s) == (None, 0.0)
    assert "broken.wav" in broken.why
    clips = [Clip("a", tmp_path / "a.wav"), Clip("b", None), Clip("c", None)]
    found = AnnotatedSet("mine", "retrieval", clips)
    assert (found.present, found.missing, found.coverage) == (clips[:1], ["b", "c"], 1 / 3)
    assert AnnotatedSet("none", "retrieval", []).coverage == 0.0


def test_what_counts_as_found_can_be_read_to_its_end(tmp_path):
    for name, is_present in write_damaged(tmp_path).items():
        path, duration_s, *_ = annotations.probe_audio(tmp_path / name)
        assert (path is not None) == is_present, name
        assert duration_s == pytest.approx(4.0 if is_present else 0.0, abs=0.2), name
        if is_present:
            waveform, rate = audio.read(path)
            assert duration_s == len(waveform) / rate


def test_events_end_where_the_decoded_audio_does(tmp_path):
    write_damaged(tmp_path)
    rows = [
        RawEvent("t.tsv, line 2", 1.0, 7.0, "rain"),
        RawEvent("t.tsv, line 3", 7.5, 8.0, "rain"),
    ]
    found = annotations.make_event_set("mine", {"a": rows}, {"a": tmp_path / "b.mp3"}, ["rain"])
    [clip] = found.clips
    assert clip.events == [Event(1.0, clip.duration_s, "rain")]
    assert found.repairs == {"clipped": 1, "beyond": 1}


def test_audio_is_found_by_its_stem_whatever_its_kind_and_folder(tmp_path):
    write_audio(tmp_path / "audio/deep/Bird's cafe\u0301 1.5.flac", 0.1)
    write_text(tmp_path / "audio/notes.txt", "no audio")
    folder = AudioFolder(tmp_path, "elsewhere", "audio")
    assert folder.find("unknown", "Bird's caf\u00e9 1.5").suffix == ".flac"
    assert folder.find("notes") is None


def test_a_recording_that_can_be_heard_goes_before_one_that_cannot(tmp_path):
    write_audio(tmp_path / "a.wav", 0.1)
    (tmp_path / "a.flac").symlink_to("nowhere.flac")
    (tmp_path / "a.raw").write_bytes(b"samples without a header")
    (tmp_path / "b.flac").symlink_to("nowhere.flac")
    folder = AudioFolder(tmp_path)
    assert folder.find("a").name == "a.wav"
    assert folder.find("b").name == "b.flac"


def test_two_recordings_of_one_name_are_refused(tmp_path):
    write_audio(tmp_path / "x/a.wav", 0.1)
    write_audio(tmp_path / "y/a.flac", 0.1)
    with pytest.raises(ValueError, match=r"which of them is 'a'"):
        AudioFolder(tmp_path).find("a")


def test_an_unknown_label_is_refused_with_the_nearest():
    row = Row("t.tsv, line 9", {})
    assert annotations.check_label(row, "Dog", ["Cat", "Dog"]) == "Dog"
    with pytest.raises(ValueError, match=r"line 9: unknown label 'Doge'; did you mean 'Dog'"):
        annotations.check_label(row, "Doge", ["Cat", "Dog"])
