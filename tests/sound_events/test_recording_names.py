from pathlib import PurePosixPath as Path

import pytest

from flamlib.sound_events import recording_names


@pytest.mark.parametrize(
    ("wanted", "names", "meant"),
    [
        ("yard/a.wav", ["yard/a.wav", "gate/a.wav"], ["yard/a.wav"]),
        ("/x/yard/a.wav", ["yard/a.wav", "gate/a.wav"], ["yard/a.wav"]),
        ("yard/a.flac", ["yard/a.wav", "gate/a.wav"], ["yard/a.wav"]),
        ("yard/a.wav", ["C:/sounds/a.wav", "C:/sounds/b.wav"], ["C:/sounds/a.wav"]),
        ("a.wav", ["yard/a.wav", "gate/a.wav"], ["yard/a.wav", "gate/a.wav"]),
        ("a.wav", ["b.wav"], []),
    ],
)
def test_the_path_that_is_meant(wanted, names, meant):
    found = recording_names.matching(Path(wanted), [Path(name) for name in names])
    assert found == [Path(name) for name in meant]


def test_a_name_is_compared_as_it_is_read():
    decomposed = "Scho\u0308n\\a.wav"
    assert recording_names.as_path(decomposed) == Path("Sch\u00f6n/a.wav")
