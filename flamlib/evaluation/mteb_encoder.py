"""A model as an encoder of MTEB, for its audio tasks (MAEB, the benchmark of audio embeddings).

    import mteb
    from flamlib.evaluation.mteb_encoder import MtebEncoder
    from flamlib.models import baselines

    encoder = MtebEncoder(baselines.load("models/flam-small"), "flam-small")
    results = mteb.evaluate(encoder, mteb.get_tasks(["ESC50_Zeroshot", "ClothoT2ARetrieval"]))

The embedding of a recording is the mean of its windows', as in `benchmarks`; texts are captions.
Both are compared by their cosine. FLAM's prior and scale of a caption do not enter: MTEB compares
vectors alone.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.modality_collators import AudioCollator
from mteb.models.model_meta import ScoringFunction
from torch.utils.data import DataLoader

from flamlib.evaluation import benchmarks
from flamlib.models.interface import AudioTextModel


class MtebEncoder(AbsEncoder):
    """An encoder of recordings and captions."""

    def __init__(
        self,
        model: AudioTextModel,
        name: str,
        *,
        revision: str = "local",
        window_s: float = 10.0,
    ) -> None:
        """Wrap a model.

        Args:
            model: Any that `baselines.load` returns.
            name: What results are stored under, as `flamlib/NAME`.
            revision: Which version of it they are of.
            window_s: Seconds of a recording that are embedded at a time.
        """
        self.model, self.window_s = model, window_s
        about = {
            "name": f"flamlib/{name}",
            "revision": revision,
            "modalities": ["audio", "text"],
            "languages": ["eng-Latn"],
            "framework": ["PyTorch"],
            "similarity_fn_name": ScoringFunction.COSINE,
        }
        self.mteb_model_meta = ModelMeta.create_empty(about)

    def encode(self, inputs: DataLoader, **_: Any) -> Float[np.ndarray, "item dim"]:
        """Embed the recordings or the texts of a data loader; of items with both, their sum."""
        columns = inputs.dataset.features
        embedded = []
        if "text" in columns:
            embedded.append(self._texts(inputs))
        if "audio" in columns:
            embedded.append(self._recordings(inputs))
        if not embedded:
            raise ValueError(f"a task with {', '.join(columns)}: expected audio or text")
        return np.sum(embedded, axis=0)

    def _texts(self, inputs: DataLoader) -> Float[np.ndarray, "item dim"]:
        batches = [self.model.embed_captions(list(batch["text"])).caption_emb for batch in inputs]
        return torch.cat(batches).numpy(force=True)

    def _recordings(self, inputs: DataLoader) -> Float[np.ndarray, "item dim"]:
        rate = self.model.sample_rate
        inputs.collate_fn = AudioCollator(target_sampling_rate=rate)
        waveforms = (
            (np.asarray(each["array"], np.float32).reshape(-1), rate)
            for batch in inputs
            for each in batch["audio"]
        )
        return benchmarks.embed_recordings(
            self.model, waveforms, self.window_s, len(inputs.dataset)
        )
