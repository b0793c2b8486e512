"""Label files that the package crowsetta reads; without it, that this is said."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import scipy.io
import soundfile
from sounds import RATE, tone

from flamlib.sound_events import labels

needs_crowsetta = pytest.mark.skipif(
    find_spec("crowsetta") is None, reason='pip install "flamlib[crowsetta]"'
)
GRID = """File type = "ooTextFile"
Object class = "TextGrid"

0
2
<exists>
1
"IntervalTier"
"sounds"
0
2
3
0
0.5
""
0.5
1.25
"a dog barks"
1.25
2
""
"""


def times_of(file, recording):
    return [(round(e.onset, 6), round(e.offset, 6), e.caption) for e in file.of(recording)]


@needs_crowsetta
def test_a_text_grid_beside_a_recording(tmp_path):
    (tmp_path / "a.TextGrid").write_text(GRID)
    assert times_of(labels.beside(_audio(tmp_path)), "a.wav") == [(0.5, 1.25, "a dog barks")]


@needs_crowsetta
def test_all_tiers_of_a_text_grid_are_read_and_points_have_no_duration(tmp_path):
    points = '"TextTier"\n"clicks"\n0\n2\n1\n1.5\n"a ""click"""\n'
    grid = GRID.replace("<exists>\n1\n", "<exists>\n2\n")
    (tmp_path / "a.TextGrid").write_text(grid + points)
    raw = labels.read(tmp_path / "a.TextGrid").of("a.wav")
    assert [each[1:] for each in raw] == [(0.5, 1.25, "a dog barks"), (1.5, 1.5, 'a "click"')]
    events, repairs = labels.repair(raw, 2.0)
    assert ([event.caption for event in events], repairs) == (["a dog barks"], {"zero_length": 1})


@needs_crowsetta
def test_times_of_timit_are_samples_of_the_recording_beside_it(tmp_path):
    (tmp_path / "a.PHN").write_text(f"0 {RATE // 2} h#\n{RATE // 2} {RATE} sh\n")
    with pytest.raises(ValueError, match=r"a.PHN: .* the recording .* is missing"):
        labels.read(tmp_path / "a.PHN")
    file = labels.beside(_audio(tmp_path))
    assert times_of(file, "a.wav") == [(0.0, 0.5, "h#"), (0.5, 1.0, "sh")]


@needs_crowsetta
def test_a_file_of_evsonganaly_is_named_after_its_recording(tmp_path):
    content = {"onsets": [500.0, 1000.0], "offsets": [750.0, 1250.0], "labels": "ab", "Fs": RATE}
    scipy.io.savemat(tmp_path / "a.wav.not.mat", content | {"fname": "a.wav", "sm_win": 2})
    file = labels.beside(_audio(tmp_path))
    assert times_of(file, "a.wav") == [(0.5, 0.75, "a"), (1.0, 1.25, "b")]


@needs_crowsetta
@pytest.mark.parametrize("name", ["a.TextGrid", "a.phn", "a.not.mat", "a.xml", "a.mat"])
def test_what_is_not_of_its_format_is_refused_by_name(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x00nothing")
    with pytest.raises(ValueError, match=f"{name}: not a file of"):
        labels.read(tmp_path / name)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError):
        labels.read(tmp_path / name)


def test_without_crowsetta_the_command_that_installs_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "crowsetta", None)
    (tmp_path / "a.TextGrid").write_text(GRID)
    with pytest.raises(ModuleNotFoundError, match=r"a.TextGrid.*pip install"):
        labels.read(tmp_path / "a.TextGrid")


def test_tables_of_crowsetta_need_no_package(tmp_path):
    path = tmp_path / "songs.csv"
    path.write_text(
        "label,onset_s,offset_s,onset_sample,offset_sample,notated_path,annot_path,sequence,"
        "annotation\na,0.5,1.0,,,songs/one.wav,x.xml,0,0\nb,1.5,2.0,,,songs/two.wav,x.xml,0,1\n"
    )
    file = labels.read(path)
    assert times_of(file, Path("songs/two.wav")) == [(1.5, 2.0, "b")]
    (tmp_path / "one.csv").write_text("onset_s,offset_s,label\n0.25,0.5,a call\n")
    assert times_of(labels.read(tmp_path / "one.csv"), "one.wav") == [(0.25, 0.5, "a call")]


def _audio(folder):
    soundfile.write(folder / "a.wav", tone(440, 2.0), RATE)
    return folder / "a.wav"
