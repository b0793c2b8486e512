import unicodedata

import pytest
import soundfile
from handmade import background, clip, tone, wav, write_catalogue, write_tsv

from flamlib.data.corpus import catalogue, own_sounds

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


def test_letters_composed_in_two_ways_are_one_caption(add):
    texts = [unicodedata.normalize(form, "eine Tür knarrt") for form in ("NFC", "NFD")]
    assert texts[0] != texts[1]
    found = add(*({"path": f"{i}.wav", "caption": text} for i, text in enumerate(texts)))
    assert len({row["caption"] for row in own(found)}) == 1


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
    )
    heard = [found.audible["own", row["member"]] for row in own(found)]
    assert heard == [["dog bark", "cat"], ["dog bark"], []]
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
