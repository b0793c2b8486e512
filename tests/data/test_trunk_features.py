"""Stored outputs of a trunk: what is read is what was written, and nothing else passes for it."""

import numpy as np
import pytest
import torch

from flamlib.data import trunk_features
from flamlib.storage import manifest

TRUNK = {"tower": "yamnet", "frame_hops": 32, "sha256": "a" * 64}
CONTENT = {"bank": "b", "recipes": "c"}
N, SHARD, STEPS, WIDTH = 7, 3, 5, 11


def array():
    return np.random.default_rng(0).standard_normal((N, STEPS, WIDTH)).astype(np.float16)


def write(path, job):
    with open(path, "wb") as file:
        np.save(file, array()[job["start"] : job["stop"]])
    return {"shape": [STEPS, WIDTH]}


@pytest.fixture
def folder(tmp_path):
    jobs = [
        {"name": trunk_features.shard_name(k), "start": rows.start, "stop": rows.stop}
        for k, rows in enumerate(manifest.split(N, SHARD))
    ]
    how = {"n_jobs": 1, "scheduler": None, "progress": False}
    manifest.fill(tmp_path / "part", trunk_features.parameters(TRUNK, CONTENT), jobs, write, **how)
    return tmp_path / "part"


@pytest.mark.parametrize("rows", [[], [0], [6, 0, 3], range(N), [2, 2, 5]])
def test_rows_come_as_they_were_written_in_the_order_asked_for(folder, rows):
    clips = trunk_features.open_part(folder, TRUNK, CONTENT)
    assert len(clips) == N
    found = clips.read(rows)
    assert found.dtype == torch.float16
    np.testing.assert_array_equal(found.numpy(), array()[list(rows)])


def test_where_nothing_is_stored_there_is_nothing(folder, tmp_path):
    assert trunk_features.open_part(tmp_path / "nowhere", TRUNK, CONTENT) is None
    assert trunk_features.open_part(folder, None, CONTENT) is None


def test_the_output_of_a_trunk_with_other_settings_is_of_no_use(folder):
    assert trunk_features.open_part(folder, TRUNK | {"frame_hops": 8}, CONTENT) is None


def test_the_output_of_other_weights_or_of_other_clips_is_refused(folder):
    with pytest.raises(ValueError, match=r"part: of a trunk with other weights.*02b_features"):
        trunk_features.open_part(folder, TRUNK | {"sha256": "d" * 64}, CONTENT)
    with pytest.raises(ValueError, match=r"part: of other clips \(recipes differ\).*02b_features"):
        trunk_features.open_part(folder, TRUNK, CONTENT | {"recipes": "e"})


def test_a_shard_that_is_missing_or_cut_off_is_named(folder):
    path = folder / trunk_features.shard_name(1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=r"00001\.npy is missing or cut off"):
        trunk_features.open_part(folder, TRUNK, CONTENT)
    path.unlink()
    with pytest.raises(ValueError, match=r"00001\.npy is missing or cut off"):
        trunk_features.open_part(folder, TRUNK, CONTENT)


def test_a_shard_that_changes_later_is_named(folder):
    clips = trunk_features.open_part(folder, TRUNK, CONTENT)
    path = folder / trunk_features.shard_name(2)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"00002\.npy cannot be read"):
        clips.read([6])
    np.save(path, np.zeros((1, STEPS, WIDTH + 1), np.float16))
    with pytest.raises(
        ValueError, match=r"00002\.npy cannot be read \(it holds float16 \(1, 5, 12\)"
    ):
        clips.read([6])
    assert clips.read([0]).shape == (1, STEPS, WIDTH), "the others are read all the same"
