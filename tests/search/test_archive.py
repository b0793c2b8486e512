import os
import resource

import numpy as np
import pytest
from heldouts import write_model
from unit_frames import unit_frames, write_index

from flamlib.models import checkpoint
from flamlib.search import archive, archive_part, codes
from flamlib.search.archive import File

RECORDINGS = {f"/sounds/{k}.wav": unit_frames(2 + k, 6, k) for k in range(4)}


@pytest.fixture
def index(tmp_path):
    return write_index(tmp_path / "index", RECORDINGS)


def parts_in(index):
    return sorted(os.listdir(index.folder / archive.PARTS))


def test_an_index_has_every_frame_and_every_path(index):
    opened = archive.read(index.folder)
    assert [str(path) for [path] in opened.paths.values()] == list(RECORDINGS)
    frames = {}
    for part in opened.parts:
        ends = np.cumsum([each.n_frames for each in part.recordings])[:-1]
        of = np.split(codes.decode(part.coded), ends)
        frames |= {
            str(*opened.paths[r.sha256]): f for r, f in zip(part.recordings, of, strict=True)
        }
    for path, expected in RECORDINGS.items():
        assert frames[path] == pytest.approx(expected, abs=4e-3)


def test_two_files_of_one_content_are_one_recording(index):
    found = archive.read_files(index.folder)
    archive.write_files(index.folder, found | {"/copy.wav": found["/sounds/1.wav"]})
    assert len(archive.read(index.folder).paths) == len(RECORDINGS)
    assert sum(map(len, archive.read(index.folder).paths.values())) == len(RECORDINGS) + 1


def test_files_of_any_name_are_read_as_they_were_written(tmp_path):
    found = {"/a\nb.wav": File("a" * 64, 3, 2**60), "/犬 \u2028é.wav": File("b" * 64, 0, 0)}
    archive.write_files(tmp_path, found)
    assert archive.read_files(tmp_path) == found


def test_no_index_is_said(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(FileNotFoundError, match="no index"):
            archive.read(place)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (archive.ABOUT, "{}", "index.json: not what describes an index"),
        (archive.ABOUT, "[", "index.json: not what describes an index"),
        (archive.ABOUT, "[1]", "index.json: not what describes an index"),
        (archive.RECORDINGS, '{"path": "a"}\n', "line 1 is damaged"),
        (archive.RECORDINGS, "[[[", "line 1 is damaged"),
        (
            archive.RECORDINGS,
            '{"path": "/a", "sha256": "c", "n_bytes": 1, "changed_ns": 2}',
            "the frames of 1 recordings are missing, of /a first",
        ),
    ],
)
def test_a_damaged_file_is_named(index, name, content, said):
    (index.folder / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        archive.read(index.folder)


def test_a_part_of_another_index_is_named(index, tmp_path):
    other = write_index(tmp_path / "other", {"/x.wav": unit_frames(3, 5, 0)})
    [part] = parts_in(other)
    first = index.folder / archive.PARTS / parts_in(index)[0]
    first.write_bytes((other.folder / archive.PARTS / part).read_bytes())
    with pytest.raises(ValueError, match=r"missing|numbers in an index of 6"):
        archive.read(index.folder)


def test_unused_frames_are_dropped_and_the_others_stay(index):
    contents = {str(path): sha256 for sha256, [path] in index.paths.items()}
    before = archive.read_files(index.folder)
    for gone, n_parts in (("/sounds/0.wav", 2), ("/sounds/3.wav", 2), ("/sounds/2.wav", 1)):
        del before[gone], contents[gone]
        archive.write_files(index.folder, before)
        freed = archive.drop_unused(index.folder, contents.values())
        opened = archive.read(index.folder)
        assert (len(opened.parts), freed > 0) == (n_parts, gone != "/sounds/0.wav")
        for part in opened.parts:
            at = 0
            for stored in part.recordings:
                decoded = codes.decode(part.coded)[at : at + stored.n_frames]
                at += stored.n_frames
                for path in opened.paths.get(stored.sha256, ()):
                    assert decoded == pytest.approx(RECORDINGS[str(path)], abs=4e-3)
    assert [str(path) for [path] in opened.paths.values()] == ["/sounds/1.wav"]


@pytest.mark.parametrize("n_others", [0, 700])
def test_parts_may_be_more_than_the_files_that_a_process_may_open(tmp_path, n_others):
    many = {f"/{k}.wav": unit_frames(2, 6, k) for k in range(40)}
    folder = write_index(tmp_path / "index", many, n_in_part=1).folder
    others = [open(os.devnull) for _ in range(n_others)]  # noqa: SIM115, a busy process
    limits, n_open = resource.getrlimit(resource.RLIMIT_NOFILE), len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 20, limits[1]))
    try:
        parts = [*archive.read_parts(folder)]
        n_held = len(os.listdir("/proc/self/fd")) - n_open
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for other in others:
            other.close()
    assert (len(parts), n_held <= len(parts)) == (40, True)


def test_a_part_that_is_written_anew_while_it_is_opened_is_found(index, monkeypatch):
    """As when frames are dropped by a call that ends just then."""
    read, of, path = archive_part.read, archive.read_files(index.folder), "/sounds/0.wav"
    archive.write_files(index.folder, {path: of[path]})

    def late(part):
        monkeypatch.setattr(archive_part, "read", read)
        archive.drop_unused(index.folder, [of[path].sha256])
        return read(part)

    monkeypatch.setattr(archive_part, "read", late)
    [part] = archive.read(index.folder).parts
    assert [each.sha256 for each in part.recordings] == [of[path].sha256]
    assert part.path not in [each.path for each in index.parts]


def test_another_model_is_refused_by_its_weights(tmp_path):
    for seed in (0, 1):
        write_model(tmp_path / f"model{seed}", seed=seed)
    about = archive.About(
        format=1,
        model=checkpoint.digest(tmp_path / "model0"),
        model_name="zero",
        frame_s=1.0,
        dim=2,
    )
    archive.check_model(tmp_path, about, tmp_path / "model0")
    with pytest.raises(ValueError, match="another model, zero"):
        archive.check_model(tmp_path, about, tmp_path / "model1")
