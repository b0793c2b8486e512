import io
import struct

import numpy as np
import pytest
import soundfile

from flamlib.waveforms import streams
from flamlib.waveforms.streams import Pcm

RATE = 8000


def samples(n, n_channels=1):
    return np.random.default_rng(0).uniform(-1, 1, (n, n_channels)).astype(np.float32)


@pytest.mark.parametrize(
    ("encoding", "subtype"),
    [
        ("u8", "PCM_U8"),
        ("s16le", "PCM_16"),
        ("s24le", "PCM_24"),
        ("s32le", "PCM_32"),
        ("f32le", "FLOAT"),
    ],
)
@pytest.mark.parametrize("n_channels", [1, 2])
def test_a_wav_gives_what_libsndfile_reads(encoding, subtype, n_channels):
    file = io.BytesIO()
    soundfile.write(file, samples(1000, n_channels), RATE, format="WAV", subtype=subtype)
    file.seek(0)
    expected, _ = soundfile.read(file, dtype="float32", always_2d=True)
    file.seek(0)
    pcm = streams.read_wav_header(file)
    assert pcm[:3] == (encoding, RATE, n_channels)
    parts = list(streams.blocks(file, pcm, 300))
    assert [len(part) for part in parts] == [300, 300, 300, 100]
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def wav(of_riff, of_data, behind=b""):
    """A WAV with a chunk before and the bytes `behind` after 100 samples, and what it claims."""
    form = struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32)
    head = [b"RIFF", struct.pack("<I", of_riff), b"WAVEfmt ", struct.pack("<I", 16), form]
    head += [b"junk", struct.pack("<I", 3), b"abc\0", b"data", struct.pack("<I", of_data)]
    return io.BytesIO(b"".join(head) + samples(100).tobytes() + behind)


def heard(file):
    return np.concatenate(list(streams.blocks(file, streams.read_wav_header(file), 30)))


@pytest.mark.parametrize("notes", [b"", b"notes of a recorder\0"])
def test_what_a_recorder_notes_behind_the_sound_is_not_heard(notes):
    chunk = b"iXML" + struct.pack("<I", len(notes)) + notes
    file = wav(4 + 24 + 12 + 8 + 400 + len(chunk), 400, chunk)
    np.testing.assert_array_equal(heard(file), samples(100))


@pytest.mark.parametrize(
    ("of_riff", "of_data"),
    [
        (0, 0),
        (36, 0),
        (0xFFFFFFFF, 0),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x7FFFFFFF, 0x7FFFF000),
        (0xFFFFFFFF, 40),
        (4 + 24 + 12 + 8 + 40, 40),  # of a recording that grows: as far as it was
    ],
)
def test_a_stream_is_heard_to_its_end_whatever_its_head_says_of_it(of_riff, of_data):
    np.testing.assert_array_equal(heard(wav(of_riff, of_data)), samples(100))


@pytest.mark.parametrize("encoding", streams.ENCODINGS)
def test_full_scale_is_one_and_a_sample_that_is_cut_off_is_dropped(encoding):
    dtype, full_scale, n_bytes = streams.ENCODINGS[encoding]
    lowest = np.array([0 if encoding == "u8" else -full_scale], dtype).tobytes()[-n_bytes:]
    file = io.BytesIO(lowest * 4 + lowest[:-1])
    [block] = streams.blocks(file, Pcm(encoding, RATE, 2), 100)
    assert block.tolist() == [[-1, -1], [-1, -1]]


def test_a_stream_is_saved_as_a_recording(tmp_path):
    sound = samples(20_000, 2)
    streams.save(io.BytesIO(sound.tobytes()), Pcm("f32le", RATE, 2), tmp_path / "a.w64")
    found, rate = soundfile.read(tmp_path / "a.w64", dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(found, sound)


@pytest.mark.parametrize("text", ["", "s16le", "s16le:0", "s16le:16000:0", "s16be:1600", "s16le:x"])
def test_what_is_no_pcm_is_refused(text):
    with pytest.raises(streams.StreamError, match=r"expected ENCODING:RATE\[:CHANNELS\]"):
        streams.parse_pcm(text)


def claims(rate, n_channels):
    """The head of a WAV of 16 bits."""
    chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, n_channels, rate, 2 * rate % 2**32, 2, 16)
    return b"RIFF\xff\xff\xff\xffWAVE" + chunk


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"", "ends before its first sample"),
        (b"ID3\x04\x00\x00\x00\x00\x00\x00\x00\x00", "no WAV; raw samples need --pcm"),
        (b"RIFF\xff\xff\xff\xffWAVEdata\x00\x00\x00\x00", "without a description"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff", "damaged"),
        (claims(rate=0, n_channels=1), "claims 0 Hz"),
        (claims(rate=2**31, n_channels=1), "claims 2147483648 Hz"),
        (claims(rate=16_000, n_channels=0), "and 0 channels"),
    ],
)
def test_what_is_no_wav_is_refused(head, why):
    with pytest.raises(streams.StreamError, match=why):
        streams.read_wav_header(io.BytesIO(head))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_before_one_that_is_no_number_are_given(value):
    sound = samples(300)
    sound[250] = value
    blocks = streams.blocks(io.BytesIO(sound.tobytes()), Pcm("f32le", RATE, 1), 100)
    assert len(next(blocks)) == len(next(blocks)) == 100
    with pytest.raises(streams.StreamError, match="NaN or infinity"):
        next(blocks)
