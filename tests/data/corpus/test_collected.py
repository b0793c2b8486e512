"""Collections as parts of the corpus."""

import re

import collection_files
import numpy as np
import pandas as pd
import pytest
import set_files
import soundfile
from handmade import background, clip, write_catalogue
from set_files import write_audio

from flamlib.data.corpus import build, catalogue, collected
from flamlib.data.mixtures import bank, mixing, recipes
from flamlib.experiment.config import load_config
from flamlib.experiment.params.sounds import SourceConfig


@pytest.fixture
def known(tmp_path):
    """A catalogue of one package, `sounds`."""
    clips = [clip(), background(), clip("m.wav", caption="a cat meows", family="cat")]
    captions = [
        {"caption": "a dog barks", "family": "dog bark", "wordings": "a dog barks|bark"},
        {"caption": "a cat meows", "family": "cat", "wordings": "a cat meows"},
    ]
    write_catalogue(tmp_path / "catalogue", clips, captions)
    return catalogue.read(tmp_path / "catalogue")


def add(known, tmp_path, *entries, **options):
    found, _ = collected.add(known, entries, base=tmp_path, progress=False, **options)
    catalogue.check_splits(found.clips, found.captions)
    return found


def rows_of(found, package):
    rows = found.clips[found.clips["package"] == package].to_dict("records")
    return {row["member"].split("/")[-1]: row for row in rows}


def why_of(found, package):
    return {r["member"].split("/")[-1]: r["why"] for r in found.left_out if r["package"] == package}


def test_fsd50k_joins_captions_that_there_are(known, tmp_path):
    collection_files.fsd50k(tmp_path / "fsd")
    found = add(known, tmp_path, {"kind": "fsd50k", "folder": "fsd"})
    rows = rows_of(found, "fsd50k")
    assert rows["999001.wav"]["caption"] == "a dog barks"  # of which "bark" is a wording
    assert rows["999001.wav"]["family"] == "dog bark"
    assert rows["999008.wav"]["split"] == "seen_captions"
    assert rows["999003.wav"]["split"] == "valid"
    captions = found.captions.set_index("caption")
    assert captions.loc["meow", "parents"] == "cat|animal"
    assert captions.loc["walk, footsteps", "wordings"] == "walk, footsteps|walk|footsteps"
    assert found.folders == {"fsd50k": tmp_path / "fsd"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_broader_captions_are_known_whichever_collection_comes_first(known, tmp_path, order):
    """Of "meow" the folders know none, and of "a dog barks" the catalogue does not."""
    collection_files.fsd50k(tmp_path / "fsd")
    write_audio(tmp_path / "lib/meow/a.wav", 1.0)
    entries = [{"kind": "fsd50k", "folder": "fsd"}, {"kind": "folder", "folder": "lib"}]
    captions = add(known, tmp_path, *(entries[i] for i in order)).captions.set_index("caption")
    assert captions.loc["meow", "parents"] == "cat|animal"
    assert captions.loc["a dog barks", "parents"] == "dog|animal"


def test_one_recording_is_not_trained_on_under_another_name(known, tmp_path):
    """By Freesound's number: in the test of one collection, and in the training of others."""
    set_files.urbansound8k(tmp_path / "us8k")  # 999003 is in fold 10, 999001 in fold 5
    collection_files.wavcaps(tmp_path / "wavcaps")
    collection_files.fsd50k(tmp_path / "fsd")
    found = add(
        known,
        tmp_path,
        {"kind": "fsd50k", "folder": "fsd", "split": "train"},
        {"kind": "urbansound8k", "folder": "us8k"},
        {"kind": "wavcaps", "folder": "wavcaps"},
    )
    assert rows_of(found, "urbansound8k")["999003-8-1-4.wav"]["split"] == "seen_captions"
    assert "999003.wav" not in rows_of(found, "fsd50k")
    assert "freesound:999003 is held out" in why_of(found, "fsd50k")["999003.wav"]
    groups = [rows_of(found, p)[m]["group"] for p, m in [
        ("fsd50k", "999001.wav"), ("urbansound8k", "999001-3-0-0.wav"), ("wavcaps", "999001.flac")
    ]]  # fmt: skip
    assert groups == ["freesound:999001"] * 3
    assert "youtube:AbCdEfGh_-1 is held out" in why_of(found, "wavcaps")["YAbCdEfGh_-1.flac"]


def test_sets_that_wavcaps_leaves_out_as_a_whole_are_trained_on_beside_it(known, tmp_path):
    """Its blacklists name AudioCaps' training and all folds of ESC-50; only tests are for all."""
    root = collection_files.wavcaps(tmp_path / "wavcaps")
    lists = root / "json_files/blacklist"
    tests = {"AudioSet": ["Y-zYxWvUtSr0.wav"], "FreeSound": ["999099", "Not found"]}
    whole = {"AudioSet": ["YAbCdEfGh_-1.wav", *tests["AudioSet"]], "FreeSound": ["999099"]}
    collection_files.write_json(lists / "blacklist_exclude_test_ac.json", tests)
    collection_files.write_json(lists / "blacklist_exclude_all_ac.json", whole)
    of_esc = {"AudioSet": [], "FreeSound": ["999001", "999002", "999010"]}
    collection_files.write_json(lists / "blacklist_exclude_ub8k_esc50_vggsound.json", of_esc)
    set_files.esc50(tmp_path / "esc")
    (collection_files.audiocaps(tmp_path / "audiocaps") / "dataset/test.csv").unlink()
    entries = [{"kind": kind, "folder": kind} for kind in ("wavcaps", "audiocaps")]
    entries.append({"kind": "esc50", "folder": "esc", "test_fold": 4})
    alone = rows_of(add(known, tmp_path, entries[-1]), "esc50")
    found = add(known, tmp_path, *entries)
    assert alone
    assert rows_of(found, "esc50").keys() == alone.keys()
    assert rows_of(found, "audiocaps").keys() == {"YAbCdEfGh_-1.wav"}
    assert "youtube:-zYxWvUtSr0 is held out" in why_of(found, "audiocaps")["-zYxWvUtSr0.wav"]
    assert rows_of(found, "wavcaps") == {}
    assert re.search(
        r"youtube:AbCdEfGh_-1 is left out: .*blacklist_exclude_all_ac.json$",
        why_of(found, "wavcaps")["YAbCdEfGh_-1.flac"],
    )
    own = add(known, tmp_path, entries[0] | {"split": "train"})
    assert {"999001.flac", "YAbCdEfGh_-1.flac"} <= rows_of(own, "wavcaps").keys()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_is_shared_out_goes_by_what_is_trained_on_wherever_that_is_listed(
    known, tmp_path, order
):
    """Eight recordings of Freesound in two collections, of which one is trained on as a whole; and
    a background there that is a short sound here."""
    entries = [{"id": str(999100 + i), "caption": "A dog barks loudly."} for i in range(8)]
    for i, entry in enumerate(entries):
        sound, seconds = {"id": entry["id"], "name": "Owl hoots.wav"}, 12.0 if i > 5 else 1.0
        collection_files.write_json(tmp_path / f"fs/{entry['id']}.json", sound)
        write_audio(tmp_path / f"fs/{entry['id']}.wav", 1.0, seed=i)
        name = f"waveforms/FreeSound_flac/{entry['id']}.flac"
        write_audio(tmp_path / "w" / name, seconds, seed=i)
    fsd = tmp_path / "w/json_files/FreeSound/fsd_final.json"
    collection_files.write_json(fsd, {"data": entries})
    listed = [{"kind": "freesound", "folder": "fs"}, {"kind": "wavcaps", "folder": "w"}]
    found = add(known, tmp_path, *(listed[i] for i in order))
    trained = found.clips[found.clips["split"] == "train"]
    held_out = found.clips[found.clips["split"] != "train"]
    assert len(trained[trained["package"] == "wavcaps"]) >= 6
    assert set(trained["group"]).isdisjoint(held_out["group"])


def test_what_is_used_is_not_among_what_is_skipped(known, tmp_path):
    """Recordings of known sources that are shared out, some of them or all to a test."""
    for i in range(8):
        sound = {"id": 999100 + i, "name": "Owl hoots.wav"}
        collection_files.write_json(tmp_path / f"fs/{999100 + i}.json", sound)
        write_audio(tmp_path / f"fs/{999100 + i}.wav", 1.0, seed=i)
    found = add(known, tmp_path, {"kind": "freesound", "folder": "fs"})
    rows = rows_of(found, "freesound")
    assert len(rows) == 8
    assert {row["split"] for row in rows.values()} != {"train"}
    assert why_of(found, "freesound") == {}


def test_nothing_of_a_collection_that_is_held_out_is_in_the_corpus(known, tmp_path):
    set_files.esc50(tmp_path / "esc")  # 999001 and 999002
    collection_files.fsd50k(tmp_path / "fsd")
    held_out = {"kind": "esc50", "folder": "esc", "split": "held_out"}
    found = add(known, tmp_path, {"kind": "fsd50k", "folder": "fsd"}, held_out)
    assert rows_of(found, "esc50") == {}
    assert rows_of(found, "fsd50k").keys() == {"999003.wav", "999004.wav", "999008.wav"}
    assert re.search(r"is held out: .*esc50.csv, line 2$", why_of(found, "fsd50k")["999001.wav"])


def test_sentences_are_kept_to_the_rules_and_long_recordings_are_backgrounds(known, tmp_path):
    collection_files.wavcaps(tmp_path / "w")
    found = add(known, tmp_path, {"kind": "wavcaps", "folder": "w"})
    rows = rows_of(found, "wavcaps")
    assert rows["999010.flac"]["role"] == "background"
    assert rows["999010.flac"]["caption"] == "Rain falls on a roof."
    assert "999011.flac" not in rows
    why = why_of(found, "wavcaps")["999011.flac"]
    assert "entry 2: no caption of one sound" in why
    assert "'then' puts sounds one after another" in why
    short = add(known, tmp_path, {"kind": "wavcaps", "folder": "w"}, background_from_s=20)
    assert rows_of(short, "wavcaps")["999010.flac"]["role"] == "foreground"


def test_what_can_be_heard_in_a_background_is_no_negative_there(known, tmp_path):
    collection_files.clotho(tmp_path / "c")
    write_audio(tmp_path / "lib/rain/a.wav", 1.0)
    write_audio(tmp_path / "lib/church bell/b.wav", 1.0)
    entries = [{"kind": "clotho", "folder": "c"}, {"kind": "folder", "folder": "lib"}]
    found = add(known, tmp_path, *entries)
    assert found.audible["clotho", "development/Caf\u00e9 (1).wav"] == ["rain"]


def test_a_caption_that_training_asks_for_as_a_broader_one_is_not_kept_unseen(known, tmp_path):
    """Of animals in general there are the fewest recordings, so they would be the first choice."""
    sounds = ("animal", 2), ("animal/owl hoot", 6), ("animal/frog croak", 6), ("door", 6)
    for k, (name, n) in enumerate(sounds):
        for i in range(n):
            write_audio(tmp_path / f"lib/{name}/{i}.wav", 1.0, seed=10 * k + i)
    found = add(known, tmp_path, {"kind": "folder", "folder": "lib"})
    clips = found.clips[found.clips["role"] == "foreground"]
    trained = found.captions["caption"].isin(clips.loc[clips["split"] == "train", "caption"])
    asked = {text for cell in found.captions.loc[trained, "parents"] for text in cell.split("|")}
    assert "animal" in asked
    unseen = set(clips.loc[clips["split"] == "unseen_captions", "caption"])
    assert unseen
    assert asked.isdisjoint(unseen)


def test_what_the_catalogue_keeps_unseen_is_not_trained_on(tmp_path):
    """Neither recordings of such a family, nor a text that names it; `add` checks the splits."""
    clips = [clip(), background(), clip("r.wav", caption="it rains", family="rain")]
    clips[2]["split"] = "unseen_captions"
    captions = [
        {"caption": "a dog barks", "family": "dog bark", "wordings": "a dog barks|bark"},
        {"caption": "it rains", "family": "rain", "wordings": "it rains|rainfall"},
    ]
    write_catalogue(tmp_path / "catalogue", clips, captions)
    known = catalogue.read(tmp_path / "catalogue")
    collection_files.write_rows(
        tmp_path / "c/clotho_captions_development.csv",
        [
            ["file_name", *(f"caption_{i}" for i in range(1, 6))],
            ["a.wav", "A door slams.", "A door in the rain.", *["A door shuts."] * 3],
            ["b.wav", "Rain on a roof.", *["Drops fall."] * 4],
        ],
    )
    for i, name in enumerate("ab"):
        write_audio(tmp_path / f"c/development/{name}.wav", 1.0, seed=i)
    for i, name in enumerate(["bell", "rain/gutter", "rain"]):
        write_audio(tmp_path / f"lib/{name}/a.wav", 1.0, seed=5 + i)
    write_audio(tmp_path / "more/train/rainfall/a.wav", 1.0, seed=9)
    entries = [{"kind": "clotho", "folder": "c"}, {"kind": "folder", "folder": "lib"}]
    entries.append({"kind": "folder", "folder": "more", "name": "more"})
    found = add(known, tmp_path, *entries)
    assert why_of(found, "more")["a.wav"].endswith("'rain' is kept for unseen captions")
    assert rows_of(found, "clotho").keys() == {"a.wav"}
    assert why_of(found, "clotho")["b.wav"].endswith(
        "'Rain on a roof.' names 'Rain', which is kept for unseen captions"
    )
    table = found.captions.set_index("caption")
    assert table.loc["A door slams.", "wordings"] == "A door slams.|A door shuts."
    assert table.loc["gutter", "parents"] == ""
    splits = found.clips[found.clips["package"] == "folder"].set_index("caption")["split"]
    assert splits["rain"] == "unseen_captions", "shared out, so kept unseen as well"
    assert "unseen_captions" not in set(splits.drop("rain"))


def test_captions_are_written_where_there_are_titles_and_tags_alone(known, tmp_path):
    collection_files.freesound(tmp_path / "f")
    found = add(known, tmp_path, {"kind": "freesound", "folder": "f"})
    captions = {row["caption"] for row in rows_of(found, "freesound").values()}
    assert any("metal gate creaks" in caption for caption in captions)
    assert any("owl hoot" in caption for caption in captions)


def test_only_some_licences_are_wanted(known, tmp_path):
    collection_files.fsd50k(tmp_path / "fsd")
    found = add(known, tmp_path, {"kind": "fsd50k", "folder": "fsd"}, allowed=["cc-by"])
    assert rows_of(found, "fsd50k").keys() == {"999001.wav", "999008.wav"}
    assert "its licence is 'Sampling+' and" in why_of(found, "fsd50k")["999002.wav"]
    assert "line 5: its licence is 'unknown'" in why_of(found, "fsd50k")["999004.wav"]


@pytest.mark.parametrize("name", ["sounds", "own", "esc50"])
def test_a_name_that_is_taken_is_refused(known, tmp_path, name):
    set_files.esc50(tmp_path / "esc")
    entries = [{"kind": "esc50", "folder": "esc"}, {"kind": "esc50", "folder": "esc", "name": name}]
    with pytest.raises(ValueError, match=f"'{name}' is what something else is called already"):
        add(known, tmp_path, *entries)


def write_library(folder):
    """Enough to train on and to test: six kinds of events, and a background."""
    for i, name in enumerate(("dog barking", "owl hooting", "door", "glass", "bell", "saw")):
        for take in range(5):
            write_audio(folder / f"{name}/{take}.wav", 1.0, seed=10 * i + take + 10)
    for take in range(5):
        write_audio(folder / f"street/{take}.wav", 11.0, seed=100 + take)


def build_from(tmp_path, *entries):
    write_catalogue(tmp_path / "catalogue", [])
    source = SourceConfig(
        profile="none",
        only=[],
        own_sounds=None,
        collections=list(entries),
        licences=[],
        background_from_s=None,
        max_per_caption=100,
        n_jobs=1,
    )
    return build.build(
        source,
        catalogue=tmp_path / "catalogue",
        downloads=tmp_path / "downloads",
        out=tmp_path / "data",
        base=tmp_path,
        progress=False,
    )


def test_from_a_collection_to_a_mixture(tmp_path):
    """A folder tree alone, no package: corpus, bank, recipe, mixture."""
    write_library(tmp_path / "lib")
    summary = build_from(tmp_path, {"kind": "folder", "folder": "lib", "name": "library"})
    account = summary["collections"]["library"]
    assert account == {"n_listed": 35, "n_used": 35, "n_skipped": 0, "notes": []}
    licences = pd.read_csv(tmp_path / "data/licences.tsv", sep="\t")
    assert licences["package"].tolist() == ["library"]
    config = load_config(small=True)
    bank.build(
        tmp_path / "data",
        tmp_path / "bank",
        seed=0,
        sample_rate=16000,
        clip_s=10.0,
        variants=config.variants,
        n_jobs=1,
        progress=False,
    )
    opened = bank.Bank.open(tmp_path / "bank")
    recipe = mixing.draw(opened, config.mixture, seed=0, split="train", index=0)
    assert recipe.events
    assert all(event.clip_id.startswith("library-") for event in recipe.events)
    assert np.abs(recipes.render(opened, recipe)).max() > 0


def test_a_copy_of_a_test_recording_is_not_trained_on(tmp_path):
    """By what is heard, whatever it is called, here of a set that is held out."""
    write_library(tmp_path / "lib")
    set_files.esc50(tmp_path / "esc")
    waveform, rate = soundfile.read(tmp_path / "esc/ESC-50-master/audio/1-999001-A-0.wav")
    soundfile.write(tmp_path / "lib/saw/copy.wav", 0.5 * waveform[999:], rate)
    build_from(
        tmp_path,
        {"kind": "folder", "folder": "lib"},
        {"kind": "esc50", "folder": "esc", "split": "held_out"},
    )
    skipped = pd.read_csv(tmp_path / "data/skipped.tsv", sep="\t").set_index("member")["why"]
    assert skipped["saw/copy.wav"] == (
        "sounds the same as esc50 ESC-50-master/audio/1-999001-A-0.wav, which is held out"
    )
    clips = pd.read_csv(tmp_path / "data/clips.tsv", sep="\t")
    assert len(clips) == 35
    assert all((tmp_path / "data" / path).is_file() for path in clips["path"])


def clips_of(tmp_path):
    return pd.read_csv(tmp_path / "data/clips.tsv", sep="\t")


def test_events_of_a_recording_are_sounds_of_their_own(known, tmp_path):
    write_audio(tmp_path / "own/a.wav", 2.0)
    (tmp_path / "own/a.txt").write_text(
        "0\t.5\tRain\n1\t1.5\ta dog barks\n1.75\t2\thum\n1.8\t2\tx\n"
    )
    entry = {"kind": "crowsetta", "folder": "own", "split": "train"}
    found, [account] = collected.add(known, [entry], base=tmp_path, progress=False)
    rows = rows_of(found, "crowsetta")
    assert [(row["caption"], row["family"]) for row in rows.values()] == [
        ("Rain", "Rain"),
        ("a dog barks", "dog bark"),
    ]
    assert [*rows] == ["a.wav#t=0.0,0.5", "a.wav#t=1.0,1.5"]
    assert {row["group"] for row in rows.values()} == {"crowsetta:a.wav"}, "in one split"
    assert "another sound during" in why_of(found, "crowsetta")["a.wav"]
    assert account.account(found.clips)["n_skipped"] == 2
    write_library(tmp_path / "lib")
    stored = build_from(tmp_path, {"kind": "folder", "folder": "lib"}, entry)["collections"]
    assert stored["crowsetta"]["n_used"] == 2
    part = clips_of(tmp_path).query("member == 'a.wav#t=1.0,1.5'").iloc[0]
    assert soundfile.info(tmp_path / "data" / part["path"]).duration == 0.5
