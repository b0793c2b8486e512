import io
import struct
import zipfile

import handmade
import pytest
import zstandard

from flamlib.data.corpus import containers

MEMBERS = {"a.wav": b"first" * 99, "folder/b.wav": b"", "folder/é.wav": bytes(range(256)) * 300}
RESOURCES = {"a.wav": MEMBERS["a.wav"], "folder": {"b.wav": b"", "é.wav": MEMBERS["folder/é.wav"]}}


class OneWay(io.RawIOBase):
    """A stream that cannot be wound back, and gives less than it is asked for."""

    def __init__(self, content):
        self._content = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._content.readinto(memoryview(buffer)[:1000])


def listed(name, content, stream=OneWay):
    return {k: v.read() for k, v in containers.members(name, stream(content))}


@pytest.mark.parametrize("packing", handmade.PACKERS)
def test_a_deb_holds_what_was_put_in(packing):
    assert listed("x.deb", handmade.deb(MEMBERS, packing)) == MEMBERS


def test_a_tar_holds_what_was_put_in():
    assert listed("x.tar", handmade.tar(MEMBERS)) == MEMBERS
    assert listed("x.tgz", handmade.tgz(MEMBERS)) == MEMBERS


@pytest.mark.parametrize("stream", [OneWay, io.BytesIO])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_holds_what_was_put_in(method, stream):
    assert listed("x.pk3", handmade.zipped(MEMBERS, method), stream) == MEMBERS


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_qt_resource_file_holds_what_was_put_in(version, packed):
    expected = {f"/{name}": content for name, content in MEMBERS.items()}
    assert listed("x.rcc", handmade.rcc(RESOURCES, version, packed)) == expected


@pytest.mark.parametrize("new_format", [False, True])
def test_a_cat_file_holds_its_sounds_by_number(new_format):
    sounds = [handmade.wav(), b"RIFF", handmade.wav(rate=8000)]
    expected = dict(zip("012", sounds, strict=True))
    assert listed("x.cat", handmade.cat(sounds, new_format)) == expected


def test_a_deb_packed_with_zstd_is_read():
    packed = zstandard.ZstdCompressor().compress(handmade.tar(MEMBERS))
    assert listed("x.deb", handmade.ar({"data.tar.zst": packed})) == MEMBERS
    with pytest.raises(containers.DAMAGE_ERRORS):
        listed("x.deb", handmade.ar({"data.tar.zst": packed[:99] + b"damage"}))


def test_without_a_zstd_reader_the_error_names_one(monkeypatch):
    monkeypatch.setattr(containers, "zstd", None)
    with pytest.raises(ValueError, match="pip install zstandard"):
        listed("x.deb", handmade.ar({"data.tar.zst": b"\x28\xb5\x2f\xfd...."}))


def test_nothing_is_known_by_its_name_alone():
    with pytest.raises(ValueError, match=r"sound\.deb is not an archive"):
        containers.members("sound.deb", io.BytesIO(handmade.wav()))
    assert listed("misnamed.txt", handmade.zipped(MEMBERS)) == MEMBERS


@pytest.mark.parametrize("pack", [handmade.tgz, handmade.zipped, handmade.deb])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil"])
def test_a_name_that_leads_outside_is_refused(pack, name):
    if pack is handmade.deb:
        members = handmade.PACKERS[".xz"](handmade.tar({name: b"x"}))
        content = handmade.ar({"data.tar.xz": members})
    else:
        content = pack({name: b"x"})
    with pytest.raises(ValueError, match="outside"):
        listed("x", content)


def test_a_resource_named_dot_dot_is_refused():
    with pytest.raises(ValueError, match="outside"):
        listed("x.rcc", handmade.rcc({"..": {"evil": b"x"}}))


def test_a_symbolic_link_holds_nothing():
    links = [("link.wav", "/etc/passwd")]
    assert listed("x.deb", handmade.deb({"a.wav": b"a"}, links=links)) == {"a.wav": b"a"}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        link = zipfile.ZipInfo("link.wav")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert listed("x.zip", file.getvalue(), io.BytesIO) == {}


def test_an_inner_zip_that_hides_its_sizes_is_refused():
    class Pipe(io.BytesIO):
        def tell(self):
            raise OSError

    file = Pipe()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", b"a" * 1000)
    with pytest.raises(ValueError, match=r"a\.wav: .*unknown size"):
        listed("x.zip", file.getvalue())
    assert listed("x.zip", file.getvalue(), io.BytesIO) == {"a.wav": b"a" * 1000}


def test_a_wrong_checksum_in_an_inner_zip_is_found():
    content = handmade.zipped({"a.wav": b"a" * 1000}, zipfile.ZIP_STORED)
    with pytest.raises(containers.DAMAGE_ERRORS, match="checksum"):
        listed("x.zip", content.replace(b"aaaa", b"aaab", 1))


def test_a_resource_tree_that_runs_in_a_circle_ends():
    content = bytearray(handmade.rcc({"folder": {"a": b"x"}}))
    tree = struct.unpack(">I", content[8:12])[0]
    content[tree + 22 + 10 : tree + 22 + 14] = struct.pack(">I", 1)  # the folder's child is itself
    with pytest.raises(ValueError, match="circle"):
        listed("x.rcc", bytes(content))


def test_a_member_is_never_larger_than_allowed(monkeypatch):
    monkeypatch.setattr(containers, "MAX_BYTES", 999)
    assert len(containers.read_whole("a", io.BytesIO(bytes(999)))) == 999
    with pytest.raises(ValueError, match="a is larger"):
        containers.read_whole("a", io.BytesIO(bytes(1000)))


@pytest.mark.parametrize("size", [b"-1", b"1_0", b"", b"ten", "²".encode("latin-1")])
def test_a_member_of_no_size_is_refused(size):
    deb = handmade.ar({"data.tar": b"x" * 10})
    at = deb.index(b"10        `\n")
    broken = deb[:at] + size.ljust(10) + deb[at + 10 :]
    with pytest.raises((ValueError, *containers.DAMAGE_ERRORS)):
        listed("x.deb", broken)
