import pytest

from flamlib.data.collections.items import read_json, strings


def test_what_is_no_json_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"id": 1')
    with pytest.raises(ValueError, match=r"a\.json: not JSON"):
        read_json(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ValueError, match=r"a\.json: a pointer of Git LFS"):
        read_json(path)
    path.write_bytes(b'\xef\xbb\xbf{"caf\xc3\xa9": 1}')
    assert read_json(path) == {"café": 1}


def test_texts_are_found_in_lists_and_alone():
    assert list(strings(["a", 2, None, True, {"b": 1}])) == ["a", "2"]
    assert list(strings("a")) == ["a"]
    assert list(strings(None)) == []
