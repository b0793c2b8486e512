import pytest

from flamlib.serve import room


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
    assert room.name_of(given) == name


@pytest.mark.parametrize(
    ("name", "put"), [("a.FLAC", "sent.flac"), ("a.sh", "sent"), ("../../b", "sent")]
)
def test_a_recording_is_put_where_its_name_does_not_say(name, put):
    with room.place_for(name) as path:
        assert path.name == put
        path.write_bytes(b"")
    assert not path.parent.exists()
