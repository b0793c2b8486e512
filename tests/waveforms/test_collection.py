import os
from pathlib import Path

import pytest
from bad_files import GOOD, write_bad_files

from flamlib.waveforms import audio, collection


def test_all_that_is_named_as_audio_is_found_usable_or_not(tmp_path):
    bad = write_bad_files(tmp_path / "set")
    (tmp_path / "set/notes.txt").write_text("no recording")
    (tmp_path / "set/deep").mkdir()
    (tmp_path / "set/deep/UPPER.WAV").touch()
    found, closed = collection.find(tmp_path / "set")
    names = [path.relative_to(tmp_path / "set").as_posix() for path in found]
    assert sorted(names) == sorted([*bad, GOOD, "deep/UPPER.WAV"])
    assert found == sorted(found)
    assert closed == {}


@pytest.mark.parametrize("suffix", [".caf", ".W64", ".rf64", ".aifc", ".snd", ".mp2", ".sds"])
def test_what_the_decoders_read_is_named_as_audio(suffix):
    assert collection.is_named_as_audio("a" + suffix)
    assert suffix.lower() in audio.SUFFIXES


def test_what_cannot_be_heard_is_still_named_as_audio():
    assert all(collection.is_named_as_audio(f"a{s}") for s in (".m4a", ".webm", ".aac", ".raw"))
    assert not collection.is_named_as_audio("a.txt")
    assert not collection.is_named_as_audio("wav")


def test_a_folder_that_is_linked_to_is_looked_into_once(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.wav").touch()
    (tmp_path / "set/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/same").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/up").symlink_to(tmp_path / "set")
    found, _ = collection.find(tmp_path / "set")
    assert found == [tmp_path / "set/link/a.wav"]


def test_a_folder_that_cannot_be_listed_is_named_and_the_others_are_found(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.wav").touch()
    scandir = os.scandir

    def closed_to_us(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed_to_us)
    found, closed = collection.find(tmp_path)
    assert found == [tmp_path / "b/x.wav"]
    assert list(closed) == [tmp_path / "a"]
    assert "Permission denied" in closed[tmp_path / "a"]


def test_a_name_that_is_no_text_is_not_usable(tmp_path):
    assert collection.has_usable_name(tmp_path / "犬.wav")
    assert not collection.has_usable_name(tmp_path / os.fsdecode(b"caf\xe9.wav"))


def test_what_is_hidden_is_left_out_unless_it_is_named(tmp_path):
    """As macOS leaves a file beside each, and a file server former states of all of them."""
    for name in ("a.wav", "._a.wav", ".snapshot/hourly/a.wav", "deep/._b.wav", "deep/.c/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert collection.find(tmp_path) == ([tmp_path / "a.wav"], {})
    assert collection.find(tmp_path / "deep/.c") == ([tmp_path / "deep/.c/d.wav"], {})
    found, _ = collection.gather([str(tmp_path / "._a.wav")])
    assert found == {"._a.wav": tmp_path / "._a.wav"}


def test_no_name_leads_upwards(tmp_path, monkeypatch):
    for name in ("x/a.wav", "y/a.wav", "here/deep"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "here")
    found, _ = collection.gather(["../x", "../y/a.wav", "../here/../x/a.wav"])
    full = tmp_path.as_posix().lstrip("/")
    assert found == {
        f"{full}/x/a.wav": tmp_path / "x/a.wav",
        f"{full}/y/a.wav": tmp_path / "y/a.wav",
    }


def test_files_folders_and_patterns_are_gathered_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.wav", "in/deep/b.wav", "c.flac", "other/a.wav", "notes.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    found, closed = collection.gather(["in", "*.*", "in/../c.flac", "gone.wav"])
    assert {*found} >= {"a.wav", "deep/b.wav", "gone.wav"}
    assert "notes.txt" not in found
    assert closed == {}
    found, _ = collection.gather(["in", "in/*.wav", "other/a.wav", "**/b.wav"])
    full = tmp_path.as_posix().lstrip("/")
    assert set(found) == {f"{full}/in/a.wav", f"{full}/other/a.wav", "deep/b.wav"}
    assert found[f"{full}/other/a.wav"] == tmp_path / "other/a.wav"
    for given in ("nothing*", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(FileNotFoundError, match="audio"):
            collection.gather([given])
