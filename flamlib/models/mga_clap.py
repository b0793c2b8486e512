"""MGA-CLAP: audio and text share one codebook (Li et al., ACM MM 2024, arXiv:2408.07919).

Implemented from the paper, as a baseline with the towers, data and budget of FLAM. It is trained on
clips and their captions only, but its frames can be compared with captions. Differences from the
paper:

- padding does not contribute to an embedding. In the paper a padded word has affinity zero to every
  code; `floor` reproduces that, and the authors' checkpoints need it;
- the special tokens at the beginning and end of a caption are not words;
- the projections have dropout, because the corpus is small.

The paper's locality-aware block replaces the last attention block of HTS-AT. Convolutional towers
such as YAMNet have no attention, so nothing is replaced: their frames are local already.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from flamlib.losses.codebook import aggregate
from flamlib.models.dropout import Dropout
from flamlib.models.dual_encoder import DualEncoder
from flamlib.models.htsat import HTSAT
from flamlib.models.interface import AudioEmbeddings, CaptionEmbeddings, CosineScoring
from flamlib.models.settings import MgaClapSettings


class MGACLAP(CosineScoring, DualEncoder):
    """Clips and captions as weighted sums of the same codewords.

        frame[l]    = frame_projection(frame feature l)      frame_emb[l] = unit(frame[l])
        word[i]     = word_projection(word feature i)
        clip_emb    = unit(aggregate(frame, codes))
        caption_emb = unit(aggregate(word, codes))

    See `codebook.aggregate`. At test time a frame embedding is compared with a caption embedding.
    """

    kind = "mga_clap"
    settings = MgaClapSettings

    def __init__(
        self,
        caption_folder: str | Path,
        *,
        audio: dict[str, Any],
        caption: dict[str, Any],
        dim: int,
        dropout: float,
        temperature_init: float,
        n_codes: int,
        code_temperature: float,
        floor: float | None = None,
    ) -> None:
        """Build a model with random weights; `init.pretrained` loads weights into its towers.

        Args:
            caption_folder: Folder with the caption tower's configuration and tokenizer.
            audio: `tower` ("yamnet" or "htsat") and the arguments of that class.
            caption: Arguments of `TextTower`; `pooling` must be "words".
            dim: Dimensions of the codewords and of the embedding space.
            dropout: Probability before each linear layer of the projections.
            temperature_init: Initial temperature of the clip-level loss, above 0.
            n_codes: Number of codewords.
            code_temperature: Divides the affinities: the higher, the more codewords have a weight.
            floor: Lowest affinity of a caption to a codeword. Default: none.

        Raises:
            ValueError: Another `pooling`, an unknown tower, or what a tower refuses.
        """
        super().__init__(
            caption_folder,
            audio=audio,
            caption=caption,
            dim=dim,
            dropout=dropout,
            temperature_init=temperature_init,
            n_codes=n_codes,
            code_temperature=code_temperature,
            floor=floor,
        )
        if isinstance(self.audio, HTSAT):
            use_local_block(self.audio)
        self.frame_projection = _projection(self.audio.width, dim, dropout)
        self.word_projection = _projection(self.caption.width, dim, dropout)
        self.codes = nn.Parameter(torch.randn(n_codes, dim))

    def encode_captions(self, features: Float[Tensor, "caption word dim"]) -> CaptionEmbeddings:
        """Embed captions, given features of their words, NaN for padding; no scale, no prior."""
        known = ~features.isnan().any(dim=2)
        # Filled before the projection: NaN would pass through it into the gradients.
        words = self.word_projection(features.masked_fill(~known[:, :, None], 0.0))
        mixture = self._mixture(words, known, self.config["floor"])
        one = torch.ones(len(mixture), device=mixture.device)
        return CaptionEmbeddings(normalize(mixture, dim=1), one, 0 * one)

    def _project(self, frames: Float[Tensor, "clip frame width"]) -> AudioEmbeddings:
        # Without the classes of an audio tower: the codebook is all that audio and text share.
        steps = self.frame_projection(frames[..., : self.audio.width]).float()
        known = torch.ones(steps.shape[:2], dtype=torch.bool, device=steps.device)
        mixture = self._mixture(steps, known, None)
        return AudioEmbeddings(normalize(steps, dim=2), normalize(mixture, dim=1))

    def _mixture(self, steps: Tensor, known: Tensor, floor: float | None) -> Tensor:
        temperature = self.config["code_temperature"]
        return aggregate(steps, known, self.codes, temperature=temperature, floor=floor)


class LocalBlock(nn.Module):
    """The locality-aware block: a block of HTS-AT in which no cell attends to another.

        u   = output(value(norm1(x)))
        v   = x + u
        out = v + norm2(v)

    It keeps all layers of the attention block under their names, so that checkpoints fit. Queries,
    keys and the feed-forward layers are not used.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        for name, part in block.named_children():
            self.add_module(name, part)
        attention = block.attention.self
        for unused in (attention.query, attention.key, block.intermediate, block.output):
            unused.requires_grad_(False)  # else DDP would wait for their gradients
        attention.relative_position_bias_table.requires_grad_(False)

    def forward(
        self,
        hidden_states: Float[Tensor, "clip cell dim"],
        input_dimensions: tuple[int, int],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "clip cell dim"]]:
        """Return the output of the block, as `transformers`' blocks do: in a tuple."""
        value = self.attention.self.value(self.layernorm_before(hidden_states))
        v = hidden_states + self.drop_path(self.attention.output(value, hidden_states))
        return (v + self.drop_path(self.layernorm_after(v)),)


def use_local_block(tower: HTSAT) -> None:
    """Replace the last block of a tower, in place, by a `LocalBlock`."""
    blocks = tower.encoder.audio_encoder.layers[-1].blocks
    blocks[-1] = LocalBlock(blocks[-1])


def _projection(width: int, dim: int, dropout: float) -> nn.Module:
    """Build Linear, GELU, Linear, with layer norm and dropout before each linear layer."""
    return nn.Sequential(
        nn.LayerNorm(width),
        Dropout(dropout),
        nn.Linear(width, dim),
        nn.GELU(),
        nn.LayerNorm(dim),
        Dropout(dropout),
        nn.Linear(dim, dim),
    )
