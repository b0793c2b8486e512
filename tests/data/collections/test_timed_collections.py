"""Labels with times: label files beside recordings, and databases of audformat."""

from importlib.util import find_spec

import pandas as pd
import pytest
from set_files import write_audio

from flamlib.data.collections import timed_collections
from flamlib.data.collections.items import AUTO, TEST, TRAIN

HEADER = """name: sounds
source: internal
usage: research
license: CC-BY-4.0
schemes:
  sound:
    dtype: str
    labels: [Dog_bark, rain]
  text: {dtype: str}
splits:
  train: {type: train}
  check: {type: test}
tables:
  events:
    type: segmented
    split_id: train
    columns:
      sound: {scheme_id: sound}
  whole:
    type: filewise
    split_id: check
    columns:
      sound: {scheme_id: sound}
"""
EVENTS = """file,start,end,sound
audio/a.wav,0 days 00:00:00,0 days 00:00:00.250000,Dog_bark
audio/a.wav,0 days 00:00:00.500000,,rain
audio/gone.wav,0 days 00:00:00,0 days 00:00:00.250000,rain
"""
WHOLE = "file,sound\naudio/b.wav,rain\naudio/c.wav,\naudio/a.wav,rain\n"


@pytest.fixture
def database(tmp_path):
    for name in "abcd":
        write_audio(tmp_path / f"audio/{name}.wav", 1.0)
    (tmp_path / "db.yaml").write_text(HEADER)
    (tmp_path / "db.events.csv").write_text(EVENTS)
    (tmp_path / "db.whole.csv").write_text(WHOLE)
    return tmp_path


def test_tables_of_audformat_are_events_and_captions(database):
    contents = timed_collections.audformat(database)
    timed, whole = contents.items
    assert timed.path == database / "audio/a.wav"
    assert timed.events == [(0.0, 0.25, "dog bark"), (0.5, 1.0, "rain")]
    assert (timed.split, timed.licence) == (TRAIN, "CC-BY-4.0")
    assert (whole.path.name, whole.caption, whole.split) == ("b.wav", "rain", TEST)
    skipped = dict(contents.skipped)
    assert skipped["audio/gone.wav"] == f"{database}/db.events.csv, line 4: no such recording"
    assert "line 3: no label with a word" in skipped["audio/c.wav"]
    assert skipped["audio/a.wav"].endswith("it is in table events already")
    assert skipped["audio/d.wav"] == "no row in a table with sound"


def test_only_some_tables_are_wanted(database):
    contents = timed_collections.audformat(database, column="sound", tables=["whole"])
    assert [item.path.name for item in contents.items] == ["b.wav", "a.wav"]


def test_parquet_reads_as_csv_does_and_no_pickle_is_opened(database):
    expected = timed_collections.audformat(database).items
    table = pd.read_csv(database / "db.events.csv")
    for name in ("start", "end"):
        table[name] = pd.to_timedelta(table[name])
    table.astype({"sound": "category"}).to_parquet(database / "db.events.parquet")
    (database / "db.events.csv").unlink()
    (database / "db.events.pkl").write_bytes(b"nothing to be loaded")
    found = timed_collections.audformat(database).items
    assert [i.events for i in found] == [i.events for i in expected]


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("db.yaml", "name: sounds", "name: [", "db.yaml: not a header of audformat"),
        ("db.yaml", "name: sounds", "x: !!python/name:datetime.date", "not a header of audformat"),
        ("db.yaml", "{scheme_id: sound}", "7", "db.yaml: not a header of audformat"),
        ("db.yaml", "type: filewise", "type: misc", "not a header of audformat"),
        ("db.events.csv", "sound", "sonud", "db.events.csv, line 1: no column sound"),
        ("db.events.csv", "00:00:00.500000", "soon", "line 3: start is '0 days soon', no time"),
        ("db.events.csv", "0 days 00:00:00.500000", "8", "line 3: start is '8' without a unit"),
        ("db.events.csv", "audio/gone", "../gone", "line 4: '../gone.wav' is no path in"),
    ],
)
def test_what_cannot_be_read_is_refused_by_file_and_line(database, name, old, new, message):
    path = database / name
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        timed_collections.audformat(database)


def test_a_column_has_to_be_named_where_there_are_several(database):
    path = database / "db.yaml"
    path.write_text(path.read_text() + "      other: {scheme_id: text}\n")
    with pytest.raises(ValueError, match="which of sound, other has the labels"):
        timed_collections.audformat(database)
    assert len(timed_collections.audformat(database, column="sound").items) == 2
    with pytest.raises(ValueError, match="no column 'sonud'; its tables have sound, other"):
        timed_collections.audformat(database, column="sonud")
    with pytest.raises(ValueError, match="no table 'all'; it has events, whole"):
        timed_collections.audformat(database, tables=["all"])
    (database / "db.whole.csv").unlink()
    with pytest.raises(FileNotFoundError):
        timed_collections.audformat(database, column="sound")


MAPPINGS = {  # labels of a scheme that are keys
    "{0: {category: Dog_bark, id: x1}, 1: {category: rain, id: '-'}}": "sound.category",
    "{0: {category: Dog_bark, loud: 3}, 1: {category: rain, loud: 4}}": "sound",
    "{0: Dog_bark, 1: rain}": None,
    "kinds": None,
}


@pytest.mark.parametrize("storage", ["csv", "parquet"])
@pytest.mark.parametrize("labels", MAPPINGS)
def test_labels_may_be_keys_of_what_is_said_of_them(database, labels, storage):
    expected = timed_collections.audformat(database)
    header = HEADER.replace("dtype: str\n    labels: [Dog_bark, rain]", f"labels: {labels}")
    misc = "misc_tables:\n  kinds: {levels: {kind: int}, columns: {category: {}, loud: {}}}\n"
    (database / "db.yaml").write_text(header + misc)
    for name in ("events", "whole"):
        path = database / f"db.{name}.csv"
        path.write_text(path.read_text().replace("Dog_bark", "0").replace("rain", "1"))
    kinds = pd.DataFrame({"category": ["Dog_bark", "rain"], "loud": [3, 4]})
    kinds.index.name = "kind"
    if storage == "csv":
        kinds.to_csv(database / "db.kinds.csv")
    else:
        kinds.reset_index().to_parquet(database / "db.kinds.parquet")
        whole = pd.read_csv(database / "db.whole.csv")  # whole numbers with a gap: pandas' floats
        whole.astype({"sound": "Int64"}).to_parquet(database / "db.whole.parquet", index=False)
    found = timed_collections.audformat(database, column=MAPPINGS[labels])
    assert found.items[0] == expected.items[0]
    assert [item.caption for item in found.items] == [item.caption for item in expected.items]
    assert [name for name, _ in found.skipped] == [name for name, _ in expected.skipped]


@pytest.mark.parametrize(
    ("labels", "column", "message"),
    [
        ("{0: {a: dog, b: d}, rain: {a: rain}}", None, "is its name: sound.a, sound.b"),
        ("{0: {a: dog}, rain: {a: rain}}", "sound.b", "is its name: sound.a"),
        ("{0: {a: 1}, rain: {a: 2}}", None, "is its name: none has a text"),
        ("{0: dog}", None, "line 2: sound 'Dog_bark' is none of its scheme's labels"),
        ("[Dog_bark, rain]", "sound.a", "the labels of sound are a list, without a"),
        ("kinds", None, "labels of a scheme are those of kinds, no table"),
    ],
)
def test_labels_that_do_not_say_how_they_are_called_are_refused(database, labels, column, message):
    header = HEADER.replace("labels: [Dog_bark, rain]", f"labels: {labels}")
    (database / "db.yaml").write_text(header)
    with pytest.raises(ValueError, match=message):
        timed_collections.audformat(database, column=column)


@pytest.mark.skipif(find_spec("audformat") is None, reason="pip install audformat")
@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_what_the_package_audformat_writes(database, storage):
    """The same database, read by audformat and written anew."""
    import audformat

    written = database / "anew"
    audformat.Database.load(str(database)).save(str(written), storage_format=storage)
    (database / "audio").rename(written / "audio")
    items = timed_collections.audformat(written).items
    assert items[0].events == [(0.0, 0.25, "dog bark"), (0.5, 1.0, "rain")]
    assert items[1].caption == "rain"


def test_label_files_beside_recordings(tmp_path):
    for name in ("a", "b", "c"):
        write_audio(tmp_path / f"{name}.wav", 1.0)
    (tmp_path / "a.txt").write_text("0.1\t0.4\ta dog barks\n")
    (tmp_path / "songs.csv").write_text(
        "label,onset_s,offset_s,notated_path\na call,0.5,0.75,b.wav\n"
    )
    contents = timed_collections.label_files(tmp_path)
    assert [(i.path.name, i.split, i.events) for i in contents.items] == [
        ("a.wav", AUTO, [(0.1, 0.4, "a dog barks")]),
        ("b.wav", AUTO, [(0.5, 0.75, "a call")]),
    ]
    assert any("without a label file" in note for note in contents.notes)
