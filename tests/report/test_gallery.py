import base64
import io
import re

import numpy as np
import pytest
import soundfile
from heldouts import read_split, write_artifacts
from matplotlib.figure import Figure

from flamlib.metrics.ranking import auroc_by_clip
from flamlib.report import gallery


@pytest.fixture(scope="module")
def heldouts(tmp_path_factory):
    split, bank, _ = read_split(write_artifacts(tmp_path_factory.mktemp("gallery")))
    score = np.random.default_rng(0).random(split.active.shape) + 0.3 * split.active
    return split, bank, score


def test_the_best_come_first_and_the_worst_come_first(heldouts):
    split, _, score = heldouts
    picked = gallery.pick(split, score, 3)
    assert [example.kind for example in picked] == ["best"] * 3 + ["worst"] * 3
    best, worst = ([e.auroc for e in picked if e.kind == kind] for kind in ("best", "worst"))
    assert best == sorted(best, reverse=True)
    assert worst == sorted(worst)
    table = split.frame_table(score)
    per_clip = auroc_by_clip(table.scores, table.active, table.clip, table.known)
    assert (best[0], worst[0]) == (np.nanmax(per_clip), np.nanmin(per_clip))
    clips = [example.clip for example in gallery.pick(split, score, 100)]
    assert len(set(clips)) == len(clips) == (~np.isnan(per_clip)).sum()


def test_an_example_can_be_heard_as_it_is(heldouts):
    split, bank, score = heldouts
    [example] = gallery.pick(split, score, 1)[:1]
    shown = gallery.example_content(example, split, score, bank, n_absent=1)
    kind, content = shown["audio"].split(";base64,")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="float32")
    assert kind == "data:audio/flac"
    assert rate == bank.sample_rate
    expected = gallery.recipes.render(bank, split.mixtures[example.clip])
    assert samples == pytest.approx(expected, abs=1e-4)
    assert 0 < float(shown["left"]) < float(shown["right"]) < 1
    for event in split.events[example.clip]:
        assert event.caption in shown["caption"]


def test_figures_in_one_page_do_not_share_ids():
    figure = Figure()
    figure.subplots().plot([1, 2], label="a")
    one, other = (gallery.inline_svg(figure, prefix) for prefix in ("one-", "other-"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, known in zip((one, other), ids, strict=True):
        assert svg.startswith("<svg")
        used = re.findall(r'href="#([^"]+)"', svg) + re.findall(r"url\(#([^)]+)\)", svg)
        assert set(used) <= known
