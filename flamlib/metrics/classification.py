"""Zero-shot classification: a clip is of the class whose text embedding is nearest to its own.

*Prompts.* A class name is no sentence, so it is put into one or several templates. The embedding of
a class is the mean of its prompts' embeddings: a prompt ensemble (Radford et al. 2021, CLIP).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from flamlib.metrics.ranking import mean_of_known

TEMPLATES: Mapping[str, Sequence[str]] = {
    "name": ["{}"],
    "sound_of": ["the sound of {}"],
    "this_is": ["This is a sound of {}."],
    "ensemble": [
        "{}",
        "the sound of {}",
        "This is a sound of {}.",
        "{} can be heard",
        "a recording of {}",
    ],
}


def prompts(name: str, template: str) -> list[str]:
    """Return the prompts of a class; `_` in its name becomes a space.

    >>> prompts("dog_bark", "sound_of")
    ['the sound of dog bark']
    """
    if template not in TEMPLATES:
        raise ValueError(f"no template {template!r}; there are {', '.join(TEMPLATES)}")
    return [text.format(name.replace("_", " ").strip()) for text in TEMPLATES[template]]


def class_emb(prompt_emb: Float[np.ndarray, "class prompt dim"]) -> Float[np.ndarray, "class dim"]:
    """Return the mean direction of each class's prompts, scaled to their mean length.

    So unit vectors give unit vectors, and one prompt gives itself.
    """
    length = np.linalg.norm(prompt_emb, axis=2, keepdims=True)
    mean = (prompt_emb / length).mean(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True) * length.mean(axis=1)


def accuracy(
    clip_emb: Float[np.ndarray, "clip dim"],
    class_emb: Float[np.ndarray, "class dim"],
    class_of_clip: Int[np.ndarray, "clip"],
    fold_of_clip: Int[np.ndarray, "clip"] | None = None,
) -> dict[str, float | dict[int, float] | np.ndarray]:
    """Return the accuracy of choosing the class of the highest dot product.

    Ties count as errors: a wrong class with the same dot product ranks before the right one.

    Args:
        clip_emb: embeddings of the clips.
        class_emb: embeddings of the classes, see `class_emb`.
        class_of_clip: number of the right class of each clip.
        fold_of_clip: fold of each clip; None: all are one.

    Returns:
        top1 top5     fraction of clips whose class is among the nearest 1, 5
        per_fold      top1 of each fold, and fold_mean, their mean (with one fold: top1)
        macro         mean over classes of their top1 (balanced accuracy)
        rank          of the right class, for each clip, from 1

    Raises:
        ValueError: for no clips, numbers of classes out of range, embeddings that are not finite.
    """
    if not len(clip_emb) or len(clip_emb) != len(class_of_clip):
        raise ValueError(f"{len(clip_emb)} clips for {len(class_of_clip)} classes of clips")
    if ((class_of_clip < 0) | (class_of_clip >= len(class_emb))).any():
        raise ValueError(f"class_of_clip is out of range: there are {len(class_emb)} classes")
    for name, emb in (("clip_emb", clip_emb), ("class_emb", class_emb)):
        if not np.isfinite(emb).all():
            raise ValueError(f"{name} is not finite in row {np.argwhere(~np.isfinite(emb))[0][0]}")
    similarity = clip_emb.astype(np.float64) @ class_emb.astype(np.float64).T
    own = similarity[np.arange(len(clip_emb)), class_of_clip]
    rank = (similarity >= own[:, None]).sum(axis=1)
    folds = np.zeros(len(rank), dtype=int) if fold_of_clip is None else fold_of_clip
    right = rank == 1
    per_fold = {int(fold): float(right[folds == fold].mean()) for fold in np.unique(folds)}
    of_class = [right[class_of_clip == i].mean() for i in np.unique(class_of_clip)]
    return {
        "top1": float(right.mean()),
        "top5": float((rank <= 5).mean()),
        "macro": mean_of_known(np.array(of_class)),
        "per_fold": per_fold,
        "fold_mean": float(np.mean(list(per_fold.values()))),
        "rank": rank,
    }
