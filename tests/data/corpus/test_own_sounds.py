import unicodedata

import pandas as pd
import pytest
import soundfile
from bad_files import GOOD, write_bad_files
from handmade import background, clip, tone, wav, write_catalogue, write_tsv

from flamlib.data.corpus import catalogue, own_sounds, recordings
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.sound_events.events import Event
from flamlib.storage import files

COLUMNS = [*own_sounds.COLUMNS, *own_sounds.OPTIONAL]


@pytest.fixture
def add(tmp_path):
    """The catalogue with the sounds of a table added; each file in it is a tone of its own."""
    captions = [
        {"caption": "a dog barks", "family": "dog bark", "wordings": "a dog barks|barking"},
        {"caption": "a cat meows", "family": "cat", "wordings": "a cat meows|meow"},
    ]
    unseen = clip("meow.wav", caption="a cat meows", family="cat", split="unseen_captions")
    write_catalogue(tmp_path / "catalogue", [clip(), background(), unseen], captions)

    def add(*rows, columns=COLUMNS):
        for i, row in enumerate(rows):
            if row.get("path") and ".." not in row["path"]:
                path = tmp_path / "own" / row["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, tone(100 + i), 16000)
        write_tsv(tmp_path / "own/sounds.tsv", columns, rows)
        known = catalogue.read(tmp_path / "catalogue")
        return own_sounds.add(known, tmp_path / "own")

    return add


def own(found):
    return found.clips[found.clips["package"] == "own"].to_dict("records")


def test_path_and_caption_are_enough(add):
    found = add({"path": "gate.wav", "caption": "a gate creaks"}, columns=["path", "caption"])
    [row] = own(found)
    assert row["member"] == "gate.wav"
    assert row["role"] == "foreground"
    assert row["split"] == "train"
    assert row["family"] == "a gate creaks"
    assert row["licence"] == "unknown"
    assert found.captions.iloc[-1]["wordings"] == "a gate creaks"
    assert len(found.clips) == 4


def test_what_is_given_is_kept(add):
    given = {
        "path": "sub folder/Tür – 日本.wav",
        "caption": "eine Tür knarrt",
        "role": "foreground",
        "licence": "CC BY 4.0",
        "split": "valid",
        "onset": "0.1",
        "offset": "0.4",
        "family": "door",
        "wordings": "Türknarren|ドアがきしむ",
        "group": "hall",
    }
    found = add(given)
    [row] = own(found)
    kept = ("caption", "role", "licence", "split", "onset", "offset", "family")
    assert {key: row[key] for key in kept} == {key: given[key] for key in kept}
    assert row["member"] == given["path"]
    assert found.captions.iloc[-1]["wordings"] == "eine Tür knarrt|Türknarren|ドアがきしむ"


@pytest.mark.parametrize("text", ["a dog barks", "A dog barks", "barking"])
def test_a_text_the_catalogue_knows_joins_its_caption(add, text):
    found = add({"path": "x.wav", "caption": text, "wordings": "wuff"})
    assert own(found)[0]["caption"] == "a dog barks"
    assert own(found)[0]["family"] == "dog bark"
    assert len(found.captions) == 2
    assert found.captions.iloc[0]["wordings"] == "a dog barks|barking|wuff"


SPELLINGS = (
    "eine Tür knarrt",
    "Eine tür Knarrt",
    unicodedata.normalize("NFD", "eine Tür knarrt"),
    "eine\u00a0Tür\u2028knarrt",
    "eine  Tür\u200b knarrt",
    "\uff45ine Tür knarrt",
)


@pytest.mark.parametrize("order", [SPELLINGS, SPELLINGS[::-1]])
def test_texts_that_read_the_same_are_one_caption_and_no_negatives(add, order):
    found = add(
        *(
            {"path": f"{i}.wav", "caption": text, "wordings": f"Türknarren|{text}"}
            for i, text in enumerate(order)
        )
    )
    [caption] = {row["caption"] for row in own(found)}
    assert {row["family"] for row in own(found)} == {caption}
    assert caption == " ".join(unicodedata.normalize("NFC", order[0]).split())
    assert found.captions.iloc[-1]["wordings"].split("|") == [caption, "Türknarren"]
    lexicon = Lexicon(found.captions)
    active, known = lexicon.label(
        [[Event(0, 1, caption)]], [[]], [caption], n_frames=2, frame_s=0.5, clip_s=1.0
    )
    assert known.all()
    assert active.all()
    assert caption not in lexicon.resembling(caption, 10)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_caption_that_is_a_wording_of_another_is_that_one(add, backwards):
    rows = [
        {"path": "a.wav", "caption": "a gate creaks", "wordings": "Creaking"},
        {"path": "b.wav", "caption": "creaking", "wordings": "a squeak"},
        {"path": "c.wav", "caption": "a squeak", "wordings": "A gate creaks"},
    ]
    found = add(*rows[:: -1 if backwards else 1])
    [caption] = {row["caption"] for row in own(found)}
    assert caption in {row["caption"] for row in rows}
    keys = [text.casefold() for text in found.captions.iloc[-1]["wordings"].split("|")]
    assert sorted(keys) == ["a gate creaks", "a squeak", "creaking"]


def test_a_text_can_stand_for_one_sound_only(add):
    rows = [
        {"path": "a.wav", "caption": "a tap runs", "wordings": "water"},
        {"path": "b.wav", "caption": "rain falls", "wordings": "Water"},
    ]
    with pytest.raises(
        ValueError, match=r"line 3: 'Water' is a text of 'rain falls' and of 'a tap"
    ):
        add(*rows)
    assert len(add(*(row | {"family": "water"} for row in rows)).captions) == 4  # nobody can tell


def test_a_caption_that_the_catalogue_has_as_a_broader_one_is_spelled_as_there(add, tmp_path):
    known = pd.DataFrame(
        [{"caption": "a cello plays", "family": "cello", "parents": "Music plays"}]
    )
    known = known.reindex(columns=[*catalogue.CAPTION_COLUMNS, "where"], fill_value="")
    clips = pd.DataFrame(columns=[*catalogue.CLIP_COLUMNS, "where"], dtype=str)
    add({"path": "a.wav", "caption": "music plays"})
    found = own_sounds.add(catalogue.Catalogue(clips, known, {}), tmp_path / "own")
    assert own(found)[0]["caption"] == "Music plays"


def test_families_and_groups_that_read_the_same_are_one(add):
    found = add(
        {"path": "a.wav", "caption": "a terrier barks", "family": "DOG bark", "group": "Hall"},
        {"path": "b.wav", "caption": "a wolf howls", "family": "Wolf", "group": "hall"},
        {"path": "c.wav", "caption": "a pack howls", "family": "wolf"},
        {"path": "d.wav", "caption": "A wolf howls"},
        {"path": "e.wav", "caption": "a wood", "role": "background", "family": "WOLF|Dog bark"},
        {"path": "f.wav", "caption": "A Wolf howls", "role": "background"},
    )
    rows = own(found)
    assert [row["family"] for row in rows[:4]] == ["dog bark", "Wolf", "Wolf", "Wolf"]
    assert rows[0]["group"] == rows[1]["group"] != rows[2]["group"]
    assert found.audible["own", "e.wav"] == ["Wolf", "dog bark"]
    assert found.audible["own", "f.wav"] == ["Wolf"]


def test_a_known_caption_cannot_change_its_family(add):
    with pytest.raises(
        ValueError, match=r"sounds\.tsv, line 2: .*of family 'dog bark', not 'wolf'"
    ):
        add({"path": "x.wav", "caption": "a dog barks", "family": "wolf"})


def test_a_background_says_what_can_be_heard_in_it(add):
    found = add(
        {"path": "a.wav", "caption": "a yard", "role": "background", "family": "dog bark|cat"},
        {"path": "b.wav", "caption": "barking", "role": "background"},
        {"path": "c.wav", "caption": "a quiet room", "role": "background"},
        {"path": "d.wav", "caption": "a radio talks", "role": "masker", "family": "cat"},
    )
    heard = [found.audible["own", row["member"]] for row in own(found)]
    assert heard == [["dog bark", "cat"], ["dog bark"], [], ["cat"]]
    assert {row["family"] for row in own(found)} == {"ambience"}
    with pytest.raises(ValueError, match=r"sounds\.tsv, line 2: 'wolf' is no family"):
        add({"path": "a.wav", "caption": "a yard", "role": "background", "family": "wolf"})


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"caption": ""}, "no caption"),
        ({"path": ""}, "no path"),
        ({"path": "../secret.wav"}, "not in the folder"),
        ({"path": "/etc/secret.wav"}, "not in the folder"),
        ({"role": "solo"}, "role 'solo'"),
        ({"split": "heldout"}, "split 'heldout' of a foreground"),
        ({"onset": "1", "offset": "1"}, "are not 0 <= onset < offset"),
        ({"path": "a.wav"}, "listed already"),
        ({"path": "./a.wav"}, "listed already"),
        ({"path": "/" + "x" * 5000}, "not in the folder"),
    ],
)
def test_a_wrong_row_is_named(add, tmp_path, wrong, why):
    (tmp_path / "own").mkdir()
    for name in ("a.wav", "b.wav"):
        (tmp_path / "own" / name).write_bytes(wav())
    row = {"path": "b.wav", "caption": "b", **wrong}
    if row["path"].startswith("/"):
        write_tsv(tmp_path / "own/sounds.tsv", COLUMNS, [{"path": "a.wav", "caption": "a"}, row])
        with pytest.raises(ValueError, match=rf"line 3: .*{why}"):
            own_sounds.add(catalogue.read(tmp_path / "catalogue"), tmp_path / "own")
        return
    with pytest.raises(ValueError, match=rf"sounds\.tsv, line 3: .*{why}"):
        add({"path": "a.wav", "caption": "a"}, row)


def test_an_unknown_column_is_named(add):
    with pytest.raises(ValueError, match="'license'; did you mean 'licence'"):
        add({"path": "a.wav", "caption": "a"}, columns=["path", "caption", "license"])


def test_the_table_may_be_a_csv_with_quoted_values(add, tmp_path):
    add({"path": "a, b.wav", "caption": "x"})
    table = tmp_path / "own/sounds.tsv"
    (tmp_path / "own/sounds.csv").write_text(
        'path,caption\r\n"a, b.wav","a ""big"" dog\nbarks"\r\n'
    )
    known = catalogue.read(tmp_path / "catalogue")
    with pytest.raises(ValueError, match=r"both sounds\.tsv and sounds\.csv"):
        own_sounds.add(known, tmp_path / "own")
    table.unlink()
    [row] = own(own_sounds.add(known, tmp_path / "own"))
    assert row["member"] == "a, b.wav"
    assert row["caption"] == 'a "big" dog barks'
    (tmp_path / "own/sounds.csv").unlink()
    with pytest.raises(ValueError, match="columns path and caption"):
        own_sounds.add(known, tmp_path / "own")


def test_identical_files_are_one_group_and_others_are_not(add, tmp_path):
    rows = [{"path": f"{name}.wav", "caption": name} for name in "abcd"]
    rows[2]["group"] = rows[3]["group"] = "alike"
    add(*rows)
    (tmp_path / "own/b.wav").write_bytes((tmp_path / "own/a.wav").read_bytes())
    found = own_sounds.add(catalogue.read(tmp_path / "catalogue"), tmp_path / "own")
    a, b, c, d = (row["group"] for row in own(found))
    assert a == b != c
    assert c == d


def test_a_copy_of_a_catalogued_recording_is_in_its_group(add, tmp_path):
    found = add({"path": "copy.wav", "caption": "x"})
    found.clips.loc[0, "sha256"] = own(found)[0]["sha256"]
    again = own_sounds.add(
        catalogue.Catalogue(found.clips.iloc[:3], found.captions.iloc[:2], {}), tmp_path / "own"
    )
    assert own(again)[0]["group"] == found.clips.loc[0, "group"]


@pytest.mark.parametrize("row", [{"caption": "meow"}, {"caption": "a kitten", "family": "cat"}])
def test_training_on_an_unseen_family_leaks_and_the_error_says_so(add, row):
    found = add({"path": "x.wav", **row})
    with pytest.raises(ValueError, match=r"'cat' is kept for unseen_captions.*sounds\.tsv, line 2"):
        catalogue.check_splits(found.clips, found.captions)
    found = add({"path": "x.wav", "split": "unseen_captions", **row})
    catalogue.check_splits(found.clips, found.captions)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("x" * 5000, "longer than the name of a file"),
        ("sub/" + "ä" * 128 + ".wav", "longer than the name of a file"),
        ("..\\secret.wav", "folders are separated by /"),
        ("C:\\sounds\\a.wav", "folders are separated by /"),
    ],
)
def test_a_path_that_no_file_can_have_is_named_with_its_row(add, tmp_path, path, why):
    add({"path": "a.wav", "caption": "a"})
    rows = [{"path": "a.wav", "caption": "a"}, {"path": path, "caption": "b"}]
    write_tsv(tmp_path / "own/sounds.tsv", COLUMNS, rows)
    with pytest.raises(ValueError, match=rf"sounds\.tsv, line 3: .*{why}"):
        own_sounds.add(catalogue.read(tmp_path / "catalogue"), tmp_path / "own")


@pytest.mark.parametrize(
    ("on_disk", "listed"),
    [
        ("cafe\u0301.wav", "caf\u00e9.wav"),
        ("caf\u00e9.wav", "cafe\u0301.wav"),
        ("cafe\u0301/sub/a.wav", "caf\u00e9\\sub\\a.wav"),
        ("sub/a.wav", "sub\\a.wav"),
    ],
)
def test_a_file_is_found_as_the_disk_spells_it(add, tmp_path, on_disk, listed):
    add({"path": on_disk, "caption": "a"})
    write_tsv(tmp_path / "own/sounds.tsv", COLUMNS, [{"path": listed, "caption": "a"}])
    [row] = own(own_sounds.add(catalogue.read(tmp_path / "catalogue"), tmp_path / "own"))
    assert row["member"] == on_disk
    (tmp_path / "out/audio").mkdir(parents=True)
    assert isinstance(
        recordings.store(row, tmp_path / "own" / row["member"], tmp_path / "out"), dict
    )


def test_a_link_may_lead_anywhere(add, tmp_path):
    add({"path": "a.wav", "caption": "a"})
    (tmp_path / "own/a.wav").rename(tmp_path / "elsewhere.wav")
    (tmp_path / "own/a.wav").symlink_to(tmp_path / "elsewhere.wav")
    (tmp_path / "own/up").symlink_to(tmp_path)
    rows = [{"path": "a.wav", "caption": "a"}, {"path": "up/elsewhere.wav", "caption": "b"}]
    write_tsv(tmp_path / "own/sounds.tsv", COLUMNS, rows)
    found = own(own_sounds.add(catalogue.read(tmp_path / "catalogue"), tmp_path / "own"))
    assert [row["sha256"] for row in found] == [files.sha256(tmp_path / "elsewhere.wav")] * 2


@pytest.mark.parametrize("name", ["sounds.CSV", "Sounds.csv", "SOUNDS.TSV"])
def test_the_name_of_the_table_may_be_in_any_case(add, tmp_path, name):
    add({"path": "a.wav", "caption": "a"}, columns=["path", "caption"])
    text = (tmp_path / "own/sounds.tsv").read_text()
    (tmp_path / "own/sounds.tsv").unlink()
    separator = "," if name.lower().endswith("csv") else "\t"
    (tmp_path / "own" / name).write_text(text.replace("\t", separator))
    found = own_sounds.add(catalogue.read(tmp_path / "catalogue"), tmp_path / "own")
    assert [row["member"] for row in own(found)] == ["a.wav"]


def test_a_missing_file_is_no_reason_to_stop_yet(add, tmp_path):
    add({"path": "a.wav", "caption": "a"}, {"path": "b.wav", "caption": "b"})
    (tmp_path / "own/b.wav").unlink()
    found = own_sounds.add(catalogue.read(tmp_path / "catalogue"), tmp_path / "own")
    assert [row["member"] for row in own(found)] == ["a.wav", "b.wav"]


def test_what_lasts_long_is_a_background_if_that_is_the_rule(tmp_path):
    write_catalogue(tmp_path / "catalogue", [clip()])
    seconds = {"gate.wav": 0.5, "street.wav": 2.0, "storm.wav": 3.0}
    (tmp_path / "own").mkdir()
    for name, length in seconds.items():
        soundfile.write(tmp_path / "own" / name, tone(300 * length, length), 16000)
    rows = [{"path": name, "caption": f"a {name[:-4]}"} for name in seconds]
    rows[2]["role"] = "foreground"  # said is said
    write_tsv(tmp_path / "own/sounds.tsv", ["path", "caption", "role"], rows)
    known = catalogue.read(tmp_path / "catalogue")
    plain = own(own_sounds.add(known, tmp_path / "own"))
    assert [row["role"] for row in plain] == ["foreground"] * 3
    by_length = own(own_sounds.add(known, tmp_path / "own", background_from_s=2))
    assert [row["role"] for row in by_length] == ["foreground", "background", "foreground"]


@pytest.mark.parametrize("background_from_s", [None, 10.0])
def test_bad_files_are_rows_like_the_others_until_they_are_stored(tmp_path, background_from_s):
    bad = write_bad_files(tmp_path / "own")
    write_catalogue(tmp_path / "catalogue", [clip(), background()])
    rows = [{"path": name, "caption": "a gate creaks"} for name in [GOOD, *bad]]
    write_tsv(tmp_path / "own/sounds.tsv", ["path", "caption"], rows)
    known = catalogue.read(tmp_path / "catalogue")
    found = own_sounds.add(known, tmp_path / "own", background_from_s=background_from_s)
    assert [row["member"] for row in own(found)] == [GOOD, *bad]
