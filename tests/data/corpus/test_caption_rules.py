import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib import texts
from flamlib.data.corpus import catalogue
from flamlib.data.corpus.caption_rules import (
    clean_answer,
    find_violation,
    words_from_facts,
    words_in_name,
)
from flamlib.data.corpus.caption_writers import Template
from flamlib.sound_events import events

DOG = {"tags": "Dog; Bark", "title": "Dog_Bark-02.wav"}


@pytest.mark.parametrize(
    ("caption", "why"),
    [
        ("a dog barks", None),
        ("a dog barks loudly and a dog growls", None),
        ("a small dog barks in a large hall", None),
        ("bark", "1 words"),
        ("a " * 14, "14 words"),
        ("a dog barks then stops", "'then' puts"),
        ("a dog barks, followed by silence", "'followed' puts"),
        (
            "a dog barks and a car honks",
            "a second event that is not in the metadata: 'a car honks'",
        ),
        ("a dog barks while rain falls", "not in the metadata: 'rain falls'"),
        ("a dog barks, birds sing", "is not in the metadata"),
        ("A dog barks. A car passes", "more than one phrase"),
        ("", "0 words"),
    ],
)
def test_a_caption_names_one_sound(caption, why):
    found = find_violation(caption, DOG)
    assert found == why if why is None else why in found


def test_two_events_that_are_both_known_are_one_caption():
    assert find_violation("rain falls and thunder rolls", {"tags": "Rain; Thunder"}) is None


PHRASE = "a dog barks"


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        ('"A dog barks."', PHRASE),
        ("- A dog   barks\n- A dog growls", PHRASE),
        ("Caption: a dog barks", PHRASE),
        ("1. A dog barks", PHRASE),
        ("TV noise", "TV noise"),
        ("\n\n", ""),
        # Thinking.
        ("<think>tags are dog, bark</think>a dog barks", PHRASE),
        ("tags are dog, bark\n</think>\n\nA dog barks.", PHRASE),
        ("<think>\ntags are dog, bark\n\nso a dog growls", ""),
        ("<think>a <think> within</think>A dog barks", PHRASE),
        ("<think>a<think>b</think>a dog growls</think>A dog barks", PHRASE),
        ("A dog barks <think>or growls", PHRASE),
        ("A dog barks\n<think>or growls</think>", PHRASE),
        ("<THINKING lang='en'>a dog growls</THINKING >\na dog barks", PHRASE),
        ("<reasoning>a dog growls</reasoning><answer>A dog barks.</answer>", PHRASE),
        ("<seed:think>a dog growls</seed:think>a dog barks", PHRASE),
        ("[THINK]a dog growls[/THINK]a dog barks", PHRASE),
        ("◁think▷a dog growls◁/think▷a dog barks", PHRASE),
        ("<|START_THINKING|>a dog growls<|END_THINKING|>a dog barks", PHRASE),
        ("<|begin_of_thought|>a dog growls<|end_of_thought|>a dog barks", PHRASE),
        ("&lt;think&gt;a dog growls&lt;/think&gt;a dog barks", PHRASE),
        ("<|channel|>analysis<|message|>a dog growls<|end|>", ""),
        (
            "<|channel|>analysis<|message|>a dog growls<|end|><|start|>assistant"
            "<|channel|>final<|message|>A dog barks<|return|>",
            PHRASE,
        ),
        ("<|channel>thought\na dog growls<channel|>a dog barks", PHRASE),
        ("analysisIt may growl.assistantfinalA dog barks", PHRASE),
        ("<|im_start|>assistant\na dog barks<|im_end|>\n<|im_start|>user\nmore", PHRASE),
        ("a dog barks<end_of_turn>\n<start_of_turn>user", PHRASE),
        # Markdown.
        ("**Caption:** *a dog barks*", PHRASE),
        ("# Caption\n\n> __a dog barks__", PHRASE),
        ("**Caption**\n\na dog barks", PHRASE),
        ("```text\na dog barks\n```", PHRASE),
        ("`a dog barks`", PHRASE),
        ("[a dog barks](https://example.org)", PHRASE),
        ("Sure! Here is a caption:\n\n- **A dog barks.**\n\nShall I write more?", PHRASE),
        ("Final answer: “A dog barks”.", PHRASE),
        ("1) a) a dog barks", PHRASE),
        # HTML.
        ("<p>A <b>dog</b> barks</p><p>It is small.</p>", PHRASE),
        ("<!-- a dog growls -->A dog barks<br>loudly", PHRASE),
        ("<script>growl()</script>A dog barks", PHRASE),
        ("A&nbsp;dog&#32;barks", PHRASE),
        ("a dog barks &amp;amp; growls", "a dog barks & growls"),
        # Line ends, and what only looks like one.
        ("a dog\u2028barks\ra dog growls", PHRASE),
        ("\ufeffa dog\u200b barks", PHRASE),
    ],
)
def test_the_phrase_is_taken_out_of_the_answer(answer, phrase):
    assert clean_answer(answer) == phrase


@pytest.mark.parametrize(
    "caption",
    [
        "a <b>dog</b> barks",
        "a dog > a cat",
        "a *dog* barks",
        "a `dog` barks",
        "a {dog} barks",
        "a dog barks | a cat",
        "a [dog] barks",
        "a dog\\barks loudly",
        "dog_bark dog_bark",
        "=HYPERLINK a dog",
        "+a dog barks",
        "-a dog barks",
        "@a dog barks",
        "a dog\0 barks",
        "a dog\tbarks loudly",
        "a dog \u202ebarks",
        "a dog\u200b barks",
        "a dog\u200d barks",
        "\u200da dog barks",
        "a dog\u2028barks loudly",
        "a dog\u2066 barks",
        "a dog\u00ad barks",
        "a dog barks \ud800",
        "a dog barks " + chr(0xFFFD),
        "a dog barks \ufffe",
        "a dog barks \ue000",
        "a dog barks \N{DOG FACE}",
        "a dog barks https://example.org",
        "a dog barks www.example.org",
        "a dog of example.org barks",
        "a dog barks.a dog growls",
        "dog " * 13 + "x" * 200,
    ],
)
def test_what_is_not_plain_words_is_no_caption(caption):
    assert find_violation(caption, DOG) is not None


@pytest.mark.parametrize(
    "caption",
    [
        "a dog's bark in hall 3",
        "a small (old) dog barks",
        "a dog barks at 100 % volume",
        "a four-wheel drive's horn",
        "eine Tür knarrt",
        "кошка мяукает",
        "μια γάτα νιαουρίζει",
        "कुत्ता भौंकता है",
        "می‌شود صدای سگ",
        "犬が吠えている",
        "สุนัขเห่าเสียงดัง",
        "כלב נובח",
    ],
)
def test_the_letters_of_every_script_are_plain_words(caption):
    assert find_violation(caption, {"tags": caption}) is None
    assert clean_answer(caption) == caption


def seconds_of(work):
    started = time.process_time()
    work()
    return time.process_time() - started


REPEATED = ["<think>", "</think>", "<", "<!--", "<p ", "[", " ", "\n", "_", "*", "&", "a", "a:"]
REPEATED += ["a.b", ">", "<|im_start|>   ", "<answer>", "<|channel|>", "analysis", "&amp;", "[a]("]
REPEATED += ["a@", "'"]


@pytest.mark.parametrize("part", REPEATED)
def test_an_answer_of_a_megabyte_is_read_in_a_moment(part):
    """Whatever it repeats, also after the mark of a chat template."""
    answer = part * (10**6 // len(part))
    for text in (answer, "<|im_start|>" + answer):
        assert seconds_of(lambda text=text: find_violation(clean_answer(text), DOG)) < 10


MARKS = ["<think>", "</think>", "<|channel|>", "final", "<|message|>", "**", "_", "`", "\n", "- "]
MARKS += ["Caption: ", "<b>", "</b>", "&amp;", "&lt;", '"', ".", "=", "|", "a dog barks", "\u202e"]


@given(st.lists(st.sampled_from(MARKS) | st.text(max_size=9), max_size=9).map("".join))
def test_what_is_kept_of_an_answer_stays_what_it_is_in_every_table(tmp_path_factory, text):
    caption = clean_answer(text)
    if find_violation(caption, {"tags": caption}) is not None:
        return
    assert clean_answer(caption) == caption
    assert texts.normal(caption) == caption
    assert catalogue.split_list(caption) == [caption]
    path = tmp_path_factory.mktemp("table") / "e.tsv"
    written = {"a.wav": [events.Event(0.0, 1.0, caption)]}
    events.write_events(path, written)
    assert events.read_events(path) == written


@given(
    st.fixed_dictionaries({key: st.text(max_size=60) for key in ("tags", "title", "description")}),
    st.integers(0, 9),
)
def test_a_template_writes_a_caption_that_breaks_no_rule_or_none(facts, seed):
    caption = None
    with suppress(ValueError):
        caption = Template()(facts, seed)
    if caption is not None:
        assert find_violation(caption, facts) is None
        assert texts.normal(caption) == caption


def test_a_file_name_is_words():
    assert words_in_name("a/b/IceCube_Glass 03.flac") == ["ice", "cube", "glass"]
    assert words_in_name("犬の声.wav") == ["犬の声"]
    assert words_in_name("12.wav") == []


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ("<p>A <b>dog</b> barks &amp; growls</p>", "dog barks growls"),
        ("https://example.org/s/123 dog bark recorded with Zoom H4n at 24/96", "dog bark"),
        ("dog bark, recorded on a DR-40 in a wood; 48 kHz 24bit", "dog bark"),
        ("www.example.org/dog.html me@example.org example.org rain", "rain"),
        ("A dog barks, then a car passes", "dog barks"),
        ("Before the rain", "the rain"),
        ("Recorded in Berlin. A dog barks.", "dog barks"),
        ("rain / hail", "rain hail"),
        ("a children's choir", "children's choir"),
        ("cafe\u0301 noise", "café noise"),
        ("<!-- x --><script>y()</script>rain", "rain"),
        ("dog|bark\u202e", "dog bark"),
    ],
)
def test_addresses_tags_and_recorders_are_no_words(description, words):
    assert " ".join(words_from_facts({"description": description})) == words


def test_where_the_title_says_nothing_the_rest_is_read():
    facts = {"title": "https://example.org/12/", "description": "24/96", "tags": "<b>Dog</b>; 1"}
    assert words_from_facts(facts) == ["dog"]
