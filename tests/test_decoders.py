import numpy as np
import pytest
import soundfile
from recordings import encode, noise

from flamlib import decoders
from flamlib.decoders import FFmpeg, Ranges, Sndfile


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
