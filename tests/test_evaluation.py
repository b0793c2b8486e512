import numpy as np
import pytest
import torch
from heldouts import EVALUATE, read_part, write_artifacts
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from flamlib import evaluation, project
from flamlib.heldout import Hearing
from flamlib.listener import Audio, Captions, cosine_score

SETTINGS = {"seed": 0, **EVALUATE}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def part(folder):
    return read_part(folder)[0]


def hearing(logits, bias=-3.0):
    return Hearing(logits.astype(np.float32), np.full(logits.shape[1], bias, np.float32))


def noise_hearing(part, seed=0, skill=2.0):
    noise = np.random.default_rng(seed).normal(0, 1, part.active.shape)
    return hearing(skill * part.active + noise - 3)


def evaluate(folder, **changes):
    made = folder / "artifacts"
    return evaluation.evaluate(
        bank=made / "bank",
        mixtures=made / "mixtures",
        captions=folder / "data/captions.tsv",
        weights=made / "weights",
        flam=made / "checkpoints/flam",
        flam_global=made / "checkpoints/flam_global",
        mga_clap=made / "checkpoints/mga_clap",
        scores=made / "scores",
        progress=False,
        **SETTINGS | changes,
    )


class KnowsItAll:
    """Knows every held-out recording again, and reads which captions are true of it."""

    sample_rate, frame_s, context_frames = 16000, 0.32, 0

    def __init__(self, bank, lexicon):
        rows = bank.sources.index[bank.sources["split"].isin(evaluation.PARTS)]
        rows = [row for row in rows if bank.of(row, "role") == "foreground"]
        self.captions = [bank.of(row, "caption") for row in rows]
        self.sounds = [bank[row].tobytes() for row in rows]
        self.parents = lexicon.parents

    def embed_audio(self, waveform, sample_rate):
        which = torch.zeros(1, len(self.sounds))
        which[0, self.sounds.index(waveform.numpy().tobytes())] = 1
        return Audio(which[:, None], which)

    def embed_captions(self, captions):
        true = [
            [float(c == own or c in self.parents[own]) for own in self.captions] for c in captions
        ]  # in the order of `sounds`
        return Captions(torch.tensor(true), torch.ones(len(captions)), torch.zeros(len(captions)))

    def score(self, waveform, sample_rate, captions, method="unbiased"):
        heard, asked = self.embed_audio(waveform, sample_rate), self.embed_captions(captions)
        return cosine_score(heard, asked, method)


def test_who_knows_every_recording_finds_it(folder):
    _, bank, lexicon = read_part(folder)
    found = evaluation.retrieval(KnowsItAll(bank, lexicon), bank, lexicon, clip_s=10.0)
    for way in ("t2a", "a2t"):
        assert found[f"{way}_r1"] == found[f"{way}_map10"] == found[f"{way}_median_rank"] == 1
    assert found["n_clips"] == found["n_captions"] == 6


def test_every_caption_has_its_row(folder, part):
    lexicon = read_part(folder)[2]
    models = {"flam": noise_hearing(part), "flam_global": noise_hearing(part, seed=1)}
    table = evaluation.caption_table(part, models, lexicon).set_index("caption")
    assert list(table.index) == part.captions
    for j, (caption, row) in enumerate(table.iterrows()):
        known = part.known[:, j]
        truth = part.active[known, j]
        assert row["n_clips"] == truth.any(axis=1).sum()
        assert expit(row["log_odds"]) == pytest.approx(truth.mean())
        assert row["logit_bias"] == -3
        for name, heard in models.items():
            score = heard.logits[known, j].ravel()
            assert row[f"auroc_{name}"] == pytest.approx(roc_auc_score(truth.ravel(), score))
        assert caption in ("a tone", *lexicon.captions)
    # A tone is heard when a bell rings, so the caption belongs to both families.
    assert table.loc["a tone", "family"] == "bell|tone"


def test_an_evaluation_from_files_to_numbers(folder, tmp_path):
    found = evaluate(folder)
    models = {"flam", "flam_global", "mga_clap", "label_matching"}
    assert set(found.metrics) == models | {"difference"}
    for name in models:
        assert set(found.metrics[name]) == {"seen_captions", "unseen_captions", "retrieval"}
    for part in evaluation.PARTS:
        assert found.parts[part].name == part
        assert set(found.hearings[part]) == models
        assert found.metrics["flam"][part]["n_clips"] == SETTINGS["n_clips"]
        difference = found.metrics["flam"][part]["auroc_macro"]
        difference -= found.metrics["flam_global"][part]["auroc_macro"]
        compared = found.metrics["difference"][part]
        assert set(compared) == models - {"flam"}
        assert compared["flam_global"]["auroc_macro"] == pytest.approx(difference)
    assert set(found.captions["part"]) == set(evaluation.PARTS)
    assert (folder / "artifacts/scores/flam/unseen_captions.parquet").is_file()

    project.write_metrics(tmp_path / "report.json", found.metrics)
    project.write_metrics(tmp_path / "again.json", evaluate(folder).metrics)
    assert (tmp_path / "report.json").read_text() == (tmp_path / "again.json").read_text()
