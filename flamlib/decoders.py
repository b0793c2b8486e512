"""Decode a file from its first sample to its last: by libsndfile, or by FFmpeg where that is wrong.

Whatever a library raises about a file becomes `Undecodable`, with the reason in words of the user.
"""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

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
MIN_RATE, MAX_RATE = 1000, 2_000_000  # Hz: a header that says less or more is wrong
MAX_CHANNELS = 256
PIECE = 1 << 18  # samples that are decoded at once
LARGEST_HOLE_S = 3600.0  # between time stamps; more is no pause but a wrong stamp
JITTER_S = 0.05  # of the time stamps of containers that round them


class Undecodable(Exception):
    """A file, or a part of it, that cannot be decoded; the text says why."""


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
    """libsndfile's decoder of a file, or of a range of its bytes.

    Attributes:
        container: Its name of the format, such as WAV.
        n_claimed: The number of samples that it expects to find.
        log: What it says about the header.
    """

    def __init__(self, path: Path, start: int = 0, stop: int | None = None):
        """Open bytes `start` to `stop` of a file."""
        self.notes: list[str] = []
        with errors_of("libsndfile"):
            # Not by name: of some suffixes libsndfile believes that there is no header.
            self._raw = (
                open(path, "rb") if (start, stop) == (0, None) else FileRange(path, start, stop)  # noqa: SIM115
            )
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
        encoding: Its name of the codec.
        duration_s: What the container says, where it says it.
    """

    seeks = False

    def __init__(self, path: Path, start: int = 0, stop: int | None = None):
        """Open bytes `start` to `stop` of a file."""
        self.notes: list[str] = []
        self._raw = FileRange(path, start, stop)
        try:
            with errors_of("FFmpeg"):
                self._open_container = open_container(self._raw)
                stream = audio_stream(self._open_container)
                self.sample_rate, self.n_channels = stream.rate, stream.channels
                self.container = self._open_container.format.name
                self.encoding = stream.codec_context.name
                has_end = stream.duration is not None and self.container.startswith("mov")
                self.duration_s = float(stream.duration * stream.time_base) if has_end else None
        except BaseException:
            self._raw.close()
            raise
        self._pieces = self._decode(stream)
        self._left: list[Channels] = []
        self._n_left = 0

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
        expected_s = None
        with errors_of("FFmpeg"):
            layout, rate = stream.layout.name, self.sample_rate
            resampler = av.AudioResampler(format="flt", layout=layout, rate=rate)
            for frame in self._open_container.decode(stream):
                if (frame.sample_rate, frame.layout.name) != (rate, layout):
                    raise Undecodable("its sample rate or channels change on the way")
                if frame.is_corrupt:
                    raise Undecodable(f"damaged at {expected_s or 0:.1f} s")
                time_s = None if frame.pts is None else float(frame.pts * frame.time_base)
                if time_s is not None and expected_s is not None:
                    yield from self._silence(expected_s, time_s - expected_s)
                if time_s is not None or expected_s is not None:
                    start_s = expected_s if time_s is None else time_s
                    expected_s = start_s + frame.samples / rate
                frame.pts = None
                for converted in resampler.resample(frame):
                    yield converted.to_ndarray().reshape(-1, self.n_channels)

    def _silence(self, at_s, hole_s):
        if hole_s > LARGEST_HOLE_S:
            raise Undecodable(f"its time stamps jump by {hole_s:.0f} s at {at_s:.1f} s")
        if hole_s > JITTER_S:
            self.notes.append(f"{hole_s:.2f} s are missing at {at_s:.2f} s and silent here")
            yield np.zeros((round(hole_s * self.sample_rate), self.n_channels), np.float32)

    def close(self) -> None:
        self._pieces.close()
        self._open_container.close()
        self._raw.close()


class Part(NamedTuple):
    """One of the recordings that follow each other in a file.

    Attributes:
        open: Opens its decoder.
        n_least: Fewer samples than that are a fault inside.
        n_promised: Fewer samples than that are an early end.
    """

    open: Callable[[], Decoder]
    n_least: int = 0
    n_promised: int = 0


class Chain:
    """Parts of a file, decoded one after another as one recording.

    Attributes:
        sample_rate: In hertz.
        n_channels: 1 or more.
        notes: What was found not to be as it should be, in sentences.
        position: The sample that is read next.
    """

    def __init__(self, parts: list[Part], notes: list[str]):
        """Open the first part."""
        self._parts, self.notes = parts, list(notes)
        self._decoder = None
        self._open(0)
        self.sample_rate, self.n_channels = self._decoder.sample_rate, self._decoder.n_channels

    def read(self, n_samples: int) -> Channels:
        """Return the next samples; fewer than asked for at the end alone."""
        pieces, n_left = [], n_samples
        while n_left:
            piece = self._decoder.read(min(n_left, PIECE))
            self._note(self._decoder.notes)
            if len(piece):
                pieces.append(piece)
                n_left -= len(piece)
                self.position += len(piece)
                continue
            self._check_end()
            if self._k + 1 == len(self._parts):
                break
            self._open(self._k + 1)
        return np.concatenate(pieces) if pieces else np.zeros((0, self.n_channels), np.float32)

    def seek(self, sample: int) -> None:
        """Go to a sample; forward by decoding what is between where nothing else is exact."""
        if len(self._parts) == 1 and self._decoder.seeks:
            self.position = min(sample, self._decoder.n_claimed)
            self._decoder.seek(self.position)
            return
        if sample < self.position:
            self._open(0)
        while self.position < sample and len(self.read(min(PIECE, sample - self.position))):
            pass

    def close(self) -> None:
        """Close the file."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _open(self, k):
        self.close()
        self._decoder, self._k = self._parts[k].open(), k
        rate, n_channels = self._decoder.sample_rate, self._decoder.n_channels
        if not MIN_RATE <= rate <= MAX_RATE:
            raise Undecodable(f"its header claims a sample rate of {rate} Hz, which cannot be")
        if not 1 <= n_channels <= MAX_CHANNELS:
            raise Undecodable(f"its header claims {n_channels} channels, which cannot be")
        if k == 0:
            self.position = 0
        elif (rate, n_channels) != (self.sample_rate, self.n_channels):
            raise Undecodable("the recordings joined in it differ in sample rate or channels")
        self._start = self.position

    def _check_end(self):
        part, n_read = self._parts[self._k], self.position - self._start
        found = f"{n_read / self.sample_rate:.2f} s"
        if n_read < part.n_least:
            raise Undecodable(
                f"damaged: only {found} of {part.n_least / self.sample_rate:.2f} s can be decoded; "
                "copy it again from where it is whole"
            )
        if n_read < part.n_promised:
            promised = part.n_promised / self.sample_rate
            self._note([f"its header promises {promised:.2f} s, and {found} are there: cut off?"])

    def _note(self, notes):
        self.notes += [note for note in notes if note not in self.notes]


class FileRange(io.RawIOBase):
    """Bytes `start` to `stop` of a file, as a file of their own."""

    def __init__(self, path: Path, start: int, stop: int | None):
        super().__init__()
        self._file = open(path, "rb")  # noqa: SIM115
        self._start = start
        self._stop = os.fstat(self._file.fileno()).st_size if stop is None else stop
        self._file.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        n_bytes = max(0, min(len(buffer), self._stop - self._file.tell()))
        return self._file.readinto(memoryview(buffer)[:n_bytes])

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: self._start, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._stop}
        return self._file.seek(max(self._start, origin[whence] + offset)) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start

    def close(self) -> None:
        self._file.close()
        super().close()


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
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


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
