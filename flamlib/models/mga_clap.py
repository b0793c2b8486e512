"""MGA-CLAP: sound and text meet in one codebook (Li et al., ACM MM 2024, arXiv:2408.07919).

Written from the method, as a baseline on the towers, data and budget of FLAM: it is trained on
clips and their captions alone, and yet its frames can be asked. Where it differs from the paper:

- padding has no part in an embedding; in the paper a padded word has affinity zero to every code,
  which is what `floor` is for: the authors' checkpoints need it;
- the captions' marks of beginning and end are no words;
- the projections have dropout, for a corpus this small.

The block that keeps what is local to a frame replaces the last attention of HTS-AT. A tower of
convolutions such as YAMNet has no attention, and so no counterpart: its frames are local as it is.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from flamlib.losses.codebook import aggregate
from flamlib.models.dual_encoder import DualEncoder
from flamlib.models.htsat import HTSAT
from flamlib.models.interface import AudioEmbeddings, CaptionEmbeddings


class MGACLAP(DualEncoder):
    """Clips and captions as mixtures of the same codewords.

        frame[l]    = frame_projection(frame feature l)      frame_emb[l] = unit(frame[l])
        word[i]     = word_projection(word feature i)
        clip_emb    = unit(aggregate(frame, codes))
        caption_emb = unit(aggregate(word, codes))

    See `codebook.aggregate`. A frame is compared as it is, a caption by its codewords.
    """

    kind = "mga_clap"

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
        """A model with random weights; `init.pretrained` gives its towers theirs.

        The caption tower's pooling is "words", or ValueError is raised. `code_temperature` divides
        the affinities: the higher, the more codewords have a share. `floor` is their least value
        for captions.
        """
        if caption.get("pooling") != "words":
            raise ValueError(f'MGA-CLAP reads words: pooling is "words", not {caption}')
        config = dict(
            audio=audio,
            caption=caption,
            dim=dim,
            dropout=dropout,
            temperature_init=temperature_init,
            n_codes=n_codes,
            code_temperature=code_temperature,
            floor=floor,
        )
        super().__init__(caption_folder, config)
        if isinstance(self.audio, HTSAT):
            use_local_block(self.audio)
        self.frame_projection = _projection(self.audio.width, dim, dropout)
        self.word_projection = _projection(self.caption.width, dim, dropout)
        self.codes = nn.Parameter(torch.randn(n_codes, dim))

    def encode_captions(self, features: Float[Tensor, "caption word dim"]) -> CaptionEmbeddings:
        """Embeddings from the features of words, NaN where there is none; no scale, no prior."""
        known = ~features.isnan().any(dim=2)
        # Filled before the projection: NaN would pass through it into the gradients.
        words = self.word_projection(features.masked_fill(~known[:, :, None], 0.0))
        mixture = self._mixture(words, known, self.config["floor"])
        one = torch.ones(len(mixture), device=mixture.device)
        return CaptionEmbeddings(normalize(mixture, dim=1), one, 0 * one)

    def _project(self, frames: Float[Tensor, "clip frame width"]) -> AudioEmbeddings:
        # The codebook is all that sound and text share here: a tower's tags have no part in it.
        steps = self.frame_projection(frames[..., : self.audio.width]).float()
        known = torch.ones(steps.shape[:2], dtype=torch.bool, device=steps.device)
        mixture = self._mixture(steps, known, None)
        return AudioEmbeddings(normalize(steps, dim=2), normalize(mixture, dim=1))

    def _mixture(self, steps: Tensor, known: Tensor, floor: float | None) -> Tensor:
        temperature = self.config["code_temperature"]
        return aggregate(steps, known, self.codes, temperature=temperature, floor=floor)


class LocalBlock(nn.Module):
    """A block of HTS-AT in which every cell looks at itself alone.

        u   = output(value(norm1(x)))
        v   = x + u
        out = v + norm2(v)

    It takes over what it needs of a block that attends, under the same names, and adds nothing:
    queries, keys and the feed-forward part stay in the checkpoint and are not used.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        for name, part in block.named_children():
            self.add_module(name, part)
        attention = block.attention.self
        for unused in (attention.query, attention.key, block.intermediate, block.output):
            unused.requires_grad_(False)  # or processes would wait for gradients that never come
        attention.relative_position_bias_table.requires_grad_(False)

    def forward(
        self,
        hidden_states: Float[Tensor, "clip cell dim"],
        input_dimensions: tuple[int, int],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "clip cell dim"]]:
        value = self.attention.self.value(self.layernorm_before(hidden_states))
        v = hidden_states + self.drop_path(self.attention.output(value, hidden_states))
        return (v + self.drop_path(self.layernorm_after(v)),)


def use_local_block(tower: HTSAT) -> None:
    """Replace the last block of a tower, in place, by one that keeps cells apart."""
    blocks = tower.encoder.audio_encoder.layers[-1].blocks
    blocks[-1] = LocalBlock(blocks[-1])


def _projection(width: int, dim: int, dropout: float) -> nn.Module:
    """Linear, GELU, Linear; a norm and dropout before each."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Dropout(dropout),
        nn.Linear(width, dim),
        nn.GELU(),
        nn.LayerNorm(dim),
        nn.Dropout(dropout),
        nn.Linear(dim, dim),
    )
