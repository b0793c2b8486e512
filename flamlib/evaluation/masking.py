"""What speech and music at the front cost: the same mixtures with and without a masker."""

from dataclasses import replace

from flamlib.evaluation.splits import SplitLogits
from flamlib.metrics.bootstrap import paired_test
from flamlib.metrics.bootstrap_ranking import clip_auroc


def auroc_loss(
    plain: SplitLogits, masked: SplitLogits, *, n_resamples: int, seed: int
) -> dict[str, float]:
    """Return by how much a masker lowers the macro AUROC of a model, with a paired test.

    On the same pairs of clip and caption: those that are known in both parts.

    Args:
        plain: of the mixtures without maskers.
        masked: of the same mixtures with one each, in the same order.
        n_resamples: number of draws of clips.
        seed: of the draws.

    Returns:
        `auroc_loss`, and its `_low`, `_high` and `_p`.

    Raises:
        ValueError: the parts are not of the same clips and captions.
    """
    one, other = plain.split, masked.split
    if (one.clips, one.captions) != (other.clips, other.captions):
        raise ValueError(
            f"{other.name} is not of the same mixtures as {one.name}: 02_mix draws both anew"
        )
    known = one.known & other.known
    frames = [
        replace(of, split=replace(of.split, known=known)).score_table() for of in (plain, masked)
    ]
    statistics = [
        clip_auroc(of.scores, of.active, of.clip, of.known, pooled=False) for of in frames
    ]
    test = paired_test(*statistics, len(one.clips), n_resamples=n_resamples, seed=seed)
    return {
        "auroc_loss": test["difference"],
        "auroc_loss_low": test["low"],
        "auroc_loss_high": test["high"],
        "auroc_loss_p": test["p_value"],
    }
