"""What a tagger's classes say of captions that no training caption resembles.

A tagger such as YAMNet knows hundreds of classes by name. A caption is compared with the names, a
frame with the classes, and the two meet as unit vectors:

    caption_vector = [unit(w), 0],         w[c] = softmax over c of <text, name[c]> / TEMPERATURE
    frame_vector   = unit([e, SLACK]),     e[c] = log(1 + p[c] / FLOOR)

with unit text features of the caption and of the class names, and p[c] the tagger's probability.
Below FLOOR a class says nothing, above it each factor of e counts as much; a frame in which no
class sounds is turned away from all captions by the last coordinate.

Beside embeddings that were learned, each of the two takes half of the cosine:

    <concat_unit(u, frame_vector), concat_unit(v, caption_vector)>
        = (<u, v> + <frame_vector, caption_vector>) / 2

Both halves matter. What is learned tells captions like those of the training apart; the tagger's
half reaches those that are like none of them. So that the first does not rely on the second, a
share DROPOUT of the steps of training goes without it (docs/EXPERIMENTS.md).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

TEMPERATURE = 0.04
FLOOR = 1e-3
SLACK = 16.0  # the median length of e in mixtures
DROPOUT = 0.5  # share of the training steps in which captions ask for no class


def evidence(logits: Float[Tensor, "*frame cls"]) -> Float[Tensor, "*frame cls"]:
    """e = log(1 + sigmoid(logit) / FLOOR), in float32: probabilities of a thousandth count."""
    return torch.log1p(logits.float().sigmoid() / FLOOR)


def frame_class_vector(evidence: Float[Tensor, "*frame cls"]) -> Float[Tensor, "*frame tag"]:
    """Unit vectors of frames, of one coordinate more than there are classes."""
    return F.normalize(F.pad(evidence, (0, 1), value=SLACK), dim=-1)


def caption_class_vector(
    features: Float[Tensor, "caption dim"], names: Float[Tensor, "cls dim"]
) -> Float[Tensor, "caption tag"]:
    """Unit vectors of captions; `features` and `names` are of the same caption tower."""
    # Outside autocast: bf16 would round the cosine by a tenth of the temperature.
    with torch.autocast(features.device.type, enabled=False):
        cosine = F.normalize(features.float(), dim=-1) @ F.normalize(names.float(), dim=-1).T
    weight = torch.softmax(cosine / TEMPERATURE, dim=-1)
    return F.normalize(F.pad(weight, (0, 1)), dim=-1)


def concat_unit(
    learned: Float[Tensor, "*row dim"], tags: Float[Tensor, "*row tag"]
) -> Float[Tensor, "*row both"]:
    """Two unit vectors as one, in which each has half of the square."""
    return torch.cat([learned, tags.to(learned.dtype)], dim=-1) * 0.5**0.5
