import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, reject
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from oracles import random_clips

from flamlib.metrics.psds import PsdsInputs, PsdsSettings, area, clip_rocs, psd_rocs
from flamlib.sound_events.events import Event, merge

with warnings.catch_warnings():  # on import, it asks for pkg_resources
    warnings.simplefilter("ignore")
    from sed_scores_eval import intersection_based
    from sed_scores_eval.base_modules.scores import create_score_dataframe

PSDS1 = dict(dtc_threshold=0.7, gtc_threshold=0.7, cttc_threshold=None, alpha_ct=0.0, alpha_st=1.0)
PSDS2 = dict(dtc_threshold=0.1, gtc_threshold=0.1, cttc_threshold=0.3, alpha_ct=0.5, alpha_st=1.0)
HALVES = dict(dtc_threshold=0.5, gtc_threshold=0.5, cttc_threshold=0.5, alpha_ct=1.0, alpha_st=0.0)
# A detection may here be too loose to be relevant and yet lie on its own caption: no cross-trigger.
LOOSE = dict(dtc_threshold=0.9, gtc_threshold=0.3, cttc_threshold=0.2, alpha_ct=1.0, alpha_st=0.5)
HALVES_ALONE = HALVES | dict(cttc_threshold=None, alpha_ct=0.0)


def psds(scores, frame_edges, captions, ground_truth, durations, *, alpha_st, **settings):
    inputs = PsdsInputs(scores, frame_edges, captions, ground_truth, durations)
    counted = PsdsSettings(**settings)
    return area(psd_rocs(inputs, counted), alpha_st=alpha_st, max_efpr=counted.max_efpr)


# The three examples of Bilen et al. (2020) as psds_eval's tests (MIT) state them: (onset, offset,
# caption) in seconds in a clip of 50 s, in 280 s of audio altogether; one false alarm is then 12.86
# per hour, that is 9/70 of the way to 100.
PAPER = {
    "two of three captions have a false alarm": (
        [(2, 20, "c1"), (12, 35, "c2"), (42, 47, "c3")],
        [
            *[(0, 19, "c1"), (40, 45, "c1")],
            *[(11, 25, "c2"), (27, 30, "c2"), (32, 41.5, "c2")],
            *[(38, 48, "c3")],
        ],
        1 - 2 / 3 * 9 / 70,
    ),
    "only c3 is found": (
        [(5, 20, "c1"), (5, 30, "c2"), (42, 47, "c3")],
        [(2, 43, "c1"), (15, 20, "c2"), (10, 30, "c3"), (40, 49, "c3")],
        1 / 3 * (1 - 9 / 70),
    ),
    "c3 is missed": (
        [(5, 18, "c1"), (10, 30, "c2"), (42, 48, "c3")],
        [(2, 18.5, "c1"), (29, 48, "c1"), (10, 30, "c2"), (32, 38, "c3")],
        2 / 3 - 1 / 3 * 9 / 70,
    ),
}


@pytest.mark.parametrize("example", PAPER)
def test_the_examples_of_the_paper(example):
    events, detections, expected = PAPER[example]
    edges = np.arange(0, 50.5, 0.5)
    captions = ["c1", "c2", "c3"]
    scores = np.zeros((100, 3))
    for onset, offset, caption in detections:
        scores[int(2 * onset) : int(2 * offset), captions.index(caption)] = 1.0
    scores[scores == 0] = -np.inf
    silence = np.full_like(scores, -np.inf)
    value = psds(
        {"clip": scores, "rest": silence},
        edges,
        captions,
        {"clip": events, "rest": []},
        {"clip": 50.0, "rest": 230.0},
        **HALVES_ALONE,
    )
    assert value == pytest.approx(expected, abs=1e-12)


def one_minute(scores, events, **settings):
    """Frames of a second, captions a and b; one false alarm is 60 per hour."""
    edges = np.arange(len(scores) + 1.0)
    truth = {"clip": events}
    return psds({"clip": np.array(scores)}, edges, ["a", "b"], truth, {"clip": 60.0}, **settings)


def test_a_perfect_score_is_one_and_a_silent_model_scores_zero():
    events = [(1.0, 2.0, "a"), (0.0, 1.0, "b")]
    perfect = [[0.2, 0.9], [0.3, 0.1]]
    assert one_minute(perfect, events, **PSDS1) == 1.0
    assert one_minute(perfect, events, **PSDS2) == 1.0
    assert one_minute(np.full((2, 2), -np.inf), events, **PSDS1) == 0.0


def test_a_false_alarm_costs_its_share_of_the_axis():
    """a is found only below a threshold that also lets a false alarm through: nothing up to 60 of
    100 per hour, all after. b is found at once."""
    scores = [[0.5, 0.0], [0.0, 1.0], [0.9, 0.0]]
    events = [(0.0, 1.0, "a"), (1.0, 2.0, "b")]
    assert one_minute(scores, events, **HALVES_ALONE) == pytest.approx((0.4 + 1.0) / 2)


def test_the_spread_over_captions_is_taken_off():
    """The same clip: mean 1/2 and deviation 1/2 up to 60, mean 1 and deviation 0 after."""
    scores = [[0.5, 0.0], [0.0, 1.0], [0.9, 0.0]]
    events = [(0.0, 1.0, "a"), (1.0, 2.0, "b")]
    assert one_minute(scores, events, **HALVES_ALONE | {"alpha_st": 1.0}) == pytest.approx(0.4)


def test_a_false_alarm_on_another_caption_costs_more():
    """The false alarm of a now lies on b, of which there are 30 s: 120 cross-triggers per hour of b
    times 1/4 is 30 more, so a is found from 90 per hour on."""
    scores = [[0.5, 0.0], [0.0, 1.0], [0.9, 1.0]]
    events = [(0.0, 1.0, "a"), (1.0, 31.0, "b")]
    quarter = HALVES | {"alpha_ct": 0.25, "gtc_threshold": 0.05}
    assert one_minute(scores, events, **quarter) == pytest.approx((0.1 + 1.0) / 2)


def test_every_caption_has_its_own_score():
    edges, truth = np.arange(4.0), {"clip": [(0.0, 1.0, "a"), (1.0, 2.0, "b")]}
    scores = {"clip": np.array([[0.5, 0.0], [0.0, 1.0], [0.9, 0.0]])}
    detected = PsdsInputs(scores, edges, ["a", "b"], truth, {"clip": 60.0})
    rocs = psd_rocs(detected, rule(HALVES_ALONE))
    assert [steps.tolist() for steps in rocs["a"]] == [[0.0, 60.0], [0.0, 1.0]]
    own = {c: area({c: roc}, alpha_st=1.0, max_efpr=100.0) for c, roc in rocs.items()}
    assert own == pytest.approx({"a": 0.4, "b": 1.0})


def rule(settings, **more):
    """The settings that say when a detection counts."""
    return PsdsSettings(
        **{name: value for name, value in settings.items() if name != "alpha_st"}, **more
    )


@st.composite
def evaluations(draw):
    """Scores with and without ties, constants and -inf; events as messy as annotations are."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_clips, n_captions, n_frames = (draw(st.integers(1, most)) for most in (4, 4, 12))
    captions = [f"caption {i}" for i in range(n_captions)]
    n_levels = draw(st.sampled_from([1, 3, 1000]))
    duration = draw(st.sampled_from([1.0, 9.6, 10.0]))
    edges = np.linspace(0.0, duration, n_frames + 1)
    scores, truth = {}, {}
    for clip in map(str, range(n_clips)):
        score = rng.integers(0, n_levels, (n_frames, n_captions)) / n_levels
        score[rng.random(score.shape) < draw(st.sampled_from([0.0, 0.2]))] = -np.inf
        scores[clip] = score
        onset = rng.uniform(0, 0.9 * duration, draw(st.integers(0, 5))).round(2)
        offset = np.minimum(duration, onset + rng.exponential(duration / 4, len(onset)) + 0.01)
        truth[clip] = [
            Event(onset_s, offset_s, captions[rng.integers(n_captions)])
            for onset_s, offset_s in zip(onset.tolist(), offset.round(2).tolist(), strict=True)
        ]
    return scores, edges, captions, truth, dict.fromkeys(scores, duration)


def peer(scores, edges, captions, truth, durations, **settings):
    """sed_scores_eval's, on what it can do: joined events, and captions that have some."""
    events = {clip: merge(events) for clip, events in truth.items()}
    sounding = {event.caption for in_clip in events.values() for event in in_clip}
    kept = [i for i, caption in enumerate(captions) if caption in sounding]
    tables = {
        clip: create_score_dataframe(score[:, kept], edges, [captions[i] for i in kept])
        for clip, score in scores.items()
    }
    try:
        return intersection_based.psds(tables, events, durations, **settings)[0]
    except (AssertionError, IndexError):  # a caption whose counts are the same at every threshold
        return reject()


@pytest.mark.parametrize("settings", [PSDS1, PSDS2, LOOSE], ids=["PSDS1", "PSDS2", "loose"])
@pytest.mark.parametrize("max_efpr", [100.0, 2000.0])
@example_settings(max_examples=50)
@given(data=evaluations())
def test_it_is_the_score_of_sed_scores_eval(data, settings, max_efpr):
    n_sounding = len({event.caption for in_clip in data[3].values() for event in in_clip})
    # With cross-triggers but one caption only, it divides by the zero other captions.
    assume(n_sounding >= (2 if settings["alpha_ct"] else 1))
    ours = psds(*data, **settings, max_efpr=max_efpr)
    assert ours == pytest.approx(peer(*data, **settings, max_efpr=max_efpr), abs=1e-9)


@pytest.mark.filterwarnings("ignore")  # of its pandas and NumPy
@pytest.mark.parametrize("settings", [PSDS1, PSDS2], ids=["PSDS1", "PSDS2"])
def test_it_is_the_score_of_psds_eval_when_that_tries_every_score(settings):
    from psds_eval import PSDSEval

    rng = np.random.default_rng(1)
    edges, captions = np.arange(9.0), ["a", "b", "c"]
    truth = {
        "0": [(1.0, 3.5, "a"), (2.0, 6.0, "b")],
        "1": [(0.5, 4.0, "b"), (5.0, 7.5, "b"), (3.0, 4.0, "c")],
        "2": [(0.0, 7.0, "a")],
    }
    scores = {clip: rng.integers(1, 15, (8, 3)) / 15 for clip in truth}
    for clip, in_clip in truth.items():
        for onset, offset, caption in in_clip:
            scores[clip][int(onset) : round(offset), captions.index(caption)] += 0.5
    durations = dict.fromkeys(scores, 8.0)

    columns = ["filename", "onset", "offset", "event_label"]
    rows = [(f"{clip}.wav", *event) for clip, in_clip in truth.items() for event in in_clip]
    reference = PSDSEval(
        dtc_threshold=settings["dtc_threshold"],
        gtc_threshold=settings["gtc_threshold"],
        cttc_threshold=settings["cttc_threshold"] or 0.3,
        ground_truth=pd.DataFrame(rows, columns=columns),
        metadata=pd.DataFrame({"filename": [f"{c}.wav" for c in truth], "duration": 8.0}),
    )
    for threshold in np.unique(np.concatenate([s.ravel() for s in scores.values()])):
        detected = []
        for clip, score in scores.items():
            for column, caption in enumerate(captions):
                steps = np.diff(score[:, column] >= threshold, prepend=False, append=False)
                for onset, offset in edges[np.flatnonzero(steps)].reshape(-1, 2):
                    detected.append((f"{clip}.wav", onset, offset, caption))
        reference.add_operating_point(pd.DataFrame(detected, columns=columns))

    alphas = (settings["alpha_ct"], settings["alpha_st"])
    expected = reference.psds(*alphas, max_efpr=500.0).value
    assert 0.05 < expected < 0.95
    ours = psds(scores, edges, captions, truth, durations, **settings, max_efpr=500.0)
    assert ours == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("settings", [PSDS1, PSDS2, LOOSE], ids=["PSDS1", "PSDS2", "loose"])
def test_a_detection_ends_with_its_clip(settings):
    """Clips share the frames of the longest; sed_scores_eval has those of each."""
    rng = np.random.default_rng(0)
    durations = {"a": 9.7, "b": 10.0, "c": 9.9}
    edges, captions = np.minimum(0.48 * np.arange(22), 10.0), ["rain", "a bell"]
    scores = {clip: rng.random((21, 2)) for clip in durations}
    truth = {
        clip: [Event(9.12, end, "rain"), Event(1.0, 3.0, "a bell")]
        for clip, end in durations.items()
    }
    tables = {
        clip: create_score_dataframe(scores[clip], np.minimum(edges, end), captions)
        for clip, end in durations.items()
    }
    how = settings | {"max_efpr": 2000.0}
    expected = intersection_based.psds(tables, truth, durations, **how)[0]
    assert psds(scores, edges, captions, truth, durations, **how) == pytest.approx(expected)


def test_an_event_at_the_end_is_found_beside_a_longer_clip():
    durations = {"short": 9.7, "long": 10.0}
    edges, truth, scores = np.minimum(0.48 * np.arange(22), 10.0), {}, {}
    for clip, end in durations.items():
        truth[clip] = [Event(9.12, end, "rain")]
        scores[clip] = (np.arange(21)[:, None] >= 19).astype(float)
    assert psds(scores, edges, ["rain"], truth, durations, **PSDS1) == 1.0


@given(evaluations())
def test_only_the_order_of_a_captions_scores_matters(data):
    scores, *rest = data
    bent = {clip: np.sinh(score) * 7 - 2 for clip, score in scores.items()}
    assert psds(bent, *rest, **PSDS2) == pytest.approx(psds(*data, **PSDS2), abs=1e-12, nan_ok=True)


@given(evaluations())
def test_every_step_of_a_staircase_goes_right_and_up(data):
    for efpr, tpr in psd_rocs(PsdsInputs(*data), rule(LOOSE, max_efpr=5000.0)).values():
        assert efpr[0] == 0
        assert efpr[-1] <= 5000
        assert (np.diff(efpr) > 0).all()
        assert (np.diff(tpr) > 0).all()
        assert 0 <= tpr[0] <= tpr[-1] <= 1


@given(evaluations())
def test_single_precision_is_enough_when_it_keeps_the_order(data):
    scores, *rest = data
    single = {clip: score.astype(np.float32) for clip, score in scores.items()}
    assert psds(single, *rest, **PSDS2) == pytest.approx(psds(*data, **PSDS2), nan_ok=True)


@given(evaluations())
def test_a_caption_without_events_changes_nothing(data):
    scores, edges, captions, *rest = data
    rng = np.random.default_rng(0)
    more = {c: np.hstack([rng.random((len(s), 1)), s]) for c, s in scores.items()}
    for setting in (PSDS1, PSDS2):
        with_it = psds(more, edges, ["never", *captions], *rest, **setting)
        assert with_it == pytest.approx(psds(*data, **setting), abs=1e-12, nan_ok=True)


def test_a_clip_in_which_nothing_sounds_adds_hours_and_false_alarms():
    events = {"clip": [(0.0, 1.0, "a"), (1.0, 2.0, "b")], "empty": []}
    scores = {"clip": np.eye(2), "empty": np.array([[0.0, -np.inf], [2.0, -np.inf]])}
    durations = {"clip": 30.0, "empty": 30.0}
    value = psds(scores, np.arange(3.0), ["a", "b"], events, durations, **HALVES_ALONE)
    assert value == pytest.approx((0.4 + 1.0) / 2)


def test_one_caption_has_nobody_to_be_confused_with():
    data = ({"x": np.array([[0.9], [0.1]])}, np.arange(3.0), ["a"], {"x": [(0.0, 1.0, "a")]})
    assert psds(*data, {"x": 2.0}, **PSDS2) == 1.0


def test_without_any_event_there_is_no_score():
    assert np.isnan(one_minute(np.eye(2), [], **PSDS2))


def test_blocks_and_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    truth = {str(i): [(i % 5, i % 5 + 2.5, f"c{i % 3}")] for i in range(20)}
    scores = {clip: rng.random((8, 3)) for clip in truth}
    data = (scores, np.arange(9.0), ["c0", "c1", "c2"], truth, dict.fromkeys(truth, 8.0))
    whole = psds(*data, **PSDS2)
    monkeypatch.setattr("flamlib.metrics.psds.BLOCK", 1)
    monkeypatch.setattr("flamlib.metrics.psds.GRID", 1)
    monkeypatch.setattr("flamlib.metrics.intersections.CHUNK", 50)
    assert psds(*data, **PSDS2) == pytest.approx(whole, abs=1e-12)


def bad(**changed):
    good = dict(
        scores={"x": np.eye(2)},
        frame_edges=np.arange(3.0),
        captions=["a", "b"],
        ground_truth={"x": [(0.0, 1.0, "a")]},
        durations={"x": 2.0},
    )
    return good | HALVES | changed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (bad(scores={"x": np.array([[0.0, 1.0], [0.0, np.nan]])}), "'x'.*'b' is NaN in frame 1"),
        (bad(scores={"x": np.eye(3)}), r"'x'.*\(3, 3\), expected \(2, 2\)"),
        (bad(scores={}), "no clips"),
        (bad(ground_truth={"x": [(0.0, 3.0, "a")]}), "'x'.*offset=3.0.*2.0 s long"),
        (bad(ground_truth={"x": [(0.0, 1.0, "z")]}), "'x'.*'z'"),
        (bad(captions=["a", "a"]), r"twice: \['a'\]"),
        (bad(frame_edges=np.array([0.0, 1.0, 1.0])), "must rise"),
        (bad(frame_edges=np.array([0.0, 1.0, np.inf])), "finite"),
        (bad(alpha_ct=0.0), "without cross-triggers"),
        (bad(cttc_threshold=None), "without cross-triggers"),
        (bad(dtc_threshold=70.0), "dtc_threshold must be in"),
        (bad(gtc_threshold=0.0), "gtc_threshold must be in"),
        (bad(max_efpr=0.0), "max_efpr"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, complaint):
    positional = [arguments.pop(name) for name in list(bad())[:5]]
    with pytest.raises(ValueError, match=complaint):
        psds(*positional, **arguments)


# Draws of clips


def drawn(scores, truth, durations, times_drawn):
    """The clips as often as they were drawn, under new names."""
    picked = [
        (clip, copy) for clip, n in zip(scores, times_drawn, strict=True) for copy in range(n)
    ]
    return tuple(
        {f"{clip} {copy}": of[clip] for clip, copy in picked} for of in (scores, truth, durations)
    )


def psds_of_draws(inputs, settings):
    """PSDS as a function of how often each clip was drawn."""
    rocs, alpha_st = clip_rocs(inputs, rule(settings)), settings["alpha_st"]
    return lambda times_drawn: area(rocs(times_drawn), alpha_st=alpha_st, max_efpr=100.0)


@pytest.mark.parametrize("seed", range(6))
def test_a_draw_of_clips_is_the_psds_of_those_clips(seed):
    scores, edges, captions, truth, durations = random_clips(seed, n_clips=6)
    detected = PsdsInputs(scores, edges, captions, truth, durations)
    statistic = psds_of_draws(detected, PSDS1)
    times_drawn = np.random.default_rng(seed).multinomial(6, np.full(6, 1 / 6))
    drawn_scores, drawn_truth, drawn_durations = drawn(scores, truth, durations, times_drawn)
    expected = psds(drawn_scores, edges, captions, drawn_truth, drawn_durations, **PSDS1)
    assert statistic(times_drawn) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("settings", [PSDS1, PSDS2, HALVES])
def test_every_clip_once_is_the_psds(settings):
    clips = random_clips(0, n_clips=6)
    once = np.ones(6, dtype=int)
    statistic = psds_of_draws(PsdsInputs(*clips), settings)
    assert statistic(once) == pytest.approx(psds(*clips, **settings), abs=1e-12)


def test_a_draw_without_any_event_has_no_psds():
    scores = {"a": np.zeros((2, 1)), "b": np.zeros((2, 1))}
    truth = {"a": [(0.0, 1.0, "rain")], "b": []}
    detected = PsdsInputs(scores, np.arange(3.0), ["rain"], truth, dict.fromkeys(truth, 2.0))
    statistic = psds_of_draws(detected, PSDS1)
    assert np.isnan(statistic(np.array([0, 2])))
