import typing

import collection_files
import pytest
import set_files

from flamlib.data.collections import kinds
from flamlib.data.collections.items import AUTO, TRAIN
from flamlib.experiment.params.sounds import PublishedCollection


def test_every_kind_of_the_parameters_has_a_reader():
    assert set(typing.get_args(typing.get_type_hints(PublishedCollection)["kind"])) == set(
        kinds.KINDS
    )


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"kind": "fsd5k"}, "did you mean fsd50k"),
        ({"kind": "fsd50k", "titels": True}, "did you mean source.collections.titles"),
        ({"kind": "clotho", "titles": True}, "titles is nothing that clotho has"),
        ({"kind": "esc50", "split": "all"}, "expected one of held_out, train, auto"),
    ],
)
def test_an_entry_that_fits_nothing_is_refused(tmp_path, entry, why):
    with pytest.raises(ValueError, match=why):
        kinds.read(entry | {"folder": str(tmp_path)})


@pytest.mark.parametrize("kind", sorted(set(kinds.KINDS) - {"folder", "freesound", "ucs"}))
def test_a_folder_without_the_tables_is_named_with_where_they_come_from(tmp_path, kind):
    with pytest.raises(FileNotFoundError, match=r"^" + kind + r": .*official files"):
        kinds.read({"kind": kind, "folder": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match=r"is no folder; official files"):
        kinds.read({"kind": kind, "folder": "nowhere"}, base=tmp_path)


def test_an_empty_library_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no recording that can be used"):
        kinds.read({"kind": "folder", "folder": str(tmp_path)})


@pytest.mark.parametrize("split", [AUTO, TRAIN])
def test_a_split_replaces_those_of_the_collection(tmp_path, split):
    set_files.esc50(tmp_path / "sets/esc")
    entry = {"kind": "esc50", "folder": "sets/esc", "split": split}
    contents = kinds.read(entry, base=tmp_path)
    assert {item.split for item in contents.items} == {split}
    assert contents.held_out == {}


def test_the_list_of_ucs_is_found_beside_the_parameters(tmp_path):
    collection_files.ucs(tmp_path / "lib")
    entry = {"kind": "ucs", "folder": "lib", "categories": "lib/ucs.csv"}
    assert len(kinds.read(entry, base=tmp_path).items) == 3
