from pathlib import Path

import pytest
from handmade import background, clip, write_catalogue

from flamlib.data.corpus import catalogue
from flamlib.data.corpus.catalogue import check_splits, read, select, split_list
from flamlib.experiment.config import load_config

ROOT = Path(__file__).parents[3]


def tables(*clips, **others):
    """The rows as `read` gives them, without a detour over a folder in every test."""

    def read_back(folder):
        write_catalogue(folder, clips, **others)
        return read(folder)

    return read_back


def test_tables_are_read_as_they_were_written(tmp_path):
    rows = [clip(), background()]
    heard = [{"package": "sounds", "member": "rain.wav", "families": "dog bark"}]
    found = tables(*rows, heard=heard)(tmp_path)
    for row, expected in zip(found.clips.to_dict("records"), rows, strict=True):
        assert row.items() >= expected.items()
    assert found.captions["caption"].tolist() == ["a dog barks"]
    assert found.audible == {("sounds", "rain.wav"): ["dog bark"]}


def test_byte_order_marks_windows_lines_and_blanks_change_nothing(tmp_path):
    plain = tables(clip(caption="a “dog” barks", family="dog"))(tmp_path)
    for path in tmp_path.glob("*.tsv"):
        text = path.read_text(encoding="utf-8").replace("\t", " \t ").replace("\n", "\r\n")
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    windows = read(tmp_path)
    assert windows.clips.equals(plain.clips)
    assert windows.captions.equals(plain.captions)


def test_a_quotation_mark_is_a_letter_like_others(tmp_path):
    found = tables(clip(caption='a man says "ha', family="speech"), clip("b"))(tmp_path)
    assert found.clips["caption"].tolist() == ['a man says "ha', "a dog barks"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"caption": ""}, "no caption"),
        ({"family": ""}, "no family"),
        ({"member": ""}, "no member"),
        ({"group": ""}, "no group"),
        ({"role": ""}, "no role"),
        ({"role": "solo"}, "role 'solo'"),
        ({"split": ""}, "no split"),
        ({"split": "test"}, "split 'test'"),
        ({"split": "heldout"}, "split 'heldout' of a foreground"),
        ({"profile": "huge"}, "profile 'huge'"),
        ({"onset": "2", "offset": "1"}, "onset '2' and offset '1'"),
        ({"onset": "soon"}, "onset 'soon'"),
        ({"onset": "nan", "offset": "1"}, "onset 'nan'"),
        ({"member": "bark.wav"}, "listed already: .*line 2"),
        ({"caption": "a dog | barks"}, r"holds a \|"),
    ],
)
def test_a_wrong_row_is_named_with_its_file(tmp_path, wrong, why):
    wrong_clip = clip(**{"member": "b.wav", "caption": "b", "family": "b", **wrong})
    with pytest.raises(ValueError, match=rf"clips\.tsv, line 3: .*{why}"):
        tables(clip(), wrong_clip)(tmp_path)


def test_all_wrong_rows_are_named_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)line 2: .*line 4: "):
        tables(clip(split="x"), clip("b"), clip("c", role="x"))(tmp_path)


def test_a_caption_has_to_be_listed_with_its_family(tmp_path):
    captions = [{"caption": "a dog barks", "family": "dog"}]
    with pytest.raises(ValueError, match="'a dog barks' is of family 'dog', not 'dog bark'"):
        tables(clip(), captions=captions)(tmp_path)
    with pytest.raises(ValueError, match=r"'a dog barks' is not in captions\.tsv"):
        tables(clip(), captions=[{"caption": "another", "family": "dog"}])(tmp_path)
    with pytest.raises(ValueError, match=r"captions\.tsv, line 3: .*listed twice"):
        tables(clip(), captions=captions * 2)(tmp_path)


@pytest.mark.parametrize(
    ("captions", "why"),
    [
        ([("a dog barks", "dog", ""), ("A Dog\u00a0barks", "dog", "")], "is listed twice"),
        ([("a dog barks", "dog", ""), ("a puppy", "Dog", "")], "'Dog' is spelled 'dog' elsewhere"),
        (
            [("a dog barks", "dog", "barking"), ("a fox", "fox", "Barking")],
            "'Barking' is a text of",
        ),
        ([("a dog barks", "dog", "A fox"), ("a fox", "fox", "")], "'a fox' is a text of 'a fox'"),
    ],
)
def test_captions_and_families_that_read_the_same_are_refused(tmp_path, captions, why):
    rows = [dict(zip(("caption", "family", "wordings"), row, strict=True)) for row in captions]
    with pytest.raises(ValueError, match=rf"captions\.tsv, line 3: .*{why}"):
        tables(captions=rows)(tmp_path)


def test_texts_are_normal_and_names_of_files_are_as_on_the_disk(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('path,caption\r\n"a  cafe\u0301.wav","a\u2028cafe\u0301\n bustles"\r\n')
    [row] = catalogue.read_table(path, ["path", "caption"]).to_dict("records")
    assert row["path"] == "a  cafe\u0301.wav"
    assert row["caption"] == "a caf\u00e9 bustles"


def test_the_projects_own_captions_are_as_they_stand():
    path = ROOT / "catalogue/captions.tsv"
    header, *rows = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    found = catalogue.read_table(path, catalogue.CAPTION_COLUMNS).drop(columns="where")
    assert list(found) == header.split("\t")
    assert ["\t".join(row) for row in found.to_numpy()] == rows


def test_a_background_can_only_carry_families_there_are(tmp_path):
    heard = [{"package": "sounds", "member": "rain.wav", "families": "dog bark|cat"}]
    with pytest.raises(ValueError, match=r"background_families\.tsv, line 2: 'cat' is no family"):
        tables(clip(), background(), heard=heard)(tmp_path)


def test_a_missing_or_misspelt_column_is_named(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("path\tcation\n")
    with pytest.raises(ValueError, match=r"table\.tsv, line 1: no column caption"):
        catalogue.read_table(path, ["path", "caption"])
    path.write_text("path\tcaption\tlicense\n")
    with pytest.raises(ValueError, match="'license'; did you mean 'licence'"):
        catalogue.read_table(path, ["path", "caption"], ["licence"])
    path.write_bytes(b"path\tcaption\n\xff\xfe\t\n")
    with pytest.raises(ValueError, match=r"table\.tsv: not UTF-8 text"):
        catalogue.read_table(path, ["path", "caption"])
    path.write_text("path\tcaption\na\tb\n\nc\td\te\n")
    with pytest.raises(ValueError, match=r"table\.tsv, line 4: 3 fields, expected 2"):
        catalogue.read_table(path, ["path", "caption"])


def test_each_profile_holds_the_smaller_ones(tmp_path):
    clips = [clip(p, profile=p) for p in catalogue.PROFILES]
    found = tables(*clips)(tmp_path)
    n_clips = [len(select(found, p).clips) for p in ("none", *catalogue.PROFILES)]
    assert n_clips == [0, 1, 2, 3]
    assert len(select(found, "none", ["sounds"]).clips) == 0  # nothing to choose from
    with pytest.raises(ValueError, match="profile 'fill' is none of"):
        select(found, "fill")


def test_no_package_is_called_as_own_sounds_are(tmp_path):
    with pytest.raises(ValueError, match=r"clips\.tsv, line 2: package 'own' is what a user's own"):
        tables(clip(package="own"))(tmp_path)


def test_packages_named_are_all_that_is_taken_of_a_profile(tmp_path):
    found = tables(clip("a", package="one"), clip("b", package="two"))(tmp_path)
    assert list(select(found, "core", ["two"]).clips["package"]) == ["two"]
    assert len(select(found, "core", []).clips) == 2
    with pytest.raises(ValueError, match=r"no package \['tow'\]; it has \['one', 'two'\]"):
        select(found, "core", ["one", "tow"])


def checked(tmp_path, *clips, captions=None):
    found = tables(*clips, captions=captions)(tmp_path)
    check_splits(found.clips, found.captions)


UNSEEN = {"split": "unseen_captions", "caption": "a cat meows", "family": "cat"}


def test_splits_that_do_not_leak_pass(tmp_path):
    checked(
        tmp_path,
        clip("a"),
        clip("b", split="valid"),
        clip("c", split="seen_captions", package="other"),
        clip("d", **UNSEEN),
        clip("e", package="other", **UNSEEN),
        background("f"),
        background("g", split="heldout"),
    )


def test_near_duplicates_in_two_splits_leak(tmp_path):
    with pytest.raises(ValueError, match=r"group twins is in two splits: sounds a train .*line 2"):
        checked(tmp_path, clip("a", group="twins"), clip("b", group="twins", split="valid"))


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_held_out_package_in_training_leaks(tmp_path, split):
    with pytest.raises(ValueError, match="package sounds is held out"):
        checked(tmp_path, clip("a", split="seen_captions"), clip("b", split=split))


@pytest.mark.parametrize("split", ["train", "valid", "seen_captions"])
def test_an_unseen_family_in_another_split_leaks(tmp_path, split):
    seen = clip("a", split=split, caption="a kitten", family="cat")
    with pytest.raises(ValueError, match="family 'cat' is kept for unseen_captions"):
        checked(tmp_path, seen, clip("b", **UNSEEN))


@pytest.mark.parametrize(
    ("wording", "leaks"),
    [("hissing of a Cat", True), ("cats fight", False), ("concatenation", False)],
)
def test_a_training_text_that_names_an_unseen_family_leaks(tmp_path, wording, leaks):
    captions = [
        {"caption": "an animal hisses", "family": "hiss", "wordings": f"hissing|{wording}"},
        {"caption": "a cat meows", "family": "cat", "wordings": "a cat meows|cat"},
    ]
    clips = [clip("a", caption="an animal hisses", family="hiss"), clip("b", **UNSEEN)]
    if leaks:
        with pytest.raises(ValueError, match=f"'{wording}', .*names the family 'Cat'"):
            checked(tmp_path, *clips, captions=captions)
    else:
        checked(tmp_path, *clips, captions=captions)


def test_a_broader_caption_in_training_that_names_an_unseen_family_leaks(tmp_path):
    captions = [
        {"caption": "an animal hisses", "family": "hiss", "parents": "a cat makes a sound"},
        {"caption": "a cat meows", "family": "cat"},
    ]
    clips = [clip("a", caption="an animal hisses", family="hiss"), clip("b", **UNSEEN)]
    with pytest.raises(ValueError, match=r"'a cat makes a sound', .*names the family 'cat'"):
        checked(tmp_path, *clips, captions=captions)


@pytest.mark.parametrize("profile", catalogue.PROFILES)
def test_the_projects_own_catalogue_does_not_leak(profile):
    found = select(read(ROOT / "catalogue"), profile)
    assert len(found.clips) > 700
    check_splits(found.clips, found.captions)
    foregrounds = found.clips[found.clips["role"] == "foreground"]
    taught = set(foregrounds.loc[foregrounds["split"] == "train", "caption"])
    assert set(foregrounds.loc[foregrounds["split"] == "seen_captions", "caption"]) <= taught
    backgrounds = found.clips[found.clips["role"] == "background"]
    assert set(backgrounds["split"]) == {"train", "valid", "heldout"}


FOREGROUND = ("train", "valid", "seen_captions", "unseen_captions")
NEEDED = {
    "foreground": FOREGROUND,
    "background": ("train", "valid", "heldout"),
    "masker": ("train", "heldout"),
}


@pytest.mark.parametrize("small", [False, True])
def test_the_mixtures_of_every_part_have_what_they_are_made_of(small):
    """Also those of a small run, which takes a few packages."""
    source = load_config(small=small).source
    clips = select(read(ROOT / "catalogue"), source.profile, source.only).clips
    there = set(zip(clips["role"], clips["split"], strict=True))
    assert {(role, split) for role, splits in NEEDED.items() for split in splits} <= there


def test_the_projects_own_captions_begin_with_themselves():
    for row in read(ROOT / "catalogue").captions.itertuples(index=False):
        texts = split_list(row.wordings)
        assert texts[0] == row.caption
        assert len(set(texts)) == len(texts), row.where
