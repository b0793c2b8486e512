from contextlib import suppress

import pytest

from flamlib.search import hashed
from flamlib.search.archive import File

ONE, OTHER = File("a" * 64, 5, 7), File("b" * 64, 6, 8)


def stopped(folder, **files):
    with suppress(KeyboardInterrupt), hashed.kept(folder) as (_, note):
        for name, of in files.items():
            note(name, of)
        raise KeyboardInterrupt


def test_what_was_noted_is_known_until_a_call_is_done(tmp_path):
    stopped(tmp_path, a=ONE)
    stopped(tmp_path, b=ONE, a=OTHER)
    with hashed.kept(tmp_path) as (known, _):
        assert known == {"a": OTHER, "b": ONE}
    with hashed.kept(tmp_path) as (known, _):
        assert known == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [1, 20, 60])
def test_of_a_line_that_a_kill_cut_off_nothing_is_taken(tmp_path, left):
    stopped(tmp_path, a=ONE, b=OTHER)
    lines = (tmp_path / hashed.NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / hashed.NAME).write_bytes(b"".join(lines[:-1]) + lines[-1][:left])
    stopped(tmp_path, c=OTHER)
    with hashed.kept(tmp_path) as (known, _):
        assert known == {"a": ONE, "c": OTHER}
