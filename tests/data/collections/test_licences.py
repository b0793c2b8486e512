import typing

import pytest

from flamlib.data.collections import licences
from flamlib.experiment.params.sounds import Licence

STATED = {
    "http://creativecommons.org/publicdomain/zero/1.0/": "cc0",
    "Creative Commons 0": "cc0",
    "CC0": "cc0",
    "https://creativecommons.org/licenses/by/4.0/": "cc-by",
    "Attribution": "cc-by",
    "CC BY-SA 3.0 (Media/*)": "cc-by-sa",
    "http://creativecommons.org/licenses/by-nc/3.0/": "cc-by-nc",
    "Attribution NonCommercial": "cc-by-nc",
    "CC BY-NC-ND 4.0": "cc-by-nc-nd",
    "http://creativecommons.org/licenses/sampling+/1.0/": "sampling+",
    "GPL-2+": "gpl",
    "academic use only": "academic",
    "public domain": "public-domain",
    "": "unknown",
    "see the README": "unknown",
}


@pytest.mark.parametrize(("text", "name"), STATED.items())
def test_a_licence_is_known_whatever_it_is_called(text, name):
    assert licences.name(text) == name
    assert name in typing.get_args(Licence)


def test_only_what_is_allowed_passes():
    assert licences.find_refusal("Attribution", []) == ""
    assert licences.find_refusal("Attribution", ["cc0", "cc-by"]) == ""
    assert licences.find_refusal("GPL-2+ or CC BY 3.0", ["cc-by"]) == ""
    why = licences.find_refusal("Attribution NonCommercial", ["cc0", "cc-by"])
    assert why == (
        "its licence is 'Attribution NonCommercial', read as cc-by-nc, and source.licences allows "
        "cc-by, cc0"
    )
    assert "'unknown' and source" in licences.find_refusal("unknown", ["cc0"])
