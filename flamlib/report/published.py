"""Published results in percent, for the upper rows of our tables. None was measured here.

FLAM: Wu et al., ICML 2025 (arXiv:2505.05335), tables 1 to 3; its models are trained on recordings
that cannot be shared. `*` marks another method that its authors retrained on those. OpenFLAM is the
public checkpoint of the same authors, by its logs. "as reported" is what a method's own paper
states, as later work quotes it.
"""

from typing import NamedTuple


class Column(NamedTuple):
    """A column of a table: the test set, the name of the metric, and the heading."""

    testset: str
    key: str
    title: str


SED = (
    Column("seen_captions", "auroc_macro", "Held-out, seen AUROC"),
    Column("unseen_captions", "auroc_macro", "Held-out, unseen AUROC"),
    Column("held_out", "auroc_macro", "Held-out (paper's) AUROC"),
    Column("asfx_sed", "auroc_macro", "ASFX-SED AUROC"),
    Column("desed_public", "psds1", "DESED PSDS1"),
    Column("desed_public", "auroc_macro", "DESED AUROC"),
    Column("desed_validation", "psds1", "DESED valid. PSDS1"),
    Column("maestro", "mpauc_mcclish", "MAESTRO MPAUC"),
    Column("audioset_strong", "psds1", "AS-Strong PSDS1"),
    Column("audioset_strong", "auroc_macro", "AS-Strong AUROC"),
    Column("urbansed", "psds1", "UrbanSED PSDS1"),
    Column("urbansed", "psds2", "UrbanSED PSDS2"),
    Column("urbansed", "auroc_macro", "UrbanSED AUROC"),
)
RETRIEVAL = tuple(
    Column(testset, f"{way}_{rank}", f"{title} {arrow} {rank.upper().replace('R', 'R@')}")
    for testset, title in (("asfx", "ASFX"), ("clotho", "Clotho"), ("audiocaps", "AudioCaps"))
    for way, arrow in (("t2a", "T→A"), ("a2t", "A→T"))
    for rank in ("r1", "r5")
)
ZERO_SHOT = (
    Column("heldout_seen", "top1", "Held-out, seen classes"),
    Column("heldout_unseen", "top1", "Held-out, unseen classes"),
    Column("esc50", "top1", "ESC-50"),
    Column("urbansound8k", "top1", "UrbanSound8K"),
    Column("vggsound", "top1", "VGGSound"),
)

# model: {(test set, metric): percent}; results that are not published are not there.
_SED_ROWS = {
    "FLAM-Global": (67.76, 65.14, None, 85.52, 51.13, 1.11, 82.54, 0.82, None, 67.39),
    "FLAM": (91.00, 81.23, 9.4, 91.66, 56.97, 11.16, 94.76, 29.52, None, 93.62),
    "MGA-CLAP*": (74.17, 69.56, None, 89.28, 52.50, 1.24, 79.12, 6.42, None, 78.22),
    "OpenFLAM": (None, 71.4, None, None, None, 9.53, 94.24, 28.76, 50.09, 92.72),
}
_SED_KEYS = (
    ("held_out", "auroc_macro"),
    ("asfx_sed", "auroc_macro"),
    ("desed_public", "psds1"),
    ("desed_public", "auroc_macro"),
    ("maestro", "mpauc_mcclish"),
    ("audioset_strong", "psds1"),
    ("audioset_strong", "auroc_macro"),
    ("urbansed", "psds1"),
    ("urbansed", "psds2"),
    ("urbansed", "auroc_macro"),
)
_RETRIEVAL_ROWS = {
    "FLAM-Global": (4.4, 14.8, 4.0, 13.8, 14.3, 35.8, 17.9, 39.8, 36.0, 70.5, 46.1, 78.6),
    "FLAM": (4.4, 15.2, 3.9, 13.9, 13.8, 33.2, 16.7, 42.2, 32.1, 64.8, 43.3, 75.0),
    "MGA-CLAP*": (3.9, 14.8, 3.9, 13.8, 13.4, 30.3, 18.7, 39.1, 36.7, 69.9, 47.2, 78.3),
    "OpenFLAM": (
        2.82, 10.11, 2.68, 9.59, 13.91, 33.61, 17.13, 39.26, 31.73, 63.82, 44.28, 76.50,
    ),
    "LAION-CLAP, as reported": (
        None, None, None, None, 16.9, 41.6, 24.4, 49.3, 35.1, 71.9, 44.2, 80.8,
    ),
    "MGA-CLAP, as reported": (
        None, None, None, None, 20.8, 45.0, 26.5, 54.1, 42.2, 74.9, 53.7, 84.3,
    ),
}  # fmt: skip
_ZERO_SHOT_ROWS = {
    "FLAM-Global": (81.6, 65.4, 38.9),
    "FLAM": (86.9, 75.6, 39.3),
    "MGA-CLAP*": (72.6, 69.9, 38.6),
    "LAION-CLAP, as reported": (91.0, 77.0, 29.1),
    "MGA-CLAP, as reported": (94.9, 83.7, 31.8),
}


def _filled(
    rows: dict[str, tuple[float | None, ...]], keys: tuple[tuple[str, str], ...]
) -> dict[str, dict[tuple[str, str], float]]:
    return {
        model: {key: v for key, v in zip(keys, values, strict=True) if v is not None}
        for model, values in rows.items()
    }


PUBLISHED = {
    "sed": _filled(_SED_ROWS, _SED_KEYS),
    "retrieval": _filled(_RETRIEVAL_ROWS, tuple((c.testset, c.key) for c in RETRIEVAL)),
    "zero_shot": _filled(
        _ZERO_SHOT_ROWS, tuple((c.testset, c.key) for c in ZERO_SHOT if c.testset[:7] != "heldout")
    ),
}
