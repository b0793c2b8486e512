import subprocess
import sys

import pytest
import soundfile

from flamlib.cli import arguments, main


def listen(*given, **how):
    asked = [sys.executable, "-m", "flamlib", "listen", *given, "-c", "a bell"]
    asked += ["--model", arguments.CHECKPOINT, "--threshold", "0"]
    return subprocess.run(asked, capture_output=True, check=False, **how)


@pytest.mark.parametrize("raw", [False, True])
def test_a_stream_gives_its_events_and_says_how_late_they_are(here, raw):
    samples, rate = soundfile.read("sound.wav", dtype="int16")
    source = samples.astype("<i2").tobytes() if raw else (here / "sound.wav").read_bytes()
    done = listen("-", *(["--pcm", f"s16le:{rate}"] if raw else []), input=source)
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.decode().splitlines()
    assert head == "onset\toffset\tevent_label\tscore"
    assert row.split("\t")[:3] == ["0.00", f"{len(samples) / rate:.2f}", "a bell"]
    assert b"an event is told at most" in done.stderr


def test_what_cannot_be_heard_is_told(here, capsys, monkeypatch):
    done = listen("-", input=b"no sound at all")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"flam: it is no WAV; raw samples need --pcm" in done.stderr
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert main.main(["listen", "-c", "a bell", "--model", arguments.CHECKPOINT]) == 2
    assert "the microphone needs sounddevice" in capsys.readouterr().err
    assert main.main(["listen"]) == 2
    assert "captions are needed" in capsys.readouterr().err
