"""Players of recordings, small enough for a notebook or page of them to be kept and opened."""

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from jaxtyping import Float

from flamlib.waveforms.audio import resample

if TYPE_CHECKING:
    from IPython.display import Audio

RATE = 24000  # Hz; MP3 knows few rates, and sounds are told apart at this one


def player(waveform: Float[np.ndarray, "sample"], sample_rate: int) -> "Audio":
    """Return a player of mono samples, see `mp3`."""
    # Imported here: a page with sound needs no notebook.
    from IPython.display import Audio

    shown = Audio(data=mp3(waveform, sample_rate))
    shown.mimetype = "audio/mpeg"
    return shown


def data_uri(waveform: Float[np.ndarray, "sample"], sample_rate: int) -> str:
    """Return mono samples as a data URI for a page, see `mp3`."""
    return "data:audio/mpeg;base64," + base64.b64encode(mp3(waveform, sample_rate)).decode("ascii")


def mp3(waveform: Float[np.ndarray, "sample"], sample_rate: int) -> bytes:
    """Return mono samples as MP3: some 8 kB a second, where WAV would take 50 to 200.

    What exceeds full scale is made quieter as a whole.
    """
    samples = resample(np.asarray(waveform, dtype=np.float32), sample_rate, RATE)
    peak = float(np.abs(samples).max(initial=0.0))
    content = io.BytesIO()
    soundfile.write(content, samples / max(peak, 1.0), RATE, format="MP3")
    return content.getvalue()
