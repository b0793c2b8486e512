import yaml

from flamlib.models import card

CONFIG = {"audio": {"tower": "htsat"}, "caption": {"pooling": "pooler"}, "dim": 512}
SIZES = {"kind": None, "sample_rate": 48_000, "frame_s": 0.3125, "n_parameters": 196_180_000}


def rows(text):
    cells = (line.strip("|").split(" | ", 1) for line in text.splitlines() if line.startswith("| "))
    return {name.strip(): value.strip() for name, value in (c for c in cells if len(c) == 2)}


def test_the_header_is_yaml_that_the_hub_reads():
    _, header, body = card.text(CONFIG, **SIZES, provenance=None).split("---\n", 2)
    assert yaml.safe_load(header)["library_name"] == "flamlib"
    assert body.startswith("\n# FLAM")


def test_the_card_of_another_model_says_how_that_is_read():
    text = card.text(CONFIG, **SIZES | {"kind": "mga_clap"}, provenance=None)
    assert "# MGA-CLAP" in text
    assert "from flamlib.models.mga_clap import MGACLAP\n\nmodel = MGACLAP.from_pretrained(" in text


def test_the_card_says_what_the_model_is():
    text = card.text(CONFIG, **SIZES, provenance=None)
    said = rows(text)
    assert said["audio tower"] == "htsat, 48000 Hz"
    assert said["parameters"] == "196.2 million"
    assert "every 312.5 ms" in text
    assert said["provenance"].startswith("unknown")


def test_the_card_says_how_it_was_trained_and_on_what():
    provenance = {
        "commit": "abc123",
        "parameters": {"bank": "0f9e", "seed": 0, "rules": {"n_events": [1, 3]}},
        "history": [{"step": 10, "loss": 5.0}, {"step": 500, "loss": 3.25}],
    }
    said = rows(card.text(CONFIG, **SIZES, provenance=provenance))
    assert (said["commit"], said["bank"], said["seed"]) == ("abc123", "0f9e", "0")
    assert said["trained"] == "500 steps, loss 3.25 at the last"
    assert "rules" not in said
    assert "provenance" not in said


def test_a_value_stays_in_its_cell():
    text = card.text(CONFIG, **SIZES, provenance={"note": "one | two\nthree"})
    assert "| note | one \\| two three |\n" in text
