"""Players of recordings in a notebook, small enough for the notebook to be kept and opened."""

import io

import numpy as np
import soundfile
from IPython.display import Audio
from jaxtyping import Float

from flamlib.audio import resample

RATE = 24000  # Hz; MP3 knows few rates, and sounds are told apart at this one


def player(waveform: Float[np.ndarray, "sample"], sample_rate: int) -> Audio:
    """Return a player of mono samples as MP3: some 8 kB a second, where WAV would take 50 to 200.

    What exceeds full scale is made quieter as a whole.
    """
    samples = resample(np.asarray(waveform, dtype=np.float32), sample_rate, RATE)
    peak = float(np.abs(samples).max(initial=0.0))
    content = io.BytesIO()
    soundfile.write(content, samples / max(peak, 1.0), RATE, format="MP3")
    shown = Audio(data=content.getvalue())
    shown.mimetype = "audio/mpeg"
    return shown
