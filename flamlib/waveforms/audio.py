"""Read recordings as mono waveforms, and resample them.

Everything that hears a file does so through `read` or `Recording`. What a header or a decoder says
about a recording is compared with what is there: where they differ, the recording is `Unreadable`,
or heard with a note.
"""

import io
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float, Int16

from flamlib.waveforms import chain, decoders, formats

SUFFIXES = formats.SUFFIXES  # of files that are heard
OTHER_SUFFIXES = formats.OTHER_SUFFIXES  # of audio files that are not
_CANCELLED = "its channels cancel each other when averaged; only channel {} is heard"
KEPT = 2**24  # samples of all channels that are held between counting and reading, 64 MB
FULL_SCALE = 100.0  # no floating-point recording is that loud; one on the scale of integers is


class Unreadable(Exception):
    """A recording that cannot be used: `path`, and the reason `why`."""

    def __init__(self, path: str | Path, why: str):
        super().__init__(path, why)  # both as args, so that the error survives a process pool
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


def reason(error: Exception) -> str:
    """Return why a recording cannot be used, for a list that names it already."""
    if isinstance(error, Unreadable):
        return error.why
    return getattr(error, "strerror", None) or str(error)


class Repaired(UserWarning):
    """A recording is heard, but not all in it is as it should be."""


class Recording:
    """A recording, in any format that libsndfile or FFmpeg reads, of which parts are read.

    A context manager. Parts in order of time are cheap: nothing is decoded anew for them.

    Attributes:
        path: The file.
        sample_rate: In hertz.
        notes: What is not as it should be, in sentences: where it is cut off, what was filled with
            silence. `n_samples` makes them complete.
    """

    def __init__(self, path: str | Path, *, channel: int | None = None):
        """Open a file.

        Args:
            path: The file.
            channel: The only channel to hear, counted from 1; None: their average.

        Raises:
            Unreadable: No decoder reads all of it, or its header claims what cannot be; or it has
                no such channel.
        """
        self.path = Path(path)
        with _unreadable(path):
            self._decoder = chain.Chain(*formats.plan(self.path))
        n_channels = self._decoder.n_channels
        if channel is not None and not 1 <= channel <= n_channels:
            self._decoder.close()
            raise Unreadable(path, f"no channel {channel}: it has {n_channels}, counted from 1")
        self.sample_rate, self.notes = self._decoder.sample_rate, self._decoder.notes
        self._n_samples: int | None = None
        self._only = self._asked = None if channel is None else channel - 1
        # What was read last: one number a sample, as it is heard, or those of all channels.
        self._kept, self._kept_start = np.zeros(0, np.float32), 0

    @property
    def n_samples(self) -> int:
        """The number of samples, counted by decoding all of it once.

        Raises:
            Unreadable: It is damaged, has no samples, or some that cannot be used.
        """
        if self._n_samples is None:
            powers, n_samples, last = 0.0, 0, np.zeros((0, self._decoder.n_channels), np.float32)
            pieces = []
            with _unreadable(self.path):
                self._decoder.seek(0)
                while len(piece := self._decoder.read(decoders.PIECE)):
                    _check(self.path, piece)
                    powers = powers + _change_powers(piece, last)
                    n_samples, last = n_samples + len(piece), piece[-1:]
                    # A short one need not be decoded again to be read.
                    pieces = [*pieces, piece] if n_samples * piece.shape[1] <= KEPT else []
            if not n_samples:
                raise Unreadable(self.path, "holds no samples")
            if self._only is None:
                self._only = _cancelled(powers)
                if self._only is not None:
                    self.notes.append(_CANCELLED.format(self._only + 1))
            if sum(map(len, pieces)) == n_samples == self._decoder.position:
                self._kept, self._kept_start = self._to_mono(np.concatenate(pieces)), 0
            self._n_samples = n_samples
        return self._n_samples

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return self.n_samples / self.sample_rate

    def read(
        self, start_s: float | int = 0.0, stop_s: float | int | None = None
    ) -> Float[np.ndarray, "sample"]:
        """Return a part of it as a mono waveform, float32.

        The parts of a recording together are the whole: for all the average of the channels is
        taken, or for all the same channel (the one asked for, or see `mono`).

        Args:
            start_s: Begin, in seconds.
            stop_s: End, in seconds, at most that of the recording; None: that of the recording.

        Raises:
            Unreadable: There are no samples in that part, or what `n_samples` raises.
        """
        stop = self.n_samples
        if stop_s is not None:
            stop = min(stop, round(stop_s * self.sample_rate))
        return self._read(round(start_s * self.sample_rate), stop, as_mono=True)

    def cut(
        self, start_s: float | int = 0.0, stop_s: float | int | None = None
    ) -> Float[np.ndarray, "sample"]:
        """Return a part of it as `read` would of a file that holds that part alone.

        The rest is not decoded where its decoder can go to a sample, nor does it decide which
        channels are heard, unless one was asked for.

        Args:
            start_s: Begin, in seconds.
            stop_s: End, in seconds; None: that of the recording, and so if it is beyond that.

        Raises:
            Unreadable: There are no samples in that part, or some that cannot be used; or it is
                damaged before the end of the part.
        """
        stop = None if stop_s is None else round(stop_s * self.sample_rate)
        channels = self._read(round(start_s * self.sample_rate), stop, as_mono=False)
        if self._asked is not None:
            return np.ascontiguousarray(channels[:, self._asked])
        return mono(channels)

    def _to_mono(
        self, channels: Float[np.ndarray, "sample channel"]
    ) -> Float[np.ndarray, "sample"]:
        if self._only is not None:
            return np.ascontiguousarray(channels[:, self._only])
        return channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1)

    def _read(self, start: int, stop: int | None, *, as_mono: bool) -> Float[np.ndarray, "..."]:
        """Return samples `start` to `stop`, or up to the end, of all channels.

        Or made mono at once, so that of many channels no more is held than of one.
        """
        if start < 0 or (stop is not None and stop <= start):
            part_s = (
                start / self.sample_rate,
                "its end" if stop is None else stop / self.sample_rate,
            )
            raise Unreadable(self.path, "no samples from {} s to {} s".format(*part_s))
        kept_stop = self._kept_start + len(self._kept)
        reuse = self._kept_start <= start < kept_stop and kept_stop == self._decoder.position
        reuse = reuse and (self._kept.ndim == 1) == as_mono
        pieces = [self._kept[start - self._kept_start :][: None if stop is None else stop - start]]
        pieces = pieces if reuse else []
        at = start + sum(map(len, pieces))
        with _unreadable(self.path):
            if not reuse and self._decoder.position != start:
                self._decoder.seek(start)
            while stop is None or at < stop:
                n = decoders.PIECE if stop is None else min(decoders.PIECE, stop - at)
                channels = self._decoder.read(n)
                if not len(channels):
                    break
                _check(self.path, channels)
                pieces.append(self._to_mono(channels) if as_mono else channels)
                at += len(channels)
            if at == start:
                why = f"no samples from {start / self.sample_rate} s on: it ends before"
                raise Unreadable(self.path, why if start else "holds no samples")
            samples = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        if at == self._decoder.position:
            self._kept, self._kept_start = samples, start
        return samples

    def close(self) -> None:
        """Close the file."""
        self._decoder.close()

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def read(
    path: str | Path,
    *,
    sample_rate: int | None = None,
    start_s: float | int = 0.0,
    stop_s: float | int | None = None,
    notes: list[str] | None = None,
) -> tuple[Float[np.ndarray, "sample"], int]:
    """Read a recording, in any format that libsndfile or FFmpeg reads, as a mono waveform.

    Args:
        path: The file.
        sample_rate: Of the waveform, Hz; None: that of the file.
        start_s: Begin of the part to read, in seconds.
        stop_s: Its end, in seconds; None: that of the file.
        notes: What is not as it should be is appended, see `Recording`; None: it is warned of.

    Returns:
        The waveform, float32, and its sample rate.

    Raises:
        Unreadable: The file is missing or damaged, has no samples in that part, or holds NaN,
            infinity or samples on the scale of integers.
    """
    with Recording(path) as recording:
        rate = recording.sample_rate
        waveform = recording.cut(start_s, stop_s)
    if notes is None:
        warn(path, recording.notes)
    else:
        notes += recording.notes
    if sample_rate is None:
        return waveform, rate
    return resample(waveform, rate, sample_rate), sample_rate


def warn(path: str | Path, notes: list[str]) -> None:
    """Warn of what is not as it should be in a recording."""
    for note in notes:
        warnings.warn(f"{path}: {note}", Repaired, stacklevel=3)


@contextmanager
def _unreadable(path):
    try:
        yield
    except decoders.Undecodable as error:
        raise Unreadable(path, str(error)) from error
    except OSError as error:
        raise Unreadable(path, error.strerror or str(error)) from error
    except MemoryError as error:
        raise Unreadable(path, "too long for the memory of this machine") from error


def _check(path, channels):
    """Raise Unreadable for samples that cannot be used."""
    low, high = channels.min(initial=0), channels.max(initial=0)
    if not np.isfinite([low, high]).all():
        raise Unreadable(path, "holds NaN or infinity")
    if max(-low, high) > FULL_SCALE:
        raise Unreadable(
            path,
            f"its samples reach {max(-low, high):.0f}, where 1 is full scale: floats on the scale "
            "of integers? Divide 16-bit ones by 32768",
        )


def mono(channels: Float[np.ndarray, "sample channel"]) -> Float[np.ndarray, "sample"]:
    """Return the average of the channels, or the loudest one if averaging would cancel the sound.

    Cancelling means that the average has less than half the power that channels which have nothing
    to do with each other would leave: two in opposite phase leave nothing. Powers are those of the
    change from sample to sample, in which neither an offset nor a rumble counts.
    """
    if channels.shape[1] == 1:
        return channels[:, 0]
    blocks = range(0, len(channels), decoders.PIECE)  # in bounded memory
    powers = sum(
        _change_powers(channels[at : at + decoders.PIECE], channels[max(0, at - 1) : at])
        for at in blocks
    )
    loudest = _cancelled(powers)
    return channels.mean(axis=1) if loudest is None else np.ascontiguousarray(channels[:, loudest])


def _change_powers(channels, before):
    """Sum the squared changes from sample to sample of each channel, and last of their average.

    `before` is the sample before the first one; of the first of all it is empty.
    """
    if channels.shape[1] == 1:  # its own average: nothing to compare
        return np.ones(2)
    changes = np.diff(np.concatenate([before, channels]).astype(np.float64), axis=0)
    products = changes.T @ changes
    return np.append(np.diag(products), products.mean())


def _cancelled(powers):
    """Return the loudest channel if averaging cancels the channels, else None."""
    *powers, of_average = powers
    unrelated = sum(powers) / len(powers) ** 2
    if of_average >= unrelated / 2:
        return None
    # The first of those that are as loud, whatever rounding says.
    return int(np.argmax(np.array(powers) >= 0.999 * max(powers)))


def resample(
    waveform: Float[np.ndarray, "sample"], from_rate: float | int, to_rate: float | int
) -> Float[np.ndarray, "resampled"]:
    """Return the waveform at another sample rate (soxr, high quality)."""
    if from_rate == to_rate:
        return waveform
    return soxr.resample(waveform, from_rate, to_rate, quality="HQ")


def flac(
    samples: Int16[np.ndarray, "sample"], sample_rate: int, *, level: float | None = None
) -> bytes:
    """Return mono samples of 16 bits as the bytes of a FLAC file.

    Not written by libsndfile itself, which ends a file on a full disk without an error.

    Args:
        samples: mono.
        sample_rate: in Hz.
        level: of compression, 0 (fast) to 1 (small); None: libsndfile's own.
    """
    file = io.BytesIO()
    more = {} if level is None else {"compression_level": level}
    soundfile.write(file, samples, sample_rate, "PCM_16", format="FLAC", **more)
    return file.getvalue()
