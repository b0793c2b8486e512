"""Of `flam embed` and `flam export`."""

import json

import pyarrow.parquet
import pytest
import soundfile
from bad_files import write_bad_files
from sounds import RATE, noise

from flamlib.cli import arguments, main
from flamlib.inference import export
from flamlib.models.flam import FLAM


def test_a_model_becomes_onnx(here, tmp_path, capsys, monkeypatch):
    """By `export`; here, that what it measured is printed and what it refuses is said."""
    asked = []

    def pretend(model, out, *, clip_s):
        asked.append((type(model), out, clip_s))
        return {"difference": 0.0}

    with pytest.raises(SystemExit, match="2"):
        main.main(["export", arguments.CHECKPOINT, str(tmp_path / "onnx"), "--clip", "0"])
    assert "a clip has more than 0 and at most 600 s" in capsys.readouterr().err
    monkeypatch.setattr(export, "export", pretend)
    assert main.main(["export", arguments.CHECKPOINT, "onnx", "--clip", "1"]) == 0
    assert json.loads(capsys.readouterr().out) == {"difference": 0.0}
    assert asked == [(FLAM, "onnx", 1.0)]


def test_a_folder_of_recordings_becomes_embeddings(here, tmp_path, capsys):
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds/a.wav", noise(1.0), RATE)
    (tmp_path / "sounds/b.wav").write_bytes(b"no audio")
    asked = ["embed", str(tmp_path / "sounds"), str(tmp_path / "out"), "--shard-size", "1"]
    assert main.main(asked) == 0
    said, complained = capsys.readouterr()
    assert "1 recording, 2 files" in said
    assert complained.startswith("flam: skipped b.wav: ")
    assert pyarrow.parquet.read_table(tmp_path / "out/00000.parquet")["path"].to_pylist() == [
        "a.wav"
    ]
    (tmp_path / "empty").mkdir()
    for given, why in (
        ("nothing", "no such folder; a folder"),
        ("sounds/a.wav", "a file; a folder"),
        ("empty", "no WAV, FLAC, MP3 or other audio in this folder"),
    ):
        assert main.main(["embed", str(tmp_path / given), str(tmp_path / "out")]) == 2
        assert f"{tmp_path / given}: {why}" in capsys.readouterr().err


def test_of_a_folder_of_bad_files_the_good_one_is_embedded(here, tmp_path, capsys):
    bad = write_bad_files(tmp_path / "sounds")
    assert main.main(["embed", str(tmp_path / "sounds"), str(tmp_path / "out")]) == 0
    out, told = capsys.readouterr()
    assert f"1 recording, 1 file, {len(bad)} skipped" in out
    lines = told.splitlines()
    for name in bad:
        assert sum(line.startswith(f"flam: skipped {name}: ") for line in lines) == 1
