"""The parts of a file, one after another, as one recording.

What each part gives is compared with what is known of its length.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from flamlib.waveforms.decoders import AGAIN, PIECE, Channels, Decoder, Undecodable

MIN_RATE, MAX_RATE = 100, 2_000_000  # Hz: a header that says less or more is wrong
MAX_CHANNELS = 256


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
            piece = self._next(min(n_left, max(1, PIECE // self.n_channels)))
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

    def _next(self, n_samples):
        try:
            return self._decoder.read(n_samples)
        except Undecodable as error:
            at_s = self.position / self.sample_rate
            raise Undecodable(f"damaged after {at_s:.1f} s ({error}); {AGAIN}") from error

    def _check_end(self):
        part, n_read = self._parts[self._k], self.position - self._start
        found = f"{n_read / self.sample_rate:.2f} s"
        if n_read < part.n_least:
            raise Undecodable(
                f"damaged: only {found} of {part.n_least / self.sample_rate:.2f} s can be decoded; "
                f"{AGAIN}"
            )
        if n_read < part.n_promised:
            promised = part.n_promised / self.sample_rate
            self._note([f"its header promises {promised:.2f} s, and {found} are there: cut off?"])

    def _note(self, notes):
        self.notes += [note for note in notes if note not in self.notes]
