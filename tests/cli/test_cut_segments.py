"""Of `flam segments`."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import RATE, noise

from flamlib.cli import cut_segments, main
from flamlib.search import clips
from flamlib.storage import tables

HEADER = ("filename", "onset", "offset", "event_label", "score")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Six finds of two captions in one recording of three seconds."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", noise(3.0), RATE)
    rows = [
        ("a.wav", f"{i / 2}", f"{i / 2 + 0.25}", ("rain", "a dog")[i % 2], f"0.{i + 3}")
        for i in range(6)
    ]
    tables.write("found.tsv", [HEADER, *rows])
    return "found.tsv"


def cut(capsys, *arguments, code=0):
    assert main.main(["segments", *arguments]) == code
    out, told = capsys.readouterr()
    assert "Traceback" not in told
    return out, told


def test_clips_of_a_table_and_again(table, capsys):
    out, told = cut(capsys, table, "-o", "out", "-n", "2")
    assert (out, told) == ("out: 4 clips of 2 captions\n", "")
    assert sorted(p.name for p in Path("out/rain").iterdir()) == [
        "0.5000_rain_a_1.00s.wav",
        "0.7000_rain_a_2.00s.wav",
    ]
    out, _ = cut(capsys, table, "-o", "out", "-n", "2")
    assert out == "out: 0 clips of 2 captions, 4 as they were\n"
    _, told = cut(capsys, table, "-o", "out", "-n", "3", code=2)
    assert "flam: out: holds clips of other finds" in told


@pytest.mark.parametrize(
    ("options", "n"),
    [
        (["-n", "all", "--min-score", "0.6"], 3),
        (["-n", "34%"], 4),
        (["--join", "1"], 2),
        (["--pick", "balanced", "-n", "1", "--format", "flac", "--context", "0.1"], 2),
    ],
)
def test_options(table, capsys, options, n):
    assert cut(capsys, table, "-o", "out", *options)[0].startswith(f"out: {n} clips")
    assert sum(1 for _ in Path("out").rglob("*.*a*")) == n


def test_a_table_from_standard_input(table, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(Path(table).read_bytes())))
    assert cut(capsys, "-", "-o", "out", "--audio", ".")[0] == "out: 6 clips of 2 captions\n"


def test_what_two_tables_say_is_cut_once(table, capsys):
    """As BirdNET writes one for each recording, and one of all."""
    Path("tables").mkdir()
    header = "Start (s),End (s),Common name,Confidence,File\n"
    for name in ("a.BirdNET.results.csv", "BirdNET_CombinedTable.csv"):
        rows_of = [
            f"{row},{Path('a.wav').absolute()}\n" for row in ("1,2,Rook,0.9", "0,1,Rook,0.5")
        ]
        Path("tables", name).write_text(header + "".join(rows_of))
    Path("tables/a.txt").write_text("1.0\t2.0\trook\n")
    out, _ = cut(capsys, "tables", "-o", "out", "--audio", ".")
    assert out == "out: 2 clips of 1 caption\n"
    assert len(list(Path("out").rglob("0.9000_*.wav"))) == 1


@pytest.mark.parametrize(
    ("asked", "in_table", "heard"),
    [(2, None, 1), (1, None, 0), (None, None, None), (None, (1, 2), (0, 1)), (None, (1, 1), None)],
)
def test_a_clip_is_of_the_channel_that_was_heard(tmp_path, capsys, asked, in_table, heard):
    """Tables of detectors, ours too, have 1 for the average."""
    both = np.stack([noise(3.0), np.zeros(3 * RATE), noise(3.0, seed=1)], axis=1)
    soundfile.write(tmp_path / "a.wav", both, RATE)
    times = [(0.5, 1.0), (1.5, 2.0)]
    if in_table:
        found = tmp_path / "a.Table.1.selections.txt"
        head = ("Selection", "Channel", "Begin Time (s)", "End Time (s)", "Annotation")
        rows = [
            (f"{k}", f"{of}", f"{onset}", f"{offset}", "rain")
            for k, ((onset, offset), of) in enumerate(zip(times, in_table, strict=True))
        ]
        tables.write(found, [head, *rows])
    else:
        found = tmp_path / "found"
        found.mkdir()
        events = [[*of, "rain", 0.9] for of in times]
        entry = {"name": "a.wav", "path": f"{tmp_path / 'a.wav'}", "events": events}
        (found / "recordings.jsonl").write_text(json.dumps(entry) + "\n")
        (found / "parameters.json").write_text(json.dumps({"channel": asked}))
    cut(capsys, str(found), "-o", str(tmp_path / "out"))
    clips_of = sorted((tmp_path / "out").rglob("*.wav"))
    for path, (onset, offset), of in zip(clips_of, times, np.broadcast_to(heard, 2), strict=True):
        part = both[round(onset * RATE) : round(offset * RATE)]
        expected = part.mean(axis=1) if of is None else part[:, of]
        np.testing.assert_allclose(soundfile.read(path)[0], expected, atol=1e-3)


@pytest.mark.usefixtures("table")
def test_what_two_tables_say_of_a_recording_is_joined(capsys):
    """One may call it by its whole path."""
    tables.write("one.tsv", [HEADER[:4], ("a.wav", "0", "1", "rain")])
    tables.write("two.tsv", [HEADER[:4], (str(Path("a.wav").absolute()), "1", "2", "rain")])
    out, _ = cut(capsys, "one.tsv", "two.tsv", "-o", "out", "--join", "0.1")
    assert out == "out: 1 clip of 1 caption\n"


def test_recordings_that_are_elsewhere(table, capsys):
    Path("audio").mkdir()
    Path("a.wav").rename("audio/a.wav")
    out, told = cut(capsys, table, "-o", "out", code=1)
    assert out == "out: 0 clips of 2 captions, 6 skipped\n"
    assert "flam: skipped a.wav, 0.50 s, a dog: no such recording\n" in told
    assert "--audio names their folder" in told
    assert cut(capsys, table, "-o", "out", "--audio", "audio")[0].startswith("out: 6 clips")
    assert not Path("out/skipped.tsv").exists()


@pytest.mark.parametrize("is_beside", [True, False])
def test_label_files_of_a_folder_are_named_after_their_recordings(table, capsys, is_beside):
    Path("labels").mkdir()
    folder = Path("labels" if is_beside else "audio")
    folder.mkdir(exist_ok=True)
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.wav", noise(3.0), RATE)
        Path(f"labels/{name}.txt").write_text("0.5\t1.5\train\n")
    elsewhere = [] if is_beside else ["--audio", "audio"]
    if not is_beside:
        _, told = cut(capsys, "labels", "-o", "nowhere", code=1)
        assert "flam: skipped a, 0.50 s, rain: no such recording\n" in told
    out, told = cut(capsys, "labels", "-o", "out", *elsewhere)
    assert (out, told) == ("out: 2 clips of 1 caption\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.tsv"], "flam: gone.tsv: No such file or directory"),
        (["a.wav"], "flam: a.wav: "),
        (["empty.tsv"], "flam: nothing to cut: 0 finds in empty.tsv"),
        (["found.tsv", "--min-score", "1"], "flam: nothing to cut: 6 finds, and none of them is"),
        (["found.tsv", "--audio", "gone"], "flam: gone: no such folder"),
        (["bare.txt", "-n", "1"], "flam: bare.txt, line 1: has no score, and 1 of 2 'x' are"),
        (["."], "flam: "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(table, capsys, arguments, message):
    tables.write("empty.tsv", [HEADER])
    Path("bare.txt").write_text("0.5\t1.0\tx\n1.5\t2.0\tx\n")
    if arguments == ["."]:
        Path("found.tsv").write_text("filename\tonset\toffset\tevent_label\na.wav\t2\t1\tx\n")
    out, told = cut(capsys, *arguments, "-o", "out", code=2)
    assert (out, told.count("\n")) == ("", 1)
    assert told.startswith(message)
    assert not Path("out").exists()


@pytest.mark.parametrize("value", ["0", "-1", "0%", "101%", "x%", "many", "nan", "1e400"])
def test_how_many_is_a_number_a_share_or_all(table, value):
    with pytest.raises(SystemExit):
        main.main(["segments", table, "-o", "out", "-n", value])


def test_formats_are_those_that_clips_have():
    assert set(cut_segments.FORMATS) == set(clips.FORMATS)
