from pathlib import Path

import pytest

from flamlib.serve import workspace


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\\\night\\\\été.wav", "été.wav"),
        ("", "recording"),
        ("x" * 9000, "x" * 500),
    ],
)
def test_of_a_name_its_end_is_shown(given, name):
    assert workspace.name_of(given) == name


@pytest.mark.parametrize(
    ("name", "put"), [("a.FLAC", "sent.flac"), ("a.sh", "sent"), ("../../b", "sent")]
)
def test_a_recording_is_put_where_its_name_does_not_say(name, put):
    with workspace.place_for(name) as path:
        assert path.name == put
        path.write_bytes(b"")
    assert not path.parent.exists()


def test_recordings_of_one_name_are_called_with_the_folders_that_tell_them_apart():
    names = ("/d/x/1/a.wav", "/d/y/1/a.wav", "/d/y/2/a.wav", "/d/y/b.wav", "/a.wav")
    called = workspace.names_of({name: Path(name) for name in names})
    assert called["/d/y/b.wav"] == "b.wav"
    assert len(set(called.values())) == len(names)
    assert called["/d/x/1/a.wav"] == "x/1/a.wav"
    assert workspace.names_of({"k": Path("/d/x/a.wav")}) == {"k": "a.wav"}
