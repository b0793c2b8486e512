"""The caption tower: free text in, one vector per caption out, or one per word."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, T5EncoderModel

FILES = ("config.json", "tokenizer.json")  # what a tower cannot be built without


class TextTower(nn.Module):
    """A text encoder of `transformers` and its tokenizer; captions become vectors of `width`.

    `pooling` is "mean" (over the tokens, as sentence encoders such as MiniLM are trained), "pooler"
    (the encoder's own summary of the first token, as FLAM takes from RoBERTa), "all" (the mean over
    as many places as the tower reads at most, padding among them, as CompA-CLAP was trained) or
    "words" (none: a vector for each token, [caption, word, dim], and NaN for those that only mark
    where a caption begins and ends or pad it).
    """

    def __init__(self, folder: Path, *, pooling: str) -> None:
        """An encoder of the shape in `folder/config.json`, with random weights.

        Raises ValueError on an unknown `pooling`, FileNotFoundError if the folder holds no
        configuration or tokenizer. No hub is contacted.
        """
        super().__init__()
        if pooling not in ("mean", "pooler", "all", "words"):
            raise ValueError(f'pooling is "mean", "pooler", "all" or "words", not {pooling!r}')
        # `transformers` would make do without a tokenizer, and read every word as unknown.
        for path in (Path(folder) / name for name in FILES):
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing: a caption tower is built from it")
        self.pooling = pooling
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if config.model_type == "t5":  # half of it: what writes text is not needed to read any
            self.encoder = T5EncoderModel(config).encoder
        else:
            self.encoder = AutoModel.from_config(config, add_pooling_layer=pooling == "pooler")
        self.width = config.hidden_size
        # A word that the tokenizer does not know is still a word.
        marks = {*self.tokenizer.all_special_ids} - {self.tokenizer.unk_token_id}
        self.register_buffer("marks", torch.tensor(sorted(marks)), persistent=False)
        # RoBERTa numbers positions from its padding index on, which costs it two of them.
        offset = config.pad_token_id + 1 if config.model_type == "roberta" else 0
        self.max_tokens = self.tokenizer.model_max_length
        if config.model_type != "t5":  # whose positions are relative
            self.max_tokens = min(config.max_position_embeddings - offset, self.max_tokens)

    def load_weights(self, path: Path) -> None:
        """Take the weights of a `transformers` checkpoint; tensors of unused heads are left out."""
        weights = load_file(path)
        wanted = self.encoder.state_dict().keys()
        self.encoder.load_state_dict({k: v for k, v in weights.items() if k in wanted})

    def enable_checkpointing(self) -> None:
        """From now on compute each layer again in the backward pass, rather than keep all of it."""
        self.encoder.activation_checkpointing_enable({"use_reentrant": False})

    def save_config_and_tokenizer(self, folder: Path) -> None:
        """Write configuration and tokenizer so that `TextTower(folder)` builds this shape."""
        self.encoder.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def tokenize(self, captions: list[str]) -> dict[str, Tensor]:
        """Token ids and attention mask, padded to the longest caption.

        Raises ValueError naming the caption that is empty, has no words where those are asked for,
        or is longer than the encoder can read: one cut short would silently ask another question.
        """
        for caption in captions:
            if not caption.strip():
                raise ValueError("an empty caption: every query needs at least one word")
        padding = {"padding": True}
        if self.pooling == "all":
            padding = {"padding": "max_length", "max_length": self.max_tokens}
        tokens = self.tokenizer(captions, **padding, return_tensors="pt")
        lengths = tokens["attention_mask"].sum(dim=1)
        if int(lengths.max()) > self.max_tokens:
            worst = captions[int(lengths.argmax())]
            raise ValueError(
                f"caption of {int(lengths.max())} tokens, the encoder reads at most "
                f"{self.max_tokens}: {worst[:80]!r}…"
            )
        if self.pooling == "words":
            n_words = self._is_word(tokens["input_ids"], tokens["attention_mask"]).sum(dim=1)
            if int(n_words.min()) == 0:
                raise ValueError(f"a caption without words: {captions[int(n_words.argmin())]!r}")
        return {k: tokens[k] for k in ("input_ids", "attention_mask")}

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> Float[Tensor, "caption *word dim"]:
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
        """Features of many captions, without gradients, on the tower's device."""
        device = next(self.parameters()).device
        with torch.inference_mode():
            parts = [
                self(**{k: v.to(device) for k, v in self.tokenize(part).items()})
                for part in (
                    captions[i : i + batch_size] for i in range(0, len(captions), batch_size)
                )
            ]
        if self.pooling == "words":
            n_words = max(part.shape[1] for part in parts)
            parts = [F.pad(p, (0, 0, 0, n_words - p.shape[1]), value=torch.nan) for p in parts]
        return torch.cat(parts).clone()

    def _is_word(self, input_ids: Tensor, attention_mask: Tensor) -> Bool[Tensor, "caption word"]:
        # On the device of the tokens: those that were only just made are not on the tower's.
        return attention_mask.bool() & ~torch.isin(input_ids, self.marks.to(input_ids.device))
