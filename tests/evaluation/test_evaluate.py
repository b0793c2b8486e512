import numpy as np
import pytest
import torch
from heldouts import EVALUATE, read_split, write_artifacts
from originals_layout import laion_state
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from towers import write_roberta
from transformers import AutoTokenizer

from flamlib.data.mixtures.backgrounds import MASKED
from flamlib.evaluation import evaluate as evaluation
from flamlib.evaluation.splits import SplitLogits
from flamlib.experiment.params.trials import EvaluationConfig
from flamlib.models.flam import FLAM
from flamlib.models.importers import originals
from flamlib.models.interface import AudioEmbeddings, CaptionEmbeddings, CosineScoring
from flamlib.models.mga_clap import MGACLAP
from flamlib.storage import number_files

CONFIG = EvaluationConfig(**EVALUATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def split(folder):
    return read_split(folder)[0]


def noisy(split, seed=0, skill=2.0):
    noise = np.random.default_rng(seed).normal(0, 1, split.active.shape)
    logits = (skill * split.active + noise - 3).astype(np.float32)
    return SplitLogits(split, logits, np.full(logits.shape[1], -3.0, np.float32))


def evaluate(folder):
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
        seed=0,
        config=CONFIG,
        progress=False,
    )


class KnowsItAll(CosineScoring):
    """Knows every held-out recording again, and reads which captions are true of it."""

    sample_rate, frame_s, context_frames = 16000, 0.32, 0

    def __init__(self, bank, lexicon):
        rows = bank.sources.index[bank.sources["split"].isin(evaluation.TEST_SPLITS)]
        rows = [row for row in rows if bank.get(row, "role") == "foreground"]
        self.captions = [bank.get(row, "caption") for row in rows]
        self.sounds = [bank[row].tobytes() for row in rows]
        self.parents = lexicon.parents

    def embed_audio(self, waveform, sample_rate):
        which = torch.zeros(1, len(self.sounds))
        which[0, self.sounds.index(waveform.numpy().tobytes())] = 1
        return AudioEmbeddings(which[:, None], which)

    def embed_captions(self, captions):
        true = [
            [float(c == own or c in self.parents[own]) for own in self.captions] for c in captions
        ]  # in the order of `sounds`
        return CaptionEmbeddings(
            torch.tensor(true), torch.ones(len(captions)), torch.zeros(len(captions))
        )


def test_who_knows_every_recording_finds_it(folder):
    _, bank, lexicon = read_split(folder)
    outcome = evaluation.retrieval(KnowsItAll(bank, lexicon), bank, lexicon, clip_s=10.0)
    found = outcome.metrics
    assert [of.n_units for of in outcome.resamplings] == [6, 6]  # captions, recordings
    for way in ("t2a", "a2t"):
        assert found[f"{way}_r1"] == found[f"{way}_map10"] == found[f"{way}_median_rank"] == 1
    assert found["n_clips"] == found["n_captions"] == 6


def test_every_caption_has_its_row(folder, split):
    lexicon = read_split(folder)[2]
    models = {"flam": noisy(split), "flam_global": noisy(split, seed=1)}
    table = evaluation.caption_table(models, lexicon, config=CONFIG).set_index("caption")
    assert list(table.index) == split.captions
    for j, (caption, row) in enumerate(table.iterrows()):
        known = split.known[:, j]
        truth = split.active[known, j]
        assert row["n_clips"] == truth.any(axis=1).sum()
        assert expit(row["log_odds"]) == pytest.approx(truth.mean())
        assert row["logit_bias"] == -3
        for name, logits in models.items():
            score = logits.logits[known, j].ravel()
            assert row[f"auroc_{name}"] == pytest.approx(roc_auc_score(truth.ravel(), score))
            assert 0 <= row[f"recall_{name}"] <= 1
        assert caption in ("a tone", *lexicon.captions)
    # A tone is heard when a bell rings, so the caption belongs to both families.
    assert table.loc["a tone", "family"] == "bell|tone"


def test_an_evaluation_from_files_to_numbers(folder, tmp_path):
    found = evaluate(folder)
    models = {"flam", "flam_global", "mga_clap", "label_matching"}
    assert set(found.metrics) == models | {"difference"}
    for name in models:
        assert set(found.metrics[name]) == {*evaluation.PARTS, "retrieval"}
        for part in MASKED:
            assert {"auroc_loss", "auroc_loss_low", "auroc_macro_low"} <= set(
                found.metrics[name][part]
            )
    for split in evaluation.PARTS:
        assert found.splits[split].name == split
        assert set(found.logits[split]) == models
        assert found.metrics["flam"][split]["n_clips"] == CONFIG.n_clips
        difference = found.metrics["flam"][split]["auroc_macro"]
        difference -= found.metrics["flam_global"][split]["auroc_macro"]
        compared = found.metrics["difference"][split]
        assert set(compared) == models - {"flam"}
        assert compared["flam_global"]["auroc_macro"] == pytest.approx(difference)
    searched = found.metrics["flam"]["retrieval"]
    for name in ("t2a_r1", "a2t_map10", "a2t_median_rank"):
        assert searched[f"{name}_low"] <= searched[name] <= searched[f"{name}_high"]
    tested = found.metrics["difference"]["retrieval"]["label_matching"]
    theirs = found.metrics["label_matching"]["retrieval"]
    assert tested["t2a_r10"] == pytest.approx(searched["t2a_r10"] - theirs["t2a_r10"])
    assert set(found.captions["part"]) == set(evaluation.TEST_SPLITS)
    assert (folder / "artifacts/scores/flam/unseen_captions.parquet").is_file()
    assert list(found.splits) == list(found.logits) == list(evaluation.PARTS)

    number_files.write_metrics(tmp_path / "report.json", found.metrics)
    number_files.write_metrics(tmp_path / "again.json", evaluate(folder).metrics)
    assert (tmp_path / "report.json").read_text() == (tmp_path / "again.json").read_text()


def test_an_external_model_is_evaluated_on_the_same_mixtures_in_its_own_frames(folder, tmp_path):
    """A CLAP of 48 kHz with other frames than FLAM's; and a model that 04 has evaluated too."""
    _, bank, lexicon = read_split(folder)
    made = folder / "artifacts"
    n_words = len(AutoTokenizer.from_pretrained(write_roberta(tmp_path / "roberta")))
    torch.save({"state_dict": laion_state(n_words)}, tmp_path / "clap.pt")
    external = {
        "clap": originals.read(tmp_path / "clap.pt", tmp_path / "roberta"),
        "again": MGACLAP.from_pretrained(made / "checkpoints/mga_clap"),
    }
    flam = FLAM.from_pretrained(made / "checkpoints/flam")
    assert external["clap"].frame_s != flam.frame_s
    inputs = flam, bank, lexicon, made / "mixtures"
    results = evaluation.evaluate_external(external, *inputs, seed=0, config=CONFIG)
    assert set(results) == {"flam", "clap", "again", "difference"}
    whole = evaluate(folder).metrics
    for split in (*evaluation.PARTS, "retrieval"):
        assert results["flam"][split] == pytest.approx(whole["flam"][split], nan_ok=True)
        assert results["again"][split] == pytest.approx(whole["mga_clap"][split], nan_ok=True)
        tested = results["difference"][split]
        assert tested["again"] == pytest.approx(whole["difference"][split]["mga_clap"])
        assert set(results["clap"][split]) == set(whole["flam"][split])
        name = "t2a_r10" if split == "retrieval" else "auroc_macro"
        assert (
            0
            <= results["clap"][split][f"{name}_low"]
            <= results["clap"][split][f"{name}_high"]
            <= 1
        )
        assert 0 < tested["clap"][f"{name}_p"] <= 1
    assert evaluation.evaluate_external({}, *inputs, seed=0, config=CONFIG) == {}
