"""FLAM: find the moments of a sound clip that a sentence describes (arXiv:2505.05335).

The notebooks call this package; they define nothing. A module imports only from those before it in
this list, which `tests/test_layers.py` reads:

    project       events        audio
    containers    archives      packages      catalogue     own_sounds  recordings
    sharding      tiled         losses
    runs          detection     intersections   psds      metrics
    augmentation  corpus        tensorbundle  yamnet        htsat         weights       bank
    recipes       mixing        lexicon       contents
    captions      model         batches       detector
    canvas        overview      scenes        curves        figures
    objective     resuming      training
    baselines     heldout       judging       evaluation
    launch        cli

Row by row: files, seconds and samples; where recordings and weights come from; the losses; what
else is arithmetic that knows neither model nor file; recordings, audio towers and weights as the
experiment needs them; mixtures with exact labels; the caption tower, the whole model, tensors and
detections; pictures; the training loop, and what it was good for; the same from a shell.
"""


def __getattr__(name: str):
    """`flamlib.FLAM`, fetched on first use: it brings torch and transformers, seconds of import."""
    if name == "FLAM":
        from flamlib.model import FLAM

        return FLAM
    raise AttributeError(f"module 'flamlib' has no attribute {name!r}")
