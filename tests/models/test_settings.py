import pytest
from hypothesis import given
from hypothesis import strategies as st
from towers import HTSAT, MGA_CLAP, SETTINGS

from flamlib.models import settings
from flamlib.models.settings import ClapSettings, FlamSettings, MgaClapSettings

CLAP = {key: SETTINGS[key] for key in ("audio", "caption", "dim", "temperature_init")}
SECTIONS = [(FlamSettings, SETTINGS), (MgaClapSettings, MGA_CLAP), (ClapSettings, CLAP)]


@pytest.mark.parametrize(("section", "given"), SECTIONS)
def test_settings_stay_as_given(section, given):
    assert settings.check(section, given) == given
    htsat = given | {"audio": HTSAT}
    assert settings.check(section, htsat) == htsat


def test_numbers_have_the_type_that_is_meant():
    found = settings.check(FlamSettings, SETTINGS | {"dropout": 0, "scale_init": 10})
    assert found == SETTINGS | {"dropout": 0.0, "scale_init": 10.0}
    assert isinstance(found["dropout"], float)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dim": "512"}, "dim = '512': expected a whole number"),
        ({"dim": None}, "dim = None: expected a whole number"),
        ({"dim": -1}, "dim = -1: expected 1 or more"),
        ({"dim": True}, "dim = True: expected a whole number"),
        ({"dropout": "a"}, "dropout = 'a': expected a number"),
        ({"dropout": 2}, "dropout = 2.0: expected 0 to 1"),
        ({"scale_init": 0}, "scale_init = 0.0: expected more than 0"),
        ({"temperature_init": -1}, "temperature_init = -1.0: expected more than 0"),
        ({"bias_init": float("nan")}, "bias_init = nan: expected a number"),
        ({"audio": None}, "audio.tower = None: expected one of yamnet, htsat"),
        ({"audio": {"tower": ["yamnet"]}}, "audio.tower = .*: expected one of yamnet, htsat"),
        ({"audio": HTSAT | {"depth": [1]}}, "audio.depth; did you mean audio.depths?"),
        ({"audio": {"tower": "htsat"}}, "audio.embed is missing"),
        ({"audio": HTSAT | {"depths": 2}}, "audio.depths = 2: expected a list"),
        ({"caption": {}}, "caption.pooling is missing"),
        ({"caption": {"pooling": "words"}}, 'pooling "words" is for MGA-CLAP'),
        ({"scale": "per_clip"}, "scale = 'per_clip': expected one of .*; did you mean per_caption"),
        ({"dims": 3}, "no parameter dims; did you mean dim?"),
    ],
)
def test_what_does_not_fit_is_named_at_every_level(changes, why):
    with pytest.raises(ValueError, match=why):
        settings.check(FlamSettings, SETTINGS | changes)


def test_mga_clap_needs_words():
    with pytest.raises(ValueError, match=r'needs caption.pooling "words", got mean'):
        settings.check(MgaClapSettings, MGA_CLAP | {"caption": {"pooling": "mean"}})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.sampled_from(SECTIONS), st.data())
def test_any_other_value_is_taken_or_refused(of, data):
    section, given = of
    name = data.draw(st.sampled_from([*given, "other"]))
    value = data.draw(json_values)
    if isinstance(given.get(name), dict):
        inner = data.draw(st.sampled_from([*given[name], "other"]))
        value = data.draw(st.sampled_from([value, given[name] | {inner: value}]))
    try:
        found = settings.check(section, given | {name: value})
    except ValueError:
        return
    assert found.keys() == (given | {name: value}).keys()
