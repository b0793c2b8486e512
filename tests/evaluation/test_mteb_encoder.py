"""With the real mteb, on made-up data. It is not in the environment of the tests."""

import numpy as np
import pytest
import torch
from sounds import noise

pytest.importorskip("mteb", reason='mteb is not installed: pip install "flamlib[mteb]"')
import mteb
from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTaskZeroShotClassification
from mteb.mocks.mock_tasks.zeroshot_classification import MockAudioZeroshotClassificationTask
from torch.utils.data import DataLoader

from flamlib.evaluation.mteb_encoder import MtebEncoder
from flamlib.models import baselines
from flamlib.models.interface import AudioEmbeddings, CaptionEmbeddings

LABELS = ["a low tone", "a high tone"]


class HearsPitch:
    """Knows a low tone from a high one, by how often its sign changes."""

    sample_rate, frame_s, context_frames = 8000, 0.5, 0

    def embed_audio(self, waveform, sample_rate):
        signs = (waveform[:, 1:] * waveform[:, :-1] < 0).float().mean(dim=1)
        emb = torch.eye(2)[(signs > 0.2).long()]
        n_frames = -(-waveform.shape[1] // (sample_rate // 2))
        return AudioEmbeddings(emb[:, None].repeat(1, n_frames, 1), emb)

    def embed_captions(self, captions):
        emb = torch.eye(2)[[int("high" in text) for text in captions]]
        return CaptionEmbeddings(emb, torch.ones(len(emb)), torch.zeros(len(emb)))

    def score(self, waveform, sample_rate, captions, method="unbiased"):
        raise NotImplementedError("MTEB compares embeddings")

    score_embeddings = score


class Tones(AbsTaskZeroShotClassification):
    """Tones at another rate than the model's, of one second and of more than a window."""

    metadata = MockAudioZeroshotClassificationTask.metadata.model_copy(update={"name": "Tones"})
    input_column_name = "audio"

    def load_data(self, **_):
        items = [(440, 1.0, 0), (3000, 1.0, 1), (220, 12.5, 0), (2500, 0.3, 1), (2000, 25.0, 1)]
        sounds = [
            {
                "array": np.sin(2 * np.pi * hz * np.arange(int(s * 16000)) / 16000 + 0.1),
                "sampling_rate": 16000,
            }
            for hz, s, _ in items
        ]
        labels = [label for _, _, label in items]
        self.dataset = DatasetDict(test=Dataset.from_dict({"audio": sounds, "label": labels}))
        self.data_loaded = True

    def get_candidate_labels(self):
        return LABELS


def run(model, tmp_path):
    encoder = MtebEncoder(model, "test")
    results = mteb.evaluate(
        encoder, Tones(), cache=mteb.ResultCache(tmp_path), overwrite_strategy="always"
    )
    [result] = results.task_results
    return result.scores["test"][0]["accuracy"]


def test_a_model_that_knows_all_is_always_right(tmp_path):
    assert run(HearsPitch(), tmp_path) == 1.0


def test_a_flam_takes_part(here, tmp_path):
    assert 0 <= run(baselines.load(here / "artifacts/checkpoints/flam"), tmp_path) <= 1


def test_of_items_with_both_the_sum_is_taken_and_others_are_refused(here):
    model = baselines.load(here / "artifacts/checkpoints/flam")
    encoder = MtebEncoder(model, "test")
    audio = [{"array": noise(1.0).tolist(), "sampling_rate": model.sample_rate}] * 2
    columns = {"text": ["rain", "wind"], "audio": audio}

    def encode(*names):
        dataset = Dataset.from_dict({name: columns[name] for name in names})
        return encoder.encode(
            DataLoader(
                dataset,
                batch_size=2,
                collate_fn=lambda rows: {name: [row[name] for row in rows] for name in names},
            )
        )

    both = encode("text", "audio")
    assert np.allclose(both, encode("text") + encode("audio"), atol=1e-6)
    assert np.linalg.norm(encode("audio"), axis=1) == pytest.approx([1, 1], abs=1e-5)
    columns["image"] = [0, 0]
    with pytest.raises(ValueError, match="expected audio or text"):
        encode("image")
