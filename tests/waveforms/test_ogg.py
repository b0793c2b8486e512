import pytest
from recordings import noise, write_ogg

from flamlib.waveforms import ogg


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_whole_file_is_one_stream(tmp_path, subtype):
    write_ogg(tmp_path / "a.ogg", noise(3.0, 48000), 48000, subtype)
    [stream] = ogg.streams(tmp_path / "a.ogg")
    assert stream.complete
    assert stream.ranges == [(0, (tmp_path / "a.ogg").stat().st_size)]
    [n_samples] = stream.granules
    assert n_samples == pytest.approx(3 * 48000, abs=400)  # Opus has a pre-skip


def test_streams_that_follow_each_other_are_told_apart(tmp_path):
    write_ogg(tmp_path / "a.ogg", noise(3.0), 44100)
    content = (tmp_path / "a.ogg").read_bytes()
    (tmp_path / "b.ogg").write_bytes(content * 3)
    bounds = [stream.ranges for stream in ogg.streams(tmp_path / "b.ogg")]
    n = len(content)
    assert bounds == [[(0, n)], [(n, 2 * n)], [(2 * n, 3 * n)]]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_one_wrong_byte_is_a_hole(tmp_path, share):
    write_ogg(tmp_path / "a.ogg", noise(30.0), 44100)
    content = bytearray((tmp_path / "a.ogg").read_bytes())
    content[round(share * len(content))] ^= 0x10
    (tmp_path / "b.ogg").write_bytes(content)
    [stream] = ogg.streams(tmp_path / "b.ogg")
    before, after = stream.ranges
    assert before[0] == 0
    assert before[1] < share * len(content) < after[0]
    assert after[1] == len(content)
    assert stream.granules[0] / 44100 == pytest.approx(30 * share, abs=2)
    assert stream.granules[1] == 30 * 44100


def test_a_stream_that_is_cut_off_is_not_complete(tmp_path):
    write_ogg(tmp_path / "a.ogg", noise(10.0), 44100)
    content = (tmp_path / "a.ogg").read_bytes()
    (tmp_path / "b.ogg").write_bytes(content[: len(content) // 2])
    [stream] = ogg.streams(tmp_path / "b.ogg")
    assert not stream.complete
    [n_samples] = stream.granules
    assert n_samples / 44100 == pytest.approx(5, abs=1)
