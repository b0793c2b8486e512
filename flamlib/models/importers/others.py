"""Models of others by name: fetched from the Hugging Face hub, imported into the user's cache."""

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from flamlib.models import released
from flamlib.models.dual_encoder import DualEncoder
from flamlib.models.importers import clap, openflam
from flamlib.models.state_dict import reason

CHECKPOINT = "open_flam_oct17.pth"  # the file of OpenFLAM's repository
TOKENIZER = "roberta-base"  # its own, of the hub


def get(name: str) -> Path:
    """Return the folder of a model of `released.OTHERS` in the cache; fetch it if it is not there.

    Raises:
        ValueError: Another name, or weights that the importer refuses.
        FileNotFoundError: The hub cannot be reached, or refuses.
        OSError: A cache that cannot be written to.
    """
    if name not in released.OTHERS:
        raise ValueError(f"no model {name!r} to be had; known: {', '.join(released.OTHERS)}")
    folder = released.cached() / name
    if not (folder / "config.json").is_file():
        _read(name, released.OTHERS[name].hub).save_pretrained(folder)
    return folder


def _read(name: str, hub: str) -> DualEncoder:
    if name != "openflam":
        return clap.read(hub)
    try:
        path = hf_hub_download(hub, CHECKPOINT)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(f"{hub}: cannot be downloaded ({reason(error)})") from error
    return openflam.read(path, TOKENIZER)
