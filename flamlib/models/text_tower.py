"""The caption tower: a text encoder with one vector per caption, or one per word."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, T5EncoderModel

FILES = ("config.json", "tokenizer.json")  # what a tower cannot be built without


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
            ValueError: Another `pooling`.
            FileNotFoundError: No configuration or no tokenizer in the folder.
        """
        super().__init__()
        if pooling not in ("mean", "pooler", "all", "words"):
            raise ValueError(f'pooling must be "mean", "pooler", "all" or "words", not {pooling!r}')
        # Without a tokenizer `transformers` would treat every word as unknown, without an error.
        for path in (Path(folder) / name for name in FILES):
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing: the caption tower is built from it")
        self.pooling = pooling
        local = {"local_files_only": True, "trust_remote_code": False}
        config = AutoConfig.from_pretrained(folder, **local)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        if config.model_type == "t5":  # without its decoder
            self.encoder = T5EncoderModel(config).encoder
        else:
            self.encoder = AutoModel.from_config(
                config, trust_remote_code=False, add_pooling_layer=pooling == "pooler"
            )
        self.width = config.hidden_size
        # An unknown word is still a word.
        marks = {*self.tokenizer.all_special_ids} - {self.tokenizer.unk_token_id}
        self.register_buffer("marks", torch.tensor(sorted(marks)), persistent=False)
        # RoBERTa counts positions from its padding index + 1, so two of them are lost.
        offset = config.pad_token_id + 1 if config.model_type == "roberta" else 0
        self.max_tokens = self.tokenizer.model_max_length
        if config.model_type != "t5":  # T5's positions are relative
            self.max_tokens = min(config.max_position_embeddings - offset, self.max_tokens)

    def load_weights(self, path: Path) -> None:
        """Load the weights of a `transformers` checkpoint in safetensors, without unused heads."""
        weights = load_file(path)
        wanted = self.encoder.state_dict().keys()
        self.encoder.load_state_dict({k: v for k, v in weights.items() if k in wanted})

    def enable_checkpointing(self) -> None:
        """Recompute the activations of each layer in the backward pass, to save memory."""
        self.encoder.activation_checkpointing_enable({"use_reentrant": False})

    def save_config_and_tokenizer(self, folder: Path) -> None:
        """Write config.json and the tokenizer, from which `TextTower(folder)` builds this shape."""
        self.encoder.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def tokenize(self, captions: list[str]) -> dict[str, Tensor]:
        """Return token ids and attention mask, padded to the longest caption.

        Raises ValueError naming a caption that is empty, has no words (with pooling "words"), or
        has too many tokens: a truncated caption would be a different query.
        """
        for caption in captions:
            if not caption.strip():
                raise ValueError("empty caption: every caption needs at least one word")
        padding = {"padding": True}
        if self.pooling == "all":
            padding = {"padding": "max_length", "max_length": self.max_tokens}
        tokens = self.tokenizer(captions, **padding, return_tensors="pt")
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
        """Return the features of captions without gradients, on the tower's device."""
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
        # Fresh tokens are on the CPU, whatever the tower's device.
        return attention_mask.bool() & ~torch.isin(input_ids, self.marks.to(input_ids.device))
