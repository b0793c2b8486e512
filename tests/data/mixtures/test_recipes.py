import os
import pickle

import datasets
import numpy as np
import pandas as pd
import pytest
from sounds import RATE, variants_config, write_data

from flamlib.data.mixtures import bank, recipes
from flamlib.data.mixtures.recipes import Background, PlacedEvent, Recipe, Segment
from flamlib.sound_events.events import Event

BELL = PlacedEvent(
    "bell", 0, "une cloche sonne – « ding »", "bell", 12.5, 0.25, (Segment(16000, 0, 8000),)
)
TWICE = PlacedEvent(
    "tone-a", 0, "a tone", "tone", 6.0, 0.1, (Segment(0, 0, 900), Segment(2000, 50, 7))
)
RECIPE = Recipe(
    index=3,
    split="train",
    sample_rate=RATE,
    n_samples=10 * RATE,
    n_fade=160,
    background=Background("rain", 0, 777, 0.125, -45.0),
    events=(BELL, TWICE),
    labels=(Event(0.0, 0.0625, "a tone"), Event(1.0, 1.5, BELL.caption)),
)
EMPTY = RECIPE._replace(index=4, background=None, events=(), labels=())


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    settings = {"seed": 0, "sample_rate": RATE, "clip_s": 10.0, "variants": variants_config()}
    bank.build(write_data(folder / "data"), folder / "bank", **settings, n_jobs=1, progress=False)
    return bank.Bank.open(folder / "bank")


def test_a_file_holds_recipes_as_they_were(tmp_path):
    recipes.write(tmp_path / "a/recipes.parquet", recipes.to_table([RECIPE, EMPTY]))
    read = recipes.read(tmp_path / "a/recipes.parquet")
    assert list(read) == read[:] == [RECIPE, EMPTY]
    assert (read[-1], read[1:], len(read)) == (EMPTY, [EMPTY], 2)
    with pytest.raises(IndexError):
        read[2]


def test_tables_are_written_as_they_come(tmp_path):
    made = (recipes.to_table([recipe]) for recipe in (RECIPE, EMPTY))
    recipes.write(tmp_path / "recipes.parquet", made)
    read = recipes.read(tmp_path / "recipes.parquet")
    assert list(read) == [RECIPE, EMPTY]
    assert read.table["index"].to_pylist() == [3, 4]


def test_what_ends_badly_leaves_no_file(tmp_path):
    def tables():
        yield recipes.to_table([RECIPE])
        raise RuntimeError("stopped")

    recipes.write(tmp_path / "recipes.parquet", recipes.to_table([EMPTY]))
    with pytest.raises(RuntimeError, match="stopped"):
        recipes.write(tmp_path / "recipes.parquet", tables())
    assert list(recipes.read(tmp_path / "recipes.parquet")) == [EMPTY]
    assert [path.name for path in tmp_path.iterdir()] == ["recipes.parquet"]


def test_a_new_file_is_not_mistaken_for_the_old_one(tmp_path):
    for recipe in (RECIPE, EMPTY):
        recipes.write(tmp_path / "recipes.parquet", recipes.to_table([recipe]))
        assert list(recipes.read(tmp_path / "recipes.parquet")) == [recipe]


def in_project(folder):
    """Where a project has its mixtures, and the folder of what is unpacked of them."""
    (folder / "dvc.yaml").write_text("stages: {}\n")
    return folder / "artifacts/mixtures/recipes.parquet", folder / "artifacts/cache"


def test_a_new_file_of_the_same_time_and_number_of_rows_is_not_mistaken_either(tmp_path):
    """Containers and archives give all files one time."""
    path, _ = in_project(tmp_path)
    for recipe in (RECIPE, EMPTY, RECIPE):
        recipes.write(path, recipes.to_table([recipe]))
        os.utime(path, (1, 1))
        assert list(recipes.read(path)) == [recipe]


def test_what_is_drawn_again_and_again_does_not_fill_the_disk(tmp_path):
    path, cache = in_project(tmp_path)
    recipes.write(path.with_name("other.parquet"), recipes.to_table([RECIPE]))
    other, opened = recipes.read(path.with_name("other.parquet")), []
    for index in range(5):
        recipes.write(path, recipes.to_table([EMPTY._replace(index=index)]))
        opened.append(recipes.read(path))
    assert len(list(cache.rglob("*.arrow"))) == 2 + 1
    assert [o[0].index for o in opened] == [0, 1, 2, 3, 4], "who has opened it can go on"
    assert list(other) == [RECIPE]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
    ],
    ids=["removed", "emptied", "cut", "half", "zeroed"],
)
def test_a_damaged_copy_is_made_again_and_a_damaged_file_is_named(tmp_path, damage):
    path, cache = in_project(tmp_path)
    recipes.write(path, (recipes.to_table([RECIPE] * 700) for _ in range(4)))
    assert len(recipes.read(path)) == 2800
    [copy] = cache.rglob("*.arrow")
    damage(copy)
    assert list(recipes.read(path)) == [RECIPE] * 2800
    damage(path)
    with pytest.raises((ValueError, FileNotFoundError), match=r"recipes\.parquet: .* 02_mix draws"):
        recipes.read(path)


def test_no_recipes_are_no_special_case(tmp_path):
    recipes.write(tmp_path / "recipes.parquet", iter(()))
    assert list(recipes.read(tmp_path / "recipes.parquet")) == []


def test_recipes_travel_to_another_process_by_name(tmp_path):
    recipes.write(tmp_path / "recipes.parquet", recipes.to_table([RECIPE] * 2000))
    read = recipes.read(tmp_path / "recipes.parquet")
    assert len(pickle.dumps(read)) < 20_000
    assert pickle.loads(pickle.dumps(read))[1999] == RECIPE


def test_what_is_no_table_of_recipes_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="02_mix draws them"):
        recipes.read(tmp_path / "recipes.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "recipes.parquet")
    with pytest.raises(ValueError, match=r"recipes.parquet: not a table of mixtures: \['a'\]"):
        recipes.read(tmp_path / "recipes.parquet")


def test_datasets_reads_them_too(tmp_path):
    recipes.write(tmp_path / "recipes.parquet", recipes.to_table([RECIPE, EMPTY]))
    rows = datasets.Dataset.from_parquet(
        str(tmp_path / "recipes.parquet"), cache_dir=str(tmp_path / "cache")
    )
    assert [Recipe.from_row(row) for row in rows] == [RECIPE, EMPTY]


def test_a_mixture_is_background_plus_gain_times_source(sounds):
    mixture = recipes.render(sounds, RECIPE._replace(events=(BELL,)))
    expected = 0.125 * sounds[sounds.row("rain", 0)][777 : 777 + 10 * RATE]
    inside = slice(160, 8000 - 160)  # between the fades
    expected[16000:24000][inside] += 0.25 * sounds[sounds.row("bell", 0)][:8000][inside]
    outside = np.ones(10 * RATE, bool)
    outside[16000:16160] = outside[24000 - 160 : 24000] = False
    np.testing.assert_allclose(mixture[outside], expected[outside], atol=1e-6)


def test_a_fade_never_amplifies_and_starts_near_nothing(sounds):
    stem = recipes.render_stems(sounds, RECIPE._replace(background=None, events=(BELL,)))[1]
    source = 0.25 * sounds[sounds.row("bell", 0)][:8000]
    segment = stem[16000:24000]
    assert (np.abs(segment) <= np.abs(source) + 1e-7).all()
    assert np.abs(segment[[0, -1]]).max() < 1e-4
    assert not stem[:16000].any()
    assert not stem[24000:].any()


def test_nothing_is_silence(sounds):
    assert not recipes.render(sounds, EMPTY).any()


def test_another_rate_is_refused(sounds):
    with pytest.raises(ValueError, match="a recipe for 48000 Hz"):
        recipes.render(sounds, RECIPE._replace(sample_rate=48000))


def test_an_unknown_source_is_named(sounds):
    lost = RECIPE._replace(events=(BELL._replace(clip_id="lost"),))
    with pytest.raises(KeyError, match="'lost' variant 0"):
        recipes.render(sounds, lost)


def test_what_is_unpacked_stays_in_the_project(tmp_path):
    path = tmp_path / "artifacts/mixtures/recipes.parquet"
    recipes.write(path, recipes.to_table([EMPTY]))
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    assert list(recipes.read(path)) == [EMPTY]
    assert list((tmp_path / "artifacts/cache").rglob("*.arrow"))
    assert [p.name for p in path.parent.iterdir()] == [path.name], "beside it, DVC would see it"
