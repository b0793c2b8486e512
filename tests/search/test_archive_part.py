import json
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from unit_frames import unit_frames

from flamlib.search import archive_part, codes
from flamlib.search.archive_part import Stored

RECORDINGS = [Stored("a" * 64, 1.5, 3), Stored("b" * 64, 0.2, 1)]


@pytest.fixture
def path(tmp_path):
    return archive_part.write(tmp_path, RECORDINGS, codes.encode([unit_frames(4, 6, 0)]))


def test_what_is_written_is_read(path):
    part = archive_part.read(path)
    assert (part.path, part.recordings) == (path, RECORDINGS)
    for read, written in zip(part.coded, codes.encode([unit_frames(4, 6, 0)]), strict=True):
        np.testing.assert_array_equal(read, written)


def test_frames_stay_on_the_disk_and_safetensors_reads_them(path):
    assert isinstance(archive_part.read(path).coded.codes, np.memmap)
    np.testing.assert_array_equal(load_file(path)["codes"], archive_part.read(path).coded.codes)


def test_the_same_recordings_have_the_same_name(path, tmp_path):
    again = archive_part.write(tmp_path, RECORDINGS, codes.encode([unit_frames(4, 6, 0)]))
    other = archive_part.write(tmp_path, RECORDINGS[:1], codes.encode([unit_frames(3, 6, 0)]))
    assert (again == path, other == path) == (True, False)


@pytest.mark.parametrize("n_bytes", [0, 4, 8, 100, -1])
def test_a_file_that_is_cut_off_is_named(path, n_bytes):
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=rf"{path.name}: .*(damaged|cut off).*flam index"):
        archive_part.read(path)


def test_numbers_of_another_kind_are_named(path):
    arrays = load_file(path)
    header = {"recordings": json.dumps([list(each) for each in RECORDINGS])}
    save_file(arrays | {"codes": arrays["codes"].astype(np.float16)}, path, header)
    with pytest.raises(ValueError, match="its codes are F16, expected I8"):
        archive_part.read(path)


@pytest.mark.parametrize(
    ("recordings", "n", "said"),
    [
        (RECORDINGS[:1], 4, "not those of its recordings"),
        ([Stored("a" * 64, 1.0, 0), Stored("b" * 64, 1.0, 4)], 4, "not those of its recordings"),
        ("none", 4, "damaged"),
    ],
)
def test_a_header_that_does_not_fit_is_named(path, recordings, n, said):
    arrays = codes.encode([unit_frames(n, 6, 0)])._asdict()
    save_file(arrays, path, {"recordings": json.dumps(recordings)})
    with pytest.raises(ValueError, match=f"{path.name}: .*{said}"):
        archive_part.read(path)


def test_lengths_that_lie_are_named(path):
    content = path.read_bytes()
    [n] = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n])
    header["codes"]["shape"] = [4, 5]
    new = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + n :])
    with pytest.raises(ValueError, match="not as long as its header says"):
        archive_part.read(path)
