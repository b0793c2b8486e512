"""Of `flam mix`, `flam caption` and `flam verify`."""

import csv
from pathlib import Path

import pytest
from chat_server import Server, raw
from sounds import RATE, variants_config, write_data

from flamlib.cli import main
from flamlib.data.mixtures import bank
from flamlib.storage import manifest


def test_mixtures_are_rendered_by_the_projects_rules(tmp_path, monkeypatch, capsys):
    (tmp_path / "dvc.yaml").touch()
    params = Path(__file__).parents[2] / "params.yaml"
    (tmp_path / "params.yaml").write_text(params.read_text())
    settings = {"seed": 0, "sample_rate": RATE, "clip_s": 10.0, "variants": variants_config()}
    bank.build(
        write_data(tmp_path / "data"), tmp_path / "artifacts/bank", **settings, n_jobs=1,
        progress=False,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    asked = ["mix", "out", "-n", "3", "--shard-size", "2", "--form", "webdataset"]
    assert main.main(asked) == 0
    assert "3 mixtures, 2 files" in capsys.readouterr().out
    assert [s["name"] for s in manifest.verify("out")["shards"]] == [
        "train-00000.tar",
        "train-00001.tar",
    ]
    assert main.main([*asked[:3], "4", *asked[4:]]) == 2
    assert "shards of other parameters (n)" in capsys.readouterr().err
    for more, why in (
        (["-n", "1e30"], "100,000 are the most"),
        (["-n", "1e30", "--shard-size", "1e30"], "hours of a processor core; the disk of"),
        (["-n", "3", "--jobs", "1e9"], "processes for"),
        (["-n", "3", "--scheduler", "8786"], "'8786': no such scheduler file"),
    ):
        assert main.main(["mix", "other", *more]) == 2
        assert why in capsys.readouterr().err


@pytest.mark.parametrize("written", ["", "{}", "[]", '{"shards": [{"name": "../x"}]}', "\0\0"])
def test_a_manifest_that_is_none_is_named(tmp_path, capsys, written):
    (tmp_path / "manifest.json").write_text(written)
    assert main.main(["verify", str(tmp_path)]) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "manifest.json") in said


def test_captions_go_through_a_link_and_to_the_standard_output(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("raw.tsv").write_text("path\ttags\na.wav\tDog\n")
    Path("link.tsv").symlink_to("sounds.tsv")
    assert main.main(["caption", "raw.tsv", "-o", "link.tsv"]) == 0
    assert Path("link.tsv").is_symlink()
    table = Path("sounds.tsv").read_text()
    assert "a.wav" in table
    capfd.readouterr()
    assert main.main(["caption", "raw.tsv", "-o", "/dev/stdout", "--cache", "c.sqlite"]) == 0
    assert table in capfd.readouterr().out
    Path("folder").mkdir()
    assert main.main(["caption", "raw.tsv", "-o", "folder", "--cache", "new.sqlite"]) == 2
    assert "folder: a folder, not a file" in capfd.readouterr().err
    assert not Path("new.sqlite").exists(), "refused before any work"


def test_captions_are_written_into_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    Path("raw.tsv").write_text("path\ttags\tcaption\na.wav\tDog; Bark\t\nb.wav\tRain\train falls\n")
    with Server("A dog barks.") as server:
        asked = ["caption", "raw.tsv", "-o", "sounds.tsv", "--url", server.url, "--model", "m"]
        assert main.main([*asked, "--cache", "c.sqlite"]) == 0
        assert main.main([*asked, "--cache", "c.sqlite"]) == 0
    assert len(server.asked) == 1
    assert server.keys == ["Bearer secret"]
    assert "1 by m" in capsys.readouterr().out
    rows = list(csv.DictReader(Path("sounds.tsv").read_text().splitlines(), delimiter="\t"))
    assert [row["caption"] for row in rows] == ["a dog barks", "rain falls"]
    assert main.main([*asked[:4], "--url", server.url]) == 2
    assert "--url needs --model" in capsys.readouterr().err
    assert main.main(asked[:4]) == 0
    assert Path("captions.sqlite").is_file()
    assert "1 by template" in capsys.readouterr().out


def test_what_a_model_thinks_and_marks_up_is_not_in_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("raw.tsv").write_text("path\ttags\na.wav\tDog; Bark\nb.wav\tRain; Roof\n")
    asked = ["caption", "raw.tsv", "-o", "sounds.tsv", "--jobs", "1", "--model", "m"]
    said = (
        "<think>tags are dog, bark</think>a dog barks",
        "a dog | \u202e",
        "=cmd",
        "rain **falls**",
    )
    with Server(*said) as server:
        assert main.main([*asked, "--url", server.url]) == 0
    assert Path("sounds.tsv").read_text().split("\n") == [
        "path\tcaption",
        "a.wav\ta dog barks",
        "b.wav\train falls",
        "",
    ]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"choices": [{"message": {"content": ["a dog"]}}]}, "no chat completion"),
        (raw(b"[" * 100_000), "no chat completion"),
        (raw(b" " * 2_000_000), "more than 1,000,000 bytes"),
        (raw(b"no such model", status="404 Not Found"), "404 Not Found 'no such model'"),
        (raw(b"", status="302 Found", location="/v1"), "302 Found"),
    ],
)
def test_a_server_that_answers_otherwise_ends_in_one_sentence(
    tmp_path, monkeypatch, capsys, answer, why
):
    monkeypatch.chdir(tmp_path)
    Path("raw.tsv").write_text("path\ttags\na.wav\tDog; Bark\n")
    with Server(answer) as server:
        asked = ["caption", "raw.tsv", "-o", "sounds.tsv", "--url", server.url, "--model", "m"]
        assert main.main(asked) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert why in line
    assert not Path("sounds.tsv").exists()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--model", "llama3"], "--model is the name of a model on a server and needs --url"),
        (["--model", "llama3", "--url", ""], "needs --url"),
        (["--model", "llama3", "--local", "llama"], "pass --local FOLDER only"),
        (["--url", ""], "--url needs --model"),
        (["--local", ""], "''"),
        (["-o", "raw.tsv"], "raw.tsv: the table to write is the one to read"),
        (["--cache", "."], "a folder, not a file to keep captions in"),
        (["--cache", "/proc/c.sqlite"], "/proc/c.sqlite: cannot be opened or made"),
        (["--url", "localhost:1/v1", "--model", "m"], "is not the address of a server"),
    ],
)
def test_who_asks_for_a_model_gets_no_template(tmp_path, monkeypatch, capsys, given, why):
    """Nor a table where something else is amiss."""
    monkeypatch.chdir(tmp_path)
    Path("raw.tsv").write_text("path\ttags\na.wav\tDog\n")
    assert main.main(["caption", "raw.tsv", "-o", "sounds.tsv", *given]) == 2
    assert why in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw.tsv"]


def test_a_table_on_the_screen_has_nothing_else_beside_it(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("raw.tsv").write_text("path\ttags\na.wav\tDog\n")
    assert main.main(["caption", "raw.tsv", "-o", "/dev/stdout"]) == 0
    out, told = capfd.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == ["path", "a.wav"]
    assert "1 by template" in told
    assert Path("captions.sqlite").is_file()


def test_a_changed_file_is_found_by_its_checksum(tmp_path, capsys):
    jobs = [{"name": f"{k}.txt"} for k in range(2)]

    def write(path, job):
        path.write_text(job["name"])
        return {}

    manifest.fill(tmp_path, {}, jobs, write, n_jobs=1, scheduler=None, progress=False)
    assert main.main(["verify", str(tmp_path)]) == 0
    assert "2 files, 10 bytes, all as they were written" in capsys.readouterr().out
    (tmp_path / "1.txt").write_text("1.tx!")
    assert main.main(["verify", str(tmp_path)]) == 2
    assert "1.txt: missing, or not what was written" in capsys.readouterr().err
    assert main.main(["verify", str(tmp_path / "none")]) == 2
    assert "no manifest.json" in capsys.readouterr().err
