"""Single recordings: what is drawn, and that what is drawn once is drawn for all steps."""

import pytest
import tiny
from sounds import RATE, mixture_config, variants_config, write_data

from flamlib.compute.distributions import generator
from flamlib.data.mixtures import bank, recipes
from flamlib.data.pairs import Pairs

RULES = mixture_config(
    {}, clip_s=2.56, max_event_s=2.0, fragment_prob=0.2, repeat_prob=0.2, min_snr_db=None
)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    settings = {"seed": 0, "sample_rate": RATE, "clip_s": 10.0, "variants": variants_config()}
    bank.build(write_data(folder / "data"), folder / "bank", **settings, n_jobs=1, progress=False)
    return bank.Bank.open(folder / "bank")


def pairs(sounds, *, split="train", seed=7, **train):
    train = {"pair_batch_size": 4, "pair_s": 1.28, "pair_background_prob": 0.5} | train
    settings = {"mixture": RULES, "train": tiny.config(**train).train}
    return Pairs(bank=sounds, split=split, seed=seed, **settings)


@pytest.mark.parametrize("n_pair_takes", [1, 3])
def test_what_is_drawn_is_one_of_the_takes(sounds, n_pair_takes):
    drawn = pairs(sounds, n_pair_takes=n_pair_takes)
    takes = drawn.takes()
    n_sources = len(sounds.sources.query("role == 'foreground' and split == 'train'"))
    assert len(takes) == len(set(takes)) == n_pair_takes * n_sources
    for step in range(20):
        found = drawn.draw(step, generator(step))
        assert [takes[row] for row in drawn.rows(found)] == found


def test_all_takes_are_drawn_in_the_end_with_and_without_background(sounds):
    drawn = pairs(sounds, n_pair_takes=2)
    found = {pair for step in range(300) for pair in drawn.draw(step, generator(step))}
    assert found == set(drawn.takes())
    assert {pair.background for pair in found} == {True, False}


def test_a_take_is_data_and_sounds_the_same_whatever_the_seed_of_the_run(sounds):
    one, other = (pairs(sounds, n_pair_takes=2, seed=seed) for seed in (7, 8))
    assert one.takes() == other.takes()
    first, second = (recipes.render(sounds, of.recipe(of.takes()[0])) for of in (one, other))
    assert (first == second).all()
    again = recipes.render(sounds, one.recipe(one.takes()[1]))
    assert (first != again).any(), "two takes of a recording differ"


def test_what_is_drawn_anew_has_the_seed_of_the_run(sounds):
    one, other = (pairs(sounds, n_pair_takes=None, seed=seed) for seed in (7, 8))
    drawn = [pair for step in range(5) for pair in one.draw(step, generator(step))]
    assert [one.recipe(pair) for pair in drawn] != [other.recipe(pair) for pair in drawn]


def test_drawn_anew_there_is_no_end_of_them(sounds):
    drawn = pairs(sounds, n_pair_takes=None)
    with pytest.raises(ValueError, match="n_pair_takes is null"):
        drawn.takes()
    indices = [pair.index for step in range(9) for pair in drawn.draw(step, generator(step))]
    assert len(set(indices)) == len(indices)


@pytest.mark.parametrize("n_pair_takes", [1, None])
def test_no_pair_is_on_a_background_unless_it_is_asked_for(sounds, n_pair_takes):
    for prob, expected in ((0.0, {False}), (1.0, {True})):
        drawn = pairs(sounds, n_pair_takes=n_pair_takes, pair_background_prob=prob)
        found = {p.background for step in range(5) for p in drawn.draw(step, generator(step))}
        assert found == expected
