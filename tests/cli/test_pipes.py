"""Of pipes that commands read."""

import io
import os
import threading

import pytest

from flamlib.cli import pipes


def test_a_file_is_itself(tmp_path):
    (tmp_path / "a.tsv").write_text("a")
    with pipes.on_disk(str(tmp_path / "a.tsv")) as path:
        assert path == tmp_path / "a.tsv"


@pytest.mark.parametrize("name", ["-", "pipe"])
def test_a_pipe_can_be_read_as_often_as_one_likes(tmp_path, monkeypatch, name):
    given = name
    if name == "-":
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"rain")))
    else:
        given = str(tmp_path / name)
        os.mkfifo(given)
        threading.Thread(target=lambda: (tmp_path / name).write_bytes(b"rain")).start()
    said = "standard input" if name == "-" else given

    def read_twice():
        with pipes.on_disk(given) as path:
            raise ValueError(f"{path}, line 1: {path.read_text()}, {path.read_text()}")

    with pytest.raises(ValueError, match=rf"^{said}, line 1: rain, rain$"):
        read_twice()
