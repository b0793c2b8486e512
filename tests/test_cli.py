import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from chat_server import Server
from heldouts import write_model
from openflam_layout import random_state
from originals_layout import mga_state
from sounds import RATE, VARIANTS, noise, tone, write_data
from towers import write_bert, write_roberta

from flamlib import bank, cli, detector, export, shards
from flamlib.model import FLAM

HEADER = ["onset", "offset", "event_label", "score"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a trained model, and a recording in it."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "dvc.yaml").touch()
    (folder / "notebooks").mkdir()
    write_model(folder / cli.CHECKPOINT)
    samples = np.concatenate([noise(1.0), tone(800, 1.3), noise(2.0)])
    soundfile.write(folder / "sound.wav", samples, RATE)
    return folder


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project)
    return project


def events(text):
    header, *rows = csv.reader(io.StringIO(text), delimiter="\t")
    assert header == HEADER
    return [(float(a), float(b), caption, float(score)) for a, b, caption, score in rows]


def call(*arguments):
    return cli.main(["detect", *map(str, arguments)])


def test_events_go_to_the_screen(here, capsys):
    """Those that `detector` finds."""
    model = FLAM.from_pretrained(here / cli.CHECKPOINT)
    captions = ["a dog barks", "a bell"]
    heard = detector.score(model, "sound.wav", captions, method="unbiased", median_frames=1)
    threshold = float(np.median(heard.scores))
    found = detector.events(heard, threshold=threshold, min_duration_s=0.0, merge_gap_s=0.0)
    asked = [argument for caption in captions for argument in ("-c", caption)]
    assert call("sound.wav", *asked, "--threshold", threshold) == 0
    printed = events(capsys.readouterr().out)
    assert found
    assert [e[:3] for e in printed] == [
        (pytest.approx(d.onset), pytest.approx(d.offset), d.caption) for d in found
    ]
    assert [e[3] for e in printed] == pytest.approx([d.score for d in found], rel=1e-5)


def test_or_to_a_file(here, tmp_path, capsys):
    out = tmp_path / "new/events.tsv"
    assert call("sound.wav", "-c", "a bell", "--threshold", "0", "-o", out) == 0
    assert capsys.readouterr().out == ""
    [(onset, offset, caption, score)] = events(out.read_text())
    assert (onset, offset, caption) == (0.0, pytest.approx(4.3), "a bell")
    assert 0 <= score <= 1


def test_or_to_audacity(here, capsys):
    call("sound.wav", "-c", "a bell", "--threshold", "0", "--format", "audacity")
    onset, offset, label = capsys.readouterr().out.rstrip("\n").split("\t")
    assert (float(onset), float(offset)) == (0.0, pytest.approx(4.3))
    assert label.startswith("a bell (")


def test_no_events_are_no_error(here, capsys):
    assert call("sound.wav", "-c", "a bell", "--min-duration", "60") == 0
    assert events(capsys.readouterr().out) == []


def test_the_model_is_found_from_within_the_project(here, monkeypatch, capsys):
    monkeypatch.chdir(here / "notebooks")
    assert call("../sound.wav", "-c", "a bell") == 0


def test_a_model_may_be_anywhere(project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(project / "sound.wav", "-c", "a bell", "--model", project / cli.CHECKPOINT) == 0


def refused(capsys, *arguments):
    assert call(*arguments) == 2
    out, message = capsys.readouterr()
    assert out == ""
    assert message.startswith("flam: ")
    assert message.count("\n") == 1, "one line, no traceback"
    return message


def test_a_file_that_is_not_there(here, capsys):
    assert "sond.wav: no such file" in refused(capsys, "sond.wav", "-c", "a bell")


def test_a_file_that_is_no_audio(here, capsys):
    assert "dvc.yaml" in refused(capsys, "dvc.yaml", "-c", "a bell")


def test_a_project_without_a_model(project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, project / "sound.wav", "-c", "a bell")
    assert "--model FOLDER" in message
    (tmp_path / "dvc.yaml").touch()
    message = refused(capsys, project / "sound.wav", "-c", "a bell")
    assert "make repro" in message
    message = refused(capsys, project / "sound.wav", "-c", "a bell", "--model", "nowhere")
    assert "nowhere: no such folder" in message
    message = refused(capsys, project / "sound.wav", "-c", "a bell", "--model", tmp_path)
    assert "config.json is missing" in message


def test_captions_that_cannot_be_asked(here, capsys):
    assert "twice" in refused(capsys, "sound.wav", "-c", "a bell", "-c", "a  bell")
    assert "tokens" in refused(capsys, "sound.wav", "-c", "a bell " * 20)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["sound.wav"], "required: -c/--caption"),
        (["sound.wav", "-c", " "], "an empty caption"),
        (["sound.wav", "-c", "a bell", "--threshold", "1.5"], "1.5 is not from 0 to 1"),
        (["sound.wav", "-c", "a bell", "--threshold", "nan"], "nan is not from 0 to 1"),
        (["sound.wav", "-c", "a bell", "--threshold", "low"], "'low' is no number"),
        (["sound.wav", "-c", "a bell", "--median-frames", "4"], "not an odd number"),
        (["sound.wav", "-c", "a bell", "--merge-gap", "-1"], "no duration"),
        (["sound.wav", "-c", "a bell", "--method", "best"], "invalid choice"),
    ],
)
def test_a_call_that_makes_no_sense(here, capsys, arguments, complaint):
    with pytest.raises(SystemExit) as left:
        call(*arguments)
    assert left.value.code == 2
    assert complaint in capsys.readouterr().err


def test_help_does_not_wait_for_torch():
    look = "import sys; from flamlib import cli; sys.argv = ['flam', 'detect', '--help']\n"
    look += "try: cli.main()\nfinally: print('torch' in sys.modules)"
    asked = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert asked.stdout.startswith("usage: flam detect")
    assert asked.stdout.endswith("False\n")


# What others published


def write_state(path, *, words):
    text = {"words": words, "width": 64, "layers": 1, "inner": 8, "positions": 99}
    sizes = {"embed": 8, "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4), "dim": 4}
    torch.save(random_state(**sizes, text=text), path)


def test_the_authors_checkpoint_becomes_a_model(tmp_path, capsys):
    roberta = write_roberta(tmp_path / "roberta")
    words = json.loads((roberta / "config.json").read_text())["vocab_size"]
    write_state(tmp_path / "open_flam.pth", words=words)
    arguments = ["import-openflam", tmp_path / "open_flam.pth", tmp_path / "out"]
    assert cli.main([*map(str, arguments), "--tokenizer", str(roberta)]) == 0
    assert FLAM.from_pretrained(tmp_path / "out").embed_captions(["a bell"])[0].shape == (1, 4)
    write_state(tmp_path / "open_flam.pth", words=words + 1)
    assert cli.main([*map(str, arguments), "--tokenizer", str(roberta)]) == 2
    assert "give that of RoBERTa" in capsys.readouterr().err


def test_a_baselines_own_checkpoint_becomes_a_model_to_detect_with(tmp_path, capsys):
    bert = write_bert(tmp_path / "bert", max_tokens=512)
    words = json.loads((bert / "config.json").read_text())["vocab_size"]
    torch.save({"model": mga_state(words)}, tmp_path / "mga.pt")
    arguments = ["import-baseline", tmp_path / "mga.pt", tmp_path / "out", "--tokenizer", bert]
    assert cli.main([*map(str, arguments)]) == 0
    soundfile.write(tmp_path / "a.wav", noise(1.0), RATE)
    how = ["--model", str(tmp_path / "out"), "--threshold", "0"]
    assert cli.main(["detect", str(tmp_path / "a.wav"), "-c", "a dog barks", *how]) == 0
    assert "a dog barks" in capsys.readouterr().out
    how = [*how, "--method", "biased"]
    assert cli.main(["detect", str(tmp_path / "a.wav"), "-c", "a dog barks", *how]) == 2
    assert "a model without priors has unbiased scores alone" in capsys.readouterr().err
    assert cli.main([*map(str, [*arguments[:-1], tmp_path / "out"])]) == 2


def test_the_encoder_alone_becomes_a_tower(tmp_path, capsys):
    write_state(tmp_path / "a.pth", words=9)
    assert cli.main(["import-htsat", str(tmp_path / "a.pth"), str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/model.safetensors").is_file()
    assert cli.main(["import-htsat", str(tmp_path / "b.pth"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"flam: {tmp_path / 'b.pth'} is missing\n"


def test_what_is_no_clap_is_refused(tmp_path, capsys):
    assert cli.main(["import-clap", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "config.json is missing: no ClapModel" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_becomes_onnx(here, tmp_path, capsys, monkeypatch):
    """By `export`; here, that what it measured is printed and what it refuses is said."""
    asked = []

    def pretend(model, out, *, clip_s):
        asked.append((type(model), out, clip_s))
        return {"difference": 0.0}

    assert cli.main(["export", cli.CHECKPOINT, str(tmp_path / "onnx"), "--clip", "0"]) == 2
    assert "hold no frame" in capsys.readouterr().err
    monkeypatch.setattr(export, "export", pretend)
    assert cli.main(["export", cli.CHECKPOINT, "onnx", "--clip", "1"]) == 0
    assert json.loads(capsys.readouterr().out) == {"difference": 0.0}
    assert asked == [(FLAM, "onnx", 1.0)]


def test_mixtures_are_rendered_by_the_projects_rules(tmp_path, monkeypatch, capsys):
    (tmp_path / "dvc.yaml").touch()
    params = Path(__file__).parents[1] / "params.yaml"
    (tmp_path / "params.yaml").write_text(params.read_text())
    settings = {"seed": 0, "sample_rate": RATE, "clip_s": 10.0, "variants": VARIANTS}
    bank.build(
        write_data(tmp_path / "data"), tmp_path / "artifacts/bank", **settings, n_jobs=1,
        progress=False,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    asked = ["mix", "out", "-n", "3", "--shard-size", "2", "--form", "webdataset"]
    assert cli.main(asked) == 0
    assert "3 mixtures, 2 files" in capsys.readouterr().out
    assert [s["name"] for s in shards.verify("out")["shards"]] == [
        "train-00000.tar",
        "train-00001.tar",
    ]
    assert cli.main([*asked[:3], "4", *asked[4:]]) == 2
    assert "shards of other parameters (n)" in capsys.readouterr().err


def test_captions_are_written_into_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    Path("raw.tsv").write_text("path\ttags\tcaption\na.wav\tDog; Bark\t\nb.wav\tRain\train falls\n")
    with Server("A dog barks.") as server:
        asked = ["caption", "raw.tsv", "-o", "sounds.tsv", "--url", server.url, "--model", "m"]
        assert cli.main([*asked, "--cache", "c.sqlite"]) == 0
        assert cli.main([*asked, "--cache", "c.sqlite"]) == 0
    assert len(server.asked) == 1
    assert server.keys == ["Bearer secret"]
    assert "1 by m" in capsys.readouterr().out
    rows = list(csv.DictReader(Path("sounds.tsv").read_text().splitlines(), delimiter="\t"))
    assert [row["caption"] for row in rows] == ["a dog barks", "rain falls"]
    assert cli.main([*asked[:4], "--url", server.url]) == 2
    assert "--url needs --model" in capsys.readouterr().err
    assert cli.main([*asked[:4], "--cache", "c.sqlite"]) == 0
    assert "1 by template" in capsys.readouterr().out
