"""Whose checkpoint a file is, told by its tensors, and which command imports it."""

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from flamlib.models import state_dict
from flamlib.models.renaming import strip_prefix

COMPA_WORDS = "text_branch.encoder.embed_tokens.weight"
LAION_WORDS = "text_branch.embeddings.word_embeddings.weight"

# By kind: tensors of which only it has one, and what takes it. The first that fits counts: OpenFLAM
# has all tensors of LAION-CLAP.
_KINDS = {
    "OpenFLAM": (
        ("aed_logit_scale", "fc_per_text_logit_scale.0.weight"),
        "flam import-openflam imports it",
    ),
    "MGA-CLAP": (("codebook",), "flam import-baseline imports it"),
    "CompA-CLAP": ((COMPA_WORDS,), "flam import-baseline imports it"),
    "LAION-CLAP": ((LAION_WORDS,), "flam import-baseline imports it"),
    "a CLAP of transformers": (
        ("text_model.embeddings.word_embeddings.weight",),
        "flam import-clap imports its folder",
    ),
    "a model that flam has saved": (
        ("log_temperature",),
        "it needs no import: pass its folder with --model",
    ),
    "an HTS-AT without a text encoder": (
        ("patch_embed.proj.weight", "sed_model.patch_embed.proj.weight"),
        "flam import-htsat imports it",
    ),
}


def read(path: str | Path, kinds: Collection[str]) -> tuple[str, dict[str, Tensor]]:
    """Read a checkpoint in its authors' format; return its kind and its tensors.

    The prefix that DistributedDataParallel gives all names is dropped.

    Args:
        path: The file.
        kinds: Those that the caller takes, of `OpenFLAM` and the others above.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A damaged file, or a checkpoint of another kind, naming the command for it.
    """
    if Path(path).is_dir():
        raise ValueError(
            f"{path} is a folder, expected a checkpoint's file; folders of transformers are "
            "imported by flam import-clap"
        )
    tensors = state_dict.read(path)
    if all(name.startswith("module.") for name in tensors):
        tensors = strip_prefix(tensors, "module.")
    kind = find(tensors)
    if kind is None:
        signs = ", ".join(_KINDS[kind][0][0] for kind in kinds)
        raise ValueError(
            f"{path} is not a checkpoint of {', '.join(kinds)}: it has none of the tensors {signs}"
        )
    if kind not in kinds:
        raise ValueError(
            f"{path} is {kind}, not a checkpoint of {', '.join(kinds)}: {_KINDS[kind][1]}"
        )
    return kind, tensors


def find(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the kind of checkpoint that tensors are of, None if it is unknown."""
    return next(
        (kind for kind, (signs, _) in _KINDS.items() if any(sign in tensors for sign in signs)),
        None,
    )
