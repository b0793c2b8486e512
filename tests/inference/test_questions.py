import os
from pathlib import Path

import numpy as np
import pytest

from flamlib.inference import questions
from flamlib.inference.detector import Scores
from flamlib.inference.questions import Question, Questions


def ask(*captions, **how):
    return Questions(format=1, model="0" * 64, captions=list(captions), **how)


def test_what_was_asked_is_read_back(tmp_path):
    asked = ask(
        Question(caption="a dog", label="犬", threshold=0.5, off_threshold=0.25),
        Question(caption="rain", threshold=1.0, min_duration_s=0.5),
        top=3,
        channel=2,
    )
    questions.write(tmp_path / "p.json", asked)
    assert questions.read(tmp_path / "p.json") == asked


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "model": "", "captions": []}']
)
def test_what_is_no_file_of_parameters_is_refused_by_name(tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ValueError, match=r"p\.json: not parameters of flam detect"):
        questions.read(tmp_path / "p.json")


def test_captions_are_lines_or_rows(tmp_path):
    (tmp_path / "c.txt").write_text("\ufeff a  dog\r\n\n# rain\n", encoding="utf-8")
    assert questions.read_captions(tmp_path / "c.txt") == [
        Question(caption="a dog"),
        Question(caption="# rain"),
    ]
    (tmp_path / "c.tsv").write_text("caption\tmin_duration\tlabel\na dog\t0.5\t\nrain\t\twet\n")
    assert questions.read_captions(tmp_path / "c.tsv") == [
        Question(caption="a dog", min_duration_s=0.5),
        Question(caption="rain", label="wet"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("c.txt", "\n \n", "no caption in it"),
        ("c.txt", "a dog\nA  Dog\n", "given twice: 'a dog' and 'A Dog'"),
        ("c.tsv", "caption\tthreshold\na dog\t1.5\n", "line 2: threshold = 1.5: expected 0 to 1"),
        ("c.tsv", "caption\tthreshold\na dog\thigh\n", "line 2: threshold is 'high'"),
        ("c.tsv", "caption\ttreshold\na dog\t1\n", "did you mean 'threshold'"),
        ("c.csv", "label\ndog\n", "no column caption"),
    ],
)
def test_captions_that_cannot_be_asked_are_named(tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=why) as caught:
        questions.read_captions(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a dog barks\n" * 1000 + "a caf\u00e9".encode("latin-1"), "not UTF-8 text"),
        ("a dog barks".encode("utf-16"), "UTF-16 text"),
        ("a dog barks".encode("utf-16-le"), "zero bytes"),
    ],
)
def test_captions_in_another_encoding_are_refused_by_name(tmp_path, content, why):
    (tmp_path / "c.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"c\.txt: .*{why}.*: save it as UTF-8"):
        questions.read_captions(tmp_path / "c.txt")


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="a system without /dev/fd")
def test_captions_come_from_a_pipe_too():
    end, other = os.pipe()
    with os.fdopen(other, "w") as file:
        file.write("a dog barks\nrain\n")
    with os.fdopen(end):
        found = questions.read_captions(f"/dev/fd/{end}")
    assert [each.caption for each in found] == ["a dog barks", "rain"]


def test_each_caption_has_its_own_threshold_duration_and_label():
    scores = Scores(
        np.array([[0.6, 0.6, 0.6], [0.2, 0.6, 0.6], [0.6, 0.2, 0.4], [0.6, 0.2, 0.1]], np.float32),
        np.arange(5.0),
        ["a dog", "rain", "wind"],
    )
    asked = ask(
        Question(caption="a dog", threshold=0.5, min_duration_s=2.0),
        Question(caption="rain", threshold=0.7),
        Question(caption="wind", label="storm", threshold=0.5, off_threshold=0.3),
    )
    assert [event[:3] for event in asked.events(scores)] == [
        (0.0, 3.0, "storm"),
        (2.0, 4.0, "a dog"),
    ]
