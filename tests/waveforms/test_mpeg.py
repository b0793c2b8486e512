import pytest
from recordings import encode, noise

from flamlib.waveforms import mpeg


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000])
@pytest.mark.parametrize("says_length", [False, True])
@pytest.mark.parametrize("quality", [None, 4])
def test_all_frames_are_counted(tmp_path, rate, says_length, quality):
    path = tmp_path / "a.mp3"
    encode(
        path,
        noise(3.0, rate),
        rate,
        "libmp3lame",
        quality=quality,
        write_xing="1" if says_length else "0",
    )
    [stretch] = mpeg.stretches(path)
    assert stretch.says_length == says_length
    assert stretch.hole_s is None
    assert 3 * rate < stretch.n_samples < 3 * rate + 3 * 1152


def test_joined_files_are_told_apart(tmp_path):
    encode(tmp_path / "a.mp3", noise(3.0), 44100, "libmp3lame", quality=4)
    content = (tmp_path / "a.mp3").read_bytes()
    [whole] = mpeg.stretches(tmp_path / "a.mp3")
    (tmp_path / "b.mp3").write_bytes(content + content)
    first, second = mpeg.stretches(tmp_path / "b.mp3")
    assert first.n_samples == second.n_samples == whole.n_samples
    assert first.stop == len(content)
    assert second.start == len(content) + content.index(b"\xff\xfb")  # behind the tag
    assert second.stop == 2 * len(content)


def test_what_lies_around_the_frames_is_not_counted(tmp_path):
    """A cover whose bytes look like frames, in a tag; junk behind the last frame."""
    encode(tmp_path / "a.mp3", noise(3.0), 44100, "libmp3lame", write_xing="0")
    content = (tmp_path / "a.mp3").read_bytes()
    [whole] = mpeg.stretches(tmp_path / "a.mp3")
    frames = content[content.index(b"\xff\xfb") :]
    tag = b"ID3\4\0\0\0\0\x20\0" + (frames[:417] * 10)[:4096]
    (tmp_path / "b.mp3").write_bytes(tag + frames + b"junk" * 500)
    [stretch] = mpeg.stretches(tmp_path / "b.mp3")
    assert stretch.n_samples == whole.n_samples
    assert stretch.hole_s is None
    assert (stretch.start, stretch.stop) == (0, len(tag) + len(frames))


def test_what_is_no_frame_is_a_hole_unless_it_is_a_tag(tmp_path):
    encode(tmp_path / "a.mp3", noise(10.0), 44100, "libmp3lame", write_xing="0")
    content = (tmp_path / "a.mp3").read_bytes()
    half = len(content) // 2
    (tmp_path / "zeros.mp3").write_bytes(content[:half] + bytes(2000) + content[half + 2000 :])
    (tmp_path / "cut.mp3").write_bytes(content[:half] + content[half + 2000 :])
    for name in ("zeros.mp3", "cut.mp3"):
        [stretch] = mpeg.stretches(tmp_path / name)
        assert stretch.hole_s == pytest.approx(5, abs=0.2)
    tag = b"TAG" + bytes(125)
    (tmp_path / "tagged.mp3").write_bytes(content + tag + content + tag)
    [stretch] = mpeg.stretches(tmp_path / "tagged.mp3")
    assert stretch.hole_s is None
