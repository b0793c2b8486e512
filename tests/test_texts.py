import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib import texts

SAME = (
    "a dog barks at the caf\u00e9",
    "A Dog barks at the Caf\u00e9",
    "a dog barks at the cafe\u0301",
    "  a\tdog  barks\u2028at the\r\ncaf\u00e9 ",
    "a\u00a0dog\u3000barks at the caf\u00e9",
    "a dog\u200b barks at the caf\u00e9",
    "\ufeffa dog barks at the c\u00adaf\u00e9\x00",
    "\uff41 \uff44\uff4f\uff47 \uff42\uff41\uff52\uff4b\uff53 at the caf\u00e9",
)
letters = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize("text", SAME)
def test_what_reads_the_same_has_one_key(text):
    assert texts.key(text) == texts.key(SAME[0])


@pytest.mark.parametrize("other", ["", "a cat", "adog barks", "a dog, barks", "a d\u00f4g barks"])
def test_what_reads_otherwise_has_another(other):
    assert texts.key(other) != texts.key("a dog barks")


@given(letters, letters)
def test_a_normal_text_is_one_line_and_stays_as_it_is(left, right):
    text = texts.normal(f"{left}\u2029{right}")
    assert texts.normal(text) == text
    assert text == " ".join(text.split())
    assert len(text.splitlines()) <= 1
    assert unicodedata.is_normalized("NFC", text)


@given(letters)
def test_no_form_no_case_and_no_hidden_letter_changes_the_key(text):
    key = texts.key(text)
    assert texts.key(key) == key
    others = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    for other in [*others, text.lower(), texts.normal(text), f"\u200b {text}\u2060\n"]:
        assert texts.key(other) == key


def test_ligatures_are_the_letters_they_join():
    assert texts.key("a \ufb01re crackles") == texts.key("A fire crackles")


def test_joiners_shape_what_is_shown_and_are_not_compared():
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0646\u062f"
    assert texts.normal(persian) == persian
    assert texts.key(persian) == texts.key(persian.replace("\u200c", ""))


def test_the_first_spelling_is_what_all_are_shown_as():
    spelled = texts.spellings(["Dog  bark", "rain", "dog bark", "DOG BARK", "Rain"])
    assert spelled == {
        "Dog  bark": "Dog bark",
        "dog bark": "Dog bark",
        "DOG BARK": "Dog bark",
        "rain": "rain",
        "Rain": "rain",
    }
    [note] = texts.spelling_notes(spelled)
    assert "'dog bark' as 'Dog bark'" in note
    assert texts.spelling_notes(texts.spellings(["a  b", "a b", "cafe\u0301", "caf\u00e9"])) == []


@pytest.mark.parametrize("text", ["0", "-1.5", "+2", ".5", "5.", "1e-3", "1E+2", " 7 ", "007"])
def test_plain_numbers_are_read(text):
    assert texts.number(text) == float(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "e3",
        "1_0",
        "1 0",
        "1,5",
        "0x1",
        "nan",
        "inf",
        "-Infinity",
        "1e999",
        "\uff11",
        "\u0663",
    ],
)
def test_no_other_text_is_a_number(text):
    with pytest.raises(ValueError, match="is not a number"):
        texts.number(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1_0", "two"])
def test_a_count_is_a_whole_number_from_one(text):
    assert texts.count("1e6") == 1_000_000
    with pytest.raises(ValueError, match="is not a"):
        texts.count(text)
