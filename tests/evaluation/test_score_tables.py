import numpy as np
import pytest
import score_folders
from hypothesis import given, settings
from oracles import create_score_dataframe, random_clips
from scored_frames import seeds
from sed_scores_eval import intersection_based, io

from flamlib.evaluation import score_tables
from flamlib.metrics import sed
from flamlib.sound_events import detection
from flamlib.sound_events.events import active_frames

HEADER = "filename\tonset\toffset\tevent_label\n"


def read(folder, truth="truth.tsv", durations="durations.tsv"):
    reference = score_tables.read_reference(folder / truth, folder / durations)
    system = score_tables.read_system(folder / "scores", reference)
    return score_tables.align({"one": system}, reference)["one"], reference.notes, system.notes


@pytest.fixture
def world(tmp_path):
    """Five clips of 10 s with three captions."""
    score_folders.write(tmp_path)
    return tmp_path


def test_what_is_read_is_what_was_written(tmp_path):
    scores, edges, captions, truth, _ = score_folders.write(tmp_path)
    of, *notes = read(tmp_path)
    assert (of.clips, of.captions) == (list(scores), captions)
    assert of.frame_edges == pytest.approx(edges)
    assert of.known.all()
    assert [note.lines() for note in notes] == [[], []]
    for i, clip in enumerate(of.clips):
        assert (of.scores[i] == scores[clip].astype(np.float32)).all()
        assert of.ground_truth[i] == truth[clip]
        sizes = {"n_frames": 32, "frame_s": 10 / 32, "clip_s": 10.0}
        expected = active_frames(truth[clip], captions, **sizes).T
        assert (of.active(truth[clip], 10.0) == expected).all()


@settings(max_examples=4)
@given(seeds)
def test_psds_of_frames_of_any_length_is_that_of_sed_scores_eval(tmp_path_factory, seed):
    """Clips of different durations, each with edges of its own."""
    folder = tmp_path_factory.mktemp("any")
    rng = np.random.default_rng(seed)
    _, _, captions, truth, durations = random_clips(seed)
    (folder / "scores").mkdir()
    theirs = {}
    for clip in durations:
        end = max([durations[clip] - rng.integers(3), *(e.offset for e in truth[clip])])
        durations[clip] = float(round(end, 3))
        inside = np.unique(rng.uniform(0, durations[clip], rng.integers(1, 40)).round(3))
        edges = np.unique([0.0, *inside, durations[clip]])
        score = rng.integers(0, 30, (len(edges) - 1, len(captions))) / 32
        detection.write_scores(folder / f"scores/{clip}.tsv", score, edges, captions)
        theirs[clip] = create_score_dataframe(score, edges, captions)
    score_folders.write_events(folder / "truth.tsv", {f"{c}.wav": of for c, of in truth.items()})
    score_folders.write_durations(folder / "durations.tsv", durations)
    of, *_ = read(folder)
    assert io.read_sed_scores(folder / "scores").keys() == theirs.keys()
    ours, by_caption = sed.psds_metrics(of)
    for name, st in (("psds1", 1.0), ("psds1_mean", 0.0), ("psds2", 1.0), ("psds2_mean", 0.0)):
        settings_of = sed.PSDS[name[:5]]
        value, each, *_ = intersection_based.psds(
            theirs, {c: [tuple(e) for e in es] for c, es in truth.items()}, durations,
            dtc_threshold=settings_of.dtc_threshold, gtc_threshold=settings_of.gtc_threshold,
            cttc_threshold=settings_of.cttc_threshold, alpha_ct=settings_of.alpha_ct, alpha_st=st,
        )  # fmt: skip
        assert ours[name] == pytest.approx(value, abs=1e-9)
        if st == 0:
            assert by_caption[name] == pytest.approx([each[c] for c in captions], abs=1e-9)


def test_names_and_labels_that_read_the_same_are_one(tmp_path):
    (tmp_path / "scores").mkdir()
    edges, scores = np.array([0.0, 5.0, 10.0]), np.eye(2)
    for clip in ("Y-caf\u0065\u0301_1.000", "b"):
        detection.write_scores(tmp_path / f"scores/{clip}.tsv", scores, edges, ["Hund bellt", "雨"])
    (tmp_path / "truth.tsv").write_bytes(
        f"\ufeff{HEADER}sub/Y-caf\u00e9_1.000.wav\t0\t5\thund  bellt\n".replace(
            "\n", "\r\n"
        ).encode()
    )
    (tmp_path / "durations.tsv").write_bytes(
        "filename\tduration\r\nY-café_1.000.wav\t10\r\nb.flac\t10.0\r\n".encode()
    )
    of, notes, _ = read(tmp_path)
    assert of.captions == ["hund bellt", "雨"]
    assert [len(events) for events in of.ground_truth] == [1, 0]
    assert notes.lines() == [
        "1 clips that the ground truth does not list, so nothing sounds in them: b"
    ]


def test_what_is_not_asked_is_unknown_unless_it_sounds(world):
    path = world / "scores/0.tsv"
    scores, edges, _ = detection.read_scores(path)
    (world / "truth.tsv").write_text(
        f"{HEADER}0.wav\t1\t2\tcaption 0\n0.wav\t1\t2\tcaption 1\n1.wav\t1\t2\tnobody's\n"
    )
    detection.write_scores(path, scores[:, [2, 1]], edges, ["caption 2", "caption 1"])
    of, _, notes = read(world)
    assert of.captions == ["caption 0", "caption 1", "nobody's", "caption 2"]
    assert of.known[0].tolist() == [True, True, False, True]
    assert of.known[1].tolist() == [True, True, True, True]
    assert of.known[2].tolist() == [True, True, False, True]
    assert (of.scores[0][:, 0] == -np.inf).all()
    assert (of.scores[0][:, 1] == scores[:, 1].astype(np.float32)).all()
    assert (of.scores[0][:, 3] == scores[:, 2].astype(np.float32)).all()
    assert notes.of["captions without scores, whose events are all missed"] == ["nobody's"]
    [partial] = [names for what, names in notes.of.items() if "not in every table" in what]
    assert partial == ["caption 0"]


def test_what_cannot_be_used_is_listed(world):
    (world / "scores/readme.md").write_text("scores")
    (world / "scores/other.tsv").write_text((world / "scores/0.tsv").read_text())
    (world / "scores/3.tsv").unlink()
    durations = {"0": 10.0, "1": 4.0, "2": 100.0, "3": 10.0, "4": 10.2}
    score_folders.write_durations(world / "durations.tsv", durations)
    truth = [("0", 1, 1), ("0", 2, 3), ("0", 2.5, 4), ("1", 3, 5), ("1", 6, 7)]
    rows = [f"{clip}.wav\t{on}\t{off}\tcaption 0\n" for clip, on, off in truth]
    (world / "truth.tsv").write_text(HEADER + "".join(rows))
    of, truth_notes, notes = read(world)
    assert of.clips == ["0", "1", "2", "4"]
    assert [[tuple(e[:2]) for e in es] for es in of.ground_truth] == [[(2, 4)], [(3, 4)], [], []]
    told = "\n".join([*truth_notes.lines(), *notes.lines()])
    for part in (
        *("1 files that are no .tsv: readme.md", "1 tables of clips without a duration: other"),
        *("1 clips without a table, which are left out: 3", "after the end of their clip: 1.tsv"),
        *("end before their clip, the rest is never detected: 2.tsv", "overlap, which are joined"),
        *("without a duration, which are left out: 0", "after their end, which are left out: 1"),
        *("beyond their end, which are cut there: 1",),
    ):
        assert part in told
    assert of.edges(4.0)[-1] == 4.0
    assert (of.scores[2][-1] == -np.inf).all()  # 90 s of it
    assert of.edges(10.2)[-2:].tolist() == [10.0, 10.2]
    assert (of.scores[3][-1] == of.scores[3][-2]).all()  # less than a row is missing


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("2", "0\t1\t0.5\n1\t2\tnan\n", "2.tsv, row 3: .*'rain' is nan"),
        ("2", "0\t1\tinf\n", "2.tsv, row 2: .*'rain' is inf"),
        ("2", "0\t1\t0,5\n", "2.tsv, row 2: rain is '0,5'"),
        ("2", "0\t1\t1\n0.5\t2\t1\n", "2.tsv, row 3: does not start"),
        ("2", "0\t1\t1\n1\t1\t1\n", "2.tsv, row 3: .*that rise"),
        ("2", "5\t6\t1\n", "2.tsv: its first row begins at 5.0 s"),
        ("2", "", "2.tsv: expected columns"),
        ("truth", "", "nothing sounds in any clip"),
        ("truth", "0.wav\t2\t1\train\n", "truth.tsv, line 2"),
        ("truth", "lost.wav\t1\t2\train\n", "line 2: 'lost.wav' has no duration"),
        ("truth", "0.wav\t1\t2\train\n", "no table has a column of a caption that sounds"),
        ("durations", "", "no row"),
        ("durations", "0.wav\t0\n", "line 2: a duration of 0 s"),
        ("durations", "0.wav\tlong\n", "line 2: duration is 'long'"),
        ("durations", "0.wav\t1\na/0.mp3\t1\n", "line 3: .*listed twice"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_evaluated_is_named(world, file, text, complaint):
    header = {"2": "onset\toffset\train\n", "truth": HEADER, "durations": "filename\tduration\n"}
    path = world / ("scores/2.tsv" if file == "2" else f"{file}.tsv")
    path.write_text(header[file] + text)
    with pytest.raises(ValueError, match=complaint):
        read(world)


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("scores/2.tsv", b"", "2.tsv: expected columns"),
        ("scores/2.tsv", b"onset\toffset\t\xe9\n0\t1\t1\n", "2.tsv: not a table of UTF-8"),
        ("scores/2.tsv", b"onset\toffset\ta\tA\n0\t1\t1\t1\n", "2.tsv: 'a' has two columns"),
        ("truth.tsv", b"", "nothing sounds in any clip"),
        ("truth.tsv", b"onset\toffset\tevent_label\n1\t2\train\n", "no column filename"),
    ],
)
def test_a_file_that_is_no_such_table_is_named(world, file, content, complaint):
    (world / file).write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        read(world)


def test_a_folder_without_tables_of_these_clips_is_named(world):
    for path in (world / "scores").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    with pytest.raises(ValueError, match=r"no table of any clip.*x0\.tsv.*expected 0\.tsv"):
        read(world)
    reference = score_tables.read_reference(world / "truth.tsv", world / "durations.tsv")
    with pytest.raises(ValueError, match="not a folder"):
        score_tables.read_system(world / "nowhere", reference)


def test_tables_leave_their_system_as_they_are_aligned(world, monkeypatch):
    whole, *_ = read(world)
    monkeypatch.setattr(score_tables, "PACKED", 100)
    reference = score_tables.read_reference(world / "truth.tsv", world / "durations.tsv")
    system = score_tables.read_system(world / "scores", reference)
    found = score_tables.align({"one": system}, reference)["one"]
    np.testing.assert_array_equal(np.concatenate(found.scores), np.concatenate(whole.scores))
    assert not system.tables
