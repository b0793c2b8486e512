"""Class features: compare frames and captions through the classes of an audio classifier.

They help with captions that no training caption resembles. A classifier such as YAMNet knows
hundreds of classes by name. A caption is compared with the class names, a frame with the classes,
and both become unit vectors over the classes:

    caption_vector = unit([w, 0]),            w[c] = softmax over c of <text, name[c]> / TEMPERATURE
    frame_vector   = unit([e - mean e, SLACK]),  e[c] = p[c] ** POWER

with unit text features of the caption and of the class names, and p[c] the classifier's
probability. By the small power, here called *evidence*, a class counts by the order of magnitude of
its probability: what is faint or lies under other sounds has a thousandth rather than a half, and
still more than what is absent. Sounds last: a frame beside one that surely holds a bell is more
likely to hold it, too. So the evidence of a frame is the mean of its own and of the highest within
CONTEXT_S. Without the mean over classes a loud frame, in which all of them
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
CONTEXT_S = 1.28  # on either side of a frame
DROPOUT = 0.5  # probability that a training step is without class features


def evidence(logits: Float[Tensor, "*frame cls"]) -> Float[Tensor, "*frame cls"]:
    """Compute sigmoid(logit) ** POWER in float32, of which half precision keeps three digits."""
    return (POWER * F.logsigmoid(logits.float())).exp()


def probability(evidence: Float[Tensor, "*frame cls"]) -> Float[Tensor, "*frame cls"]:
    """Return the probabilities of which `evidence` was computed."""
    return evidence ** (1 / POWER)


def n_context(frame_s: float) -> int:
    """Return how many frames of `frame_s` seconds `with_context` looks at on either side.

    >>> n_context(0.32)
    4
    """
    return round(CONTEXT_S / frame_s)


def with_context(
    evidence: Float[Tensor, "clip frame cls"], frame_s: float
) -> Float[Tensor, "clip frame cls"]:
    """Return the mean of the evidence of each class in a frame and the highest one nearby.

    Args:
        evidence: Of all frames of whole clips; beyond their ends there is none.
        frame_s: Duration of a frame in seconds.
    """
    n = n_context(frame_s)
    highest = F.max_pool1d(evidence.transpose(1, 2), 2 * n + 1, stride=1, padding=n)
    return (evidence + highest.transpose(1, 2)) / 2


def frame_class_vector(evidence: Float[Tensor, "*frame cls"]) -> Float[Tensor, "*frame tag"]:
    """Return unit vectors of frames or clips; one coordinate more than classes."""
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


def concat_unit(*parts: Float[Tensor, "*row _"]) -> Float[Tensor, "*row all"]:
    """Concatenate unit vectors to one, each with the same weight."""
    return torch.cat([part.to(parts[0].dtype) for part in parts], dim=-1) * len(parts) ** -0.5
