"""Import of `transformers` CLAP checkpoints, and of HTS-AT checkpoints as an audio tower.

A `ClapModel` without fusion, such as laion/clap-htsat-unfused or laion/larger_clap_general, has the
towers and projections of FLAM:

    audio_model.*, text_model.*       -> audio.encoder.*, caption.encoder.*
    audio_projection.linear{1,2}      -> audio_projection.{1,4}
    text_projection.linear{1,2}       -> caption_projection.{1,4}
    logit_scale_a                     -> log_temperature

It was trained on whole clips, so it serves as a baseline (`baselines.FLAMGlobal`) and to start
training from; CLAP has no scale and bias heads, so these are new and untrained. Clips under ten
seconds are repeated as its own feature extractor does, and their embedding is of the whole window.
"""

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import ClapConfig, ClapFeatureExtractor, RobertaConfig, RobertaTokenizer

from flamlib.models import checkpoint, htsat, state_dict
from flamlib.models.checkpoint import WEIGHTS
from flamlib.models.flam import FLAM
from flamlib.models.htsat import HTSAT
from flamlib.models.importers import htsat_layout
from flamlib.models.renaming import rename, strip_prefix
from flamlib.models.text_tower import FILES, refuse_code, unusable
from flamlib.storage import files

HEADS = {"scale_init": 10.0, "bias_init": -8.0, "temperature_init": 0.07}
SEED = 0  # of the new heads, so that every import gives the same model

_HEADS = ("scale_head", "bias_head")
_PICKLE = "pytorch_model.bin"
_PADDING = {"repeatpad": "repeated", "pad": "silent"}
_RENAMED = (
    (r"^audio_model\.", "audio.encoder."),
    (r"^text_model\.", "caption.encoder."),
    (r"^audio_projection\.linear1\.", "audio_projection.1."),
    (r"^audio_projection\.linear2\.", "audio_projection.4."),
    (r"^text_projection\.linear1\.", "caption_projection.1."),
    (r"^text_projection\.linear2\.", "caption_projection.4."),
    (r"^logit_scale_a$", "log_temperature"),
)
# Parameters of LAION-CLAP's other losses; position indices.
_UNUSED = r"^logit_scale_t$|\.(position_ids|token_type_ids)$|^(audio|text)_transform\."


def read(source: str | Path) -> FLAM:
    """Read a folder that `ClapModel.save_pretrained` wrote, or a hub id `owner/name`, as a FLAM.

    The folder contains config.json, model.safetensors or pytorch_model.bin, and the tokenizer.
    Raises FileNotFoundError for a missing file, and ValueError for a model with fusion, for another
    front end or activation, and for missing or unexpected tensors.
    """
    folder = checkpoint.resolve_source(source)
    if folder.is_file():
        raise ValueError(
            f"{folder} is a file, a CLAP of transformers is a folder; for a checkpoint in its "
            "authors' format take flam import-baseline or flam import-openflam"
        )
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder / 'config.json'} is missing: not a folder of a ClapModel")
    refuse_code(folder)
    with unusable(folder / "config.json"):
        config = ClapConfig.from_pretrained(folder)
    _check(folder, config)
    padding = _padding(folder)
    file = folder / WEIGHTS if (folder / WEIGHTS).is_file() else folder / _PICKLE
    ours = convert(state_dict.read(file))
    with tempfile.TemporaryDirectory() as caption_folder, unusable(folder / "config.json"):
        _write_caption_tower(folder, Path(caption_folder), config)
        with torch.device("meta"):  # takes no memory, whatever sizes the configuration claims
            shapes = _build(caption_folder, config, padding).state_dict()
        state_dict.check(ours | _new_heads(shapes), shapes, file)
        torch.manual_seed(SEED)
        model = _build(caption_folder, config, padding)
    origin = f"CLAP, {source if folder != Path(source) else folder.name}"
    heads = _new_heads(model.state_dict())
    checkpoint.load_tensors(
        model, ours | heads, file, origin, heads="new: they have learned nothing"
    )
    return model


def _build(caption_folder: str, config: ClapConfig, padding: str) -> FLAM:
    """Build a FLAM of a CLAP's sizes with random weights."""
    return FLAM(
        caption_folder,
        audio={
            "tower": "htsat",
            "embed": config.audio_config.patch_embeds_hidden_size,
            "depths": [*config.audio_config.depths],
            "heads": [*config.audio_config.num_attention_heads],
            "drop_path": 0.0,
            "drop_hidden": 0.0,
            "drop_attention": 0.0,
            "padding": padding,
        },
        caption={"pooling": "pooler"},
        dim=config.projection_dim,
        dropout=0.0,
        **HEADS,
    )


def _new_heads(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a CLAP does not have: the scale and bias heads."""
    return {name: t for name, t in tensors.items() if name.split(".")[0] in _HEADS}


def convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a ClapModel's state dict to our names; unknown tensors keep theirs."""
    used = {name: tensor for name, tensor in tensors.items() if not re.search(_UNUSED, name)}
    return {rename(name, _RENAMED): tensor for name, tensor in used.items()}


def read_tower(path: str | Path) -> HTSAT:
    """Read the encoder from a checkpoint in HTS-AT's own layout, such as one trained on AudioSet.

    The sample rate is found by the mel filters. Prefixes of all names (`sed_model.`, `module.`,
    `audio_branch.`) and the classifier are dropped. Raises what `state_dict.read` does, and
    ValueError for missing or unexpected tensors.
    """
    tensors = state_dict.read(path)
    first = "patch_embed.proj.weight"
    anchors = [name for name in tensors if name.endswith(first)]
    if len(anchors) != 1:
        raise ValueError(f"{path} is not an HTS-AT: {len(anchors)} tensors are called {first}")
    prefix = anchors[0].removesuffix(first)
    own = strip_prefix(tensors, prefix)
    own = {n: t for n, t in own.items() if not n.startswith(htsat_layout.CLASSIFIER)}
    try:
        settings = htsat_layout.settings(own, sample_rate=htsat_layout.sample_rate(own))
        tower = HTSAT(**settings)
        encoder = htsat_layout.encoder_tensors(own, tower)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    state_dict.check(encoder, tower.encoder.state_dict(), path)
    tower.encoder.load_state_dict(encoder)
    return tower.eval()


def write_tower(folder: str | Path, tower: HTSAT) -> None:
    """Write the weights to a folder for `HTSAT.load_weights`, such as artifacts/weights/htsat.

    Raises FileExistsError if the folder contains other files.
    """
    folder = Path(folder)
    if folder.exists() and {path.name for path in folder.iterdir()} - {WEIGHTS}:
        raise FileExistsError(f"{folder} contains other files: nothing was written")
    with files.atomic_folder(folder) as partial:
        tower.save_weights(partial / WEIGHTS)


def write_towers(folder: str | Path, model: FLAM) -> None:
    """Write the towers to `folder/htsat` and `folder/roberta`, to train from.

    Raises FileExistsError if the first contains other files.
    """
    write_tower(Path(folder) / "htsat", model.audio)
    with files.atomic_folder(Path(folder) / "roberta") as partial:
        model.caption.save_config_and_tokenizer(partial)
        tensors = {n: t.contiguous() for n, t in model.caption.encoder.state_dict().items()}
        state_dict.write(tensors, partial / WEIGHTS)


def _check(folder: Path, config: ClapConfig) -> None:
    """Raise ValueError if the CLAP computes anything else than HTSAT and FLAM's projections."""
    audio = config.audio_config
    front_end = {
        "enable_fusion": False,
        "num_mel_bins": htsat.N_MELS,
        "spec_size": 256,
        "patch_size": 4,
        "window_size": 8,
        "hidden_act": "gelu",
    }
    for name, wanted in front_end.items():
        if (found := getattr(audio, name)) != wanted:
            raise ValueError(f"{folder}: {name} of the audio tower is {found}, expected {wanted}")
    if config.projection_hidden_act != "relu":
        raise ValueError(
            f"{folder}: projection_hidden_act is {config.projection_hidden_act}, expected relu"
        )


def _padding(folder: Path) -> str:
    """Return HTS-AT's `padding` for short clips, and check the rest of the front end.

    A CLAP's processor saves both in processor_config.json, older ones in preprocessor_config.json.
    Raises ValueError naming the file for a front end other than HTS-AT's.
    """
    n_fft, low_hz, high_hz = htsat.FRONT_ENDS[htsat.SAMPLE_RATE]
    expected = {
        "sampling_rate": htsat.SAMPLE_RATE,
        "feature_size": htsat.N_MELS,
        "fft_window_size": n_fft,
        "hop_length": htsat.SAMPLE_RATE // htsat.HOPS_PER_S,
        "max_length_s": htsat.WINDOW_S,
        "frequency_min": low_hz,
        "frequency_max": high_hz,
        "top_db": None,
        "truncation": "rand_trunc",  # models with fusion have other mel filters
    }
    padding = "repeatpad"  # as all CLAPs are trained
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        with unusable(path):
            said = json.loads(path.read_text(encoding="utf-8"))
            said = said.get("feature_extractor", said)
            if name == "processor_config.json" and "sampling_rate" not in said:
                continue  # an older one, which knows of no front end
            extractor = ClapFeatureExtractor.from_dict(said)
        for key, wanted in expected.items():
            if (found := getattr(extractor, key)) != wanted:
                raise ValueError(f"{path}: {key} is {found}, expected {wanted}")
        padding = extractor.padding
        if padding not in _PADDING:
            raise ValueError(f"{path}: padding is {padding!r}, expected {' or '.join(_PADDING)}")
    return _PADDING[padding]


def _write_caption_tower(source: Path, folder: Path, config: ClapConfig) -> None:
    """Write RoBERTa's configuration and tokenizer in the layout of `TextTower`."""
    text = config.text_config
    shared = RobertaConfig().to_dict().keys() & text.to_dict().keys() - {"model_type"}
    settings = {k: v for k, v in text.to_dict().items() if k in shared}
    tokenizer = RobertaTokenizer.from_pretrained(source, local_files_only=True)
    if len(tokenizer) > text.vocab_size or len(tokenizer) < 6:
        raise ValueError(
            f"{source}: the tokenizer has {len(tokenizer)} tokens, the text tower "
            f"{text.vocab_size}; is the tokenizer missing?"
        )
    tokenizer.save_pretrained(folder)
    RobertaConfig(**settings).save_pretrained(folder)
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise FileNotFoundError(f"{source}: its tokenizer gives no {missing[0]}")
