"""Configuration and tokenizer of a plain BERT, read as `transformers` reads them, but without it.

Importing `transformers` takes longer than `flam detect` needs for a short recording. Both
readers return None for anything but the usual: it is then left to `transformers`, which knows what
else there is, and says what is wrong.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor, tensor

# All that a folder of one may hold, beside its weights.
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
# What is in one file or the other, and changes neither the encoder nor the tokens.
_IDLE_SETTINGS = {
    *("_name_or_path", "architectures", "bos_token_id", "classifier_dropout", "dtype"),
    *("eos_token_id", "gradient_checkpointing", "tie_word_embeddings", "torch_dtype"),
    *("transformers_version", "use_cache"),
}
_IDLE_OPTIONS = {
    *("backend", "is_local", "local_files_only", "max_length", "name_or_path"),
    *("pad_to_multiple_of", "stride", "truncation_side", "truncation_strategy"),
}
_MARKS = {f"{name.lower()}_token": f"[{name}]" for name in ("UNK", "SEP", "PAD", "CLS", "MASK")}
_OPTIONS = {
    **_MARKS,
    "do_basic_tokenize": True,
    "never_split": None,
    "pad_token_type_id": 0,
    "padding_side": "right",
}
_UNLIMITED = 10**30  # of tokens, where a file says nothing


@dataclass(frozen=True)
class Config:
    """The settings of an encoder; what a config.json leaves open is as in `BertConfig`."""

    model_type: str = "bert"
    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    position_embedding_type: str = "absolute"
    is_decoder: bool = False
    add_cross_attention: bool = False
    chunk_size_feed_forward: int = 0


def read_config(folder: Path) -> Config | None:
    """Return what config.json says of a plain BERT; None for anything else."""
    said = _read(folder / "config.json")
    if said is None or said.get("model_type") != "bert":
        return None
    said = {name: value for name, value in said.items() if name not in _IDLE_SETTINGS}
    kinds = {field.name: field.type for field in fields(Config)}
    if any(type(value) is not kinds.get(name) for name, value in said.items()):
        return None
    config = Config(**said)
    sizes = (value for name, value in vars(config).items() if name.endswith(("_size", "_heads")))
    probabilities = (config.hidden_dropout_prob, config.attention_probs_dropout_prob)
    is_usual = (
        all(size > 0 for size in sizes)
        and config.position_embedding_type == Config.position_embedding_type
        and 0 <= config.pad_token_id < config.vocab_size
        and config.max_position_embeddings > 0
        and all(0 <= p < 1 for p in probabilities)
        and config.initializer_range >= 0
    )
    return config if is_usual else None


class WordPieces:
    """Texts -> token ids, with the names of a tokenizer of `transformers`.

    Attributes:
        model_max_length: Tokens of a text at most, by its file.
        unk_token_id: Token of what it cannot read.
        all_special_ids: Tokens that are no part of a text, and that one.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self.model_max_length = tokenizer, max_length
        self.unk_token_id, *_ = self.all_special_ids = [
            *map(tokenizer.token_to_id, _MARKS.values())
        ]
        self._pad_id = tokenizer.token_to_id(_MARKS["pad_token"])

    def get_vocab(self) -> dict[str, int]:
        """Return the id of each token."""
        return self._tokenizer.get_vocab()

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens of ids."""
        return [self._tokenizer.id_to_token(each) for each in ids]

    def __call__(self, text: str) -> dict[str, list[int]]:
        """Return the `input_ids` of a text."""
        return {"input_ids": self._tokenizer.encode(text).ids}

    def padded(
        self, texts: Sequence[str], length: int | None
    ) -> dict[str, Int[Tensor, "text token"]]:
        """Return the ids of texts, padded to the longest of them and at least to a length, and
        `attention_mask`, 0 where they are padded."""
        ids = [each.ids for each in self._tokenizer.encode_batch(list(texts))]
        length = max(length or 0, *map(len, ids), 0)
        return {
            "input_ids": tensor([row + [self._pad_id] * (length - len(row)) for row in ids]),
            "attention_mask": tensor([[1] * len(r) + [0] * (length - len(r)) for r in ids]),
        }


def read_tokenizer(folder: Path) -> WordPieces | None:
    """Return the tokenizer of a plain BERT; None if it is not in tokenizer.json as usual.

    `transformers` takes the words of that file, and the rest of tokenizer_config.json: here the two
    must agree.
    """
    about, said = _read(folder / "tokenizer.json"), _read(folder / "tokenizer_config.json")
    others = {path.name for path in folder.iterdir()} & {"vocab.txt", "added_tokens.json"}
    if about is None or said is None or others:
        return None
    if (folder / "special_tokens_map.json").exists():
        marks = _read(folder / "special_tokens_map.json")
        if marks is None or not marks.items() <= _MARKS.items():
            return None
    kind, max_length = said.pop("tokenizer_class", None), said.pop("model_max_length", _UNLIMITED)
    how = {"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None}
    how = {name: said.pop(name, usual) for name, usual in how.items()}
    said = {name: value for name, value in said.items() if name not in _IDLE_OPTIONS}
    if (
        kind not in ("BertTokenizer", "BertTokenizerFast")
        or type(max_length) is not int
        or any(name not in _OPTIONS or value != _OPTIONS[name] for name, value in said.items())
        or not _agrees(about, how)
    ):
        return None
    return WordPieces(Tokenizer.from_file(str(folder / "tokenizer.json")), max_length)


def _agrees(about: dict[str, Any], how: dict[str, bool | None]) -> bool:
    """Whether a tokenizer.json is that of a BERT, of the options that are said beside it."""
    words = about.get("model")
    if not isinstance(words, dict) or not isinstance(words.get("vocab"), dict):
        return False
    ids = {mark: words["vocab"].get(mark) for mark in _MARKS.values()}
    cls, sep, text = (
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    )
    ends = about.get("post_processor") or {}
    usual = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [{"id": id, "content": mark, "special": True, **usual} for mark, id in ids.items()]
    return (
        {name: of for name, of in words.items() if name != "vocab"}
        == {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        }
        and None not in ids.values()
        and sorted(about.get("added_tokens") or [], key=str) == sorted(added, key=str)
        and about.get("normalizer")
        == {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": how["tokenize_chinese_chars"],
            "strip_accents": how["strip_accents"],
            "lowercase": how["do_lower_case"],
        }
        and about.get("pre_tokenizer") == {"type": "BertPreTokenizer"}
        and (ends.get("type"), ends.get("single")) == ("TemplateProcessing", [cls, text, sep])
        and ends.get("special_tokens")
        == {m: {"id": m, "ids": [ids[m]], "tokens": [m]} for m in ("[CLS]", "[SEP]")}
    )


def _read(path: Path) -> dict[str, Any] | None:
    """A file of JSON that is an object; None for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
