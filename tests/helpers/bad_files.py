"""One good recording and one file of each kind of which nothing can be heard."""

import os
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
GOOD = "good.wav"


def write_bad_files(folder: Path) -> list[str]:
    """Write them, and `GOOD`, into a folder; return the names of the bad ones."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    soundfile.write(folder / GOOD, noise, RATE)
    (folder / "dead.wav").symlink_to("nowhere.wav")
    (folder / "loop.flac").symlink_to("loop.flac")
    (folder / "folder.wav").mkdir()
    os.mkfifo(folder / "pipe.wav")
    (folder / "empty.mp3").touch()
    (folder / "text.ogg").write_text("no sound at all")
    (folder / "headerless.raw").write_bytes(bytes(3200))
    (folder / "locked.m4p").write_bytes(bytes(3200))
    (folder / f"{'n' * 200}.wav").write_bytes(b"RIFF")
    soundfile.write(folder / "none.wav", np.zeros(0), RATE)
    soundfile.write(folder / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    soundfile.write(folder / "infinite.wav", np.full(RATE, np.inf), RATE, subtype="FLOAT")
    soundfile.write(folder / "loud.wav", np.full(RATE, 3e38), RATE, subtype="FLOAT")
    soundfile.write(folder / "endless.flac", noise, RATE)
    flac = bytearray((folder / "endless.flac").read_bytes())
    flac[21] |= 0x0F  # the 36 bits of STREAMINFO that say how many samples there are
    flac[22:26] = b"\xff\xff\xff\xff"
    (folder / "endless.flac").write_bytes(flac[:100])
    return sorted(path.name for path in folder.iterdir() if path.name != GOOD)
