import numpy as np
import pytest
import soundfile
from recordings import encode, encode_film, noise

from flamlib.waveforms import decoders
from flamlib.waveforms.decoders import FFmpeg, Ranges, Sndfile


def test_ranges_of_bytes_are_a_file_of_their_own(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(100)))
    file = Ranges(tmp_path / "a", [(20, 30), (40, 50)])
    assert file.read() == bytes([*range(20, 30), *range(40, 50)])
    assert file.seek(-5, 2) == 15
    assert file.read(100) == bytes(range(45, 50))
    assert file.read(1) == b""
    assert file.seek(9) == file.tell() == 9
    assert file.readall() == bytes([29, *range(40, 50)])
    file.close()


def test_ffmpeg_reads_what_libsndfile_reads(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.stack([noise(1.0), -noise(1.0)], axis=1), 44100)
    ours, theirs = Sndfile(tmp_path / "a.flac"), FFmpeg(tmp_path / "a.flac")
    np.testing.assert_array_equal(ours.read(10**6), theirs.read(10**6))
    assert (theirs.sample_rate, theirs.n_channels) == (44100, 2)


def test_playlists_are_not_followed(tmp_path):
    encode(tmp_path / "a.aac", noise(1.0), 44100, "aac", container="adts")
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", "a.aac", "#EXT-X-ENDLIST", ""]
    (tmp_path / "list.m3u8").write_text("\n".join(lines))
    with pytest.raises(decoders.Undecodable):
        FFmpeg(tmp_path / "list.m3u8")


@pytest.mark.parametrize(
    ("suffix", "codec", "container"),
    [
        ("m4a", "aac", None),
        ("mp4", "aac", None),
        ("mkv", "ac3", "matroska"),
        ("webm", "libopus", None),
    ],
)
@pytest.mark.parametrize("start_s", [0, 0.05, 2.0])
def test_a_late_start_keeps_its_time(tmp_path, suffix, codec, container, start_s):
    path = tmp_path / f"a.{suffix}"
    encode(path, noise(3.0, 48000), 48000, codec, container=container, start_s=start_s)
    decoder = FFmpeg(path)
    waveform = decoder.read(10**6)[:, 0]
    late_s = start_s if start_s > 0.1 else 0  # less is an encoder's delay
    assert len(waveform) / 48000 == pytest.approx(late_s + 3, abs=0.05)
    assert np.flatnonzero(np.abs(waveform) > 0.05)[0] / 48000 == pytest.approx(late_s, abs=0.06)
    assert [note[-13:] for note in decoder.notes] == ["silent before"] * bool(late_s)


def test_the_clock_of_a_broadcast_begins_anywhere(tmp_path):
    encode(tmp_path / "a.ts", noise(3.0, 48000), 48000, "aac", container="mpegts", start_s=500)
    decoder = FFmpeg(tmp_path / "a.ts")
    assert len(decoder.read(10**6)) / 48000 == pytest.approx(3, abs=0.05)
    assert not decoder.notes


@pytest.mark.parametrize(("start_s", "picture_start_s"), [(2.0, 0), (12.0, 10.0), (0, 2.0)])
@pytest.mark.parametrize(
    ("container", "codec", "from_zero"),
    [("mp4", "aac", True), ("matroska", "aac", True), ("mpegts", "aac", False)],
)
def test_sound_keeps_its_time_in_the_film(
    tmp_path, container, codec, from_zero, start_s, picture_start_s
):
    times = {"start_s": start_s, "picture_start_s": picture_start_s}
    encode_film(tmp_path / "a", noise(3.0, 48000), 48000, codec, container=container, **times)
    begin_s = start_s if from_zero else start_s - min(start_s, picture_start_s)
    waveform = FFmpeg(tmp_path / "a").read(10**7)[:, 0]
    assert np.flatnonzero(np.abs(waveform) > 0.05)[0] / 48000 == pytest.approx(begin_s, abs=0.05)


def test_a_start_that_cannot_be_is_said(tmp_path):
    encode(tmp_path / "a.mkv", noise(1.0, 48000), 48000, "ac3", container="matroska", start_s=9000)
    decoder = FFmpeg(tmp_path / "a.mkv")
    assert len(decoder.read(10**6)) / 48000 == pytest.approx(1, abs=0.05)
    assert decoder.notes == ["its sound is said to begin at 9000 s; heard from 0 s on"]
