"""The model card of a released model: what it is, for whom, how good, made of what, by whom.

Every number is read from the files of the run; none is written here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from flamlib.data.corpus.packages import Package
from flamlib.models.caption_thresholds import CaptionThresholds
from flamlib.models.checkpoint import WEIGHTS
from flamlib.models.weights import Tower

# Metrics of a split: name, key of the report, whether there is an interval.
_METRICS = (
    ("frame AUROC, mean over captions", "auroc_macro"),
    ("mAP of frames", "map"),
    ("F1 of frames, one threshold chosen beforehand", "f1"),
    ("F1 of frames, best common threshold", "f1_best"),
    ("F1 of events (0.2 s collars)", "event_f1"),
    ("PSDS1, mean over captions", "psds1_mean"),
    ("recall at one false span a minute and caption", "recall_at_1"),
    ("expected calibration error", "ece"),
    ("nats a frame", "nats"),
    ("the same of one constant prior", "nats_constant"),
)

_TEXT = """\
---
{header}---

# {name}

FLAM, a frame-wise language-audio model: it says for every {frame_s:.3g} s of a recording how surely
each of your captions sounds in it. Made with [flamlib](../../README.md), an open implementation of
[arXiv:2505.05335](https://arxiv.org/abs/2505.05335).

```sh
flam detect street.wav -c "a dog barks"
```

```python
from flamlib import FLAM

model = FLAM.from_pretrained("{name}")
score = model.score(waveform, sample_rate, ["a dog barks", "rain"])  # [clip, caption, frame]
```

## Intended use, and limits

To find sounds in recordings by a description: environmental sounds, short English captions such as
"a dog barks". A detection is a hint for a person who listens, not evidence: do not use it to
identify or to watch people, for safety alarms, or where nobody checks it.

- Its corpus has {n_recordings} short recordings, mixed with each other, held-out parts included.
  Recordings of another kind, place or microphone are farther away than the figures below show.
- Captions that it was not trained on it only guesses from their likeness to others; `flam detect`
  says which these are.
- A score is evidence for a caption, not its probability (`--method biased` gives that).
- Captions were written from file names and tags, and were not checked by ear.

## How good

On mixtures of recordings from packages that were not trained on; brackets are 95 % intervals over
clips. From `reports/04_evaluate.json` of the run.

{metrics}

## Thresholds

`thresholds.json` has a threshold for each of {n_own} captions, with the number of events behind it.
Captions of fewer than {min_events} events have {fallback:.3g} if the model was trained on them and
{novel:.3g} if not. Chosen by: {criterion}.

## Made from

- commit `{commit}`{seed}{steps}
- checkpoint with the SHA-256 `{checkpoint}`, released by `make release` at commit `{release}`
- time of the training steps, and energy: {cost}
- `training.json` has every parameter, checksums of the data and the losses.

SHA-256 of `{weights}`: `{sha256}`

It holds what was learned, large tensors in half precision: a score differs from the run's model by
{largest:.1g} at most and {mean:.1g} on average (some validation mixtures). The frozen rest comes
from these packages when the model is loaded for the first time:

{towers}

## Data and licences

{minutes:.0f} minutes of recordings, training and held-out parts, of the packages below, whose
authors are named in the packages' copyright files. None of them is in this model. They keep the
licences that their packages state, some of which ask to name the authors or to share alike; whether
a model inherits that is not settled, so look at them before you pass on a changed model. flamlib
itself is under the MIT licence.

{licences}
"""


def text(
    name: str,
    about: Mapping[str, Any],
    *,
    sha256: str,
    changes: Mapping[str, float],
    metrics: Mapping[str, Mapping[str, Any]],
    thresholds: CaptionThresholds,
    licences: Sequence[Mapping[str, str]],
    sources: Mapping[str, Package],
    towers: Sequence[Tower],
    frame_s: float,
    seconds: float | None = None,
) -> str:
    """Return the card in Markdown, with the YAML header that the Hugging Face hub reads.

    Args:
        name: Of the model.
        about: Content of its training.json.
        sha256: Of its weights.
        changes: "largest" and "mean" change of a score by the smaller form.
        metrics: By split, then by name, as in the report of the evaluation.
        thresholds: Of the model.
        licences: Rows of the corpus' licences.tsv.
        sources: Packages of the catalogue, by name.
        towers: Whose packages the model goes with.
        frame_s: Of a frame.
        seconds: How long the training steps took, None if unknown.
    """
    header = {
        "library_name": "flamlib",
        "license": "other",
        "license_name": "mit-with-sources-of-other-licences",
        "language": "en",
        "tags": ["audio", "sound-event-detection", "open-vocabulary"],
    }
    parameters = about.get("parameters", {})
    seed, steps = parameters.get("seed"), parameters.get("n_steps")
    n_own = sum(own.n_events >= thresholds.min_events for own in thresholds.captions.values())
    took = "unknown" if seconds is None else f"{seconds:.0f} seconds"
    cost = took if seconds is None or seconds < 100 else f"{seconds / 60:.0f} minutes"
    packages = {package.name: package for tower in towers for package in tower.packages}
    return _TEXT.format(
        header=yaml.safe_dump(header, sort_keys=False),
        name=name,
        frame_s=frame_s,
        n_recordings=sum(int(row["n_clips"]) for row in licences),
        metrics=_metrics_table(metrics),
        n_own=n_own,
        criterion=thresholds.criterion,
        min_events=thresholds.min_events,
        fallback=thresholds.fallback,
        novel=thresholds.novel,
        commit=about["commit"],
        seed="" if seed is None else f", seed {seed}",
        steps="" if steps is None else f", {steps} steps",
        checkpoint=about["release"]["checkpoint"],
        release=about["release"]["commit"],
        cost=f"{cost}; energy was not measured",
        weights=WEIGHTS,
        sha256=sha256,
        **changes,
        towers=_table(
            ("package", "version", "licence", "SHA-256 of the file"),
            [(p.name, p.version, p.licence, f"`{p.sha256}`") for p in packages.values()],
        ),
        minutes=sum(float(row["seconds"]) for row in licences) / 60,
        licences=_table(
            ("package", "from", "licence", "recordings", "seconds"),
            [
                (
                    row["package"],
                    _source(sources.get(row["package"])),
                    row["licence"],
                    row["n_clips"],
                    row["seconds"],
                )
                for row in sorted(licences, key=lambda row: (row["package"], row["licence"]))
            ],
        ),
    )


def _source(package: Package | None) -> str:
    """Where a package is found, with its authors: Debian's names them in its copyright file."""
    places = {"apt": "Debian", "pip": "PyPI", "npm": "npm"}
    return "–" if package is None else f"{places[package.channel]}, {package.version}"


def _metrics_table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each metric that the report has, a column for each of its splits."""
    splits = [name for name, values in metrics.items() if "auroc_macro" in values]
    rows = []
    for title, key in _METRICS:
        cells = [_interval(metrics[split], key) for split in splits]
        if any(cells):
            rows.append((title, *(cell or "–" for cell in cells)))
    return _table(("", *(split.replace("_", " ") for split in splits)), rows)


def _interval(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if value is None:
        return ""
    low, high = values.get(f"{key}_low"), values.get(f"{key}_high")
    bounds = "" if low is None or high is None else f" [{low:.3g}, {high:.3g}]"
    return f"{value:.3g}{bounds}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    cells = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
