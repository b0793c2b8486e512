"""FLAM: find the moments of a sound clip that a sentence describes (arXiv:2505.05335).

The notebooks call this package; they define nothing. A module, and a package, imports only from
those before it in this list and, within a package, in the package's own; `tests/test_layers.py`
reads both:

    paths         texts
    compute       storage       waveforms     sound_events  experiment
    run_notebook
    losses        metrics       data          models        plots
    training      inference     search        serve         evaluation    adaptation
    report        estimate      release_card  release       cli

The packages of the second row are the ground floor, without knowledge of models: cores and numbers,
files, recordings, the events in them, and parameters. Those of the fourth and fifth are losses;
metrics; data, from recordings to batches; models; plots; the training loop; what a trained model is
used for, also over HTTP; evaluation and the ablation study; the HTML report. `run_notebook` runs a
stage of the pipeline, `estimate` says how long all of them take, `release` makes a model of it for
others, `cli` is the command line.

`flamlib.FLAM` and `flamlib.audio`, the reader of recordings, are found here, too.
"""


def __getattr__(name: str):
    """Return `FLAM` or `audio`, imported on first use: `FLAM` brings torch, seconds of import."""
    if name == "FLAM":
        from flamlib.models.flam import FLAM

        return FLAM
    if name == "audio":
        from flamlib.waveforms import audio

        return audio
    raise AttributeError(f"module 'flamlib' has no attribute {name!r}")
