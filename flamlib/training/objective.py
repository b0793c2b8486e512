"""Losses of a training step: caption features, weighted losses, and their gradients."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from flamlib.data.batches import Batch
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.experiment.params.learning import TrainConfig
from flamlib.losses import codebook, frame_wise
from flamlib.losses.tiled import Labels, caption_keys
from flamlib.models.dual_encoder import AudioInput, DualEncoder, PairInput

ANY = "a sound"  # what a process reads that has no caption to read
AT_ONCE = 1000  # texts that are tokenised to see whether they can be
# Which losses are of the mixtures, and which of the recordings with their captions.
OF_MIXTURES, OF_PAIRS = (
    frozenset({"frame", "prior"}),
    frozenset({"clip", "clip_sigmoid", "hard", "even"}),
)


def has_loss(weights: Mapping[str, float], of: frozenset[str]) -> bool:
    """Say whether any of these losses has a weight.

    >>> has_loss({"clip": 1.0, "frame": 0.0}, OF_MIXTURES)
    False
    """
    return any(weights.get(name) for name in of)


def check_sizes(weights: Mapping[str, float], train: TrainConfig) -> None:
    """Raise ValueError if no loss has a weight, or a step holds nothing of what one of them is of.

    Args:
        weights: of the losses, by name.
        train: `batch_size` and `pair_batch_size` are looked at.
    """
    if not any(weights.values()):
        raise ValueError("the objective has no loss with a weight: there is nothing to learn")
    for size, of in {"batch_size": OF_MIXTURES, "pair_batch_size": OF_PAIRS}.items():
        losses = sorted(name for name in of if weights.get(name))
        if losses and not getattr(train, size):
            raise ValueError(
                f"train.{size} is 0, and the objective has a weight for {', '.join(losses)}, of "
                "which a step then has nothing: raise the one, or set the other to 0"
            )


class CaptionFeatures:
    """Turn texts into the input of the model's caption side.

    A frozen caption tower encodes every wording of the corpus once, here; for one that learns the
    texts are only tokenised. Either way a text that the tower refuses, as one that is too long, is
    refused here, and not in the step that draws it.

    Args:
        net: the model.
        lexicon: the captions of the corpus and their wordings.
        device: of the features.
        noise: standard deviation of Gaussian noise on the features of a frozen tower, as a share of
            theirs: a few hundred captions cover few points of a space in which the model has to
            work everywhere.
    """

    def __init__(
        self, net: DualEncoder, lexicon: Lexicon, device: torch.device, *, noise: float
    ) -> None:
        self.learns = any(p.requires_grad for p in net.caption.parameters())
        self.tokenize, self.device = net.caption.tokenize, device
        texts = sorted({t for wordings in lexicon.wordings.values() for t in wordings})
        if self.learns:
            for start in range(0, len(texts), AT_ONCE):
                self.tokenize(texts[start : start + AT_ONCE])
        else:
            net.caption.eval()  # dropout in a tower that does not learn is only noise
            self.row = {text: i for i, text in enumerate(texts)}
            self.features = net.caption.embed(texts).to(device)
            # NaN is where a shorter caption has no word; noise leaves it NaN.
            self.noise = noise * self.features[self.features.isfinite()].std()

    def __call__(self, texts: list[str], *, noisy: bool = True) -> Tensor | dict[str, Tensor]:
        if self.learns:
            tokens = self.tokenize(texts or [ANY])
            return {name: ids.to(self.device) for name, ids in tokens.items()}
        features = self.features[[self.row[text] for text in texts]]
        return features + self.noise * torch.randn_like(features) if noisy else features


class StepOutputs(NamedTuple):
    """Embeddings of a process's share of a step; None where no loss needs them."""

    frame_emb: Float[Tensor, "clip frame dim"] | None
    pair_emb: Float[Tensor, "pair dim"] | None
    caption_emb: Float[Tensor, "text dim"]
    logit_scale: Float[Tensor, "text"]
    logit_bias: Float[Tensor, "text"]
    log_temperature: Float[Tensor, ""]


class StepInputs(NamedTuple):
    """Input of the model: audio, and captions, each distinct text once; None where unused."""

    audio: AudioInput | None
    pair_audio: PairInput | None
    captions: Float[Tensor, "text *word dim"] | dict[str, Tensor] | None

    def n_parts(self, micro_batch: int | None) -> int:
        """Count the parts of at most `micro_batch` clips, and as many pairs; 0 without audio."""
        sizes = [len(x) for x in (self.audio, self.pair_audio) if x is not None]
        longest = max(sizes, default=0)
        return -(-longest // (micro_batch or max(longest, 1)))

    def cut(self, n: int) -> list["StepInputs"]:
        """Split into n parts of almost equal sizes, of which the first lacks nothing."""
        if isinstance(self.captions, dict):
            names, columns = self.captions.keys(), self.captions.values()
            rows = zip(*(x.tensor_split(n) for x in columns), strict=True)
            captions = [
                dict(zip(names, row, strict=True)) if len(row[0]) or i == 0 else None
                for i, row in enumerate(rows)
            ]
        else:
            captions = _cut(self.captions, n)
        parts = zip(_cut(self.audio, n), _cut(self.pair_audio, n), captions, strict=True)
        return [StepInputs(*part) for part in parts]


class Objective:
    """The weighted losses of a step, and their gradients.

        loss = weight[clip] * clip_loss + weight[clip_sigmoid] * clip_sigmoid_loss
             + weight[frame] * framewise_loss + weight[prior] * prior_loss
             + weight[hard] * hard_negative_loss + weight[even] * l1_l2_loss

    of the clips and captions of all processes. The frame-wise loss sees the prior's log-odds but
    does not train them; the prior loss alone does, unless it has no weight. The last two are
    MGA-CLAP's (`losses.codebook`), of each process's own pairs.
    """

    def __init__(
        self, weights: Mapping[str, float], features: CaptionFeatures, *, hardness: float
    ) -> None:
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.features, self.hardness = features, hardness
        self.sed, self.pairs = has_loss(weights, OF_MIXTURES), has_loss(weights, OF_PAIRS)

    def total(self, terms: Mapping[str, Any]) -> Any:
        """Return the weighted sum of losses, tensors or numbers."""
        return sum(self.weights[name] * value for name, value in terms.items())

    def inputs(self, batch: Batch, *, noisy: bool = True) -> tuple[StepInputs, list[str]]:
        """Return the input of the model for a batch, and the texts of its captions in order."""
        texts = batch.texts[batch.own] if self.sed else []
        texts = list(dict.fromkeys([*texts, *(batch.pair_captions if self.pairs else [])]))
        # A process without any caption reads one all the same, for its gradients are waited for.
        texts = texts or batch.texts[:1]
        return StepInputs(
            batch.audio if self.sed and len(batch.audio) else None,
            batch.pair_audio if self.pairs and len(batch.pair_audio) else None,
            self.features(texts, noisy=noisy),
        ), texts

    def terms(self, outputs: StepOutputs, batch: Batch, texts: list[str]) -> dict[str, Tensor]:
        """Compute the losses that have a weight, by name, in nats: this process's share of each.

        Args:
            outputs: embeddings of this process's share.
            batch: the labels and captions.
            texts: captions in the order of `outputs.caption_emb`.
        """
        row = {text: i for i, text in enumerate(texts)}
        terms = {}
        if self.sed:
            rows = [row[text] for text in batch.texts[batch.own]]
            queries = batch.queries[batch.own]
            emb = outputs.caption_emb[rows]
            scale, bias = outputs.logit_scale[rows], outputs.logit_bias[rows]
            labels = Labels(
                caption_keys(batch.queries, emb.device),
                batch.active,
                None if batch.known.all() else batch.known,
                aligned=len(queries) == len(batch.queries),
            )
        if "frame" in self.weights:
            shift = bias.detach() if "prior" in self.weights else bias
            terms["frame"] = frame_wise.sharded_framewise_loss(
                outputs.frame_emb, emb, scale, shift, queries, labels
            )
        if "prior" in self.weights:
            terms["prior"] = frame_wise.sharded_prior_loss(bias, queries, labels)
        if self.pairs:
            emb = outputs.caption_emb[[row[text] for text in batch.pair_captions]]
            pair_emb = emb if outputs.pair_emb is None else outputs.pair_emb  # none of either
        if "clip" in self.weights:
            terms["clip"] = frame_wise.sharded_clip_loss(pair_emb, emb, outputs.log_temperature)
        if "clip_sigmoid" in self.weights:
            terms["clip_sigmoid"] = frame_wise.sharded_clip_sigmoid_loss(
                pair_emb, emb, outputs.log_temperature, batch.pair_captions
            )
        if "hard" in self.weights:
            terms["hard"] = codebook.hard_negative_loss(
                pair_emb, emb, outputs.log_temperature, hardness=self.hardness
            )
        if "even" in self.weights:
            terms["even"] = codebook.l1_l2_loss(pair_emb) + codebook.l1_l2_loss(emb)
        return terms

    @torch.no_grad()
    def without_gradients(
        self, accelerator: Accelerator, net: nn.Module, batch: Batch, *, micro_batch: int | None
    ) -> dict[str, Tensor]:
        """Compute the losses of a step without gradients and without noise.

        Args:
            accelerator: gives the precision.
            net: the model.
            batch: this process's share of the step.
            micro_batch: clips that are in memory at a time; None: all.

        Returns:
            Losses by name, as `terms` does.
        """
        inputs, texts = self.inputs(batch, noisy=False)
        n_parts = inputs.n_parts(micro_batch)
        with accelerator.autocast():
            outputs = [encode_step(net, part) for part in inputs.cut(max(1, n_parts))]
        return self.terms(_joined(outputs), batch, texts)

    def backward(
        self, accelerator: Accelerator, net: nn.Module, batch: Batch, *, micro_batch: int | None
    ) -> dict[str, Tensor]:
        """Add the gradients of a step to those of the model.

        Args:
            accelerator: gives the precision and sums gradients over processes.
            net: the model, as Accelerate wrapped it.
            batch: this process's share of the step.
            micro_batch: clips that are in memory at a time; None: all.

        Returns:
            Losses by name, as `terms` does.

        Raises:
            ValueError: this process has no audio in this step.

        With a `micro_batch` only so many clips, and as many pairs, are held in memory with what
        their gradients need. The losses compare every clip with every caption, so they cannot be
        summed over parts. Instead each part is embedded twice: first without gradients; then the
        losses say which way each embedding should move, and each part is embedded again, with
        the same dropout, and passes that on to the weights (GradCache, arXiv:2101.06983). The
        gradient is that of the whole batch, at the price of one more forward pass. Where a layer
        normalises by the batch, its batch is the part.
        """
        inputs, texts = self.inputs(batch)
        n_parts = inputs.n_parts(micro_batch)
        if not n_parts:
            raise ValueError(
                f"process {accelerator.process_index} has no audio in this step: there are fewer "
                "mixtures and pairs than processes"
            )
        if n_parts == 1:
            with accelerator.autocast():
                outputs = encode_step(net, inputs)
            terms = self.terms(outputs, batch, texts)
            accelerator.backward(self.total(terms))
            return terms

        parts, seed = inputs.cut(n_parts), int(torch.randint(2**62, ()))

        def embed(i: int) -> StepOutputs:
            torch.manual_seed(seed + i)
            with accelerator.autocast():
                return encode_step(net, parts[i])

        with torch.no_grad(), statistics_kept(net):
            cached = [embed(i) for i in range(n_parts)]
        outputs = _joined(cached)
        terms = self.terms(outputs, batch, texts)
        accelerator.backward(self.total(terms))
        gradients = StepOutputs(*(None if x is None else x.grad for x in outputs))
        slopes = [_cut(gradient, n_parts) for gradient in gradients._replace(log_temperature=None)]
        slopes[-1] = [gradients.log_temperature, *[None] * (n_parts - 1)]
        # Accelerate's own does nothing where a launcher started one process, wrapped all the same.
        quiet = getattr(net, "no_sync", nullcontext)
        for i in reversed(range(n_parts)):  # the first part, which has everything, comes last
            with quiet() if i else nullcontext():
                moved = [
                    (x, slope[i])
                    for x, slope in zip(embed(i), slopes, strict=True)
                    if x is not None and x.requires_grad and slope[i] is not None
                ]
                torch.autograd.backward(*zip(*moved, strict=True))
        return terms


def encode_step(net: Callable, inputs: StepInputs) -> StepOutputs:
    """Run the model on its inputs."""
    audio, captions, pair_audio, log_temperature = net(
        inputs.audio, inputs.captions, inputs.pair_audio
    )
    return StepOutputs(
        None if audio is None else audio.frame_emb,
        None if pair_audio is None else pair_audio.clip_emb,
        *((None,) * 3 if captions is None else captions),
        log_temperature,
    )


@contextmanager
def statistics_kept(net: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch normalisation as they are within the block."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 0.0
    try:
        yield
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum


def _cut(x: Tensor | None, n: int) -> list[Tensor | None]:
    """Split into n parts, None for empty ones other than the first."""
    if x is None:
        return [None] * n
    parts = x.tensor_split(n)
    return [part if len(part) or i == 0 else None for i, part in enumerate(parts)]


def _joined(parts: list[StepOutputs]) -> StepOutputs:
    """Join the outputs of all parts."""
    return StepOutputs(*(_join(pieces) for pieces in zip(*parts, strict=True)))


def _join(pieces: tuple[Tensor | None, ...]) -> Tensor | None:
    """The rows of all pieces, as a leaf that gathers a gradient."""
    found = [piece for piece in pieces if piece is not None]
    if not found:
        return None
    whole = torch.cat(found) if found[0].ndim else found[0].clone()
    return whole.requires_grad_()
