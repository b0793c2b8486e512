import numpy as np
import pytest
import soundfile
from recordings import encode, noise

from flamlib import decoders
from flamlib.decoders import Chain, FFmpeg, FileRange, Part, Sndfile


def test_a_range_of_bytes_is_a_file_of_its_own(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(100)))
    file = FileRange(tmp_path / "a", 20, 50)
    assert file.read() == bytes(range(20, 50))
    assert file.seek(-5, 2) == 25
    assert file.read(100) == bytes(range(45, 50))
    assert file.seek(3) == file.tell() == 3
    assert file.read(2) == bytes([23, 24])
    file.close()


def test_ffmpeg_reads_what_libsndfile_reads(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.stack([noise(1.0), -noise(1.0)], axis=1), 44100)
    ours, theirs = Sndfile(tmp_path / "a.flac"), FFmpeg(tmp_path / "a.flac")
    np.testing.assert_array_equal(ours.read(10**6), theirs.read(10**6))
    assert (theirs.sample_rate, theirs.n_channels) == (44100, 2)


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


def test_playlists_are_not_followed(tmp_path):
    encode(tmp_path / "a.aac", noise(1.0), 44100, "aac", container="adts")
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", "a.aac", "#EXT-X-ENDLIST", ""]
    (tmp_path / "list.m3u8").write_text("\n".join(lines))
    with pytest.raises(decoders.Undecodable):
        FFmpeg(tmp_path / "list.m3u8")
