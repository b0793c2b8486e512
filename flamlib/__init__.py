"""FLAM: find the moments of a sound clip that a sentence describes (arXiv:2505.05335).

The notebooks call this package; they define nothing. A module, and a package, imports only from
those before it in this list and, within a package, in the package's own; `tests/test_layers.py`
reads both:

    paths         files         memory        parallel      distributions texts         tables
    parameters    overrides     smoothing     params        config        manifest      events
    jams          recording_names             crowsetta_labels            reviews       labels
    ogg           mpeg          chunks        decoders      chain         formats       fir
    decibels      audio         collection    runs          detection     event_tables  streams
    provenance    run_notebook  few_rows      one_writer    json_lines
    losses        metrics       data          models        plots
    training      inference     search        serve         evaluation    adaptation    report
    estimate      release_card  release       cli

The modules of the first six rows are the ground floor: files, numbers, events and audio, without
knowledge of models, digests of code, the running of notebooks, products of matrices, locks, and
logs. The packages of the rest are losses; metrics; data, from recordings to batches; models; plots;
the training loop; what a trained model is used for, also over HTTP; evaluation and the ablation
study; the HTML report; the command line. `estimate` says how long all that takes, `release` makes a
model of it for others.
"""


def __getattr__(name: str):
    """`flamlib.FLAM`, fetched on first use: it brings torch and transformers, seconds of import."""
    if name == "FLAM":
        from flamlib.models.flam import FLAM

        return FLAM
    raise AttributeError(f"module 'flamlib' has no attribute {name!r}")
