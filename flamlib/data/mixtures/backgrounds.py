"""What sounds all through a mixture: its background, and in some a masker over it.

A masker is speech or music at the front, under which events are to be found all the same. It is
drawn of a key of its own, so that it changes nothing else of a mixture: neither the background nor
the events nor their labels. A share of the training mixtures has one (`mixture.masker_prob`); the
mixtures for validation and test have none, but each held-out part is there once more with a masker
over every mixture, see `MASKED`.
"""

from math import log10
from pathlib import Path

from flamlib.compute.distributions import KeyedRandom
from flamlib.data.mixtures import recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.recipes import Background, Recipe
from flamlib.experiment.params.sounds import MixtureConfig
from flamlib.waveforms import decibels

PEAK = 0.1  # of a background: with all events, see `mixing`, it never leaves [-1, 1]
TRIES = 20  # attempts to find an excerpt that is not silent
MASKED = {  # parts of the same mixtures as another part, under speech and music
    "seen_under_maskers": "seen_captions",
    "unseen_under_maskers": "unseen_captions",
}


def split_of(split: str) -> str:
    """Return the split of the backgrounds of a split: both held-out splits share "heldout"."""
    return split if split in ("train", "valid") else "heldout"


def draw(
    bank: Bank, rules: MixtureConfig, rng: KeyedRandom, *, split: str, n_samples: int
) -> tuple[Background, int]:
    """Draw an excerpt of a background at a random level.

    Args:
        bank: the recordings.
        rules: how mixtures are made.
        rng: of the mixture.
        split: of the mixture.
        n_samples: length of the excerpt.

    Returns:
        The excerpt, and the row of its source in the bank.
    """
    row = rng.choice(rng.choice(bank.flat("background", split_of(split))))
    start, level_db = _draw_start(bank, rng, row, n_samples)
    gain = 10 ** ((rules.background_db.draw(rng) - level_db) / 20)
    gain = min(gain, PEAK / bank.peak(row, start, n_samples))
    return _excerpt(bank, row, start, gain, level_db), row


def mask(bank: Bank, rules: MixtureConfig, recipe: Recipe, *, seed: int, prob: float) -> Recipe:
    """Lay speech or music over a mixture, with a probability.

    Captions are drawn with equal probability, so there is as much speech as music, then one of the
    recordings of a caption. It is given up if its peak would have to be limited so much that it
    falls below the lowest `masker_db`.

    Args:
        bank: the recordings.
        rules: how mixtures are made; of it `masker_db`, over the background's level, or over
            one that is drawn if there is none.
        recipe: the mixture, without a masker.
        seed: of the experiment; with split and index of the mixture it decides what is drawn.
        prob: of a masker.
    """
    rng = KeyedRandom(seed, "masker", recipe.split, recipe.index)
    if prob <= 0 or rng.random() >= prob:
        return recipe
    maskers = bank.nested("masker", split_of(recipe.split))
    row = rng.choice(rng.choice(rng.choice(maskers)))
    start, level_db = _draw_start(bank, rng, row, recipe.n_samples)
    background = recipe.background
    behind_db = background.level_db if background else rules.background_db.draw(rng)
    over_db = rules.masker_db.draw(rng)
    room = 1 - _peak(bank, recipe)
    limit = max(room, 0.0) / bank.peak(row, start, recipe.n_samples)
    gain = 10 ** ((behind_db + over_db - level_db) / 20)
    lowest = gain * 10 ** ((rules.masker_db.lowest - over_db) / 20)
    if limit < lowest * (1 - 1e-9):
        return recipe
    return recipe._replace(masker=_excerpt(bank, row, start, min(gain, limit), level_db))


def mask_parts(
    bank: Bank, rules: MixtureConfig, folder: str | Path, *, seed: int
) -> dict[str, recipes.Recipes]:
    """Write the parts of `MASKED`, each from the part that it is like.

    Args:
        bank: the recordings.
        rules: how mixtures are made.
        folder: with a table of mixtures for each part.
        seed: of the experiment.

    Returns:
        The mixtures by part; none if the bank has no maskers that are held out.
    """
    written = {}
    for name, plain in MASKED.items():
        path = Path(folder) / f"{name}.parquet"
        path.unlink(missing_ok=True)
        if bank.recordings("masker", "heldout"):
            like = recipes.read(path.with_stem(plain))
            masked = (mask(bank, rules, recipe, seed=seed, prob=1.0) for recipe in like)
            recipes.write(path, recipes.to_table(masked, recipes.MASKED))
            written[name] = recipes.read(path)
    return written


def _draw_start(bank, rng, row, n_samples) -> tuple[int, float]:
    """Where an excerpt of a source begins, not one of its silent stretches, and its level."""
    lowest_db = bank.get(row, "level_db") - 40
    for _ in range(TRIES):
        start = rng.integer(bank.get(row, "n_samples") - n_samples)
        level_db = decibels.mean_db(bank.levels(row, start, n_samples))
        if level_db > lowest_db:
            break
    return start, max(level_db, lowest_db)


def _excerpt(bank, row, start, gain, level_db) -> Background:
    clip_id, variant = bank.get(row, "clip_id"), bank.get(row, "variant")
    return Background(clip_id, variant, start, gain, level_db + 20 * log10(gain))


def _peak(bank, recipe) -> float:
    """The largest amplitude that a mixture can have, by the peaks of what sounds at once."""
    spans = []
    for event in recipe.events:
        row = bank.row(event.clip_id, event.variant)
        for onset, start, n in event.segments:
            spans.append((onset, onset + n, event.gain * bank.peak(row, start, n)))
    together = [sum(peak for a, b, peak in spans if a <= onset < b) for onset, _, _ in spans]
    loudest = max(together, default=0.0)
    if recipe.background is None:
        return loudest
    clip_id, variant, start, gain, _ = recipe.background
    return loudest + gain * bank.peak(bank.row(clip_id, variant), start, recipe.n_samples)
