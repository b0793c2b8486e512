from functools import partial

import numpy as np
import pytest
import soundfile
from recordings import encode, noise

from flamlib.waveforms.chain import Chain, Part
from flamlib.waveforms.decoders import FFmpeg, Silence, Sndfile, Undecodable


@pytest.mark.parametrize("decoder", [Sndfile, FFmpeg])
def test_pieces_are_the_whole(tmp_path, decoder):
    encode(tmp_path / "a.mp3", noise(3.0), 44100, "libmp3lame")
    chain = Chain([Part(lambda: decoder(tmp_path / "a.mp3"))] * 2, [])
    whole = chain.read(10**6)
    assert len(whole) == 6 * 44100
    for sample in (200_000, 100_000, 5, 0, 132_299):
        chain.seek(sample)
        np.testing.assert_array_equal(chain.read(5000), whole[sample : sample + 5000])
        assert chain.position == sample + 5000


def test_what_is_short_is_said_or_refused():
    silence = partial(Silence, 16000, 16000, 1)
    promised = Chain([Part(silence, n_promised=32000)], [])
    assert len(promised.read(10**6)) == 16000
    assert promised.notes == ["its header promises 2.00 s, and 1.00 s are there: cut off?"]
    with pytest.raises(Undecodable, match=r"only 1\.00 s of 2\.00 s"):
        Chain([Part(silence, n_least=32000)], []).read(10**6)


@pytest.mark.parametrize(("rate", "n_channels"), [(0, 1), (1, 1), (2**31, 1), (16000, 1000)])
def test_what_cannot_be_is_refused(rate, n_channels):
    with pytest.raises(Undecodable, match="cannot be"):
        Chain([Part(partial(Silence, 1, rate, n_channels))], [])


def test_parts_of_different_rates_are_no_recording():
    parts = [Part(partial(Silence, 5, rate, 1)) for rate in (16000, 8000)]
    with pytest.raises(Undecodable, match="differ in sample rate"):
        Chain(parts, []).read(10)


def test_a_file_that_can_only_be_read_forward_is_read_from_anywhere(tmp_path):
    tone = 0.3 * np.sin(np.arange(24000) / 3)
    soundfile.write(tmp_path / "gsm.wav", tone, 8000, subtype="GSM610")
    chain = Chain([Part(partial(Sndfile, tmp_path / "gsm.wav"))], [])
    whole = chain.read(10**6)
    assert len(whole) == 24320  # whole blocks
    chain.seek(20000)
    np.testing.assert_array_equal(chain.read(500), whole[20000:20500])
    chain.seek(30)
    np.testing.assert_array_equal(chain.read(500), whole[30:530])


def test_damage_is_told_by_the_sound_that_is_good_before_it():
    class Breaks(Silence):
        def read(self, n_samples):
            if not self._n_left:
                raise Undecodable("lost")
            return super().read(n_samples)

    chain = Chain([Part(partial(Breaks, 8000, 16000, 1))], [])
    with pytest.raises(Undecodable, match=r"damaged after 0\.5 s \(lost\)"):
        chain.read(10**6)
