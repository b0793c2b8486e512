"""What a training run reads, and its steps made of it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from accelerate import Accelerator

from flamlib.data.batches import Batches, StepFeatures
from flamlib.data.mixtures import recipes, strong
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.data.mixtures.strong import StrongSet
from flamlib.data.pairs import Pairs
from flamlib.data.trunk_features import ClipFeatures
from flamlib.experiment.config import Config
from flamlib.experiment.parameters import plain
from flamlib.experiment.params.learning import LossWeights
from flamlib.models.dual_encoder import DualEncoder
from flamlib.training.feature_extraction import StoredFeatures, pairs_of
from flamlib.training.objective import OF_MIXTURES, OF_PAIRS, has_loss
from flamlib.training.resume import checksum


@dataclass(frozen=True, kw_only=True)
class TrainInputs:
    """The files and folders that training reads.

    Attributes:
        bank: all recordings, decoded.
        mixtures, valid: Parquet tables of recipes, to train on and to validate on.
        sets: folder of strongly labelled sets; None: mixtures alone.
        captions: the corpus's table of captions.
        weights: folder of the pretrained towers' folders.
        features: folder of what a frozen trunk made of the clips; None: audio is rendered.
        init_from: folder of a saved model to start from; None: new heads.
    """

    bank: Path
    mixtures: Path
    valid: Path
    sets: Path | None
    captions: Path
    weights: Path
    features: Path | None = None
    init_from: Path | None = None

    def checksums(self) -> dict[str, str | None]:
        """Return a digest of the content of each, None for what is not read.

        Without `features`: its manifests name the content of the others.
        """
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        del given["features"]
        return {name: path and checksum(path) for name, path in given.items()}


def open_bank(path: Path, *, sample_rate: int) -> Bank:
    """Open the recordings. Raises ValueError if they have another rate than the audio tower."""
    bank = Bank.open(path)
    if bank.sample_rate != sample_rate:
        raise ValueError(
            f"{path} holds audio of {bank.sample_rate} Hz, but the audio tower takes "
            f"{sample_rate} Hz: build the bank again at that rate"
        )
    return bank


def read_steps(
    config: Config,
    objective: LossWeights,
    inputs: TrainInputs,
    net: DualEncoder,
    accelerator: Accelerator,
    *,
    bank: Bank,
    bank_checksum: str,
) -> tuple[Batches, Batches | None]:
    """Open what a run reads: its steps of training and of validation, as this process takes part.

    Args:
        config: of the experiment.
        objective: the weights of its losses.
        inputs: the files.
        net: the model; where its trunk is frozen and its outputs are stored, they are read.
        accelerator: the processes that share the run.
        bank: the recordings.
        bank_checksum: of the bank, to tell whether what is stored is of its recordings.

    Raises:
        ValueError: the data do not fit the model or the parameters.
    """
    train = config.train
    sets, set_shares = (), ()
    if inputs.sets is not None:
        sets, set_shares = strong.select_sets(inputs.sets, train.set_weights)
    stored = None
    if inputs.features is not None:
        folders = {"folder": inputs.features, "mixtures": inputs.mixtures.parent}
        stored = StoredFeatures(**folders, bank=bank_checksum)
    captions_of_sets = frozenset().union(*(one.captions for one in sets))
    weights = plain(objective)
    shared = {
        "bank": bank,
        "lexicon": Lexicon(Lexicon.read(inputs.captions).table, captions_of_sets),
        "mixture": config.mixture,
        "seed": config.seed,
        "n_frames": net.audio.n_frames(round(config.mixture.clip_s * bank.sample_rate)),
        "frame_s": net.frame_s,
        "uses_mixtures": has_loss(weights, OF_MIXTURES),
        "uses_pairs": has_loss(weights, OF_PAIRS),
        "rank": accelerator.process_index,
        "n_ranks": accelerator.num_processes,
    }
    pairs = pairs_of(config, bank, "train")
    uses = shared["uses_mixtures"], shared["uses_pairs"]
    batches = Batches(
        mixtures=recipes.read(inputs.mixtures),
        sets=sets,
        set_shares=set_shares,
        pairs=pairs,
        train=train,
        features=_step_features(stored, net, inputs.mixtures, sets, pairs, uses=uses),
        **shared,
    )
    uneven = batches.uses_pairs and pairs.n_drawn % accelerator.num_processes
    if uneven and train.sync_batch_norm and train.micro_batch:
        raise ValueError(
            f"{pairs.n_drawn} captioned recordings a step cannot be shared evenly by "
            f"{accelerator.num_processes} processes. With sync_batch_norm all wait for each other "
            "in every part of a micro_batch, so they need as many: choose another pair_batch_size"
        )
    if not train.valid_every:
        return batches, None
    mixtures = recipes.read(inputs.valid)
    # What is validated is the task itself: no noise, no other words, no added captions.
    plainly = replace(
        train,
        n_steps=max(1, len(mixtures) // train.batch_size) if train.batch_size else 1,
        pair_background_prob=0.0,
        wording_prob=0.0,
        max_captions_per_clip=None,
        n_hypernyms=0,
        n_hard_negatives=0,
    )
    pairs = replace(pairs_of(config, bank, "valid"), train=plainly)
    if train.select == "best" and not (shared["uses_mixtures"] or pairs.n_drawn):
        raise ValueError(
            f"{inputs.bank} has no recordings of the split valid, and this objective no loss of "
            "mixtures, so nothing says which weights are the best: set train.select to last"
        )
    valid_batches = Batches(
        mixtures=mixtures,
        sets=(),
        set_shares=(),
        pairs=pairs,
        train=plainly,
        features=_step_features(stored, net, inputs.valid, (), pairs, uses=uses),
        **shared,
    )
    return batches, valid_batches


def _step_features(
    stored: StoredFeatures | None,
    net: DualEncoder,
    mixtures: Path,
    sets: Sequence[StrongSet],
    pairs: Pairs,
    *,
    uses: tuple[bool, bool],
) -> StepFeatures | None:
    """The stored outputs of the model's trunk, if they are there of all that some loss uses."""
    trunk = net.trunk_id()
    if stored is None or trunk is None:
        return None
    clips: list[ClipFeatures | None] = []
    if uses[0]:
        clips = [stored.of_split(trunk, mixtures.stem)]
        clips += [stored.of_set(trunk, one) for one in sets]
    draws = uses[1] and pairs.n_drawn > 0
    of_pairs = stored.of_pairs(trunk, pairs) if draws else None
    if None in clips or (draws and of_pairs is None):
        return None
    return StepFeatures(clips, of_pairs)
