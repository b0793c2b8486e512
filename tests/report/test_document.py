"""The report as text, and in a browser where there is one."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import set_files
from heldouts import read_split, write_artifacts

from flamlib.data.datasets import testsets
from flamlib.experiment.params.trials import EvaluationConfig
from flamlib.metrics import calibration
from flamlib.metrics.outcomes import Outcome
from flamlib.plots import figures, style
from flamlib.report import document, gallery, set_tables, worst
from flamlib.sound_events.smoothing import Smoothing

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")


def numbers(value, **more):
    keys = [key for key, _ in set_tables.SED_METRICS]
    bounds = {f"auroc_macro_{end}": value + by for end, by in (("low", -0.02), ("high", 0.02))}
    return dict.fromkeys(keys, value) | bounds | {"n_clips": 6, "n_captions": 3} | more


RESULTS = {
    "seen_captions": {
        "difference": {"flam_global": {"auroc_macro": 0.091, "auroc_macro_p": 0.0009}},
        "flam": numbers(0.872),
        "flam_global": numbers(0.781, map=None),
    },
    "urbansed": {"flam": numbers(0.61), "flam_global": numbers(float("nan"))},
    "heldout_seen": {"flam": {"top1": 0.5, "top1_name": 0.5, "n_clips": 4, "n_captions": 2}},
}


BINS = calibration.reliability(np.array([0.1, 0.2, 0.9]), np.array([False, False, True]), 5)
JUDGED = {"flam": Outcome({}, [], BINS), "theirs": Outcome({}, [], BINS), "deaf": Outcome({}, [])}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report of real sounds, random scores and a public set of which a clip is missing."""
    folder = tmp_path_factory.mktemp("report")
    part, bank, _ = read_split(write_artifacts(folder))
    score = np.random.default_rng(0).random(part.active.shape)
    picked = gallery.pick(part, score, 2)
    urban = set_files.urban_sed(folder / "urban")
    [annotated] = (urban / "annotations/test").glob("*.jams")
    annotated.write_text(annotated.read_text().replace("4.023", "5.0"))  # beyond the end
    read, skipped = testsets.read_all(dict.fromkeys(testsets.SETS) | {"urbansed": str(urban)}, [])
    bins = {"mean_prob": np.array([0.2]), "frequency": np.array([0.3]), "count": np.array([5])}
    style.save(figures.reliability({"flam": bins}), folder / "drawn/reliability_seen.svg")
    document.write(
        folder / "evaluation.html",
        results=RESULTS,
        read=read,
        skipped=skipped,
        figures=document.load_figures(folder / "drawn")
        + document.reliability_figure("urbansed", JUDGED),
        clips=[gallery.example_content(e, part, score, bank, n_absent=1) for e in picked],
        worst=[worst.worst_table("Seen captions", part, score, bank, n=2)],
        settings={"median_frames": 3},
    )
    return folder / "evaluation.html"


def test_ours_stand_beside_what_was_published(made):
    html = made.read_text(encoding="utf-8")
    assert "Published, in percent; not measured here" in html
    assert "91.0</td>" in html  # the paper's held-out AUROC
    assert "87.2<small>[85.2, 89.2]</small>" in html
    assert "p &lt; .001" in html
    assert ">nan" not in html
    assert html.count('<audio controls preload="none" src="data:audio/mpeg;base64,') == 4


def test_a_public_set_has_all_its_numbers_its_coverage_and_how_probable_it_was(made):
    html = made.read_text(encoding="utf-8")
    assert "URBAN-SED, test: 1 of 1 clips, 3 captions" in html
    assert html.count("1 of 1") == 3 + 2  # three columns; in full, in the coverage
    assert "<h4>Reliability, URBAN-SED, test</h4>" in html
    assert document.reliability_figure("urbansed", {"deaf": JUDGED["deaf"]}) == []


def test_what_is_missing_and_what_was_skipped_is_told(made):
    html = made.read_text(encoding="utf-8")
    assert "1 of 1" in html
    assert "1 clips listed, 2000 in the official set" in html
    assert html.count("no folder given") >= len(testsets.SETS) - 1


def test_the_page_says_by_which_settings_scores_are_smoothed():
    """And names no other way: a median filter is one of two, and by default none."""
    protocol = " ".join(document.PROTOCOL)
    for setting in Smoothing.__dataclass_fields__:
        assert setting in protocol
        assert setting in EvaluationConfig.__dataclass_fields__
    said = [protocol, *(words for _, words in set_tables.SED_METRICS)]
    assert not any("median filter" in words for words in said)


def test_the_table_has_a_row_for_every_number():
    table = document.metrics_table(RESULTS)
    row = table[(table["model"] == "flam") & (table["metric"] == "auroc_macro")].iloc[0]
    assert row["testset"] == "seen_captions"
    assert (row["value"], row["low"], row["high"]) == (0.872, 0.852, 0.892)
    assert "difference" not in set(table["model"])
    assert not table["metric"].str.endswith(("_low", "_high")).any()


class Browser:
    """Chromium, asked through the WebDriver protocol of its own driver."""

    def __init__(self, tmp_path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [DRIVER, f"--port={self.port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio"]
        arguments += ["--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}"]
        options = {"binary": BROWSER, "args": [*arguments, "--window-size=1280,1600"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        started = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}}, tries=60)
        self.session = f"/session/{started['sessionId']}"

    def ask(self, method, path, body=None, tries=1):
        data = None if body is None else json.dumps(body).encode()
        address = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(
            address, data, {"Content-Type": "application/json"}, method=method
        )
        for attempt in range(tries):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)["value"]
            except urllib.error.HTTPError as error:
                raise AssertionError(f"{path}: {error.read().decode()[:500]}") from error
            except urllib.error.URLError:
                if attempt + 1 == tries:
                    raise
                time.sleep(0.5)
        return None

    def run(self, script):
        return self.ask("POST", f"{self.session}/execute/sync", {"script": script, "args": []})

    def close(self):
        try:
            self.ask("DELETE", self.session)
        finally:
            self.process.terminate()
            self.process.wait(timeout=20)


@pytest.fixture
def browser(tmp_path):
    if not BROWSER or not DRIVER:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    opened = Browser(tmp_path)
    yield opened
    opened.close()


def test_in_a_browser_it_shows_its_players_load_and_nothing_complains(made, browser):
    browser.ask("POST", f"{browser.session}/url", {"url": made.as_uri()})
    for _ in range(60):
        seconds = browser.run(
            "return [...document.querySelectorAll('.clip')].map(c => Number(c.dataset.seconds))"
        )
        if seconds and all(seconds):
            break
        time.sleep(0.5)
    assert seconds == pytest.approx([2.56] * 4, abs=0.01)
    errors = browser.run(
        "return [...document.querySelectorAll('audio')].map(a => a.error && a.error.message)"
    )
    assert errors == [None] * 8  # four clips, and two of each of two captions
    seen = browser.run(
        "return [...document.querySelectorAll('svg, table, .card')]"
        ".map(e => e.getBoundingClientRect()).filter(b => b.width < 60 || b.height < 20).length"
    )
    assert seen == 0
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    moved = browser.run(
        "const clip = document.querySelector('.clip');"
        "clip.querySelector('audio').currentTime = 1.28;"
        "return new Promise(done => setTimeout(() =>"
        " done(clip.querySelector('.playhead').style.left), 500))"
    )
    left, right = (browser.run(f"return Number(document.querySelector('.clip').dataset.{s})")
                   for s in ("left", "right"))  # fmt: skip
    assert float(moved.rstrip("%")) == pytest.approx(50 * (left + right), abs=1)
    log = browser.ask("POST", f"{browser.session}/se/log", {"type": "browser"})
    assert [entry["message"] for entry in log] == []
