import pytest
import set_files
from set_files import write_text

from flamlib.data.datasets import caption_sets


def test_clotho_has_five_captions_and_names_as_they_are(tmp_path):
    found = caption_sets.clotho(set_files.clotho(tmp_path))
    engine, birds, gone = found.clips
    assert len(engine.captions) == len(birds.captions) == 5
    assert engine.captions[2] == "A machine runs, then slows."
    assert birds.path is not None  # listed composed, on disk decomposed
    assert (gone.path, found.missing) == (None, ["gone.wav"])
    assert engine.duration_s == pytest.approx(16.0)
    metadata = (tmp_path / "clotho_metadata_evaluation.csv").read_bytes()
    with pytest.raises(UnicodeDecodeError):  # beside it, in another encoding, and not needed
        metadata.decode("utf-8")


def test_clotho_refuses_a_file_that_is_listed_twice(tmp_path):
    root = set_files.clotho(tmp_path)
    table = root / "clotho_captions_evaluation.csv"
    table.write_text(table.read_text() + "gone.wav,a,b,c,d,e\n")
    with pytest.raises(
        ValueError, match=r"line 5: file_name 'gone.wav' is listed twice, first in .*line 4"
    ):
        caption_sets.clotho(root)


def test_audiocaps_gathers_the_rows_of_a_clip(tmp_path):
    found = caption_sets.audiocaps(set_files.audiocaps(tmp_path))
    clips = {clip.name: clip for clip in found.clips}
    assert clips["AbCdEfGh_-1"].captions == [
        "A dog barks while a man speaks",
        "A man talks near a barking dog",
    ]
    assert clips["-zYxWvUtSr0"].captions == ["Water splashes, then a woman laughs"]
    assert clips["-zYxWvUtSr0"].path.suffix == ".flac"
    assert found.missing == ["gone5678901"]


def test_captions_are_on_one_line_and_composed(tmp_path):
    root = set_files.audiocaps(tmp_path)
    header = "audiocap_id,youtube_id,start_time,caption"
    write_text(root / "dataset/test.csv", header, '1,AbCdEfGh_-1,30,"A\u2028cafe\u0301\n is  busy"')
    [clip] = caption_sets.audiocaps(root).clips
    assert clip.captions == ["A caf\u00e9 is busy"]


def test_an_empty_caption_is_refused_with_its_line(tmp_path):
    root = set_files.audiocaps(tmp_path)
    header = "audiocap_id,youtube_id,start_time,caption"
    write_text(root / "dataset/test.csv", header, "1,AbCdEfGh_-1,30, ")
    with pytest.raises(ValueError, match=r"test.csv, line 2: an empty caption"):
        caption_sets.audiocaps(root)


def test_audiocaps_2_is_read_from_its_own_folder(tmp_path):
    root = set_files.audiocaps(tmp_path)
    (root / "dataset").rename(root / "dataset2.0")
    assert len(caption_sets.audiocaps(root).clips) == 3
