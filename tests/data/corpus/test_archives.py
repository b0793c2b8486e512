import io
import pickle
import tracemalloc
from contextlib import suppress

import handmade
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flamlib.data.corpus import archives
from flamlib.data.corpus.archives import BrokenArchive, open_archive

INNER = {
    "audio/bark.ogg": b"bark" * 1000,
    "audio/moo.ogg": b"moo",
}
MEMBERS = {
    "usr/share/a.wav": handmade.wav(),
    "usr/share/0snd.pk3": handmade.zipped(INNER),
    "usr/share/qt.rcc": handmade.rcc({"gcompris": {"piano": {"c.wav": handmade.wav(rate=8000)}}}),
    "usr/share/opensfx.cat": handmade.cat([b"RIFF0", b"RIFF1"]),
    "usr/share/z.wav": b"the last",
}
EXPECTED = {
    "usr/share/a.wav": MEMBERS["usr/share/a.wav"],
    "usr/share/0snd.pk3!audio/bark.ogg": INNER["audio/bark.ogg"],
    "usr/share/0snd.pk3!audio/moo.ogg": INNER["audio/moo.ogg"],
    "usr/share/qt.rcc!/gcompris/piano/c.wav": handmade.wav(rate=8000),
    "usr/share/opensfx.cat!1": b"RIFF1",
    "usr/share/z.wav": b"the last",
}


@pytest.fixture
def deb(tmp_path):
    path = tmp_path / "sounds_1.0_all.deb"
    path.write_bytes(handmade.deb(MEMBERS))
    return path


def test_members_are_read_at_any_depth(deb):
    assert dict(open_archive(deb).read_many(EXPECTED)) == EXPECTED
    for name, content in EXPECTED.items():
        assert open_archive(deb).read(name) == content


def test_one_pass_gives_each_member_once_in_the_order_of_storage(deb):
    names = [name for name, _ in open_archive(deb).read_many([*reversed(EXPECTED), *EXPECTED])]
    assert names == list(EXPECTED)


def test_a_container_and_what_is_in_it_can_be_read_in_one_pass(deb):
    wanted = {"usr/share/opensfx.cat": MEMBERS["usr/share/opensfx.cat"]}
    wanted["usr/share/opensfx.cat!0"] = b"RIFF0"
    assert dict(open_archive(deb).read_many(wanted)) == wanted


def test_every_name_listed_can_be_read(deb):
    archive = open_archive(deb)
    names = archive.names()
    assert set(EXPECTED) | set(MEMBERS) <= set(names)
    assert [name for name, _ in archive.read_many(names)] == names


def test_a_name_that_is_not_there_is_left_out_or_named(deb):
    archive = open_archive(deb)
    absent = ["usr/share/b.wav", "usr/share/0snd.pk3!b.ogg", "usr/share/opensfx.cat!2"]
    assert list(archive.read_many(absent)) == []
    for name in absent:
        with pytest.raises(BrokenArchive, match=r"sounds_1\.0_all\.deb: has no member") as error:
            archive.read(name)
        assert name in str(error.value)


def test_a_member_that_is_no_container_is_named(deb):
    with pytest.raises(BrokenArchive, match=r"z\.wav is not an archive"):
        open_archive(deb).read("usr/share/z.wav!inner")


@pytest.mark.parametrize("name", ["../a", "/usr/share/a.wav", "usr/0snd.pk3!../../a"])
def test_a_name_that_leads_outside_cannot_be_asked_for(deb, name):
    with pytest.raises(BrokenArchive, match="outside"):
        open_archive(deb).read(name)


def test_nothing_is_written(deb):
    dict(open_archive(deb).read_many(EXPECTED))
    assert list(deb.parent.iterdir()) == [deb]


@pytest.mark.parametrize("content", [b"", b"RIFF....WAVE", b"!<arch>"])
def test_what_is_no_archive_is_said_to_be_none(tmp_path, content):
    (tmp_path / "odd.deb").write_bytes(content)
    with pytest.raises(BrokenArchive, match=r"odd\.deb"):
        open_archive(tmp_path / "odd.deb")
    with pytest.raises(BrokenArchive, match="no such file"):
        open_archive(tmp_path / "absent.deb")


PACKAGES = {
    "x.deb": handmade.deb(MEMBERS),
    "y.deb": handmade.deb(MEMBERS, ".gz"),
    "x.tgz": handmade.tgz(MEMBERS),
    "x.whl": handmade.zipped(MEMBERS),
    "z.deb": handmade.deb({"x.zip": handmade.zipped(MEMBERS)}, ""),
    "x.cat": handmade.cat([b"RIFF0", b"RIFF1"]),
    "x.rcc": handmade.rcc({"a": b"x", "b": {"c": b"y"}}),
}


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_archive_is_named(tmp_path, name, share):
    path = tmp_path / name
    path.write_bytes(PACKAGES[name][: round(share * len(PACKAGES[name]))])
    with pytest.raises(BrokenArchive, match=name):
        open_archive(path).names()


@given(name=st.sampled_from(sorted(PACKAGES)), data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_never_anything_but_a_broken_archive(tmp_path, name, data):
    content = bytearray(PACKAGES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 300), st.integers(0, len(content) - 1)))
        content[at % len(content)] = data.draw(st.integers(0, 255))
    path = tmp_path / name
    path.write_bytes(content)
    with suppress(BrokenArchive):
        archive = open_archive(path)
        dict(archive.read_many(archive.names()))


def test_a_pass_holds_a_few_buffers_not_the_archive(tmp_path):
    large = handmade.zipped({"large": bytes(40 << 20), "small.wav": b"found"}, 0)
    path = tmp_path / "large.deb"
    path.write_bytes(handmade.deb({"large.zip": large}, ".gz"))
    del large
    tracemalloc.start()
    assert open_archive(path).read("large.zip!small.wav") == b"found"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_the_pass_ends_with_the_last_that_is_wanted(tmp_path):
    content = handmade.deb({"a.wav": b"found", "rest": bytes(io.DEFAULT_BUFFER_SIZE * 99)}, "")
    path = tmp_path / "cut.deb"
    path.write_bytes(content[: len(content) // 2])
    assert open_archive(path).read("a.wav") == b"found"
    with pytest.raises(BrokenArchive, match=r"cut\.deb"):
        open_archive(path).read("rest")


def test_the_error_survives_a_process_pool(tmp_path):
    error = archives.BrokenArchive(tmp_path / "x.deb", "cut short")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
