"""Whatever `flam` is given, it succeeds or says in one sentence why it cannot."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from heldouts import write_model
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openflam_layout import random_state
from sounds import RATE, noise, tone, variants_config, write_data
from towers import write_roberta

from flamlib.cli import arguments, main
from flamlib.data.mixtures import bank

DETECT = ["detect", "sound.wav", "-c", "a dog barks", "-o", "events.tsv"]
EMBED = ["embed", "sounds", "embedded", "--shard-size", "2"]
EXPORT = ["export", "model", "exported", "--clip", "1"]
MIX = ["mix", "mixed", "-n", "3", "--shard-size", "2", "--form", "parquet", "--split", "train"]
CAPTION = ["caption", "raw.tsv", "-o", "captions.tsv", "--cache", "cache.sqlite", "--tries", "2"]
VERIFY = ["verify", "shards"]
OPENFLAM = ["import-openflam", "open_flam.pth", "imported", "--tokenizer", "roberta"]
CLAP = ["import-clap", "clap", "imported"]
BASELINE = ["import-baseline", "open_flam.pth", "imported", "--tokenizer", "roberta"]
HTSAT = ["import-htsat", "open_flam.pth", "imported"]

COMMANDS = [DETECT, EMBED, EXPORT, MIX, CAPTION, VERIFY, OPENFLAM, CLAP, BASELINE, HTSAT]

NUMBERS = ["0", "1", "-1", "0.5", "1.5", "nan", "inf", "-inf", "1e30", "1e-30", "9" * 400, "３"]
OPTIONS = [
    ["--threshold", "0.5"],
    ["--median-frames", "3"],
    ["--min-duration", "1"],
    ["--merge-gap", "1"],
    ["--format", "audacity"],
    ["--method", "biased"],
    ["--scores", "scores.tsv"],
    ["--model", "model"],
    ["--seed", "1"],
    ["--per-second", "1"],
    ["--url", "http://127.0.0.1:9/v1"],
    ["--local", "model"],
]


def write_world(folder):
    """A project with a model, and files of every kind that somebody may name by mistake."""
    (folder / "dvc.yaml").touch()
    (folder / "notebooks").mkdir()
    params = Path(__file__).parents[2] / "params.yaml"
    (folder / "params.yaml").write_text(params.read_text(encoding="utf-8"), encoding="utf-8")
    write_model(folder / arguments.CHECKPOINT)
    shutil.copytree(folder / arguments.CHECKPOINT, folder / "model")
    (folder / "model_without_weights").mkdir()
    shutil.copy(folder / "model/config.json", folder / "model_without_weights")
    data = {"seed": 0, "sample_rate": RATE, "clip_s": 10.0, "variants": variants_config()}
    bank.build(
        write_data(folder / "data"), folder / "artifacts/bank", **data, n_jobs=1, progress=False
    )
    samples = np.concatenate([noise(1.0), tone(800, 1.3), noise(0.7)])
    soundfile.write(folder / "sound.wav", samples, RATE)
    whole = (folder / "sound.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[:2000])
    (folder / "head.wav").write_bytes(whole[:30])
    (folder / "sound.raw").write_bytes(whole[44:])
    (folder / "sound.mp3").write_bytes(whole)
    soundfile.write(folder / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    soundfile.write(folder / "loud.wav", np.full(RATE, 3e38), RATE, subtype="FLOAT")
    soundfile.write(folder / "one_sample.flac", [0.1], RATE)
    soundfile.write(folder / "silence.flac", np.zeros(RATE), RATE)
    for name in ("empty.wav", "empty.tsv", "empty.pth", "manifest.json"):
        (folder / name).touch()
    (folder / "bytes.wav").write_bytes(bytes(range(256)) * 9)
    (folder / "raw.tsv").write_text("path\ttags\na.wav\tDog; Bark\nb.wav\tRain\n")
    (folder / "raw.csv").write_text("path,tags\na.wav,Dog\n")
    (folder / "raw.CSV").write_text("path,tags\na.wav,Dog\n")
    (folder / "twice.tsv").write_text("path\tpath\na.wav\tb.wav\n")
    (folder / "latin.tsv").write_bytes("path\ttags\na.wav\tSäge\n".encode("latin-1"))
    (folder / "long.tsv").write_text("path\ttags\n" + "a" * 5000 + ".wav\tDog\textra\n")
    (folder / "sounds").mkdir()
    for name in ("sound.wav", "cut.wav", "nan.wav", "bytes.wav", "empty.wav", "raw.tsv"):
        shutil.copy(folder / name, folder / "sounds")
    (folder / "sounds/dead.wav").symlink_to("nowhere")
    (folder / "sounds/folder.wav").mkdir()
    (folder / "no_sounds").mkdir()
    roberta = write_roberta(folder / "roberta")
    words = json.loads((roberta / "config.json").read_text())["vocab_size"]
    import torch

    text = {"words": words, "width": 64, "layers": 1, "inner": 8, "positions": 99}
    sizes = {"embed": 8, "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4), "dim": 4}
    torch.save(random_state(**sizes, text=text), folder / "open_flam.pth")
    (folder / "pickle.pt").write_bytes(pickle.dumps({"a": [1, 2]}))
    (folder / "shards").mkdir()
    (folder / "shards/manifest.json").write_text('{"parameters": {}, "shards": []}')
    for name, content in (("list", "[]"), ("object", "{}"), ("deep", "[" * 5000)):
        (folder / f"shards_{name}").mkdir()
        (folder / f"shards_{name}/manifest.json").write_text(content)
    (folder / "clap").mkdir()
    (folder / "clap/config.json").write_text('{"model_type": "clap"}')
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def fresh(world, tmp_path, monkeypatch):
    """Return a function that changes to a copy of the world, and removes it at the next call."""
    monkeypatch.setenv("COLUMNS", "100")
    copies = []

    def make():
        monkeypatch.chdir(tmp_path)
        if copies:
            shutil.rmtree(copies.pop())
        copies.append(shutil.copytree(world, tmp_path / "copy", symlinks=True))
        monkeypatch.chdir(copies[0])

    return make


def names():
    """Names of files and folders of the world, of devices, and of what is not there."""
    there = [
        *("sound.wav", "cut.wav", "head.wav", "sound.raw", "sound.mp3", "nan.wav", "loud.wav"),
        *("one_sample.flac", "silence.flac", "empty.wav", "empty.tsv", "empty.pth", "bytes.wav"),
        *("raw.tsv", "raw.csv", "raw.CSV", "twice.tsv", "latin.tsv", "long.tsv", "params.yaml"),
        *("sounds", "no_sounds", "sounds/dead.wav", "sounds/folder.wav", "model", "roberta"),
        *("model_without_weights", "model/config.json", "open_flam.pth", "pickle.pt", "clap"),
        *("shards", "shards_list", "shards_object", "shards_deep", "artifacts", "data"),
    ]
    missing = [
        "",
        "/dev/null",
        "/dev/full",
        "nowhere",
        "nowhere/sound.wav",
        "sound.wav/inside",
        "n" * 300,
        "café.wav",
    ]
    return st.sampled_from([*there, *missing])


def texts():
    """Captions, or names of files in the folder where the command runs."""
    letters = st.characters(exclude_characters="/\\", exclude_categories=())
    return st.text(letters, max_size=20).filter(lambda text: text.strip(".") or not text)


@st.composite
def calls(draw, base):
    """Arguments of a command with up to three mistakes."""
    given_arguments = list(base)
    for _ in range(draw(st.integers(0, 3))):
        other = draw(st.one_of(names(), st.sampled_from(NUMBERS), texts()))
        where = draw(st.integers(1, len(given_arguments)))
        what = draw(
            st.sampled_from(["replace", "replace", "replace", "insert", "remove", "option"])
        )
        if what == "option":
            given_arguments += draw(st.sampled_from(OPTIONS))
        elif what == "insert":
            given_arguments.insert(where, other)
        elif where < len(given_arguments):
            given_arguments[where : where + 1] = [other] if what == "replace" else []
    return given_arguments


def run(asked):
    """Return the exit code of `flam`."""
    try:
        return main.main(asked)
    except SystemExit as end:  # of argparse
        return end.code


@pytest.mark.parametrize("base", COMMANDS, ids=lambda base: base[0])
def test_a_command_succeeds_or_says_why_it_cannot(base, fresh, capfd):
    seen = set()

    @settings(max_examples=25)
    @example(base)
    @given(calls(base))
    def check(asked):
        fresh()
        capfd.readouterr()
        code = run(asked)
        told = capfd.readouterr().err
        seen.add(code)
        assert code in ((0, 1, 2) if base[0] == "detect" else (0, 2)), asked
        assert "Traceback" not in told
        assert code != 1 or "flam: skipped " in told, "of several recordings, and it says which"
        if code == 2:
            last = told.rstrip("\n").split("\n")[-1]
            assert last.startswith("flam"), (asked, told)
            assert len(last.split(": ", 1)[1]) > 10, (asked, told)
        leftovers = [path for path in Path.cwd().rglob("*.partial")]
        assert not leftovers, (asked, leftovers)

    check()
    assert 2 in seen, "no mistake was made"


@pytest.mark.parametrize("base", [b for b in COMMANDS if b is not CLAP and b is not BASELINE])
def test_the_commands_are_right_without_a_mistake(base, fresh):
    fresh()
    assert run(base) == 0
