"""Text encoders of others: configuration inferred from tensors, in the layout of `TextTower`.

Others' checkpoints contain tensors and no configuration. What the tensors do not tell (the width of
an attention head of RoBERTa and BERT, the constants of their norms) is the same in every published
size. The tokenizer is a folder, or a hub id; the hub is contacted only for an id.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertTokenizer,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaTokenizer,
    T5Config,
    T5Tokenizer,
)

from flamlib.models.state_dict import reason
from flamlib.models.text_tower import refuse_code, unusable

_HEAD_WIDTH = 64  # of an attention head of RoBERTa and BERT, at any width
_NORM_EPS = {RobertaConfig: 1e-5, BertConfig: 1e-12}
_TOKENIZER = {RobertaConfig: RobertaTokenizer, BertConfig: BertTokenizer}
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def write_bert(
    folder: Path,
    tensors: Mapping[str, Tensor],
    tokenizer: str | Path,
    *,
    config_class: type[RobertaConfig] | type[BertConfig],
    max_tokens: int,
) -> None:
    """Write the configuration and tokenizer of a RoBERTa or BERT.

    Args:
        folder: Where to write.
        tensors: The encoder's tensors, without prefix.
        tokenizer: Folder or hub id of its tokenizer.
        config_class: `RobertaConfig` or `BertConfig`.
        max_tokens: Highest number of tokens of a caption.

    Raises:
        ValueError: A missing tensor, or a tokenizer with another vocabulary size.
    """
    try:
        n_words, width = tensors["embeddings.word_embeddings.weight"].shape
        shape = {
            "vocab_size": n_words,
            "hidden_size": width,
            "num_attention_heads": max(1, width // _HEAD_WIDTH),
            "num_hidden_layers": _count(tensors, r"encoder\.layer\.(\d+)\."),
            "intermediate_size": len(tensors["encoder.layer.0.intermediate.dense.weight"]),
            "max_position_embeddings": len(tensors["embeddings.position_embeddings.weight"]),
            "type_vocab_size": len(tensors["embeddings.token_type_embeddings.weight"]),
        }
    except KeyError as error:
        raise ValueError(f"not a text encoder: tensor {error.args[0]} is missing") from error
    found = _read_tokenizer(tokenizer, max_tokens, _TOKENIZER[config_class])
    if len(found) != n_words:
        kind = "RoBERTa" if config_class is RobertaConfig else "BERT"
        raise ValueError(
            f"the tokenizer {tokenizer} has {len(found)} tokens, the checkpoint {n_words}: pass "
            f"{kind}'s tokenizer"
        )
    found.save_pretrained(folder)
    marks = {"pad_token_id": found.pad_token_id}
    if config_class is RobertaConfig:
        marks |= {"bos_token_id": found.bos_token_id, "eos_token_id": found.eos_token_id}
    config_class(**shape, **marks, layer_norm_eps=_NORM_EPS[config_class]).save_pretrained(folder)


def write_t5(
    folder: Path, tensors: Mapping[str, Tensor], tokenizer: str | Path, *, max_tokens: int
) -> None:
    """Write the configuration and tokenizer of a T5 encoder.

    Args:
        folder: Where to write.
        tensors: The encoder's tensors, without prefix.
        tokenizer: Folder or hub id of its tokenizer.
        max_tokens: Highest number of tokens of a caption.

    Raises:
        ValueError: A missing tensor, or a tokenizer with more tokens than the encoder. Fewer are
            normal: T5 rounds the size of its embedding table up.
    """
    first = "block.0.layer.0.SelfAttention"
    gated = any(name.endswith("DenseReluDense.wi_0.weight") for name in tensors)
    try:
        n_words, width = tensors["embed_tokens.weight"].shape
        n_buckets, n_heads = tensors[f"{first}.relative_attention_bias.weight"].shape
        inner = tensors[f"block.0.layer.1.DenseReluDense.{'wi_0' if gated else 'wi'}.weight"]
        head_width = len(tensors[f"{first}.q.weight"]) // n_heads
    except KeyError as error:
        raise ValueError(f"not a T5 encoder: tensor {error.args[0]} is missing") from error
    found = _read_tokenizer(tokenizer, max_tokens, T5Tokenizer)
    if len(found) > n_words:
        raise ValueError(
            f"the tokenizer {tokenizer} has {len(found)} tokens, the checkpoint {n_words}: pass "
            "T5's tokenizer"
        )
    found.save_pretrained(folder)
    T5Config(
        vocab_size=n_words,
        d_model=width,
        d_kv=head_width,
        d_ff=len(inner),
        num_layers=_count(tensors, r"block\.(\d+)\."),
        num_heads=n_heads,
        relative_attention_num_buckets=n_buckets,
        feed_forward_proj="gated-gelu" if gated else "relu",
        pad_token_id=found.pad_token_id,
    ).save_pretrained(folder)


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return len({m[1] for name in tensors if (m := re.match(pattern, name))})


def _read_tokenizer(source: str | Path, max_tokens: int, usual: type) -> PreTrainedTokenizerBase:
    """Read a tokenizer from a folder, or from the hub by its id.

    Args:
        source: The folder or the id.
        max_tokens: Highest number of tokens of a caption.
        usual: The class of a folder that holds its words alone, as vocab.json and merges.txt.

    Raises:
        FileNotFoundError: No such folder and no such id, or a folder without a tokenizer.
        ValueError: One that cannot be read, or that needs code of its own.
    """
    folder = Path(source)
    if folder.is_dir():
        refuse_code(folder)
        held = {path.name for path in folder.iterdir()}
        words = [n for n in usual.vocab_files_names.values() if n != "tokenizer.json"]
        # Without its words `transformers` makes one that knows none, without an error.
        if "tokenizer.json" not in held and not held.issuperset(words):
            raise FileNotFoundError(
                f"{folder} holds no tokenizer: expected tokenizer.json, or {' and '.join(words)}"
            )
        alone = not held & {"tokenizer.json", "tokenizer_config.json", "config.json"}
        with unusable(folder / "tokenizer.json"):
            return (usual if alone else AutoTokenizer).from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                model_max_length=max_tokens,
            )
    if folder.exists() or not _HUB_ID.fullmatch(str(source)):
        raise FileNotFoundError(
            f"tokenizer {source}: no such folder; pass one, or a hub id such as roberta-base"
        )
    try:
        return AutoTokenizer.from_pretrained(
            str(source), trust_remote_code=False, model_max_length=max_tokens
        )
    except Exception as error:  # of the network, the hub's client or the tokenizer
        raise FileNotFoundError(
            f"tokenizer {source}: no such folder, and the hub has none by that id or cannot be "
            f"reached ({reason(error)})"
        ) from error
