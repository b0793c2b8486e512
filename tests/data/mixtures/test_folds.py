import numpy as np
import pandas as pd
import pytest

from flamlib.data.mixtures import folds
from flamlib.data.mixtures.lexicon import Lexicon

N = 4


def table(seed=0, n=200, n_packages=9, n_families=30):
    """Recordings of captions, two of a family, in packages that have some families in common."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        package, family = rng.integers(n_packages), rng.integers(n_families)
        split = rng.choice(["train", "valid", "seen_captions"], p=[0.8, 0.1, 0.1])
        for variant in range(3 if split == "train" else 1):
            rows.append(
                {
                    "clip_id": f"clip {i}",
                    "variant": variant,
                    "role": "foreground",
                    "caption": f"caption {2 * family + rng.integers(2)}" if not variant else None,
                    "family": f"family {family}",
                    "package": f"package {package}",
                    "split": split,
                    "group": int(rng.integers(n // 2)),
                }
            )
    for i in range(14):
        split = ["train", "valid", "heldout"][int(rng.choice(3, p=[0.6, 0.2, 0.2]))]
        place = {"role": "background", "caption": "rain", "family": "rain", "group": 10_000 + i}
        about = {"clip_id": f"behind {i}", "variant": 0, "split": split}
        rows.append(place | about | {"package": f"package {rng.integers(n_packages)}"})
    sources = pd.DataFrame(rows)
    first = sources.groupby("clip_id")[["caption", "group"]].transform("first")
    return sources.assign(caption=first["caption"], group=first["group"].astype(int))


def lexicon(sources, parents=None):
    rows = sources[["caption", "family"]].drop_duplicates("caption")
    more = {"split": "train", "wordings": "", "parents": ""}
    rows = rows.assign(**more)
    rows["parents"] = rows["caption"].map(parents or {}).fillna("")
    return Lexicon(rows.reset_index(drop=True))


@pytest.fixture(params=range(5))
def sources(request):
    return table(request.param)


def parts(sources, fold, words=None):
    split = folds.splits(sources, words or lexicon(sources), fold=fold, n_folds=N)
    ours = sources.assign(split=split)
    front = ours[ours["role"] == "foreground"]
    return ours, {name: front[front["split"] == name] for name in set(split)}


def test_what_is_tested_shares_no_package_with_what_is_trained_on(sources):
    for fold in range(N):
        _, of = parts(sources, fold)
        ours = pd.concat([of["train"], of["valid"]])
        for name in ("seen_captions", "unseen_captions"):
            for column in ("package", "group", "clip_id"):
                assert not set(of[name][column]) & set(ours[column]), (name, column)
            assert set(of[name]["variant"]) == {0}
        assert set(of["seen_captions"]["caption"]) <= set(of["train"]["caption"])
        assert not set(of["unseen_captions"]["family"]) & set(ours["family"])
        assert not set(of["unseen_captions"]["caption"]) & set(ours["caption"])


def test_nothing_that_is_reported_is_in_a_fold(sources):
    reported = sources["split"].isin(["seen_captions", "unseen_captions", "heldout"])
    for fold in range(N):
        ours, _ = parts(sources, fold)
        assert set(ours.loc[reported, "split"]) == {""}
        assert set(ours.loc[ours["split"] == "train", "variant"]) == {0, 1, 2}


def test_every_package_is_held_out_once_and_every_family_where_one_is(sources):
    dealt = folds.deal(sources, N)
    ours = sources[(sources["role"] == "foreground") & sources["split"].isin(["train", "valid"])]
    assert set(dealt.packages) == set(ours["package"])
    assert set(dealt.families) == set(ours["family"])
    assert set(dealt.packages.values()) == set(range(N))
    for family, fold in dealt.families.items():
        packages = ours.loc[ours["family"] == family, "package"]
        assert fold in {dealt.packages[package] for package in packages}
    assert folds.deal(sources.sample(frac=1, random_state=0), N) == dealt


def test_backgrounds_are_held_out_too_and_some_are_left(sources):
    for fold in range(N):
        ours, of = parts(sources, fold)
        behind = ours[ours["role"] == "background"].groupby("split")["group"].agg(set)
        assert behind["train"]
        assert behind["valid"]
        assert behind["heldout"]
        assert not behind["heldout"] & (behind["train"] | behind["valid"])
        packages = set(of["seen_captions"]["package"]) | set(of["unseen_captions"]["package"])
        trained = ours[(ours["role"] == "background") & (ours["split"] == "train")]
        assert not set(trained["package"]) & packages


def with_maskers(sources, splits):
    """Maskers of two captions, each with a group of every one of these splits."""
    place = {"role": "masker", "family": "", "package": "voices", "variant": 0}
    rows = [
        {"clip_id": f"{caption} {i} {k}", "caption": caption, "group": f"{caption} {i}"}
        | {"split": split}
        | place
        for caption in ("talk", "music")
        for i, split in enumerate(splits)
        for k in range(3)
    ]
    return pd.concat([sources, pd.DataFrame(rows)], ignore_index=True)


@pytest.mark.parametrize(
    "splits",
    [
        ["train", "valid", "train", "heldout"],
        ["train", "train", "train", "train", "valid", "valid", "heldout"],
    ],
)
def test_speakers_and_composers_are_held_out_too(sources, splits):
    masked = with_maskers(sources, splits)
    for fold in range(N):
        split = folds.splits(masked, lexicon(sources), fold=fold, n_folds=N)
        pd.testing.assert_series_equal(
            split[: len(sources)], folds.splits(sources, lexicon(sources), fold=fold, n_folds=N)
        )
        ours = masked.assign(given=masked["split"], split=split)[len(sources) :]
        assert set(ours.loc[ours["given"] == "heldout", "split"]) == {""}
        assert "valid" in set(ours["split"])
        for _, of in ours[ours["given"] != "heldout"].groupby("caption"):
            groups = of.groupby("split")["group"].agg(set)
            assert not groups["heldout"] & set().union(*groups.drop("heldout"))
            assert len(groups) > 1


def test_a_single_speaker_stays_to_train_on(sources):
    masked = with_maskers(sources, ["train", "heldout"])
    split = folds.splits(masked, lexicon(sources), fold=0, n_folds=N)
    assert set(split[len(sources) :]) == {"train", "valid", ""}


def test_a_broader_caption_that_is_asked_in_training_is_not_unseen(sources):
    _, of = parts(sources, 0)
    unseen = of["unseen_captions"]["caption"].iloc[0]
    trained = of["train"]["caption"].iloc[0]
    _, of = parts(sources, 0, lexicon(sources, {trained: unseen}))
    assert unseen not in set(of["unseen_captions"]["caption"])


def test_too_few_packages_are_said():
    with pytest.raises(ValueError, match=r"4 folds need recordings of as many packages .* are 2"):
        folds.deal(table(n_packages=2), N)
