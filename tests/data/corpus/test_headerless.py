from io import BytesIO

import av
import numpy as np
import pytest
import soundfile
from sounds import tone

from flamlib.data.corpus import headerless


def gsm(samples):
    content = BytesIO()
    soundfile.write(content, samples, 8000, format="RAW", subtype="GSM610")
    return content.getvalue()


def g722(samples):
    content = BytesIO()
    with av.open(content, "w", format="g722") as file:
        stream = file.add_stream("g722", rate=16000, layout="mono")
        whole = (samples * 32767).astype(np.int16)[None, :]
        frame = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    return content.getvalue()


@pytest.mark.parametrize(("suffix", "encode", "rate"), [("gsm", gsm, 8000), ("g722", g722, 16000)])
def test_a_tone_comes_back(suffix, encode, rate):
    sent = tone(440, 1.0, rate=rate)
    found, found_rate = soundfile.read(
        BytesIO(headerless.with_header(f"a/b.{suffix}", encode(sent)))
    )
    assert found_rate == rate
    assert len(found) == pytest.approx(rate, abs=rate // 20)
    spectrum = np.abs(np.fft.rfft(found[:rate]))
    assert spectrum.argmax() * rate / len(found[:rate]) == pytest.approx(440, abs=2)
    assert np.sqrt(np.mean(found**2)) == pytest.approx(np.sqrt(np.mean(sent**2)), rel=0.1)


def test_others_stay_as_they_are():
    assert headerless.with_header("usr/share/bell.ogg", b"OggS") == b"OggS"


def test_nothing_is_named():
    with pytest.raises(ValueError, match="cannot be decoded as g722"):
        headerless.with_header("voice.g722", b"")
