"""The experiment's parameters, read from `params.yaml` and checked.

Each section of the file is a class of `flamlib.experiment.params`, which says what its parameters
mean. `configs/small.yaml` holds the sizes of a quick run, other files of `configs` those of other
experiments:

    config = load_config(small=True, overrides={"train.n_steps": 3})
    config.train.n_steps  # 3
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from flamlib import paths
from flamlib.experiment.overrides import Overrides, overlaid, override, read_overrides, read_yaml
from flamlib.experiment.parameters import ParameterError, parameter, parse, plain, unknown
from flamlib.experiment.params.learning import (
    CodebookConfig,
    FeaturesConfig,
    LossWeights,
    TrainConfig,
)
from flamlib.experiment.params.network import ModelConfig
from flamlib.experiment.params.sounds import (
    AudioConfig,
    MixConfig,
    MixtureConfig,
    SourceConfig,
    VariantsConfig,
)
from flamlib.experiment.params.trials import (
    AblationConfig,
    DependencyConfig,
    DetectConfig,
    EvaluationConfig,
    TestsetsConfig,
)
from flamlib.storage import tables

SMALL = "configs/small.yaml"
PLAIN = str | int | float | list | dict | None  # what papermill gives


@dataclass(frozen=True, kw_only=True)
class Config:
    """All sections of `params.yaml`."""

    seed: int = parameter("seed of everything drawn at random", low=0)
    audio: AudioConfig = parameter("audio once decoded")
    source: SourceConfig = parameter("which recordings there are")
    variants: VariantsConfig = parameter("augmented copies of training recordings")
    mixture: MixtureConfig = parameter("what mixtures are like")
    mix: MixConfig = parameter("how many mixtures are drawn")
    features: FeaturesConfig = parameter("the stored output of a frozen trunk")
    network: ModelConfig = parameter("the model")
    objectives: dict[str, LossWeights] = parameter("weights of the losses, by model")
    codebook: CodebookConfig = parameter("the codebook of mga_clap")
    train: TrainConfig = parameter("the training loop")
    evaluate: EvaluationConfig = parameter("evaluation on held-out mixtures")
    ablate: AblationConfig = parameter("the ablation study")
    dependency: DependencyConfig = parameter("two captions that sound together")
    testsets: TestsetsConfig = parameter("public test sets")
    detect: DetectConfig = parameter("detection in one recording")

    def override(self, changes: Mapping[str, Any]) -> "Config":
        """Return the configuration with other values at dotted names, checked again.

        Raises ParameterError for an unknown name or a value that does not fit.
        """
        return parse(Config, override(plain(self), changes))

    def objective(self, model: str) -> LossWeights:
        """Return the weights of a model's losses. Raises ValueError for an unknown model."""
        if model not in self.objectives:
            raise ValueError(f"no model {model!r}; known: {', '.join(self.objectives)}")
        return self.objectives[model]


def load_config(
    path: str | Path | None = None,
    *,
    small: bool = False,
    overlays: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | str | None = None,
    given: Mapping[str, Any] | None = None,
) -> Config:
    """Read the experiment's parameters.

    Args:
        path: a file with all sections; None: `params.yaml` in the project's root.
        small: put the sizes of `configs/small.yaml`, beside `path`, in place of those of `path`.
        overlays: files with some sections and keys, which replace those before them.
        overrides: values by dotted name, `{"train.n_steps": 3}`, or as text, "train.n_steps=3".
        given: all names of a notebook; of these, sections of which papermill was given some values,
            `-p train.n_steps 3` or `-y "train: {n_steps: 3}"`, replace just these. Overrides go
            before them.

    Raises:
        ParameterError: naming every unknown name, wrong type and value out of range.
        FileNotFoundError: for a file that is not there, or outside a project.
    """
    path = Path(path) if path else paths.root() / paths.PARAMS
    values = read_yaml(path)
    for overlay in [*([path.parent / SMALL] if small else []), *overlays]:
        values = overlaid(values, read_yaml(overlay), name=str(overlay))
    given = {name: of for name, of in (given or {}).items() if name in values}
    whole = {name: of for name, of in given.items() if isinstance(of, PLAIN)}
    values = overlaid(values, whole, name="parameters of the notebook")
    changes: dict[str, Any] = {}
    for name, of in given.items():
        changes |= of.changes(name) if isinstance(of, Overrides) else {}
    config = parse(Config, override(values, changes | read_overrides(overrides)))
    if problems := list(_unknown_names(config, path.parent)):
        raise ParameterError("\n".join(problems))
    return config


def _unknown_names(config: Config, root: Path) -> Iterator[str]:
    """Say which weights are of a package or of a set that there is not."""
    packages, catalogue = config.mixture.package_weights, root / "catalogue/packages.tsv"
    if packages and catalogue.is_file():
        known = {row["package"] for row in tables.read(catalogue, ("package",), short_rows=True)}
        known |= {entry.get("name", entry["kind"]) for entry in config.source.collections}
        yield from unknown(packages, {"own", *known}, "mixture.package_weights")
    if sets := config.train.set_weights:
        known = {"synthetic", *(entry["name"] for entry in config.mix.strong)}
        yield from unknown(sets, known, "train.set_weights")


def sections() -> dict[str, Overrides]:
    """Return by its name, for each section of `params.yaml`, an object to set other values in."""
    return {of.name: Overrides() for of in fields(Config) if of.name != "seed"}
