import base64
import io

import numpy as np
import pytest
import soundfile
from heldouts import read_split, write_artifacts

from flamlib.metrics.ranking import caption_auroc
from flamlib.report import worst


@pytest.fixture(scope="module")
def heldouts(tmp_path_factory):
    split, bank, _ = read_split(write_artifacts(tmp_path_factory.mktemp("worst")))
    score = np.random.default_rng(0).random(split.active.shape) + 0.3 * split.active
    return split, bank, score


def test_the_lowest_auroc_comes_first_of_captions_in_enough_clips(heldouts):
    split, bank, score = heldouts
    table = worst.worst_table("Seen", split, score, bank, n=3)
    frames = split.frame_table(score)
    auroc = caption_auroc(frames.scores, frames.active, frames.known)
    n_clips = (split.active.any(axis=2) & split.known).sum(axis=0)
    expected = sorted(
        (auroc[j], caption, str(n_clips[j]))
        for j, caption in enumerate(split.captions)
        if n_clips[j] >= worst.MIN_CLIPS
    )[:3]
    shown = [[cell["text"] for cell in row["cells"][:3]] for row in table["rows"]]
    assert shown == [[caption, n, f"{100 * value:.1f}"] for value, caption, n in expected]


def test_what_was_missed_and_what_was_mistaken_can_be_heard(heldouts):
    split, bank, score = heldouts
    score = np.zeros_like(score)
    [row] = worst.worst_table("Seen", split, score, bank, n=1)["rows"]
    j = split.captions.index(row["cells"][0]["text"])
    clip, frame = np.argwhere(split.known[:, j, None] & ~split.active[:, j])[-1]
    score[clip, j, frame] = 0.7  # sure of nothing but this
    active = [c for c, on in zip(split.captions, split.active[clip, :, frame], strict=True) if on]
    score[split.active] = 0.6
    first = int(np.flatnonzero(split.known[:, j] & split.active[:, j].any(axis=1))[0])
    score[first, j][split.active[first, j]] = 0.5
    worst_of = {
        row["cells"][0]["text"]: row["cells"]
        for row in worst.worst_table("Seen", split, score, bank, n=9)["rows"]
    }
    missed, mistaken = worst_of[split.captions[j]][3:]
    assert missed["small"] == "score 0.50"
    assert mistaken["small"] == f"score 0.70: {', '.join(active) or 'no event'}"
    for heard in (missed, mistaken):
        kind, content = heard["audio"].split(";base64,")
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
        assert kind == "data:audio/mpeg"
        assert 0 < len(samples) / rate <= worst.LONGEST_S + 0.1
