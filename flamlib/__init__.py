"""FLAM: find the moments of a sound clip that a sentence describes (arXiv:2505.05335).

The notebooks call this package; they define nothing. A module, and a package, imports only from
those before it in this list and, within a package, in the package's own; `tests/test_layers.py`
reads both:

    project       cluster       distributions tables        manifest
    events        jams_files    audio
    corpora       contrastive   measures      public_sets
    mixtures      models        pretrained    pictures
    learning      launch        inference
    assessment    reporting     studies       commands

Row by row: files, parameters and numbers; events and samples; where recordings come from, the
losses, each question that is asked of scores, and sets that others annotated; mixtures with exact
labels, whole models, checkpoints of others, and figures; the training loop, and what its result is
used for; what it was good for, the page that shows all, the same with one thing changed, and from a
shell.
"""


def __getattr__(name: str):
    """`flamlib.FLAM`, fetched on first use: it brings torch and transformers, seconds of import."""
    if name == "FLAM":
        from flamlib.models.model import FLAM

        return FLAM
    raise AttributeError(f"module 'flamlib' has no attribute {name!r}")
