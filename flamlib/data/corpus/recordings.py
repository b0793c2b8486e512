"""Read one recording of the corpus, find the part in which it sounds, and store it as FLAC."""

import hashlib
import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from flamlib.sound_events.jams import GRACE_S
from flamlib.storage import files
from flamlib.waveforms import audio, decibels

MAX_SAMPLE_RATE = 48000
SILENCE_DB = -80.0  # A-weighted; a recording whose loudest frame is below is silent
ACTIVE_FRAME_S = 0.01
ACTIVE_RANGE_DB = 40.0

COLUMNS = (
    *("clip_id", "path", "role", "caption", "family", "split", "package", "version", "member"),
    *("licence", "group", "duration_s", "onset", "offset", "sample_rate", "sha256"),
)

Row = dict[str, Any]


def store(
    row: Row,
    source: Path,
    folder: Path,
    *,
    start_s: float = 0.0,
    stop_s: float | None = None,
) -> Row | str:
    """Store the recording of one row of the catalogue as `folder/audio/<clip_id>.flac`.

    Args:
        row: of the catalogue.
        source: the recording.
        folder: the corpus.
        start_s: begin of the part that is stored, in seconds.
        stop_s: its end; None: that of the recording.

    Returns:
        Its row of data/clips.tsv and under `notes` what is not as it should be in it, or the reason
        why it cannot be used.
    """
    notes: list[str] = []
    try:
        waveform, sample_rate = audio.read(source, start_s=start_s, stop_s=stop_s, notes=notes)
    except audio.Unreadable as error:
        return error.why.replace(str(source), source.name)
    end_s = (round(start_s * sample_rate) + len(waveform)) / sample_rate
    wanted_s = start_s + float(row["offset"] or 0)
    # Times in a user's table may be wrong. A part is cut at the nearest sample, up to half a sample
    # earlier; the catalogue's times are rounded to 10 ms.
    if not row["version"] and wanted_s > end_s + max(GRACE_S, 0.5 / sample_rate) + 1e-9:
        notes.append(
            f"its sound is said to end at {wanted_s:g} s, but the recording ends at {end_s:g} s: "
            "shortened"
        )
    waveform = audio.resample(waveform, sample_rate, min(sample_rate, MAX_SAMPLE_RATE))
    sample_rate = min(sample_rate, MAX_SAMPLE_RATE)
    # Lossy codecs, floats and resampling overshoot; turned down they keep their shape.
    waveform = waveform / max(1.0, np.abs(waveform).max())
    active = active_range(waveform, sample_rate)
    if active is None:
        return f"silent: nowhere louder than {SILENCE_DB:g} dB"
    duration_s = len(waveform) / sample_rate
    onset = float(row["onset"] or active[0])
    offset = min(float(row["offset"] or active[1]), duration_s)
    if onset >= offset:
        return f"onset at {onset} s, but it ends at {offset:.3f} s"

    path = folder / "audio" / f"{clip_id(row)}.flac"
    samples = np.rint(np.clip(waveform * 32768, -32768, 32767)).astype(np.int16)
    path.write_bytes(audio.flac(samples, sample_rate))
    return {
        **{column: row[column] for column in COLUMNS if column in row},
        "clip_id": path.stem,
        "path": f"audio/{path.name}",
        "duration_s": f"{duration_s:.3f}",
        "onset": f"{onset:.3f}",
        "offset": f"{offset:.3f}",
        "sample_rate": sample_rate,
        "sha256": files.sha256(path),
        "notes": notes,
    }


def clip_id(row: Row) -> str:
    """Return a unique and readable name for a recording: package-name-hash."""
    name = unicodedata.normalize("NFKD", PurePosixPath(row["member"].replace("!", "/")).stem)
    slug = re.sub("[^a-z0-9]+", "_", name.encode("ascii", "ignore").decode().lower()).strip("_")
    package = row["package"].replace(".", "_").replace("/", "_")
    return f"{package}-{slug[:60] or 'clip'}-{name_hash(row['package'], row['member'])[:8]}"


def name_hash(package: str, member: str) -> str:
    """Return a hexadecimal hash of package and member: it does not depend on other recordings."""
    return hashlib.sha256(f"{package}|{member}".encode()).hexdigest()


def active_range(
    waveform: Float[np.ndarray, "sample"], sample_rate: int
) -> tuple[float, float] | None:
    """Return onset and offset of a recording's active part in seconds; None for silence.

    From the first to the last frame of 10 ms whose A-weighted level is within 40 dB of the loudest
    frame's: neither rumble nor a constant is a sound.
    """
    n_frame = round(ACTIVE_FRAME_S * sample_rate)
    starts = np.arange(0, len(waveform), n_frame)
    counts = np.diff(starts, append=len(waveform))
    weighted = np.square(decibels.a_weighted(waveform, sample_rate))
    own = np.square(waveform, dtype=np.float64)
    # The smaller of both: the filter makes a loud sound reach the frame before it.
    power = np.minimum(
        np.add.reduceat(weighted, starts), decibels.MAX_GAIN**2 * np.add.reduceat(own, starts)
    )
    power /= counts
    if power.max() < 10 ** (SILENCE_DB / 10):
        return None
    [active] = np.nonzero(power >= power.max() * 10 ** (-ACTIVE_RANGE_DB / 10))
    first, last = int(active[0]), int(active[-1])
    return first * n_frame / sample_rate, (last * n_frame + int(counts[last])) / sample_rate
