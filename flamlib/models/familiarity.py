"""Familiarity: whether a caption is one that the model was trained on, and what follows from that.

A model is surer than it may be. Of captions that it was trained on it memorised the recordings,
and others of them fit less well; of captions that resemble none of these it only guesses, in the
learned half of the cosine (see `class_features`) and in the prior. Neither shows in training, where
every caption is trained on. So what each part is worth is measured on recordings and captions that
are held out (`evaluation.trust`), and applied when training is over:

    weight[half] = known * trust[known][half] + (1 - known) * trust[novel][half]
    logit        = scale * (weight[learned] * learned + weight[classes] * classes) / 2
                 + known * bias + (1 - known) * prior

`known` of a caption is 1 if one of those trained on, in any wording, has text features of a cosine
of `SAME` or more with it, 0 from `OTHER` down, and linear between. The prior of a novel caption is
the mean one of those that are known.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SAME, OTHER = 0.95, 0.85  # cosines of text features


class Trust(NamedTuple):
    """What each half of the cosine is worth, 1 for what it is worth in training.

    Attributes:
        known: Of the learned half and of the classes, for captions that were trained on.
        novel: The same for other captions.
    """

    known: tuple[float, float] = (1.0, 1.0)
    novel: tuple[float, float] = (1.0, 1.0)


class Familiarity(nn.Module):
    """The captions that a model was trained on, and how far it is to be trusted.

    Attributes:
        captions: Unit text features of all their wordings.
        trust: `[known or novel, learned half or classes]`.
        prior: Log-odds of a caption that is not known.
    """

    captions: Float[Tensor, "known dim"]
    trust: Float[Tensor, "2 2"]
    prior: Float[Tensor, ""]

    def __init__(self, n_known: int, width: int) -> None:
        """Make room for so many texts, of so many features each."""
        super().__init__()
        self.register_buffer("captions", torch.zeros(n_known, width))
        self.register_buffer("trust", torch.ones(2, 2))
        self.register_buffer("prior", torch.zeros(()))

    @classmethod
    def of(
        cls, features: Float[Tensor, "known dim"], bias: Float[Tensor, "known"], trust: Trust
    ) -> "Familiarity":
        """Know captions of these text features and prior log-odds, at least one."""
        made = cls(*features.shape).to(features.device)
        made.captions.copy_(F.normalize(features.float(), dim=-1))
        made.trust.copy_(torch.tensor(trust))
        made.prior.copy_(torch.logit(bias.double().sigmoid().mean()))
        return made

    def known(self, features: Float[Tensor, "caption dim"]) -> Float[Tensor, "caption"]:
        """Return how well each caption is known, 0 to 1, given its text features."""
        # Outside autocast: bf16 would round the cosine by a twentieth of the ramp.
        with torch.autocast(features.device.type, enabled=False):
            nearest = (F.normalize(features.float(), dim=-1) @ self.captions.T).amax(dim=1)
        return ((nearest - OTHER) / (SAME - OTHER)).clamp(0, 1)

    def forward(
        self, features: Float[Tensor, "caption dim"], bias: Float[Tensor, "caption"]
    ) -> tuple[Float[Tensor, "caption half"], Float[Tensor, "caption"]]:
        """Return the weights of the two halves of the cosine, and the bias, of each caption."""
        known = self.known(features)
        weights = torch.lerp(self.trust[1], self.trust[0], known[:, None])
        return weights, torch.lerp(self.prior.expand_as(bias), bias, known)


def weighted(
    halves: Sequence[Float[Tensor, "caption _"]],
    scale: Float[Tensor, "caption"],
    weights: Float[Tensor, "caption half"],
) -> tuple[Float[Tensor, "caption both"], Float[Tensor, "caption"]]:
    """Return a unit vector and a logit scale of each caption that weigh the halves of its cosine.

        scale' * <concat_unit(u, v), caption'>
            = scale * (weights[0] <u, u'> + weights[1] <v, v'>) / 2

    Args:
        halves: Unit vectors, u' and v'; a half may be all zeros.
        scale: Logit scale where both weights are 1.
        weights: Of the halves, above 0.
    """
    both = torch.cat([half * w for half, w in zip(halves, weights.T[:, :, None], strict=True)], -1)
    length = both.norm(dim=-1).clamp(min=1e-12)
    return both / length[:, None], scale * length * 0.5**0.5
