from pathlib import Path

import pytest
from handmade import background, clip, write_catalogue

from flamlib.data.collections.items import AUTO, TRAIN, Item
from flamlib.data.corpus import catalogue
from flamlib.data.corpus.kept_unseen import KeptUnseen

CAPTIONS = [
    {"caption": "a dog barks", "family": "dog bark", "wordings": "a dog barks|barking"},
    {"caption": "a cat meows", "family": "cat", "wordings": "a cat meows|miaow"},
]
MEOW = clip("meow.wav", caption="a cat meows", family="cat", split="unseen_captions")


@pytest.fixture
def kept(tmp_path):
    write_catalogue(tmp_path, [clip(), background(), MEOW], CAPTIONS)
    return KeptUnseen(catalogue.read(tmp_path))


def item(caption, split=TRAIN, **more):
    return Item(Path("a.wav"), "table.csv, line 2", caption, split=split, **more)


@pytest.mark.parametrize(
    ("caption", "family"),
    [("a cat meows", ""), ("A Cat  MEOWS", ""), ("miaow", ""), ("purring", "cat"), ("cat", "")],
)
def test_what_is_of_a_family_that_is_kept_unseen_is_not_trained_on(kept, caption, family):
    assert kept.check(item(caption), family) == "'cat' is kept for unseen captions"
    shared_out = item(caption, split=AUTO)
    assert kept.check(shared_out, family) is shared_out


@pytest.mark.parametrize("split", [TRAIN, AUTO])
def test_a_caption_that_names_one_is_not_trained_on(kept, split):
    why = kept.check(item("a Cat hisses at a dog", split=split), "")
    assert why == "'a Cat hisses at a dog' names 'Cat', which is kept for unseen captions"


@pytest.mark.parametrize(
    "caption", ["a dog barks", "cattle", "a bobcat", "猫が鳴く", "concatenation"]
)
def test_another_caption_is(kept, caption):
    assert kept.check(item(caption), "") == item(caption)


def test_wordings_and_broader_captions_that_name_one_are_left_out(kept):
    found = kept.check(
        item("hiss", wordings=("hissing", "cat hiss"), parents=("cat", "animal")), ""
    )
    assert (found.caption, found.wordings, found.parents) == ("hiss", ("hissing",), ("animal",))


def test_without_a_family_that_is_kept_unseen_everything_may_join(tmp_path):
    write_catalogue(tmp_path, [clip(), background()], CAPTIONS[:1])
    kept = KeptUnseen(catalogue.read(tmp_path))
    asked = item("a cat meows", parents=("cat",))
    assert kept.check(asked, "cat") == item("a cat meows", parents=("cat",))
