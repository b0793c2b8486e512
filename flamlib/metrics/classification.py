"""Zero-shot classification: a clip is of the class whose caption is nearest to it.

*Prompts.* A class name is no sentence, so it is set into one or several templates. The embedding of
a class is the middle of its prompts': a prompt ensemble.
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
    """The sentences for a class, `_` read as a space.

    >>> prompts("dog_bark", "sound_of")
    ['the sound of dog bark']
    """
    if template not in TEMPLATES:
        raise ValueError(f"no template {template!r}; there are {', '.join(TEMPLATES)}")
    return [text.format(name.replace("_", " ").strip()) for text in TEMPLATES[template]]


def class_emb(prompt_emb: Float[np.ndarray, "class prompt dim"]) -> Float[np.ndarray, "class dim"]:
    """The direction in the middle of each class's prompts, as long as they are on average.

    So unit vectors give unit vectors, and one prompt gives itself.
    """
    length = np.linalg.norm(prompt_emb, axis=2, keepdims=True)
    middle = (prompt_emb / length).mean(axis=1)
    return middle / np.linalg.norm(middle, axis=1, keepdims=True) * length.mean(axis=1)


def accuracy(
    clip_emb: Float[np.ndarray, "clip dim"],
    class_emb: Float[np.ndarray, "class dim"],
    class_of_clip: Int[np.ndarray, "clip"],
    fold_of_clip: Int[np.ndarray, "clip"] | None = None,
) -> dict[str, float | dict[int, float] | np.ndarray]:
    """How often the nearest class, by dot product, is the right one.

        top1 top5     fraction of clips whose class is among the nearest 1, 5
        per_fold      top1 of each fold, and fold_mean, their mean (with one fold: top1)
        macro         mean over classes of the fraction of their clips that are right
        rank          of the right class, for each clip, from 1

    A tie is lost: a wrong class that is just as near is placed before the right one.
    """
    if not len(clip_emb) or len(clip_emb) != len(class_of_clip):
        raise ValueError(f"{len(clip_emb)} clips for {len(class_of_clip)} classes of clips")
    if ((class_of_clip < 0) | (class_of_clip >= len(class_emb))).any():
        raise ValueError(f"a clip is of a class beyond the {len(class_emb)} there are")
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
