"""Decode a file from its first sample to its last: by libsndfile, or by FFmpeg where that is wrong.

Whatever a library raises about a file becomes `Undecodable`, with the reason in words of the user.
"""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import soundfile
from jaxtyping import Float

Channels = Float[np.ndarray, "sample channel"]

# Containers that FFmpeg may open: none that fetches other files or addresses, such as playlists.
CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,loas,matroska,mov,mp3,mpc,"
    "mpc8,mpeg,mpegts,ogg,shn,tak,tta,voc,w64,wav,wv"
)
PIECE = 1 << 18  # samples of all channels that are decoded at once
LARGEST_HOLE_S = 3600.0  # between time stamps; more is no pause but a wrong stamp
BACKWARDS_S = 1.0  # a time stamp that goes back by more begins a new count
AGAIN = "copy it again from where it is whole"
# Without time stamps of their own: FFmpeg counts them by the header, which may be damaged.
COUNTED = ("aiff", "au", "caf", "voc", "w64", "wav")
FILMS = ("mov", "matroska", "mpeg", "flv", "asf")  # in which sound may begin late
LATE_S = 0.1  # by which it begins later than the film; less is the encoder's delay
JITTER_S = 0.05  # of the time stamps of containers that round them


class Undecodable(Exception):
    """A file, or a part of it, that cannot be decoded; the text says why."""


def missing(hole_s: float, at_s: float) -> str:
    """Return the note on a hole that is filled with silence.

    Raises:
        Undecodable: It is longer than holes are.
    """
    if hole_s > LARGEST_HOLE_S:
        raise Undecodable(f"its time jumps by {hole_s:.0f} s at {at_s:.1f} s")
    return f"{hole_s:.2f} s are missing at {at_s:.2f} s, and silent here"


class Decoder(Protocol):
    """Reads forward.

    Attributes:
        sample_rate: In hertz.
        n_channels: 1 or more.
        notes: What is not as it should be, in sentences.
    """

    sample_rate: int
    n_channels: int
    notes: list[str]

    def read(self, n_samples: int) -> Channels:
        """Return the next samples; fewer than asked for at the end alone."""

    def close(self) -> None:
        """Close the file."""


class _Forward(soundfile.SoundFile):
    """soundfile seeks after every read of a file that can, which changes an MP3's next samples."""

    def seekable(self) -> bool:
        return False


class Sndfile:
    """libsndfile's decoder of a file, or of ranges of its bytes.

    Attributes:
        container: Its name of the format, such as WAV.
        encoding: Its name of the samples' format, such as PCM_16.
        n_claimed: The number of samples that it expects to find.
        log: What it says about the header.
    """

    def __init__(self, path: Path, ranges: Sequence[tuple[int, int]] | None = None):
        """Open a file, or ranges of its bytes."""
        self.notes: list[str] = []
        with errors_of("libsndfile"):
            # Not by name: of some suffixes libsndfile believes that there is no header.
            self._raw = open(path, "rb") if ranges is None else Ranges(path, ranges)  # noqa: SIM115
            try:
                source = (
                    self._raw.fileno() if isinstance(self._raw, io.BufferedReader) else self._raw
                )
                self._file = _Forward(source, closefd=False)
            except BaseException:
                self._raw.close()
                raise
            self.sample_rate, self.n_channels = self._file.samplerate, self._file.channels
            self.container, self.encoding = self._file.format, self._file.subtype
            self.n_claimed, self.log = self._file.frames, self._file.extra_info
            # Lossy decoders depend on what came before, so they always read on from the start.
            self.seeks = soundfile.SoundFile.seekable(self._file) and self.container not in (
                "MP3",
                "OGG",
            )

    def read(self, n_samples: int) -> Channels:
        with errors_of("libsndfile"):
            return self._file.read(n_samples, dtype="float32", always_2d=True)

    def seek(self, sample: int) -> None:
        """Go to a sample, where `seeks`."""
        with errors_of("libsndfile"):
            self._file.seek(sample)

    def close(self) -> None:
        self._file.close()
        self._raw.close()


class FFmpeg:
    """FFmpeg's decoder of the first audio stream of a file.

    A hole in the time stamps is filled with silence, so that what follows keeps its time.

    Attributes:
        container: Its name of the format, such as `mov,mp4,m4a,3gp,3g2,mj2`.
        duration_s: What the container says, where it says it.
    """

    seeks = False

    def __init__(self, path: Path, ranges: Sequence[tuple[int, int]] | None = None):
        """Open a file, or ranges of its bytes."""
        self.notes: list[str] = []
        self._raw = open(path, "rb") if ranges is None else Ranges(path, ranges)  # noqa: SIM115
        try:
            with errors_of("FFmpeg"):
                self._open_container = open_container(self._raw)
                stream = audio_stream(self._open_container)
                self.sample_rate, self.n_channels = stream.rate, stream.channels
                self.container = self._open_container.format.name
                self.duration_s = self._promised(stream)
        except BaseException:
            self._raw.close()
            raise
        self._pieces = self._decode(stream)
        self._left: list[Channels] = []
        self._n_left = 0

    def _promised(self, stream):
        """Return what the container says about the length in seconds, if that is no guess."""
        if self.container.startswith("mov") and stream.duration is not None:
            return float(stream.duration * stream.time_base)
        alone = len(self._open_container.streams) == 1
        if self.container.startswith("matroska") and alone and self._open_container.duration:
            return self._open_container.duration / av.time_base
        return None

    def _origin_s(self, time_s):
        """Return the time stamp at which the recording begins, if `time_s` is the first of it."""
        if not self.container.startswith(FILMS):  # others have no clock to keep
            return time_s
        start_s = 0.0
        if not self.container.startswith(("mov", "matroska")):  # of others any time
            start_s = (self._open_container.start_time or 0) / av.time_base
        late_s = time_s - start_s
        if late_s > LARGEST_HOLE_S:
            self.notes.append(f"its sound is said to begin at {late_s:.0f} s; heard from 0 s on")
        elif late_s > LATE_S:
            self.notes.append(f"its sound begins at {late_s:.2f} s; silent before")
            return start_s
        return time_s

    def read(self, n_samples: int) -> Channels:
        while self._n_left < n_samples:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._left.append(piece)
            self._n_left += len(piece)
        if not self._left:
            return np.zeros((0, self.n_channels), np.float32)
        together = np.concatenate(self._left)
        rest = together[n_samples:]
        self._left, self._n_left = ([rest] if len(rest) else []), len(rest)
        return together[:n_samples]

    def _decode(self, stream) -> Iterator[Channels]:
        n_given, origin_s = 0, None
        with errors_of("FFmpeg"):
            layout, rate = stream.layout.name, self.sample_rate
            resampler = av.AudioResampler(format="flt", layout=layout, rate=rate)
            for frame in self._open_container.decode(stream):
                at_s = n_given / rate
                if (frame.sample_rate, frame.layout.name) != (rate, layout):
                    raise Undecodable("its sample rate or channels change")
                if frame.is_corrupt:
                    raise Undecodable("a frame is corrupt")
                if frame.pts is not None and self.container not in COUNTED:
                    time_s = float(frame.pts * frame.time_base)
                    if origin_s is None:
                        origin_s = self._origin_s(time_s)
                    elif time_s < origin_s + at_s - BACKWARDS_S:
                        origin_s = time_s - at_s
                    n_missing = round((time_s - origin_s - at_s) * rate)
                    if n_missing > JITTER_S * rate:
                        if n_given:
                            self.notes.append(missing(n_missing / rate, at_s))
                        hole = Silence(n_missing, rate, self.n_channels)
                        while len(piece := hole.read(PIECE)):
                            yield piece
                        n_given += n_missing
                frame.pts = None
                for converted in resampler.resample(frame):
                    piece = converted.to_ndarray().reshape(-1, self.n_channels)
                    n_given += len(piece)
                    yield piece

    def close(self) -> None:
        self._pieces.close()
        self._open_container.close()
        self._raw.close()


class Ranges(io.RawIOBase):
    """Ranges of the bytes of a file, one after another, as a file of their own."""

    def __init__(self, path: Path, ranges: Sequence[tuple[int, int]]):
        """Open bytes `start` up to `stop` of each range."""
        super().__init__()
        self._file = open(path, "rb")  # noqa: SIM115
        self._ranges, self._at = list(ranges), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        left = self._at
        for start, stop in self._ranges:
            if left < stop - start:
                self._file.seek(start + left)
                n_bytes = min(len(buffer), stop - start - left)
                n_read = self._file.readinto(memoryview(buffer)[:n_bytes])
                self._at += n_read
                return n_read
            left -= stop - start
        return 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = sum(stop - start for start, stop in self._ranges)
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()


class Silence:
    """A decoder of nothing: what is heard where something is missing."""

    seeks = False

    def __init__(self, n_samples: int, sample_rate: int, n_channels: int):
        """Take how long it lasts."""
        self.sample_rate, self.n_channels, self.notes = sample_rate, n_channels, []
        self._n_left = n_samples

    def read(self, n_samples: int) -> Channels:
        n_samples = min(n_samples, self._n_left)
        self._n_left -= n_samples
        return np.zeros((n_samples, self.n_channels), np.float32)

    def close(self) -> None:
        pass


def count_samples(path: Path) -> int:
    """Return the number of samples that the frames of a file have, without decoding them."""
    with open(path, "rb") as file, errors_of("FFmpeg"), open_container(file) as container:
        stream = audio_stream(container)
        ticks = sum(packet.duration or 0 for packet in container.demux(stream))
        return round(ticks * stream.time_base * stream.rate)


def open_container(file: io.IOBase) -> av.container.InputContainer:
    """Open a file with FFmpeg, by its content alone."""
    return av.open(_Nameless(file), options={"format_whitelist": CONTAINERS})


def audio_stream(container: av.container.InputContainer) -> av.AudioStream:
    """Return the first audio stream of a container."""
    if not container.streams.audio:
        raise Undecodable("there is no sound in it")
    return container.streams.audio[0]


class _Nameless:
    """A file whose name FFmpeg does not learn: it would guess the format by it."""

    def __init__(self, file):
        self._file, self.read, self.tell = file, file.read, file.tell

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Return the place, -1 where there is none: av prints what is raised here."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


@contextmanager
def errors_of(library: str) -> Iterator[None]:
    """Turn all that a library raises about a file, of whatever kind, into `Undecodable`."""
    try:
        yield
    except Undecodable:
        raise
    except soundfile.LibsndfileError as error:
        raise Undecodable(error.error_string) from error
    except av.FFmpegError as error:
        raise Undecodable(error.strerror or str(error)) from error
    except OSError as error:
        raise Undecodable(error.strerror or str(error)) from error
    except Exception as error:
        raise Undecodable(f"{library} fails on it ({type(error).__name__}: {error})") from error
