"""Of the commands that make models of what others published."""

import json

import pytest
import soundfile
import torch
from made_inputs import write_clap
from openflam_layout import random_state
from originals_layout import mga_state
from sounds import RATE, noise
from towers import write_bert, write_roberta

from flamlib.cli import main
from flamlib.experiment.params.network import HtsatConfig
from flamlib.models.flam import FLAM
from flamlib.models.htsat import HTSAT
from flamlib.models.text_tower import TextTower


def write_state(path, *, words):
    text = {"words": words, "width": 64, "layers": 1, "inner": 8, "positions": 99}
    sizes = {"embed": 8, "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4), "dim": 4}
    torch.save(random_state(**sizes, text=text), path)


def test_the_authors_checkpoint_becomes_a_model(tmp_path, capsys):
    roberta = write_roberta(tmp_path / "roberta")
    words = json.loads((roberta / "config.json").read_text())["vocab_size"]
    write_state(tmp_path / "open_flam.pth", words=words)
    arguments = ["import-openflam", tmp_path / "open_flam.pth", tmp_path / "out"]
    assert main.main([*map(str, arguments), "--tokenizer", str(roberta)]) == 0
    assert FLAM.from_pretrained(tmp_path / "out").embed_captions(["a bell"])[0].shape == (1, 4)
    write_state(tmp_path / "open_flam.pth", words=words + 1)
    arguments[2] = tmp_path / "other"
    assert main.main([*map(str, arguments), "--tokenizer", str(roberta)]) == 2
    assert "pass RoBERTa's tokenizer" in capsys.readouterr().err


def test_a_baselines_own_checkpoint_becomes_a_model_to_detect_with(tmp_path, capsys):
    bert = write_bert(tmp_path / "bert", max_tokens=512)
    words = json.loads((bert / "config.json").read_text())["vocab_size"]
    torch.save({"model": mga_state(words)}, tmp_path / "mga.pt")
    arguments = ["import-baseline", tmp_path / "mga.pt", tmp_path / "out", "--tokenizer", bert]
    assert main.main([*map(str, arguments)]) == 0
    soundfile.write(tmp_path / "a.wav", noise(1.0), RATE)
    how = ["--model", str(tmp_path / "out"), "--threshold", "0"]
    assert main.main(["detect", str(tmp_path / "a.wav"), "-c", "a dog barks", *how]) == 0
    assert "a dog barks" in capsys.readouterr().out
    how = [*how, "--method", "biased"]
    assert main.main(["detect", str(tmp_path / "a.wav"), "-c", "a dog barks", *how]) == 2
    assert "a model without priors has unbiased scores only" in capsys.readouterr().err
    assert main.main([*map(str, [*arguments[:-1], tmp_path / "out"])]) == 2


def test_the_encoder_alone_becomes_a_tower(tmp_path, capsys):
    write_state(tmp_path / "a.pth", words=9)
    assert main.main(["import-htsat", str(tmp_path / "a.pth"), str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/model.safetensors").is_file()
    assert "Next: network.audio.tower: htsat" in capsys.readouterr().out
    assert main.main(["import-htsat", str(tmp_path / "b.pth"), str(tmp_path / "other")]) == 2
    assert capsys.readouterr().err == f"flam: {tmp_path / 'b.pth'} is missing\n"


def test_an_import_says_what_it_made_and_what_to_do_next(tmp_path, capsys):
    bert = write_bert(tmp_path / "bert", max_tokens=512)
    words = json.loads((bert / "config.json").read_text())["vocab_size"]
    torch.save({"model": mga_state(words)}, tmp_path / "mga.pt")
    arguments = ["import-baseline", tmp_path / "mga.pt", tmp_path / "out", "--tokenizer", bert]
    assert main.main([*map(str, arguments)]) == 0
    said = capsys.readouterr().out
    assert "out: MGA-CLAP, mga.pt; 32000 Hz, frames of 0.3125 s" in said
    assert "without priors" in said
    assert f'flam detect RECORDING -c "a dog barks" --model {tmp_path / "out"}' in said


def test_an_imported_clap_gives_its_towers_to_train_from(tmp_path, capsys):
    sizes = {"embed": 8, "depths": [1] * 4, "heads": [1, 2, 2, 4]}
    off = dict.fromkeys(("drop_path", "drop_hidden", "drop_attention"), 0.0)
    write_clap(tmp_path / "clap", HtsatConfig(tower="htsat", **sizes, **off), dim=12)
    given = [str(tmp_path / "clap"), str(tmp_path / "out"), "--towers", str(tmp_path / "weights")]
    assert main.main(["import-clap", *given]) == 0
    assert f"{tmp_path / 'weights/roberta'}: its towers" in capsys.readouterr().out
    model = FLAM.from_pretrained(tmp_path / "out")
    tower = HTSAT(**sizes, **off, frozen_stages=3)
    tower.load_weights(tmp_path / "weights/htsat/model.safetensors")
    caption = TextTower(tmp_path / "weights/roberta", pooling="pooler")
    caption.load_weights(tmp_path / "weights/roberta/model.safetensors")
    for ours, theirs in ((tower, model.audio), (caption, model.caption)):
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor)
    given[1] = str(tmp_path / "other")
    assert main.main(["import-clap", *given]) == 2
    assert f"{tmp_path / 'weights/htsat'} exists" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("command", ["import-openflam", "import-clap", "import-baseline"])
def test_an_import_replaces_nothing(tmp_path, capsys, command):
    """Not even a model: it may be the one that took a week."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "config.json").write_text('{"format": 1}')
    options = [] if command == "import-clap" else ["--tokenizer", str(tmp_path)]
    assert main.main([command, str(tmp_path / "a.pt"), str(out), *options]) == 2
    assert f"{out} exists: name another folder" in capsys.readouterr().err
    assert (out / "config.json").read_text() == '{"format": 1}'


def test_a_tower_is_not_replaced_either(tmp_path, capsys):
    write_state(tmp_path / "a.pth", words=9)
    arguments = ["import-htsat", str(tmp_path / "a.pth"), str(tmp_path / "htsat")]
    (tmp_path / "htsat").mkdir()  # an empty folder is nothing
    assert main.main(arguments) == 0
    assert "htsat: HTS-AT, 48000 Hz, frames of 0.3125 s" in capsys.readouterr().out
    assert main.main(arguments) == 2
    assert "exists: name another folder" in capsys.readouterr().err


def test_what_is_no_clap_is_refused(tmp_path, capsys):
    assert main.main(["import-clap", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "config.json is missing: not a folder of a ClapModel" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
