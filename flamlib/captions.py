"""The caption tower: free text in, one vector per caption out."""

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

FILES = ("config.json", "tokenizer.json")  # what a tower cannot be built without


class CaptionTower(nn.Module):
    """A text encoder of `transformers` and its tokenizer; captions become vectors of `width`.

    `pooling` is "mean" (over the tokens, as sentence encoders such as MiniLM are trained) or
    "pooler" (the encoder's own summary of the first token, as FLAM takes from RoBERTa).
    """

    def __init__(self, folder: Path, *, pooling: str) -> None:
        """An encoder of the shape in `folder/config.json`, with random weights.

        Raises ValueError on an unknown `pooling`, FileNotFoundError if the folder holds no
        configuration or tokenizer. No hub is contacted.
        """
        super().__init__()
        if pooling not in ("mean", "pooler"):
            raise ValueError(f'pooling is "mean" or "pooler", not {pooling!r}')
        # `transformers` would make do without a tokenizer, and read every word as unknown.
        for path in (Path(folder) / name for name in FILES):
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing: a caption tower is built from it")
        self.pooling = pooling
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.encoder = AutoModel.from_config(config, add_pooling_layer=pooling == "pooler")
        self.width = config.hidden_size
        # RoBERTa numbers positions from its padding index on, which costs it two of them.
        offset = config.pad_token_id + 1 if config.model_type == "roberta" else 0
        n_positions = config.max_position_embeddings - offset
        self.max_tokens = min(n_positions, self.tokenizer.model_max_length)

    def load_weights(self, path: Path) -> None:
        """Take the weights of a `transformers` checkpoint; tensors of unused heads are left out."""
        weights = load_file(path)
        wanted = self.encoder.state_dict().keys()
        self.encoder.load_state_dict({k: v for k, v in weights.items() if k in wanted})

    def save_tokenizer(self, folder: Path) -> None:
        """Write configuration and tokenizer so that `CaptionTower(folder)` builds this shape."""
        self.encoder.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def tokenize(self, captions: list[str]) -> dict[str, Tensor]:
        """Token ids and attention mask, padded to the longest caption.

        Raises ValueError naming the caption that is empty or longer than the encoder can read: a
        caption cut short would silently ask another question.
        """
        for caption in captions:
            if not caption.strip():
                raise ValueError("an empty caption: every query needs at least one word")
        tokens = self.tokenizer(captions, padding=True, return_tensors="pt")
        lengths = tokens["attention_mask"].sum(dim=1)
        if int(lengths.max()) > self.max_tokens:
            worst = captions[int(lengths.argmax())]
            raise ValueError(
                f"caption of {int(lengths.max())} tokens, the encoder reads at most "
                f"{self.max_tokens}: {worst[:80]!r}…"
            )
        return {k: tokens[k] for k in ("input_ids", "attention_mask")}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Float[Tensor, "caption dim"]:
        out = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        if self.pooling == "pooler":
            return out.pooler_output
        weight = attention_mask.unsqueeze(2).to(out.last_hidden_state.dtype)
        return (out.last_hidden_state * weight).sum(dim=1) / weight.sum(dim=1)

    def embed(self, captions: list[str], *, batch_size: int = 256) -> Float[Tensor, "caption dim"]:
        """Features of many captions, without gradients, on the tower's device."""
        device = next(self.parameters()).device
        with torch.inference_mode():
            parts = [
                self(**{k: v.to(device) for k, v in self.tokenize(part).items()})
                for part in (
                    captions[i : i + batch_size] for i in range(0, len(captions), batch_size)
                )
            ]
        return torch.cat(parts).clone()
