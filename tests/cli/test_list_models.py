import json

import pytest

from flamlib.cli import main
from flamlib.models import released
from flamlib.models.importers import others


@pytest.fixture
def known(tmp_path, monkeypatch):
    """A released model in its light form, one of a project, and an empty cache."""
    monkeypatch.setenv("FLAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(released, "places", lambda: [tmp_path / "released", released.cached()])
    light = tmp_path / "released/flam-small"
    own = tmp_path / "project/artifacts/checkpoints/flam"
    for folder in (light, own):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(bytes(2_000_000))
    towers = {
        part: {"name": name, "packages": [{"bytes": 5_000_000}]}
        for part, name in (("audio", "yamnet"), ("caption", "minilm"))
    }
    (light / "config.json").write_text(json.dumps({"format": 2, "towers": towers}))
    (own / "config.json").write_text("{")
    (tmp_path / "project/dvc.yaml").touch()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path


def test_it_lists_what_is_at_hand_and_what_can_be_had(known, capsys):
    assert main.main(["models"]) == 0
    at_hand, to_be_had = capsys.readouterr().out.split("To be had")
    lines = at_hand.splitlines()[1:]
    where = known / "released/flam-small"
    assert lines[0] == f"  flam-small  2 MB, and 10 MB of towers at first use  {where}"
    assert lines[1].startswith("  artifacts/checkpoints/flam  2 MB  ")
    assert "Apache-2.0  (laion/clap-htsat-unfused)" in to_be_had
    assert "non-commercial use only  (kechenadobe/OpenFLAM)" in to_be_had
    for name in ("yamnet", "minilm"):
        (known / f"cache/towers/{name}-0").mkdir(parents=True)
        (known / f"cache/towers/{name}-0/provenance.json").touch()
    assert main.main(["models"]) == 0
    assert "flam-small  2 MB, towers fetched  " in capsys.readouterr().out


def test_another_s_is_fetched_only_when_asked_for_and_its_licence_said(known, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(others, "get", lambda name: asked.append(name) or known / "cache")
    assert main.main(["models"]) == 0
    assert asked == []
    assert main.main(["models", "--get", "openflam"]) == 0
    assert asked == ["openflam"]
    out, told = capsys.readouterr()
    assert "--model openflam" in out
    assert "non-commercial use only" in told
    with pytest.raises(SystemExit) as left:
        main.main(["models", "--get", "nobody"])
    assert left.value.code == 2
