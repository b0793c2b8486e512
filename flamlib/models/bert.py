"""BERT's encoder (arXiv:1810.04805): that of `transformers`, to the last digit and random number.

Importing theirs takes longer than `flam detect` needs for all the rest, so a caption tower of this
kind is built from this one. `fits` says which configurations it is for; `transformers` builds the
others.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flamlib.compute import few_rows


class Encoded(NamedTuple):
    """Output of the encoder.

    Attributes:
        last_hidden_state: A vector for each token.
        pooler_output: One for each text, made of that of its first token; None without a pooler.
    """

    last_hidden_state: Float[Tensor, "text token dim"]
    pooler_output: Float[Tensor, "text dim"] | None


def fits(config: Any) -> bool:
    """Return whether a configuration of `transformers` is of a plain BERT."""
    return (
        config.model_type == "bert"
        and config.hidden_act == "gelu"
        and not config.is_decoder
        and not config.add_cross_attention
        and not config.chunk_size_feed_forward
        and isinstance(config.hidden_size, int)
        and config.hidden_size % config.num_attention_heads == 0
    )


class Bert(nn.Module):
    """Token ids -> `Encoded`.

    Attributes:
        config: The configuration of `transformers` that it is of.
    """

    def __init__(self, config: Any, *, add_pooling_layer: bool) -> None:
        """Build an encoder with random weights, those of `BertModel` from the same seed."""
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.pooler = None
        if add_pooling_layer:
            self.pooler = nn.Module()
            self.pooler.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.is_activation_checkpointing = False
        self.apply(self._init)

    @torch.no_grad()
    def _init(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, 0, self.config.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()

    def activation_checkpointing_enable(self, _: dict[str, Any]) -> None:
        """Recompute the activations of each layer in the backward pass, to save memory."""
        self.is_activation_checkpointing = True

    @no_type_check  # shapes cannot be checked in what torch.compile traces
    def forward(
        self,
        input_ids: Int[Tensor, "text token"],
        attention_mask: Int[Tensor, "text token"] | None = None,
    ) -> Encoded:
        """Encode texts; the mask is 0 where a text is padded, None where none is."""
        x, mask = self.embeddings(input_ids), None
        # No mask where nothing is padded: faster, and so it is in `transformers`.
        if attention_mask is not None and (
            torch.compiler.is_compiling() or not bool(attention_mask.all())
        ):
            mask = attention_mask.bool()[:, None, None, :]
            mask = mask.expand(-1, -1, input_ids.shape[1], -1)
        for layer in self.encoder.layer:
            if not (self.is_activation_checkpointing and self.training):
                x = layer(x, mask)
            else:
                x = checkpoint(layer, x, mask, use_reentrant=False)
        pooled = None if self.pooler is None else self.pooler.dense(x[:, 0]).tanh()
        return Encoded(x, pooled)


class _Embeddings(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(
            config.vocab_size, width, padding_idx=config.pad_token_id
        )
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    @no_type_check
    def forward(self, input_ids: Int[Tensor, "text token"]) -> Float[Tensor, "text token dim"]:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        x = self.word_embeddings(input_ids) + self.token_type_embeddings(0 * input_ids)
        return self.dropout(self.LayerNorm(x + self.position_embeddings(places)))


class _Layer(nn.Module):
    """Attention and a feed-forward network, each added to its input and normalised."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.n_heads, self.dropout_prob = (
            config.num_attention_heads,
            config.attention_probs_dropout_prob,
        )
        self.attention = nn.Module()
        self.attention.self = nn.Module()
        for name in ("query", "key", "value"):
            setattr(self.attention.self, name, nn.Linear(width, width))
        self.attention.output = _Output(width, width, config)
        self.intermediate = nn.Module()
        self.intermediate.dense = nn.Linear(width, inner)
        self.output = _Output(inner, width, config)
        self._kept = few_rows.Kept()

    @no_type_check
    def forward(
        self,
        x: Float[Tensor, "text token dim"],
        mask: Bool[Tensor, "text 1 token token"] | None,
    ) -> Float[Tensor, "text token dim"]:
        of, output = self.attention.self, self.attention.output
        sides = [of.query, of.key, of.value], [output.dense], [self.intermediate.dense]
        few = self._kept.products(x, [*sides, [self.output.dense]], training=self.training)
        if few is not None:
            project, add_seen, widen, add_inner = few
            seen = self._attend(project(x).chunk(3, dim=-1), mask)
            x = output.LayerNorm(add_seen(seen, plus=x))
            return self.output.LayerNorm(add_inner(widen.gelu(x), plus=x))
        seen = self._attend((of.query(x), of.key(x), of.value(x)), mask)
        x = output(seen, x)
        return self.output(F.gelu(self.intermediate.dense(x)), x)

    def train(self, mode: bool = True) -> "_Layer":
        """Set whether the layer learns."""
        self._kept.forget()
        return super().train(mode)

    @no_type_check
    def _attend(
        self,
        parts: Sequence[Float[Tensor, "text token dim"]],
        mask: Bool[Tensor, "text 1 token token"] | None,
    ) -> Float[Tensor, "text token dim"]:
        query, key, value = (
            part.view(*part.shape[:2], self.n_heads, -1).transpose(1, 2) for part in parts
        )
        seen = F.scaled_dot_product_attention(
            *(query, key, value),
            attn_mask=mask,
            dropout_p=self.dropout_prob if self.training else 0.0,
            scale=query.shape[-1] ** -0.5,
        )
        return seen.transpose(1, 2).flatten(2)


class _Output(nn.Module):
    """A linear layer, dropout, and the normalised sum with what went in before."""

    def __init__(self, n_in: int, n_out: int, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(n_in, n_out)
        self.LayerNorm = nn.LayerNorm(n_out, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    @no_type_check
    def forward(
        self, x: Float[Tensor, "text token inner"], before: Float[Tensor, "text token dim"]
    ) -> Float[Tensor, "text token dim"]:
        return self.LayerNorm(self.dropout(self.dense(x)) + before)
