"""The caption tower: a text encoder with one vector per caption, or one per word."""

import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flamlib.models import bert, plain_bert, state_dict
from flamlib.models.renaming import strip_prefix

FILES = ("config.json", "tokenizer.json")  # what a tower cannot be built without
MAX_LAYERS = 1000  # more are no text encoder, and building them would not end
MAX_POSITIONS = 100_000  # of padded captions, likewise


@contextmanager
def unusable(path: Path) -> Iterator[None]:
    """Turn whatever `transformers` raises about a file into a ValueError that names it.

    A configuration or tokenizer can be wrong in any way, and ends in any error.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        if str(path.parent) in str(error) and isinstance(error, ValueError):
            raise
        why = state_dict.reason(error)
        raise ValueError(
            f"{path} cannot be used ({why}): damaged, or another kind of model?"
        ) from error


def refuse_code(folder: Path) -> None:
    """Raise ValueError if a configuration in the folder names code of its own (`auto_map`).

    It would not be run; without it the folder is something else than its author meant.
    """
    for path in sorted(folder.glob("*.json")):
        if path.name not in ("config.json", "tokenizer_config.json", "processor_config.json"):
            continue
        with unusable(path):
            content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("auto_map"):
            raise ValueError(
                f"{path} names code of its own (auto_map), and flamlib runs no code of a model: "
                "take a model of an architecture that transformers has"
            )


# `transformers` is imported where it is needed: it takes longer than a plain BERT does without it.
def _configuration(folder: Path) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    config.dtype = None  # float32, whatever the published weights were saved in
    config._attn_implementation = None  # which may be the name of code on the hub
    return config


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _of_transformers(config: Any, with_pooler: bool) -> nn.Module:
    from transformers import AutoModel, T5EncoderModel

    if config.model_type == "t5":  # without its decoder
        return T5EncoderModel(config).encoder
    return AutoModel.from_config(config, trust_remote_code=False, add_pooling_layer=with_pooler)


class UnknownWords(UserWarning):
    """Captions with words that the caption tower does not know; all of these are one to it."""


class TextTower(nn.Module):
    """A text encoder of `transformers` with its tokenizer.

    Attributes:
        width: Dimensions of the features.
        max_tokens: Highest number of tokens of a caption, special tokens included.
    """

    def __init__(self, folder: Path, *, pooling: str) -> None:
        """Build an encoder of the shape in `folder/config.json`, with random weights.

        The Hugging Face hub is not contacted and code in the folder is not run.

        Args:
            folder: Holds config.json and the tokenizer.
            pooling: How token vectors become features:
                "mean": the mean over the tokens, as for sentence encoders such as MiniLM;
                "pooler": the encoder's pooler output of the first token, as in FLAM's RoBERTa;
                "all": the mean over `max_tokens` positions, padding included, as in CompA-CLAP;
                "words": no pooling, `[caption, word, dim]` with NaN for special tokens and padding.

        Raises:
            ValueError: Another `pooling`; a configuration or tokenizer that cannot be used, or
                that names code of its own.
            FileNotFoundError: No configuration or no tokenizer in the folder.
        """
        super().__init__()
        if pooling not in ("mean", "pooler", "all", "words"):
            raise ValueError(f'pooling must be "mean", "pooler", "all" or "words", not {pooling!r}')
        # Without a tokenizer `transformers` would treat every word as unknown, without an error.
        folder = Path(folder)
        for path in (folder / name for name in FILES):
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing: the caption tower is built from it")
        refuse_code(folder)
        self.pooling = pooling
        with unusable(folder / "config.json"):
            self._build_encoder(folder)
        with unusable(folder / "tokenizer.json"):
            self._read_tokenizer(folder)
        # What it is saved from; the folder may be gone by then.
        self._files = {
            name: (folder / name).read_bytes()
            for name in plain_bert.FILES
            if isinstance(self.encoder.config, plain_bert.Config) and (folder / name).is_file()
        }

    def _build_encoder(self, folder: Path) -> None:
        config = plain_bert.read_config(folder)
        if config is None or not bert.fits(config):
            config = _configuration(folder)
        n_layers = config.num_hidden_layers
        if not 0 < n_layers <= MAX_LAYERS:
            raise ValueError(f"num_hidden_layers = {n_layers}: expected 1 to {MAX_LAYERS}")
        with_pooler = self.pooling == "pooler"
        if bert.fits(config):
            self.encoder = bert.Bert(config, add_pooling_layer=with_pooler)
        else:
            self.encoder = _of_transformers(config, with_pooler)
        self.width = config.hidden_size

    def _read_tokenizer(self, folder: Path) -> None:
        config = self.encoder.config
        is_bert = isinstance(config, plain_bert.Config)
        self.tokenizer = (plain_bert.read_tokenizer(folder) if is_bert else None) or _tokenizer(
            folder
        )
        highest = max(self.tokenizer.get_vocab().values(), default=-1)
        if not 0 <= highest < config.vocab_size:
            raise ValueError(
                f"token {highest}, but config.json has vocab_size = {config.vocab_size}"
            )
        # An unknown word is still a word.
        marks = {*self.tokenizer.all_special_ids} - {self.tokenizer.unk_token_id}
        self.register_buffer("marks", torch.tensor(sorted(marks)), persistent=False)
        # RoBERTa counts positions from its padding index + 1, so two of them are lost.
        offset = config.pad_token_id + 1 if config.model_type == "roberta" else 0
        self.max_tokens = self.tokenizer.model_max_length
        if config.model_type != "t5":  # T5's positions are relative
            self.max_tokens = min(config.max_position_embeddings - offset, self.max_tokens)
        if self.max_tokens < 1 or (self.pooling == "all" and self.max_tokens > MAX_POSITIONS):
            raise ValueError(f"model_max_length leaves captions of {self.max_tokens} tokens")

    def load_weights(self, path: Path) -> None:
        """Load the weights of a `transformers` checkpoint in safetensors, without unused heads.

        A language model, as roberta-base is published, has its encoder under the name of its
        architecture, and may have no pooler: then that keeps random weights, with a warning.

        Raises FileNotFoundError, and ValueError for what `state_dict.read` and `check` refuse.
        """
        weights, wanted = state_dict.read(path), self.encoder.state_dict()
        prefix = f"{self.encoder.config.model_type}."
        if any(name.startswith(prefix) for name in weights):
            weights = strip_prefix(weights, prefix)
        weights = {name: tensor for name, tensor in weights.items() if name in wanted}
        pooler = {name: tensor for name, tensor in wanted.items() if name.startswith("pooler.")}
        if pooler and not pooler.keys() & weights.keys():
            warnings.warn(f"{path} has no pooler: it keeps random weights", stacklevel=2)
            weights |= pooler
        state_dict.check(weights, wanted, path)
        self.encoder.load_state_dict(weights)

    def enable_checkpointing(self) -> None:
        """Recompute the activations of each layer in the backward pass, to save memory."""
        self.encoder.activation_checkpointing_enable({"use_reentrant": False})

    def save_config_and_tokenizer(self, folder: Path) -> None:
        """Write config.json and the tokenizer, from which `TextTower(folder)` builds this shape."""
        config, tokenizer = self.encoder.config, self.tokenizer
        with tempfile.TemporaryDirectory() as name:
            for file, content in self._files.items():
                (Path(name) / file).write_bytes(content)
            if isinstance(config, plain_bert.Config):
                config = _configuration(Path(name))
            if isinstance(tokenizer, plain_bert.WordPieces):
                tokenizer = _tokenizer(Path(name))
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    def tokenize(self, captions: list[str]) -> dict[str, Tensor]:
        """Return token ids and attention mask, padded to the longest caption.

        Raises ValueError naming a caption that is empty, has no words (with pooling "words"), or
        has too many tokens: a truncated caption would be a different query.
        """
        for caption in captions:
            if not caption.strip():
                raise ValueError("empty caption: every caption needs at least one word")
        length = self.max_tokens if self.pooling == "all" else None
        if isinstance(self.tokenizer, plain_bert.WordPieces):
            tokens = self.tokenizer.padded(captions, length)
        else:
            padding = True if length is None else "max_length"
            tokens = self.tokenizer(
                captions, padding=padding, max_length=length, return_tensors="pt"
            )
        lengths = tokens["attention_mask"].sum(dim=1)
        if int(lengths.max()) > self.max_tokens:
            worst = captions[int(lengths.argmax())]
            raise ValueError(
                f"caption of {int(lengths.max())} tokens, but the encoder accepts at most "
                f"{self.max_tokens}: {worst[:80]!r}…"
            )
        if self.pooling == "words":
            n_words = self._is_word(tokens["input_ids"], tokens["attention_mask"]).sum(dim=1)
            if int(n_words.min()) == 0:
                raise ValueError(f"caption without words: {captions[int(n_words.argmin())]!r}")
        return {k: tokens[k] for k in ("input_ids", "attention_mask")}

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> Float[Tensor, "caption *word dim"]:
        """Return the features of tokenized captions."""
        out = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        if self.pooling == "pooler":
            return out.pooler_output
        if self.pooling == "all":
            return out.last_hidden_state.mean(dim=1)
        if self.pooling == "words":
            is_word = self._is_word(input_ids, attention_mask)
            return out.last_hidden_state.masked_fill(~is_word[:, :, None], torch.nan)
        weight = attention_mask.unsqueeze(2).to(out.last_hidden_state.dtype)
        return (out.last_hidden_state * weight).sum(dim=1) / weight.sum(dim=1)

    def embed(
        self, captions: list[str], *, batch_size: int = 256
    ) -> Float[Tensor, "caption *word dim"]:
        """Return the features of captions without gradients, on the tower's device.

        Warns of words that the tower does not know (`UnknownWords`).
        """
        device = next(self.parameters()).device
        batches = [captions[i : i + batch_size] for i in range(0, len(captions), batch_size)]
        tokens = [self.tokenize(batch) for batch in batches]
        if notes := self._unknown_words(captions, tokens):
            more = f" and {len(notes) - 3} more" if len(notes) > 3 else ""
            text = "; ".join(notes[:3])
            warnings.warn(f"the model {text}{more}", UnknownWords, stacklevel=3)
        with torch.inference_mode():
            parts = [self(**{k: v.to(device) for k, v in of.items()}) for of in tokens]
        if self.pooling == "words":
            n_words = max(part.shape[1] for part in parts)
            parts = [F.pad(p, (0, 0, 0, n_words - p.shape[1]), value=torch.nan) for p in parts]
        return torch.cat(parts).clone()

    def _unknown_words(self, captions: list[str], tokens: list[dict[str, Tensor]]) -> list[str]:
        """Say of each caption what the tokenizer has no token for; scripts, emoji and signs."""
        tokenizer, unknown = self.tokenizer, self.tokenizer.unk_token_id
        if unknown is None:
            return []
        has_unknown = torch.cat([(of["input_ids"] == unknown).any(dim=1) for of in tokens])
        notes = []
        for i in has_unknown.nonzero()[:, 0].tolist():
            caption, ids = captions[i], tokenizer(captions[i])["input_ids"]
            known = "".join(
                tokenizer.convert_ids_to_tokens(set(ids) - {*tokenizer.all_special_ids})
            )
            if not any(letter.isalnum() for letter in known):
                notes.append(f"cannot read a word of {caption!r}: all such captions score alike")
                continue
            words = [word for word in caption.split() if unknown in tokenizer(word)["input_ids"]]
            notes.append(f"cannot read {' '.join(words)} in {caption!r}: say it in other words")
        return notes

    def _is_word(self, input_ids: Tensor, attention_mask: Tensor) -> Bool[Tensor, "caption word"]:
        # Fresh tokens are on the CPU, whatever the tower's device.
        return attention_mask.bool() & ~torch.isin(input_ids, self.marks.to(input_ids.device))
