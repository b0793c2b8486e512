"""Frames and indexes without a model."""

import numpy as np

from flamlib.search import archive, archive_part, codes
from flamlib.search.archive import About, File
from flamlib.search.archive_part import Stored


def unit_frames(n, dim, seed):
    """Unit vectors, `[frame, dim]`, drawn at random."""
    drawn = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def write_index(folder, recordings, *, frame_s=0.5, n_in_part=2):
    """An index of recordings that are given by path and frames; their content is their path."""
    entries = [
        (Stored(f"{k:064d}", len(frames) * frame_s, len(frames)), frames)
        for k, frames in enumerate(recordings.values())
    ]
    dim = entries[0][1].shape[1]
    about = About(format=1, model="none", model_name="none", frame_s=frame_s, dim=dim)
    archive.write_about(folder, about)
    for first in range(0, len(entries), n_in_part):
        stored, blocks = zip(*entries[first : first + n_in_part], strict=True)
        archive_part.write(folder / archive.PARTS, stored, codes.encode(blocks))
    files = {
        str(path): File(stored.sha256, 0, 0)
        for path, (stored, _) in zip(recordings, entries, strict=True)
    }
    archive.write_files(folder, files)
    return archive.read(folder)
