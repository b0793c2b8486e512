"""Models that are known by a name: those released with flamlib, and those in the user's cache.

flamlib/released/NAME     in an installed package; in a checkout models/NAME
<cache>/models/NAME       imported with `flam models --get`, see `paths.user_cache`
"""

import re
from pathlib import Path
from typing import NamedTuple

from flamlib import paths

SMALL = "flam-small"  # what `flam detect` uses where no model is named
FOLDER = "models"  # of a checkout


class Other(NamedTuple):
    """A model of others, which is fetched only when it is asked for (`importers.others`).

    Attributes:
        hub: Its repository on the Hugging Face hub.
        licence: Of its weights.
        about: What it is.
    """

    hub: str
    licence: str
    about: str


OTHERS = {
    "clap-htsat-unfused": Other(
        "laion/clap-htsat-unfused", "Apache-2.0", "a CLAP: whole clips, no priors"
    ),
    "openflam": Other(
        "kechenadobe/OpenFLAM",
        "Adobe Research License: non-commercial use only",
        "the FLAM of the paper's authors, retrained on public data",
    ),
}

_PACKAGE = Path(__file__).parents[1]


def find(name: str) -> Path | None:
    """Return the folder of the model of this name, or None."""
    return known().get(name)


def known() -> dict[str, Path]:
    """Return the folders of all models that are known by a name; a released one goes first."""
    found: dict[str, Path] = {}
    for place in places():
        for folder in sorted(place.glob("*/config.json")):
            found.setdefault(folder.parent.name, folder.parent)
    return found


def places() -> list[Path]:
    """Return the folders whose folders are models."""
    checkout = _PACKAGE.parent
    own = [_PACKAGE / "released"]
    if (checkout / "pyproject.toml").is_file():  # beside an installed package are others'
        own.append(checkout / FOLDER)
    return [*own, cached()]


def cached() -> Path:
    """Return the folder of the models that were imported into the user's cache."""
    return paths.user_cache() / "models"


def is_name(text: str) -> bool:
    """Return whether a text can name a model, and is no path.

    >>> is_name("flam-small"), is_name("../flam"), is_name("owner/name")
    (True, False, False)
    """
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*", text) is not None
