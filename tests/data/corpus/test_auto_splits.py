import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib.data.corpus.auto_splits import MIN_TRAIN_FOREGROUNDS, find_missing, share_out
from flamlib.data.corpus.catalogue import CAPTION_COLUMNS, CLIP_COLUMNS, SPLITS, check_splits

CAPTIONS = ["a dog barks", "rain falls", "a gate creaks", "glass breaks", "a bell rings"]


def rows(*clips, package="own"):
    """A table of clips from (caption, group, split); a caption None is a background."""
    table = [
        {
            "package": package,
            "member": f"{i}.wav",
            "role": "foreground" if caption else "background",
            "caption": caption or "a room",
            "family": caption or "ambience",
            "group": group,
            "split": split,
            "sha256": f"{i}",
            "where": f"line {i}",
        }
        for i, (caption, group, split) in enumerate(clips)
    ]
    return pd.DataFrame(table, columns=[*CLIP_COLUMNS, "where"]).fillna("")


def captions_of(*tables):
    texts = dict.fromkeys(c for t in tables for c in t.loc[t["role"] == "foreground", "caption"])
    table = [{"caption": text, "family": text, "wordings": text} for text in texts]
    return pd.DataFrame(table, columns=CAPTION_COLUMNS).fillna("")


def shared(clips, others=None):
    """The clips with their splits."""
    others = rows() if others is None else others
    return clips.assign(split=share_out(clips, others, captions_of(clips, others)))


def autos(caption, n, name=None):
    return [(caption, f"{name or caption} {i}", "auto") for i in range(n)]


def splits_of(table, caption):
    of = table[table["caption"] == (caption or "a room")]
    return of["split"].value_counts().to_dict()


def test_thirty_recordings_are_enough():
    found = shared(rows(*(x for c in CAPTIONS for x in autos(c, 5)), *autos(None, 5)))
    assert list(find_missing(found)) == []
    check_splits(found, captions_of(found))
    unseen = found.loc[found["split"] == "unseen_captions", "caption"].unique()
    assert len(unseen) == 1
    held = found.loc[found["role"] == "foreground", "split"].value_counts()
    assert (held["seen_captions"], held["valid"]) == (2, 2)
    for caption in set(CAPTIONS) - set(unseen):
        splits = splits_of(found, caption)
        assert splits.pop("train") == 4
        assert sum(splits.values()) == 1
    assert splits_of(found, None)["train"] == 3


def test_a_caption_of_many_has_some_for_each_test():
    found = shared(rows(*autos("a dog barks", 20), *autos("rain falls", 3), *autos(None, 12)))
    assert splits_of(found, "a dog barks") == {"train": 15, "seen_captions": 3, "valid": 2}
    assert splits_of(found, "rain falls") == {"train": 3}  # of two captions none is kept unseen
    held = splits_of(found, None)
    assert held.pop("train") == 9
    assert set(held) == {"valid", "heldout"}


def test_beside_a_catalogue_few_recordings_are_all_trained_on():
    """Its clips fill the tests."""
    there = [(c, f"{s} {c}", s) for c in CAPTIONS[:2] for s in ("train", "valid", "seen_captions")]
    there += [("a cat meows", "cat", "unseen_captions")]
    there += [(None, s, s) for s in SPLITS["background"]]
    others = rows(*there, package="sounds")
    found = shared(rows(*autos(CAPTIONS[2], 3), *autos(None, 3)), others)
    assert set(found["split"]) == {"train"}
    assert splits_of(shared(rows(*autos(CAPTIONS[2], 4)), others), CAPTIONS[2])["train"] == 3


def test_what_has_a_split_keeps_it_and_its_group_and_family_follow():
    others = rows(("a dog barks", "take", "valid"), ("a cat meows", "cat", "unseen_captions"))
    given = [("a dog barks", "take", "auto"), ("a cat meows", "mine", "auto")]
    given += [("rain falls", "shower", "seen_captions"), ("rain falls", "shower", "auto")]
    found = shared(rows(*given, *autos("rain falls", 2)), others)
    assert list(found["split"][:4]) == [
        "valid",
        "unseen_captions",
        "seen_captions",
        "seen_captions",
    ]
    both = pd.concat([others, found])
    check_splits(both, captions_of(both))


def test_what_is_not_there_is_not_counted_upon():
    clips = rows(*autos("a dog barks", 5), *autos("rain falls", 5))
    clips.loc[[1, 3, 6, 8], "sha256"] = ""
    found = shared(clips)
    assert set(found.loc[[1, 3, 6, 8], "split"]) == {"train"}


def test_a_family_that_other_captions_name_is_not_kept_unseen():
    """A caption of the training would name it."""
    named = {"dog": ["dog"], "a big dog barks": ["x", "y"], "a small dog barks": ["z", "u", "v"]}
    clips = [(c, group, "auto") for c, groups in named.items() for group in groups]
    found = shared(rows(*clips))
    assert splits_of(found, "dog") == {"train": 1}
    assert splits_of(found, "a big dog barks") == {"unseen_captions": 2}
    check_splits(found, captions_of(found))


@st.composite
def tables(draw):
    """Groups of any captions and roles, all of them to be shared out."""
    names = st.sampled_from([*CAPTIONS, *[f"sound {c}" for c in "abcdefg"], None])
    return draw(
        st.lists(st.tuples(names, st.integers(0, 25).map(str), st.just("auto")), max_size=60)
    )


@given(tables(), st.randoms())
def test_nothing_leaks_whatever_is_shared_out(clips, random):
    table = rows(*clips)
    found = shared(table)
    assert set(zip(found["role"], found["split"], strict=True)) <= {
        (role, split) for role, splits in SPLITS.items() for split in splits
    }
    check_splits(found, captions_of(found))
    foreground = found[found["role"] == "foreground"]
    splits = foreground.groupby("caption")["split"].agg(set)
    trained = {caption for caption, of in splits.items() if "train" in of}
    for caption, of in splits.items():  # what is not unseen is trained on
        assert of == {"unseen_captions"} or caption in trained
    # In another order it is the same.
    order = list(range(len(table)))
    random.shuffle(order)
    again = shared(table.iloc[order].reset_index(drop=True))
    assert list(again["split"]) == [found["split"][i] for i in order]


@given(st.lists(st.integers(1, 9), min_size=3, max_size=12), st.integers(3, 9))
def test_with_enough_of_each_nothing_is_missing(counts, n_backgrounds):
    captions = [f"sound {chr(97 + i)}" for i in range(len(counts))]
    clips = [x for c, n in zip(captions, counts, strict=True) for x in autos(c, n)]
    found = shared(rows(*clips, *autos(None, n_backgrounds)))
    splits = [splits_of(found, caption) for caption in captions]
    for n, of in zip(counts, splits, strict=True):
        if n >= 4 and "unseen_captions" not in of:
            assert 2 <= len(of) <= 3
            assert of["train"] >= n // 2
    missing = " ".join(find_missing(found))
    assert "unseen_captions" not in missing
    assert "backgrounds" not in missing
    rest = [sum(of.values()) for of in splits if "unseen_captions" not in of]
    if sum(n - 1 for n in rest) >= 2:
        assert "seen_captions" not in missing
        assert "valid" not in missing


def test_what_is_missing_is_counted():
    clips = rows(("a dog barks", "x", "train"), (None, "y", "train"))
    missing = list(find_missing(clips))
    assert len(missing) == 7
    assert (
        missing[0]
        == f"foregrounds of the split train, to train on: 1, at least {MIN_TRAIN_FOREGROUNDS}"
    )
    assert missing[-1] == "captions to train on: 1, at least 2"
    assert list(find_missing(rows()))[-1] == "captions to train on: 0, at least 2"


@pytest.mark.parametrize("role", ["solo", ""])
def test_a_role_that_is_none_is_left_to_who_checks_it(role):
    assert share_out(rows(*autos("x", 1)).assign(role=role), rows(), captions_of(rows())) == [
        "train"
    ]
