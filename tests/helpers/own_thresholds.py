"""Thresholds of captions, as a model brings them or a user chooses them."""

from flamlib.models.caption_thresholds import CaptionThresholds, OwnThreshold
from flamlib.storage import files


def made(captions=(), **changes):
    """Of captions given as {caption: (threshold, number of events)}; all else may be changed."""
    own = {
        caption: OwnThreshold(threshold=threshold, n_events=n, f1=0.5)
        for caption, (threshold, n) in dict(captions).items()
    }
    content = {
        "format": 1,
        "model": "0" * 64,
        "method": "unbiased",
        "median_frames": 3,
        "criterion": "best F1",
        "min_events": 10,
        "fallback": 0.8,
        "novel": 0.6,
    }
    return CaptionThresholds(**content | changes, captions=own)


def made_for(folder, captions=(), **changes):
    """The same for the model that is saved in a folder."""
    model = files.sha256(folder / "model.safetensors")
    return made(captions, **{"model": model} | changes)
