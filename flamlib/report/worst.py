"""The captions that FLAM ranks worst, with what it missed and what it took for them."""

from typing import Any

import numpy as np
from jaxtyping import Float

from flamlib.data.mixtures import recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.evaluation.splits import EvalSplit
from flamlib.metrics.ranking import caption_auroc
from flamlib.plots import player
from flamlib.report.cells import cell, row
from flamlib.sound_events.events import active_frames

MIN_CLIPS = 5  # in fewer, an AUROC says little
AROUND_S, LONGEST_S = 0.5, 3.0


def worst_table(
    name: str,
    split: EvalSplit,
    scores: Float[np.ndarray, "clip caption frame"],
    bank: Bank,
    *,
    n: int,
) -> dict[str, Any]:
    """Return a table of the captions of the lowest AUROC that are in at least `MIN_CLIPS` clips.

    Each has a player of its event of the lowest score, the highest of its frames, and one of the
    frame of the highest score in which it is silent.

    Args:
        name: title of the split.
        split: the mixtures.
        scores: of a model.
        bank: the recordings.
        n: how many captions.
    """
    frames = split.frame_table(scores)
    auroc = caption_auroc(frames.scores, frames.active, frames.known)
    n_clips = (split.active.any(axis=2) & split.known).sum(axis=0)
    order = [int(j) for j in np.argsort(auroc, kind="stable") if n_clips[j] >= MIN_CLIPS]
    rows = [
        row(
            [
                cell(split.captions[j]),
                cell(str(n_clips[j])),
                cell(f"{100 * auroc[j]:.1f}"),
                _missed(split, scores, bank, j),
                _mistaken(split, scores, bank, j),
            ]
        )
        for j in order[:n]
        if not np.isnan(auroc[j])
    ]
    columns = ["", "clips", "AUROC", "its event of the lowest score", "taken for it, wrongly"]
    return {"title": name, "columns": columns, "rows": rows, "notes": [], "left": False}


def _missed(split: EvalSplit, scores: np.ndarray, bank: Bank, caption: int) -> dict[str, Any]:
    """The event whose best frame has the lowest score; there is one, as the caption has clips."""
    found = []
    for clip, events in enumerate(split.events):
        if not split.known[clip, caption]:
            continue
        for event in events:
            if event.caption == split.captions[caption]:
                sizes = {"n_frames": scores.shape[2], "frame_s": split.frame_s}
                [inside] = active_frames([event], [event.caption], clip_s=split.clip_s, **sizes)
                if inside.any():
                    found.append((float(scores[clip, caption, inside].max()), clip, event))
    score, clip, event = min(found, key=lambda one: one[:2])
    return _heard(split, bank, clip, (event.onset, event.offset), f"score {score:.2f}")


def _mistaken(split: EvalSplit, scores: np.ndarray, bank: Bank, caption: int) -> dict[str, Any]:
    """The silent frame of the highest score."""
    silent = split.known[:, caption, None] & ~split.active[:, caption]
    clip, frame = np.unravel_index(
        np.argmax(np.where(silent, scores[:, caption], -np.inf)), silent.shape
    )
    start = float(frame) * split.frame_s
    heard = [
        c for c, is_on in zip(split.captions, split.active[clip, :, frame], strict=True) if is_on
    ]
    words = f"score {scores[clip, caption, frame]:.2f}: {', '.join(heard) or 'no event'}"
    return _heard(split, bank, int(clip), (start, start + split.frame_s), words)


def _heard(
    split: EvalSplit, bank: Bank, clip: int, span: tuple[float, float], words: str
) -> dict[str, Any]:
    """A cell with a player of a span of a clip and of what is around it."""
    start = max(0.0, span[0] - AROUND_S)
    stop = min(split.clip_s, span[1] + AROUND_S, start + LONGEST_S)
    waveform = recipes.render(bank, split.mixtures[clip])
    excerpt = waveform[round(start * bank.sample_rate) : round(stop * bank.sample_rate)]
    return cell("", kind="heard", small=words, audio=player.data_uri(excerpt, bank.sample_rate))
