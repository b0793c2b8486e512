import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

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
    assert b"flam: standard input: no WAV; raw samples need --pcm" in done.stderr
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert main.main(["listen", "-c", "a bell", "--model", arguments.CHECKPOINT]) == 2
    assert "the microphone needs sounddevice" in capsys.readouterr().err
    assert main.main(["listen", "sound.wav", "-c", "a bell"]) == 2
    assert "flam: sound.wav: sound is heard as it comes" in capsys.readouterr().err
    assert main.main(["listen"]) == 2
    assert "captions are needed" in capsys.readouterr().err


class Gone(Exception):
    pass


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [(KeyboardInterrupt, 0, "stopped"), (Gone("unplugged"), 2, "microphone stopped: unplugged")],
)
def test_a_microphone_gives_what_the_same_sound_piped_in_does(
    here, capsys, monkeypatch, end, code, told
):
    """Also the event that is not over when it ends, by Ctrl-C or by itself."""
    samples, rate = soundfile.read("sound.wav", dtype="float32", always_2d=True)

    class Microphone:
        def __init__(self, *, samplerate, channels, dtype):
            assert (samplerate, channels, dtype) == (rate, 1, "float32")
            self.at = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.closed = True

        def read(self, n):
            if self.at >= len(samples):
                raise end
            self.at += n
            return samples[self.at - n : self.at], False

    fake = SimpleNamespace(InputStream=Microphone, PortAudioError=Gone)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    asked = ["listen", "-c", "a bell", "--model", arguments.CHECKPOINT, "--threshold", "0"]
    assert main.main(asked) == code
    live = capsys.readouterr()
    piped = listen("-", input=(here / "sound.wav").read_bytes())
    assert live.out == piped.stdout.decode()
    assert len(live.out.splitlines()) == 2
    assert told in live.err


def test_sound_that_a_slow_machine_loses_is_said_once(here, capsys, monkeypatch):
    """But for what comes before the model is ready."""
    samples, _ = soundfile.read("sound.wav", dtype="float32", always_2d=True)

    def hear(lost):
        blocks = iter([(samples[:1600], each) for each in lost])

        class Microphone(nullcontext):
            def read(self, n):
                if (block := next(blocks, None)) is None:
                    raise KeyboardInterrupt
                return block

        fake = SimpleNamespace(InputStream=lambda **_: Microphone(), PortAudioError=Gone)
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        asked = ["listen", "-c", "a bell", "--model", arguments.CHECKPOINT]
        assert main.main(asked) == 0
        return capsys.readouterr().err.count("sound was lost")

    assert hear([True, False, False]) == 0
    assert hear([False, True, False, True]) == 1


def test_a_computer_without_a_microphone_says_so(here, capsys, monkeypatch):
    def none(**_):
        raise Gone("no default input device")

    fake = SimpleNamespace(InputStream=none, PortAudioError=Gone)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    asked = ["listen", "-c", "a bell", "--model", arguments.CHECKPOINT]
    assert main.main(asked) == 2
    assert "no microphone: no default input device" in capsys.readouterr().err
