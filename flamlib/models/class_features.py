"""Class features: compare frames and captions through the classes of an audio classifier.

They help with captions that no training caption resembles. A classifier such as YAMNet knows
hundreds of classes by name. A caption is compared with the class names, a frame with the classes,
and both become unit vectors over the classes:

    caption_vector = unit([w, 0]),            w[c] = softmax over c of <text, name[c]> / TEMPERATURE
    frame_vector   = unit([e - mean e, SLACK]),  e[c] = p[c] ** POWER

with unit text features of the caption and of the class names, and p[c] the classifier's
probability. By the small power, here called *evidence*, a class counts by the order of magnitude of
its probability: what is faint or lies under other sounds has a thousandth rather than a half, and
still more than what is absent. Without the mean over classes a loud frame, in which all of them
rise, would be like every caption. Where no class differs from another the last coordinate alone is
left, and the cosine with every caption is 0.

Concatenated with the learned embeddings u (frame) and v (caption), each pair gives half of the
cosine:

    <concat_unit(u, frame_vector), concat_unit(v, caption_vector)>
        = (<u, v> + <frame_vector, caption_vector>) / 2

The learned half distinguishes captions like those of the training set, the class half generalises
to others. So that the learned half does not rely on the class half, a share DROPOUT of the training
steps goes without class features (docs/EXPERIMENTS.md).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

TEMPERATURE = 0.04
POWER = 0.12
SLACK = 2.0  # two thirds of the median length of e - mean e in mixtures
DROPOUT = 0.5  # probability that a training step is without class features


def evidence(logits: Float[Tensor, "*frame cls"]) -> Float[Tensor, "*frame cls"]:
    """Compute sigmoid(logit) ** POWER in float32, of which half precision keeps three digits."""
    return (POWER * F.logsigmoid(logits.float())).exp()


def probability(evidence: Float[Tensor, "*frame cls"]) -> Float[Tensor, "*frame cls"]:
    """Return the probabilities of which `evidence` was computed."""
    return evidence ** (1 / POWER)


def frame_class_vector(evidence: Float[Tensor, "*frame cls"]) -> Float[Tensor, "*frame tag"]:
    """Return unit vectors of frames, from `evidence`; one coordinate more than classes."""
    centred = evidence - evidence.mean(dim=-1, keepdim=True)
    return F.normalize(F.pad(centred, (0, 1), value=SLACK), dim=-1)


def caption_class_vector(
    features: Float[Tensor, "caption dim"], names: Float[Tensor, "cls dim"]
) -> Float[Tensor, "caption tag"]:
    """Return unit vectors of captions; one coordinate more than classes.

    `features` and `names` are features of the captions and of the class names from the same caption
    tower, of any length.
    """
    # Outside autocast: bf16 would round the cosine by a tenth of the temperature.
    with torch.autocast(features.device.type, enabled=False):
        cosine = F.normalize(features.float(), dim=-1) @ F.normalize(names.float(), dim=-1).T
    weight = torch.softmax(cosine / TEMPERATURE, dim=-1)
    return F.normalize(F.pad(weight, (0, 1)), dim=-1)


def concat_unit(
    learned: Float[Tensor, "*row dim"], tags: Float[Tensor, "*row tag"]
) -> Float[Tensor, "*row both"]:
    """Concatenate two unit vectors to one, weighting each by sqrt(1/2)."""
    return torch.cat([learned, tags.to(learned.dtype)], dim=-1) * 0.5**0.5
