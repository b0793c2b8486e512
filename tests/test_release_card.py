import own_thresholds
import yaml

from flamlib import release_card
from flamlib.data.corpus.packages import Package
from flamlib.models.weights import Tower

PACKAGE = Package("bells", "1.0", "apt", "core", "bells_1.0.deb", "a" * 64, 3, "MIT | GPL", "")
THRESHOLDS = own_thresholds.made({"rain": (0.5, 10)}, criterion="luck", fallback=0.75, novel=0.25)


def card(**changes):
    about = {"commit": "abc", "release": {"checkpoint": "b" * 64, "commit": "def"}}
    given = {
        "sha256": "0" * 64,
        "changes": {"largest": 0.00123, "mean": 0.0001},
        "metrics": {"seen_captions": {"auroc_macro": 0.81234, "map": 0.3}, "retrieval": {"r1": 1}},
        "thresholds": THRESHOLDS,
        "licences": [{"package": "bells", "licence": "CC0", "n_clips": "3", "seconds": "90"}],
        "sources": {"bells": PACKAGE},
        "towers": [Tower("yamnet", (), (PACKAGE,))],
        "frame_s": 0.32,
    }
    return release_card.text("small", about, **given | changes)


def test_it_begins_with_what_the_hub_reads():
    _, header, body = card().split("---\n", 2)
    assert yaml.safe_load(header)["library_name"] == "flamlib"
    assert body.startswith("\n# small\n")


def test_it_says_where_everything_comes_from():
    text = card(seconds=150.0)
    for said in (
        "every 0.32 s",
        "commit `abc`",
        "| bells | 1.0 | MIT \\| GPL |",
        "| bells | Debian, 1.0 | CC0 | 3 | 90 |",
        "each of 1 captions",
        "have 0.75 if the model was trained on them and\n0.25 if not. Chosen by: luck.",
        "0.001 at most",
        "2 minutes; energy was not measured",
    ):
        assert said in text
    assert "energy: unknown" in card()


def test_its_figures_are_those_of_the_report():
    text = card()
    assert "| frame AUROC, mean over captions | 0.812 |" in text
    assert "mAP" in text
    assert "PSDS1" not in text, "not in the report"
    interval = {"auroc_macro": 0.8, "auroc_macro_low": 0.7, "auroc_macro_high": 0.9}
    two = card(metrics={"seen_captions": interval, "unseen_captions": {"auroc_macro": 0.6}})
    assert "|  | seen captions | unseen captions |" in two
    assert "| frame AUROC, mean over captions | 0.8 [0.7, 0.9] | 0.6 |" in two
