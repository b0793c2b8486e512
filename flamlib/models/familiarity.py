"""Familiarity: whether a caption is one that the model was trained on, and what follows from that.

A model is surer than it may be. Of captions that it was trained on it memorised the recordings,
and others of them fit less well; of captions that resemble none of these it only guesses, in the
learned half of the cosine (see `class_features`) and in the prior. Neither shows in training, where
every caption is trained on. Besides, a text may resemble what is in every frame: "water" the noise
of any background. So when training is over the halves are measured against what ordinary frames,
those of training mixtures, have for the same caption, and weighed by what each is worth on
recordings and captions that are held out (`evaluation.trust`):

    logit = weight[learned] * scale * (learned - mean) / 2
          + weight[classes] * (classes - mean) / s.d.
          + shift + known * bias + (1 - known) * prior

with the mean and the standard deviation over ordinary frames; in speaker recognition the latter is
known as zero normalisation. The shift is below zero: it makes up for that a wide spread of logits
raises the mean probability. `known` of a caption is 1 if one of those trained on, in any wording,
has text features of a cosine of `SAME` or more with it, 0 from `OTHER` down, and linear between;
weights and shift are interpolated in the same way. The prior of a novel caption is the mean one of
those that are known.

A constant as the last coordinate of frames and captions takes the means and the shift, so that all
this is still a logit scale times the cosine of two unit vectors.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SAME, OTHER = 0.95, 0.85  # cosines of text features
LEAST_SD = 1e-3  # of the classes' half of the cosine: less would be a caption of no class


class Trust(NamedTuple):
    """What the halves of the cosine are worth, and the shift of the logit.

    Attributes:
        known: Weight of the learned half, 1 for what it is worth in training; weight of a standard
            deviation of the classes' half; shift in nats. For captions that were trained on.
        novel: The same for other captions.
    """

    known: tuple[float, float, float]
    novel: tuple[float, float, float]


class Familiarity(nn.Module):
    """The captions that a model was trained on, what frames are like, and how far to trust it.

    Attributes:
        captions: Unit text features of all their wordings.
        trust: `[known or novel, learned, classes or shift]`.
        prior: Log-odds of a caption that is not known.
        mean: Of the unit vectors of ordinary frames: the learned one and, if there are classes,
            theirs.
        class_covariance: Of the latter; empty without classes.
    """

    captions: Float[Tensor, "known feature"]
    trust: Float[Tensor, "2 3"]
    prior: Float[Tensor, ""]
    mean: Float[Tensor, "both"]
    class_covariance: Float[Tensor, "tag tag"]

    def __init__(self, n_known: int, width: int, dim: int, n_tags: int) -> None:
        """Make room for `n_known` texts of `width` features each.

        Args:
            n_known: At least 1.
            width: Of the caption tower's features.
            dim: Dimensions of the learned embedding.
            n_tags: Dimensions of the class vectors, 0 without.
        """
        super().__init__()
        self.register_buffer("captions", torch.zeros(n_known, width))
        self.register_buffer("trust", torch.ones(2, 3))
        self.register_buffer("prior", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(dim + n_tags))
        self.register_buffer("class_covariance", torch.zeros(n_tags, n_tags))

    @torch.no_grad()
    def learn(
        self,
        features: Float[Tensor, "known feature"],
        bias: Float[Tensor, "known"],
        frames: Sequence[Float[Tensor, "frame _"]],
        trust: Trust,
    ) -> None:
        """Take in the captions that were trained on, and ordinary frames.

        Args:
            features: Text features of the captions.
            bias: Their prior log-odds.
            frames: Learned unit vectors of ordinary frames and, if there are classes, the class
                vectors of the same frames.
            trust: What the halves are worth.
        """
        self.captions.copy_(F.normalize(features.float(), dim=-1))
        self.trust.copy_(torch.tensor(trust))
        self.prior.copy_(torch.logit(bias.double().sigmoid().mean()))
        self.mean.copy_(torch.cat(list(frames), dim=1).double().mean(dim=0))
        if len(frames) == 2:
            self.class_covariance.copy_(torch.cov(frames[1].double().T, correction=0))

    def known(self, features: Float[Tensor, "caption feature"]) -> Float[Tensor, "caption"]:
        """Return how well each caption is known, 0 to 1, given its text features."""
        # Outside autocast: bf16 would round the cosine by a twentieth of the ramp.
        with torch.autocast(features.device.type, enabled=False):
            nearest = (F.normalize(features.float(), dim=-1) @ self.captions.T).amax(dim=1)
        return ((nearest - OTHER) / (SAME - OTHER)).clamp(0, 1)

    def forward(
        self,
        known: Float[Tensor, "caption"],
        halves: Sequence[Float[Tensor, "caption _"]],
        scale: Float[Tensor, "caption"],
        bias: Float[Tensor, "caption"],
    ) -> tuple[Float[Tensor, "caption both"], Float[Tensor, "caption"], Float[Tensor, "caption"]]:
        """Return unit vector, logit scale and bias of captions, for frames with a constant.

            logit = scale' * <concat_unit(*frame halves, 1), caption'> + bias'

        Args:
            known: How well each caption is known, 0 to 1.
            halves: Learned unit vectors and, if there are classes, class vectors.
            scale: Logit scale in training, of the cosine of all halves together.
            bias: Log-odds of the prior in training.
        """
        with torch.autocast(known.device.type, enabled=False):
            worth = torch.lerp(self.trust[1], self.trust[0], known[:, None])
            weighted = [halves[0].float() * (worth[:, 0] * scale / len(halves))[:, None]]
            for classes in halves[1:]:
                variance = ((classes @ self.class_covariance) * classes).sum(dim=1)
                sd = variance.clamp(min=LEAST_SD**2).sqrt()
                weighted.append(classes * (worth[:, 1] / sd)[:, None])
            evidence = torch.cat(weighted, dim=1)
            constant = worth[:, 2] - evidence @ self.mean
            whole = torch.cat([evidence, constant[:, None]], dim=1)
            length = whole.norm(dim=1).clamp(min=1e-12)
            prior = torch.lerp(self.prior.expand_as(bias), bias, known)
            return whole / length[:, None], length * (len(halves) + 1) ** 0.5, prior
