import sqlite3
import subprocess
import sys

import httpx
import pandas as pd
import pytest
from chat_server import Server
from distributed import LocalCluster

from flamlib.data.corpus import captioning, catalogue, own_sounds
from flamlib.data.corpus.caption_writers import Endpoint, Template
from flamlib.data.corpus.captioning import Caption

DOG = {"tags": "Dog; Bark", "title": "Dog_Bark-02.wav"}
RAIN = {"tags": "Rain; Roof"}
SETTINGS = {"seed": 0, "n_tries": 3, "n_jobs": 1, "progress": False}


class Scripted:
    """A writer that says what it is told to, in turn, and counts."""

    name = "scripted"

    def __init__(self, *texts):
        self.texts, self.asked = list(texts), []

    def __call__(self, facts, seed):
        self.asked.append((facts, seed))
        text = self.texts.pop(0)
        if isinstance(text, Exception):
            raise text
        return text


def test_what_breaks_a_rule_is_asked_for_again_with_another_seed(tmp_path):
    writer = Scripted("A dog barks, then stops.", "bark", "A dog barks.")
    [made] = captioning.write([DOG], writer, tmp_path / "c.sqlite", **SETTINGS)
    assert made == Caption("a dog barks", "scripted", 3)
    seeds = [seed for _, seed in writer.asked]
    assert seeds == [seeds[0], seeds[0] + 1, seeds[0] + 2]


def test_where_the_rules_are_never_kept_the_template_writes_and_says_so(tmp_path):
    [made] = captioning.write([DOG], Scripted("", "x", "y"), tmp_path / "c.sqlite", **SETTINGS)
    assert made.by == "template"
    assert "dog bark" in made.text


def test_nothing_is_asked_twice(tmp_path):
    first = captioning.write(
        [DOG, RAIN, DOG], Scripted("a dog barks", "rain falls"), tmp_path / "c.sqlite", **SETTINGS
    )
    assert [c.text for c in first] == ["a dog barks", "rain falls", "a dog barks"]
    again = Scripted()
    assert captioning.write([RAIN, DOG], again, tmp_path / "c.sqlite", **SETTINGS) == first[1::-1]
    assert again.asked == []


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path):
    writer = Scripted("a dog barks", ConnectionError("gone"))
    with pytest.raises(ConnectionError):
        captioning.write([DOG, RAIN], writer, tmp_path / "c.sqlite", **SETTINGS)
    writer = Scripted("rain falls")
    made = captioning.write([DOG, RAIN], writer, tmp_path / "c.sqlite", **SETTINGS)
    assert [c.text for c in made] == ["a dog barks", "rain falls"]
    assert len(writer.asked) == 1


def test_content_seed_and_writer_each_ask_anew(tmp_path):
    clips = [DOG | {"sha256": "aa"}, DOG | {"sha256": "bb"}]
    writer = Scripted(*["a dog barks"] * 3)
    captioning.write(clips, writer, tmp_path / "c.sqlite", **SETTINGS)
    assert len(writer.asked) == 2
    assert all("sha256" not in facts for facts, _ in writer.asked)
    captioning.write(clips[:1], writer, tmp_path / "c.sqlite", **SETTINGS | {"seed": 1})
    assert len(writer.asked) == 3
    [made] = captioning.write(clips[:1], Template(), tmp_path / "c.sqlite", **SETTINGS)
    assert made.by == "template"


def test_however_many_ask_at_once_the_captions_are_the_same(tmp_path):
    """A server that answers by the seed it was given, as a model does."""
    clips = [{"title": f"dog bark {'x' * i}"} for i in range(12)]

    def answer(body):
        return f"a dog barks {['once', 'twice', 'loudly'][body['seed'] % 3]}"

    made = []
    for n_jobs in (1, 6):
        with Server(answer) as server:
            writer = Endpoint(server.url, "m", per_second=1000)
            cache = tmp_path / f"{n_jobs}.sqlite"
            made.append(captioning.write(clips, writer, cache, **SETTINGS | {"n_jobs": n_jobs}))
    assert made[0] == made[1]
    assert len({c.text for c in made[0]}) > 1


def test_workers_of_a_cluster_write_what_one_would(tmp_path):
    """Processes: the writer is made anew in each."""
    clips = [{"title": f"dog bark {'x' * i}"} for i in range(6)]
    alone = captioning.write(clips, Template(), tmp_path / "a", **SETTINGS)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as workers:
        address = workers.scheduler_address
        found = captioning.write(clips, Template(), tmp_path / "b", **SETTINGS, scheduler=address)
        assert found == alone
        with Server("a dog barks") as server:
            writer = Endpoint(server.url, "m", key="secret", per_second=1000)
            made = captioning.write(clips, writer, tmp_path / "c", **SETTINGS, scheduler=address)
    assert [c.text for c in made] == ["a dog barks"] * 6
    assert set(server.keys) == {"Bearer secret"}


def test_what_was_written_before_an_error_is_kept_however_many_ask(tmp_path):
    clips = [{"title": f"dog bark {'x' * i}"} for i in range(8)]
    with Server("a dog barks", "a dog barks", "a dog barks", 400) as server:
        writer = Endpoint(server.url, "m", per_second=1000)
        with pytest.raises(httpx.HTTPStatusError):
            captioning.write(clips, writer, tmp_path / "c", **SETTINGS | {"n_jobs": 2})
        n_asked = len(server.asked)
    with Server("a dog barks") as server:
        writer = Endpoint(server.url, "m", per_second=1000)
        captioning.write(clips, writer, tmp_path / "c", **SETTINGS | {"n_jobs": 2})
        assert len(server.asked) >= 8 - 3
    assert n_asked >= 4


def test_a_clip_of_which_nothing_is_known_is_named_before_anything_is_asked(tmp_path):
    writer = Scripted("a dog barks")
    with pytest.raises(ValueError, match="clip 1: no tags, title or description"):
        captioning.write([DOG, {"tags": "", "sha256": "aa"}], writer, tmp_path / "c", **SETTINGS)
    with pytest.raises(ValueError, match="clip 1: no tags, title or description"):
        captioning.write([DOG, {"title": "001.wav"}], writer, tmp_path / "c", **SETTINGS)
    assert writer.asked == []


def test_another_file_is_not_mistaken_for_kept_captions(tmp_path):
    (tmp_path / "c.sqlite").write_text("not a database, but long enough to look like one" * 20)
    with pytest.raises(ValueError, match=r"c\.sqlite: not a file of captions"):
        captioning.write([DOG], Template(), tmp_path / "c.sqlite", **SETTINGS)
    (tmp_path / "kept").mkdir()
    with pytest.raises(ValueError, match="kept: a folder, not a file to keep captions in"):
        captioning.write([DOG], Template(), tmp_path / "kept", **SETTINGS)


def test_a_table_gets_the_captions_it_lacks(tmp_path):
    (tmp_path / "raw.tsv").write_text("path\tcaption\tlicence\nDog_bark.wav\t\tCC0\nb.wav\tx y\t\n")
    counts = captioning.caption_table(
        tmp_path / "raw.tsv", tmp_path / "out.tsv", Template(), tmp_path / "c.sqlite", **SETTINGS
    )
    assert counts == {"template": 1}
    header, dog, other = (tmp_path / "out.tsv").read_text().splitlines()
    assert header.split("\t") == ["path", "caption", "licence"]
    assert "dog bark" in dog
    assert other.split("\t")[1] == "x y"
    (tmp_path / "raw.tsv").write_text("file\na.wav\n")
    with pytest.raises(ValueError, match=r"raw\.tsv.*path"):
        captioning.caption_table(
            tmp_path / "raw.tsv", tmp_path / "o.tsv", Template(), tmp_path / "c", **SETTINGS
        )


def test_a_row_with_a_label_file_needs_no_caption(tmp_path):
    table = "path\tcaption\tlabels\na.wav\t\ta.txt\nDog_bark.wav\t\t\n"
    assert made_of(table, tmp_path, Template())[0] == ""


def made_of(table, tmp_path, writer, out="out.tsv"):
    """The captions of a table of this text."""
    (tmp_path / "raw.tsv").write_text(table)
    captioning.caption_table(
        tmp_path / "raw.tsv", tmp_path / out, writer, tmp_path / "c.sqlite", **SETTINGS
    )
    return list(
        catalogue.read_table(tmp_path / out, own_sounds.COLUMNS, own_sounds.OPTIONAL)["caption"]
    )


@pytest.mark.parametrize("column", ["tags", "title", "description"])
def test_a_file_is_called_by_its_name_only_where_nothing_else_is_known(tmp_path, column):
    rows = "clips/recording_0001.wav\tDog bark\nclips/recording_0002.wav\tRain\nclips/Gate.wav\t\n"
    dog, rain, gate = made_of(f"path\t{column}\n{rows}", tmp_path, Template())
    assert "dog bark" in dog
    assert (rain, gate) == ("the sound of rain", "the sound of gate")
    writer = Scripted("a dog barks", "rain falls", "a gate creaks")
    made_of(f"path\t{column}\n{rows}", tmp_path, writer)
    assert [facts for facts, _ in writer.asked] == [
        {column: "Dog bark"},
        {column: "Rain"},
        {"title": "Gate.wav"},
    ]


def test_the_row_of_which_nothing_is_known_is_named_before_anything_is_asked(tmp_path):
    writer = Scripted("a dog barks")
    table = "path\ttags\tcaption\n001.wav\t\train falls\nDog.wav\t\t\n002.wav\t-\t\n"
    with pytest.raises(ValueError, match=r"raw\.tsv, line 4: no tags, title or description"):
        made_of(table, tmp_path, writer)
    assert writer.asked == []
    assert not (tmp_path / "out.tsv").exists()


@pytest.mark.parametrize("out", ["raw.tsv", "../{}/raw.tsv", "link.tsv"])
def test_a_table_is_not_written_over_what_it_is_made_of(tmp_path, out):
    (tmp_path / "link.tsv").symlink_to("raw.tsv")
    table, writer = "path\ttags\na.wav\tDog; Bark\n", Scripted("a dog barks")
    with pytest.raises(ValueError, match=r"\.tsv: the table to write is the one to read"):
        made_of(table, tmp_path, writer, out.format(tmp_path.name))
    assert writer.asked == []
    assert (tmp_path / "raw.tsv").read_text() == table


@pytest.mark.parametrize("path", ["x" * 5000, "../x.wav", "a\0b", "sub\\a.wav"])
def test_a_path_that_is_none_is_not_what_a_caption_fails_for(tmp_path, path):
    [caption] = made_of(f"path\ttags\n{path}\tDog\n", tmp_path, Template())
    assert caption == "the sound of dog"


def test_the_row_of_which_nothing_can_be_made_is_named_with_the_reason(tmp_path):
    table = f"path\ttitle\na.wav\tdog\nb.wav\t{'x' * 300}\nc.wav\twww.example.org\n"
    with pytest.raises(ValueError, match=r"(?s)line 3: .*more than 200.*line 4: no tags, title"):
        made_of(table, tmp_path, Template())


@pytest.mark.parametrize("name", ["sounds.tsv", "sounds.csv", "sounds.CSV"])
def test_what_is_written_is_read_as_sounds_of_ones_own(tmp_path, name):
    """Whatever stands in a value: commas and quotation marks are parts of it."""
    table = (
        "path\ttags\tlicence\twordings\n"
        'a "b", c.wav\tDog\tCC0, or "else"\ta dog, barking|"woof"\n'
        "d.wav\tRain\t\t\n"
    )
    made_of(table, tmp_path, Scripted('a "big" dog, a dog barking', "rain falls"), name)
    nothing = catalogue.Catalogue(
        pd.DataFrame(columns=catalogue.CLIP_COLUMNS),
        pd.DataFrame(columns=catalogue.CAPTION_COLUMNS),
        {},
    )
    found = own_sounds.add(nothing, tmp_path)
    assert list(found.clips["member"]) == ['a "b", c.wav', "d.wav"]
    assert list(found.clips["caption"]) == ['a "big" dog, a dog barking', "rain falls"]
    assert list(found.clips["licence"]) == ['CC0, or "else"', "unknown"]
    assert "a dog, barking" in found.captions["wordings"][0].split("|")


def test_a_kept_caption_that_breaks_a_rule_of_today_is_written_again(tmp_path):
    captioning.write([DOG], Scripted("a dog barks"), tmp_path / "c", **SETTINGS)
    with sqlite3.connect(tmp_path / "c") as database:
        database.execute("UPDATE captions SET text = '<think>a dog</think> a dog barks'")
    writer = Scripted("a dog growls and a dog barks")
    [made] = captioning.write([DOG], writer, tmp_path / "c", **SETTINGS)
    assert made.text == "a dog growls and a dog barks"
    assert captioning.write([DOG], Scripted(), tmp_path / "c", **SETTINGS) == [made]


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE bookmarks (url TEXT)", "CREATE TABLE captions (clip TEXT, words TEXT)"],
)
def test_a_file_of_another_program_is_named_and_left_as_it_is(tmp_path, statement):
    with sqlite3.connect(tmp_path / "c.sqlite") as database:
        database.execute(statement)
    before = (tmp_path / "c.sqlite").read_bytes()
    with pytest.raises(ValueError, match=r"c\.sqlite: not a file of captions, but an SQLite file"):
        captioning.write([DOG], Template(), tmp_path / "c.sqlite", **SETTINGS)
    assert (tmp_path / "c.sqlite").read_bytes() == before


LIMITED = """
import resource, sys
from flamlib.data.corpus import captioning
from flamlib.data.corpus.caption_writers import Template
writer = Template()
writer.name = "model"  # so that what it writes is kept
size = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
clips = [{"title": "dog bark", "sha256": str(i)} for i in range(300)]
try:
    captioning.write(clips, writer, sys.argv[1], seed=0, n_tries=1, n_jobs=1, progress=False)
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [0, 4096, 16384])
def test_a_disk_that_is_full_is_said_and_what_fitted_is_kept(tmp_path, size):
    """Of files that may not grow: the error is one of the disk."""
    cache = tmp_path / "c.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, cache, str(size)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"{cache}: " in done.stdout
    assert "disk" in done.stdout
    assert "--cache names" in done.stdout
    [made] = captioning.write([DOG], Scripted("a dog barks"), cache, **SETTINGS)
    assert made.by == "scripted"


def test_a_file_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(OSError, match=r"/proc/c\.sqlite: cannot be opened or made; --cache"):
        captioning.write([DOG], Template(), "/proc/c.sqlite", **SETTINGS)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        captioning.write([DOG], Template(), tmp_path / "file/c.sqlite", **SETTINGS)


def test_a_file_that_another_process_holds_is_named(tmp_path, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout: connect(path, timeout=0))
    holder = connect(tmp_path / "c.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OSError, match=r"c\.sqlite: another process has held it"):
        captioning.write([DOG], Template(), tmp_path / "c.sqlite", **SETTINGS)
    holder.close()


def test_two_runs_at_once_share_what_was_written(tmp_path):
    """The second begins and ends while the first waits for its answer."""
    second = Scripted("a dog barks loudly", "rain falls")

    class First(Scripted):
        def __call__(self, facts, seed):
            if not self.asked:
                captioning.write([DOG, RAIN], second, tmp_path / "c.sqlite", **SETTINGS)
            return super().__call__(facts, seed)

    first = First("a dog barks", "rain falls hard")
    made = captioning.write([DOG, RAIN], first, tmp_path / "c.sqlite", **SETTINGS)
    assert [c.text for c in made] == ["a dog barks", "rain falls hard"]
    again = Scripted()
    kept = captioning.write([DOG, RAIN], again, tmp_path / "c.sqlite", **SETTINGS)
    assert [c.text for c in kept] == ["a dog barks loudly", "rain falls"]
    assert again.asked == []
