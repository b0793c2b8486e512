"""Say how long `make repro` will take on this machine, from a second or two of its work.

    python -m flamlib.estimate

prints one line, and nothing where no stage is out of date:

    On this machine (2 threads, float32) about 18 minutes: corpus 1.5, mix 1.1, train 11, evaluate 4

With other parameters, all stages count, whether out of date or not:

    python -m flamlib.estimate --with configs/from_clap.yaml

Four pieces of work are timed: clips through the audio tower's trunk, through its top, the same with
a gradient, and a sound encoded, decoded and resampled. How often they come follows from
params.yaml. What has no such piece, drawing mixtures and computing metrics, counts as so many
sounds (the constants below, measured once). Downloads, public test sets and states that a training
resumes from do not count.
"""

import argparse
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from flamlib import paths
from flamlib.data.corpus import catalogue
from flamlib.experiment.config import Config, load_config
from flamlib.experiment.overrides import add_overlays
from flamlib.experiment.parameters import plain
from flamlib.waveforms import audio

N_MODELS = 4  # that 04 and 09 compare
STARTS = 1.5  # of a stage: the notebook's kernel, and papermill before it
MORE_STARTS = {"mix": 2.0, "train": 1.5}  # processes of their own

# In sounds, see `Units.sound`.
READ = 4.0  # a recording of the corpus, checked and written
DECODE = 0.5  # a recording, and each variant of it
DRAW = 0.06  # a mixture
RENDER = 0.7  # a mixture, with its labels
METRICS = 3.0  # a clip's scores of one model: ranking, detection, calibration, intervals

TIMED_S = 0.4  # for each piece, at least
LONG_S = 2 * 3600  # from here on in hours
N_CLIPS = 4  # at once, through the tower


class Units(NamedTuple):
    """Seconds that pieces of work take on this machine.

    Attributes:
        start: until a process has imported what it needs.
        sound: ten seconds of sound encoded, decoded and resampled, by one thread.
        trunk: a second of audio through the trunk of the audio tower, by all threads.
        top: through the rest of it.
        learn: through the top, or all of it where no trunk is stored, with the gradient.
        stored: whether the trunk's output is, for training and evaluation.
    """

    start: float
    sound: float
    trunk: float
    top: float
    learn: float
    stored: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the estimate, or why there is none; an exit status of 0, as nothing depends on it."""
    parser = argparse.ArgumentParser(
        prog="python -m flamlib.estimate", description=__doc__.splitlines()[0]
    )
    add_overlays(parser)
    given = parser.parse_args(arguments)
    try:
        text = describe(paths.root(), overlays=given.overlays)
    except Exception as error:  # whatever it is, `dvc repro` says it better or is not harmed
        text = f"No estimate of how long it will take ({error or type(error).__name__})."
    if text:
        print(text, flush=True)
    return 0


def describe(root: Path, overlays: Sequence[str | Path] = ()) -> str:
    """Return the line for the stages that are out of date, "" if none is; for all with overlays."""
    stages = all_stages(root) if overlays else stale(root)
    if not stages:
        return ""
    config = load_config(root / paths.PARAMS, overlays=overlays)
    n_clips = count_recordings(root)
    units, how = measure(config)
    took: dict[str, float] = {}
    for stage in stages:
        name = stage.split("@")[0]
        took[name] = took.get(name, 0.0) + seconds(stage, config, units, n_clips)
    total = sum(took.values())
    unit, unit_s = ("hours", 3600) if total >= LONG_S else ("minutes", 60)
    shares = ", ".join(f"{name} {_number(s / unit_s)}" for name, s in took.items() if s)
    return f"On this machine ({how}) about {_number(total / unit_s)} {unit}: {shares}"


def all_stages(root: Path) -> list[str]:
    """List all stages of dvc.yaml in its order, a stage for each model of a matrix."""
    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return [
        name if model is None else f"{name}@{model}"
        for name, stage in stages.items()
        for model in stage.get("matrix", {}).get("model", [None])
    ]


def stale(root: Path) -> list[str]:
    """List the stages that are out of date, and those after them, in the order of dvc.yaml.

    DVC may find that what a stage makes is as before; then those after it do not run.
    """
    from dvc.repo import Repo  # a second of imports, which the package does without
    from dvc.repo.reproduce import plan_repro

    repo = Repo(str(root))
    changed, found = set(repo.status()), []
    graph = repo.index.graph
    for stage in plan_repro(graph):
        name = stage.addressing
        if name in changed or changed.intersection(s.addressing for s in graph.successors(stage)):
            changed.add(name)
            found.append(name)
    return found


def count_recordings(root: Path) -> int:
    """Count the recordings of the corpus, or those that the catalogue has for it."""
    path = root / "data/clips.tsv"
    if path.exists():
        return len(pd.read_csv(path, sep="\t", usecols=[0]))
    source = load_config(root / paths.PARAMS).source
    selected = catalogue.select(catalogue.read(root / "catalogue"), source.profile, source.only)
    return len(selected.clips)


def measure(config: Config) -> tuple[Units, str]:
    """Time the pieces of work; also say by what: "2 threads, float32"."""
    start = time.perf_counter()
    import torch

    from flamlib.models.dual_encoder import audio_tower
    from flamlib.training.distributed import precision

    start = time.perf_counter() - start
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = precision(config.train.mixed_precision)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(kind)
    tower = audio_tower(**plain(config.network.audio)).to(device)
    n_samples = round(config.mixture.clip_s * tower.sample_rate)
    clips = 0.1 * torch.randn(N_CLIPS, n_samples, device=device)

    stored = tower.trunk_id() is not None
    with torch.no_grad():
        stored_clips = tower.trunk(clips)

    def trunk() -> float:
        with torch.inference_mode():
            return tower.trunk(clips).mean().item()

    def top() -> float:
        with torch.inference_mode():
            return tower(stored_clips).mean().item()

    def learn() -> None:
        with torch.autocast(device, dtype, enabled=dtype is not None):
            loss = tower(stored_clips if stored else tower.trunk(clips)).float().square().mean()
        if loss.requires_grad:  # not where all of the tower is frozen
            loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()

    noise = (3000 * torch.randn(10 * 44_100)).short().numpy()

    def sound() -> None:
        import soundfile

        samples, rate = soundfile.read(io.BytesIO(audio.flac(noise, 44_100)), dtype="float32")
        audio.resample(samples, rate, config.audio.sample_rate)

    clips_s = N_CLIPS * config.mixture.clip_s
    units = Units(
        start=start,
        sound=_seconds(sound),
        trunk=_seconds(trunk) / clips_s,
        top=_seconds(top) / clips_s,
        learn=_seconds(learn) / clips_s,
        stored=stored,
    )
    by = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    return units, f"{by}, {kind if dtype else 'float32'}"


def seconds(stage: str, config: Config, units: Units, n_recordings: int) -> float:
    """Estimate what a stage takes; 0 for one of no account.

    Args:
        stage: its name in dvc.yaml.
        config: the experiment's parameters.
        units: what `measure` found.
        n_recordings: of the corpus.
    """
    name, _, model = stage.partition("@")
    works: Mapping[str, Callable[[], float]] = {
        "corpus": lambda: READ * n_recordings * units.sound / config.source.n_jobs,
        "mix": lambda: _mix(config, n_recordings) * units.sound / config.mix.n_jobs,
        "features": lambda: _features(config, units, n_recordings),
        "train": lambda: _train(config, model, units),
        "evaluate": lambda: _evaluate(config, units, n_recordings),
        "detect": lambda: 0.0,
        "benchmarks": lambda: _benchmarks(config, units, n_recordings),
    }
    if name not in works:
        return 0.0
    return (STARTS + MORE_STARTS.get(name, 0.0)) * units.start + works[name]()


def _mix(config: Config, n_recordings: int) -> float:
    """In sounds."""
    sizes = config.mix
    n_held_out = sizes.n_valid + 2 * sizes.n_heldout
    n_drawn = sizes.n_train + n_held_out + 2 * sizes.n_heldout  # these under maskers
    decoded = n_recordings * (1 + config.variants.n_foreground)
    return DECODE * decoded + DRAW * n_drawn + RENDER * n_held_out


def _train(config: Config, model: str, units: Units) -> float:
    from flamlib.training.objective import OF_MIXTURES, OF_PAIRS, has_loss

    train, weights = config.train, plain(config.objective(model))
    mixed_s = train.batch_size * config.mixture.clip_s * has_loss(weights, OF_MIXTURES)
    paired_s = train.pair_batch_size * train.pair_s * has_loss(weights, OF_PAIRS)
    n_validated = -(-train.n_steps // train.valid_every) if train.valid_every else 0
    validated_s = config.mix.n_valid * config.mixture.clip_s * n_validated
    rendered = RENDER * units.sound * train.batch_size / max(train.n_workers, 1)
    step = units.learn * (mixed_s + paired_s)
    if mixed_s and not units.stored:
        step = max(step, rendered)
    return train.n_steps * step + validated_s * (units.top + units.trunk * (not units.stored))


def _features(config: Config, units: Units, n_recordings: int) -> float:
    """All mixtures, and each recording as often as it is paired; 0 if nothing is stored."""
    n_clips = config.mix.n_train + config.mix.n_valid + 4 * config.mix.n_heldout
    paired_s = n_recordings * (config.train.n_pair_takes or 0) * config.train.pair_s
    mixed = n_clips * (config.mixture.clip_s * units.trunk + RENDER * units.sound)
    return (mixed + paired_s * units.trunk) * units.stored


def _evaluate(config: Config, units: Units, n_recordings: int) -> float:
    n_clips = [min(config.evaluate.n_clips, n) for n in (config.mix.n_valid, config.mix.n_heldout)]
    n = n_clips[0] + 4 * n_clips[1]
    per_clip = config.mixture.clip_s * (units.top + units.trunk * (not units.stored))
    retrieved = _benchmarks(config, units, n_recordings)
    return N_MODELS * n * (per_clip + METRICS * units.sound) + retrieved


def _benchmarks(config: Config, units: Units, n_recordings: int) -> float:
    """Of the held-out recordings alone, about a quarter, of half a clip's length."""
    audio_s = n_recordings / 4 * config.mixture.clip_s / 2
    return N_MODELS * audio_s * (units.trunk + units.top)


def _seconds(work: Callable[[], object]) -> float:
    """The time of one call, the shortest of several after one that does not count."""
    work()
    times, end = [], time.perf_counter() + TIMED_S
    while len(times) < 2 or time.perf_counter() < end:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def _number(n: float) -> str:
    return f"{n:.0f}" if n >= 10 else f"{max(n, 0.1):.1f}".removesuffix(".0")


if __name__ == "__main__":
    sys.exit(main())
