import os

import numpy as np
import pytest
from test_query import Spellings
from unit_frames import unit_frames, write_index

from flamlib.search import archive, coarse, query
from flamlib.search.codes import decode


def both(index, vector, k, **how):
    model = Spellings(rain=vector)
    return (
        query.by_text(index, model, ["rain"], k, where=where, **how)["rain"]
        for where in (None, coarse.read(index.folder, index.parts))
    )


def made(folder, recordings, **how):
    index = write_index(folder, recordings, **how)
    coarse.update(folder, index.parts)
    return index


@pytest.mark.parametrize(("k", "lengths"), [(1, [1]), (7, [13, 1, 40, 2]), (500, [5, 30, 31, 9])])
def test_of_all_frames_it_is_the_exact_search(tmp_path, monkeypatch, k, lengths):
    monkeypatch.setattr(coarse, "SHARE", 1.0)
    recordings = {f"/{n}.wav": unit_frames(length, 16, n) for n, length in enumerate(lengths)}
    index = made(tmp_path, recordings, n_in_part=2)
    gone = next(iter(index.paths)) if len(lengths) > 1 else None
    index = index._replace(paths={s: paths for s, paths in index.paths.items() if s != gone})
    exact, found = both(index, unit_frames(1, 16, 99)[0], k)
    assert found == exact


def test_planted_moments_are_found_with_the_times_and_scores_of_the_exact_search(tmp_path):
    [asked] = unit_frames(1, 96, 999)
    recordings = {f"/{n}.wav": unit_frames(400, 96, n) for n in range(40)}
    for n in range(0, 40, 4):
        recordings[f"/{n}.wav"][7 * n : 7 * n + 4] = asked
    index = made(tmp_path, recordings, n_in_part=7)
    [exact, found] = both(index, asked, 10)
    assert found == exact
    assert {str(hit.path) for hit in found} == {f"/{n}.wav" for n in range(0, 40, 4)}


@pytest.mark.parametrize(("many", "off"), [(2**20, 0.01), (1000, 0.3)])
def test_few_pairs_are_picked_and_the_most_like_are_among_them(tmp_path, monkeypatch, many, off):
    monkeypatch.setattr(coarse, "_MANY", many)
    frames = unit_frames(100_000, 64, 3)
    index = made(tmp_path, {"/a.wav": frames[:1001], "/b.wav": frames[1001:]}, n_in_part=1)
    [asked] = unit_frames(1, 64, 4)
    picked = coarse.pick(coarse.read(tmp_path, index.parts), asked, 1000)
    assert sum(map(len, picked)) == pytest.approx(1000, rel=off)
    alike = [(f[0:-1:2] + f[1::2]) @ asked for f in map(decode, (p.coded for p in index.parts))]
    least = np.sort(np.concatenate(alike))[-200]
    for of, pairs in zip(alike, picked, strict=True):
        assert {*np.flatnonzero(of >= least)} <= {*pairs}


def test_what_is_missing_or_damaged_is_told_and_made_anew(tmp_path):
    recordings = {f"/{n}.wav": unit_frames(50, 16, n) for n in range(4)}
    index = write_index(tmp_path, recordings, n_in_part=2)
    with pytest.raises(ValueError, match="call `flam index` on its folders again"):
        coarse.read(tmp_path, index.parts)
    coarse.update(tmp_path, index.parts)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / coarse.FOLDER).iterdir()}
    coarse.update(tmp_path, index.parts)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / coarse.FOLDER).iterdir()} == before
    [first, _] = sorted((tmp_path / coarse.FOLDER).glob("*.npy"))
    first.write_bytes(first.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"or delete .*coarse"):
        coarse.read(tmp_path, index.parts)
    first.unlink()
    coarse.update(tmp_path, index.parts)
    assert len(coarse.read(tmp_path, index.parts).numbers) == 2
    (tmp_path / coarse.FOLDER / coarse.BASIS).write_bytes(b"no numbers")
    with pytest.raises(ValueError, match="call `flam index`"):
        coarse.read(tmp_path, index.parts)
    coarse.update(tmp_path, index.parts)
    assert len(coarse.read(tmp_path, index.parts).numbers) == 2


def test_numbers_follow_the_parts_of_an_index(tmp_path):
    index = made(tmp_path, {f"/{n}.wav": unit_frames(50, 16, n) for n in range(4)}, n_in_part=2)
    paths = {str(p): archive.File(s, 0, 0) for s, [p, *_] in index.paths.items()}
    archive.write_files(tmp_path, dict(list(paths.items())[:1]))
    archive.drop_unused(tmp_path, {next(iter(paths.values())).sha256})
    coarse.update(tmp_path, list(archive.read_parts(tmp_path)))
    index = archive.read(tmp_path)
    assert len(coarse.read(tmp_path, index.parts).numbers) == len(index.parts) == 1
    assert len(list((tmp_path / coarse.FOLDER).glob("*.npy"))) == 1


def test_where_no_process_is_bound_to_cores_the_same_is_found(tmp_path, monkeypatch):
    """As on macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(coarse, "SHARE", 1.0)
    index = made(tmp_path, {f"/{n}.wav": unit_frames(9, 16, n) for n in range(3)})
    exact, found = both(index, unit_frames(1, 16, 99)[0], 5)
    assert found == exact
    assert found


def test_an_index_of_nothing_has_no_hits(tmp_path):
    index = made(tmp_path, {"/a.wav": unit_frames(3, 16, 0)})._replace(parts=[], paths={})
    coarse.update(tmp_path, [])
    assert not list((tmp_path / coarse.FOLDER).glob("*.npy"))
    assert [*both(index, unit_frames(1, 16, 0)[0], 3)] == [[], []]
