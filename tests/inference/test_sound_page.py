import base64
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browsers import wait_until
from sounds import RATE, noise

from flamlib.adaptation import own_labels
from flamlib.inference import sound_page
from flamlib.inference.detector import Scores
from flamlib.inference.questions import Question, Questions
from flamlib.plots import mel_levels
from flamlib.sound_events import labels
from flamlib.sound_events.events import frame_edges
from flamlib.storage import tables

FRAME_S, DURATION_S = 0.32, 12.7  # the last frame is a short one
CAPTIONS = ["a bell </script><b>", "rain", "öffnet 窓"]


def asked(*thresholds, **more):
    special = [{}, {"off_threshold": 0.3}, {"min_duration_s": 0.64, "label": "window"}]
    captions = [
        Question(caption=caption, threshold=threshold, **kind)
        for caption, threshold, kind in zip(CAPTIONS, thresholds, special, strict=True)
    ]
    return Questions(format=1, model="0" * 64, captions=captions, **{"merge_gap_s": 0.32} | more)


@pytest.fixture(scope="module")
def scores():
    edges = frame_edges(DURATION_S, FRAME_S)
    values = np.random.default_rng(0).uniform(size=(len(edges) - 1, 3)).astype(np.float32)
    return Scores(values, edges, CAPTIONS)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "night.wav"
    soundfile.write(path, noise(DURATION_S), RATE)
    return path


@pytest.fixture(scope="module")
def page(scores, recording):
    path = recording.with_suffix(".html")
    asked_of = asked(0.6, 0.7, 0.5)
    assert sound_page.write(path, "night.wav", recording, scores, asked_of, model="small") is None
    return path


def downloaded(tab, kind, folder):
    with tab.expect_download() as download:
        tab.click(f"#{kind}")
    path = Path(folder) / download.value.suggested_filename
    download.value.save_as(path)
    return path


def rows(tab, folder):
    path = downloaded(tab, "tsv", folder)
    columns = ("filename", "onset", "offset", "event_label", "score", "review")
    return [
        (row.number("onset"), row.number("offset"), row["event_label"], row.number("score"))
        for row in tables.read(path, columns, short_rows=True)
    ]


def slide(tab, which, value):
    """As by hand, but to a place that no hand would hit."""
    tab.locator(which).evaluate(
        "(e, value) => { e.value = value; e.dispatchEvent(new Event('input')); }", str(value)
    )


def test_events_are_those_of_flam_detect_at_any_threshold(tab, page, scores, tmp_path):
    tab.goto(page.as_uri())
    exactly_a_score = float(scores.scores[7, 0])
    for thresholds in (
        (0.6, 0.7, 0.5),
        (0.0, 0.0, 0.0),
        (exactly_a_score, 0.2, 0.9),
        (1.0, 1.0, 1.0),
    ):
        for number, threshold in enumerate(thresholds):
            slide(tab, f"#caption-{number}", threshold)
        expected = sorted(asked(*thresholds).events(scores))
        assert sorted(rows(tab, tmp_path)) == [
            (pytest.approx(e.onset), pytest.approx(e.offset), e.caption, pytest.approx(e.score))
            for e in expected
        ]
    slide(tab, "#all", 0.8)
    assert sorted(e[:2] for e in rows(tab, tmp_path)) == [
        (pytest.approx(e.onset), pytest.approx(e.offset))
        for e in sorted(asked(0.8, 0.8, 0.8).events(scores))
    ]
    tab.click("#own")
    assert len(rows(tab, tmp_path)) == len(asked(0.6, 0.7, 0.5).events(scores))


@pytest.mark.parametrize("part", [0.25, 0.8])
def test_a_click_seeks(tab, page, part):
    tab.goto(page.as_uri())
    box = tab.locator("canvas.lane").nth(1).bounding_box()
    tab.mouse.click(box["x"] + part * box["width"], box["y"] + 20)
    at = tab.evaluate("document.querySelector('audio').currentTime")
    assert at == pytest.approx(part * DURATION_S, abs=0.05)
    assert tab.locator("#clock").text_content().startswith(f"0:{at:04.1f}")


def test_the_sound_is_as_long_as_the_recording(tab, page):
    tab.goto(page.as_uri())
    wait_until(tab, "document.querySelector('audio').readyState > 0")
    duration_s = tab.evaluate("document.querySelector('audio').duration")
    assert duration_s == pytest.approx(DURATION_S, abs=0.06)


def test_a_review_by_keys_goes_from_the_least_sure_and_is_downloaded(
    tab, page, scores, recording, tmp_path
):
    tab.goto(page.as_uri())
    thresholds = {"a bell </script><b>": 0.6, "rain": 0.7, "window": 0.5}
    found = asked(0.6, 0.7, 0.5).events(scores)
    first, second, third, *_ = sorted(found, key=lambda e: e.score - thresholds[e.caption])
    assert first.caption in tab.locator("#current").text_content()
    for key in "ynyu":  # the last takes the third back
        tab.keyboard.press(key)
    assert tab.locator("#progress").text_content() == f"2 of {len(found)} decided"
    assert third.caption in tab.locator("#current").text_content()
    for kind in ("tsv", "raven"):
        path = downloaded(tab, kind, tmp_path / kind)
        [known], skipped = own_labels.find([path], recording.parent)
        assert (known.path, skipped) == (recording, {})
        answers = zip(known.events, known.decisions, strict=True)
        assert {(round(e.onset, 4), e.caption, yes) for e, yes in answers} == {
            (round(first.onset, 4), first.caption, True),
            (round(second.onset, 4), second.caption, False),
        }
    track = labels.read(downloaded(tab, "audacity", tmp_path))
    assert not track.scored
    kept = {(round(e.onset, 4), e.caption) for e in track.of("night.wav")}
    assert kept == {(round(e.onset, 4), e.caption) for e in found if e != second}


def test_what_was_decided_stays_where_a_threshold_moves(tab, page, tmp_path):
    tab.goto(page.as_uri())
    tab.keyboard.press("y")
    slide(tab, "#all", 1)
    assert tab.locator("#progress").text_content() == "1 of 1 decided"
    assert len(rows(tab, tmp_path)) == 1


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_screen_and_asks_nobody(tab, page, width, scheme):
    tab.set_viewport_size({"width": width, "height": 844})
    tab.emulate_media(color_scheme=scheme)
    tab.goto(page.as_uri())
    for summary in tab.locator("summary").all():
        summary.click()
    tab.click("#closer")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert {url.split(":")[0] for url in tab.asked} <= {"file", "data", "blob"}


def test_every_control_is_reached_by_keyboard_and_named(tab, page):
    tab.goto(page.as_uri())
    reached = set()
    for _ in range(30):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.id"))
    ids = {"play", "position", "closer", "all", "own", "caption-0", "caption-2", "yes", "no"}
    assert ids | {"listen", "again", "skip", "tsv", "raven", "audacity"} <= reached
    unnamed = "[...document.querySelectorAll('button, input')].filter(e => !e.labels?.length &&"
    unnamed += " !e.textContent.trim() && !e.ariaLabel).map(e => e.id)"
    assert tab.evaluate(unnamed) == []


def luminance(colour):
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ SEEN


SEEN = (0.2126, 0.7152, 0.0722)  # of red, green and blue, as WCAG has it
SURFACES = ("page", "card", "field")


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_and_edges_are_told_from_what_is_behind_them(scheme):
    style = resources.files("flamlib.inference").joinpath("web/page.css").read_text()
    colours = [dict(re.findall(r"--(\w+): (#\w+)", part)) for part in style.split("}")]
    of = {name: luminance(colour) for name, colour in colours[scheme].items()}
    pairs = [(name, at, 4.5) for name in ("ink", "soft", "yes", "no") for at in SURFACES]
    pairs += [("card", "accent", 4.5), ("edge", "page", 3), ("edge", "card", 3)]
    for one, other, least in pairs:
        low, high = sorted((of[one], of[other]))
        assert (high + 0.05) / (low + 0.05) >= least, (one, other)


def test_of_a_long_recording_the_beginning_is_shown_and_the_rest_told(
    scores, recording, tmp_path, monkeypatch
):
    monkeypatch.setattr(sound_page, "MAX_S", 3.0)
    data = sound_page.describe("night.wav", recording, scores, asked(0.1, 0.1, 0.1))
    assert data["end_s"] == 3.0
    assert data["note"].startswith("This page holds the first 0.05 of 0.2 minutes")
    note = sound_page.write(tmp_path / "p.html", "n", recording, scores, asked(0.1, 0.1, 0.1))
    assert note == data["note"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_the_spectrogram_has_no_empty_band_and_a_tone_in_its_place_at_any_rate(rate):
    rng = np.random.default_rng(0)
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    made = sound_page.spectrogram(tone + 0.1 * rng.normal(size=rate), rate)
    assert (made["low_hz"], made["high_hz"]) == (50.0, 8000.0)
    levels = np.frombuffer(base64.b64decode(made["levels"]), np.uint8)
    by_band = levels.reshape(made["columns"], made["bands"])[2:-2].mean(axis=0)
    assert by_band.min() > 50
    low, high, at = map(mel_levels.mel, (50.0, 8000.0, 1000.0))
    band = (at - low) / (high - low) * (made["bands"] + 1) - 1
    assert by_band.argmax() == pytest.approx(band, abs=1)


def test_who_leaves_before_decisions_are_downloaded_is_asked(tab, page):
    asked_for = []
    tab.on("dialog", lambda dialog: (asked_for.append(dialog.type), dialog.accept()))
    for act, expected in (
        (lambda: tab.keyboard.press("l"), []),
        (lambda: tab.keyboard.press("y"), ["beforeunload"]),
        (lambda: (tab.keyboard.press("y"), tab.keyboard.press("u")), ["beforeunload"]),
        (lambda: tab.keyboard.press("n") or tab.click("#raven"), []),
    ):
        tab.goto(page.as_uri())
        tab.uncheck("#listen")
        act()
        tab.goto("about:blank")
        assert asked_for == expected
        asked_for.clear()


def test_a_decision_that_is_changed_is_undone_at_once(tab, page):
    tab.goto(page.as_uri())
    tab.uncheck("#listen")
    tab.keyboard.press("y")
    tab.locator("summary", has_text="All events").click()
    tab.locator("#events button", has_text="confirmed").click()
    tab.keyboard.press("n")
    tab.keyboard.press("u")
    assert tab.locator("#progress").text_content().startswith("0 of ")
    assert tab.locator("#undo").is_disabled()


def test_the_event_to_decide_on_is_in_view_in_the_list(tab, page):
    tab.goto(page.as_uri())
    tab.uncheck("#listen")
    slide(tab, "#all", 0.5)
    tab.locator("summary", has_text="All events").click()
    tab.locator("#events").evaluate("list => { list.style.maxHeight = '120px'; }")
    y = tab.evaluate("scrollY")
    for _ in range(12):
        tab.keyboard.press("y")
        row, box = (tab.locator(each).bounding_box() for each in ("[aria-current]", "#events"))
        assert box["y"] - 1 <= row["y"]
        assert row["y"] + row["height"] <= box["y"] + box["height"] + 1
    assert tab.evaluate("scrollY") == y


@pytest.mark.parametrize("n_samples", [1, RATE])
def test_silence_is_as_dark_as_a_spectrogram_can_be(n_samples):
    levels = base64.b64decode(sound_page.spectrogram(np.zeros(n_samples), RATE)["levels"])
    assert set(levels) == {0}


def test_the_surest_events_alone_are_refused(scores, recording, tmp_path):
    with pytest.raises(ValueError, match="--top"):
        sound_page.write(tmp_path / "p.html", "n", recording, scores, asked(0.5, 0.5, 0.5, top=3))


def test_silence_and_a_moment_have_a_page(tab, tmp_path):
    for n in (1, RATE):
        soundfile.write(tmp_path / "s.wav", np.zeros(n), RATE)
        edges = frame_edges(n / RATE, FRAME_S)
        nothing = Scores(np.zeros((len(edges) - 1, 3), np.float32), edges, CAPTIONS)
        page = tmp_path / "s.html"
        sound_page.write(page, "s.wav", tmp_path / "s.wav", nothing, asked(0.5, 0.5, 0.5))
        tab.goto(page.as_uri())
        assert tab.locator("#current").text_content() == "No event at these thresholds."
