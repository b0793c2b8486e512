"""What the runs of the ablation study say together: tables, differences, F1 over thresholds.

A run is one arm and one seed, as `ablation` evaluated it: `{part: {metric: value}}`. Differences
are taken seed by seed, since runs of one seed see the same mixtures in the same order, and, unless
the arm changes which captions are used, the same single recordings:

    difference = mean over seeds of (arm - flam),  interval = difference ± t * s.d. / sqrt(n)

with t the 97.5 % point of Student's distribution with n - 1 degrees of freedom. So it bounds what
other seeds would give, on these held-out clips; of one seed there is none.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flamlib.experiment import provenance
from flamlib.plots.style import BLUE, GREEN, GREY, INK, ORANGE, PAGE, RED, styled

Runs = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float | None]]]]

SCORED = ("biased", "approximate")  # arms that need no training: FLAM's scores, otherwise made

# The metrics of the study: name in tables, split, metric.
METRICS = {
    "AUROC, seen": ("seen_captions", "auroc_macro"),
    "AUROC, unseen": ("unseen_captions", "auroc_macro"),
    "mAP, seen": ("seen_captions", "map"),
    "mAP, unseen": ("unseen_captions", "map"),
    "PSDS1, seen": ("seen_captions", "psds1_mean"),
    "PSDS1, unseen": ("unseen_captions", "psds1_mean"),
    "F1, common threshold, seen": ("seen_captions", "f1_best"),
    "F1, common threshold, unseen": ("unseen_captions", "f1_best"),
    "ECE, seen": ("seen_captions", "ece"),
    "ECE, unseen": ("unseen_captions", "ece"),
    "R@10, text to audio": ("retrieval", "t2a_r10"),
    "R@10, audio to text": ("retrieval", "a2t_r10"),
    "zero-shot, seen": ("heldout_seen", "top1"),
    "zero-shot, unseen": ("heldout_unseen", "top1"),
}


class PaperClaim(NamedTuple):
    """What a paper says an arm does to metrics: worse (-1) or better (+1)."""

    says: str
    arm: str
    metrics: Sequence[str]
    sign: int


SED = ("AUROC, seen", "AUROC, unseen", "F1, common threshold, seen", "F1, common threshold, unseen")
SEARCH = ("R@10, text to audio", "R@10, audio to text", "zero-shot, seen", "zero-shot, unseen")
# FLAM, arXiv:2505.05335: Figure 3, Table 4 and appendix C.12.
PAPER_CLAIMS = (
    PaperClaim("clips alone do not teach when", "flam_global", SED, -1),
    PaperClaim("F1 falls without a bias per caption", "no_bias", SED[2:], -1),
    PaperClaim("F1 falls without a scale per caption", "no_scale", SED[2:], -1),
    PaperClaim("without the global loss retrieval is worse", "no_global_loss", SEARCH, -1),
    PaperClaim("no global loss finds events marginally better", "no_global_loss", SED, 1),
    PaperClaim("128 frames find events marginally better", "frames_128", SED, 1),
    PaperClaim("128 frames are worse at retrieval", "frames_128", SEARCH, -1),
)


class Gathered(NamedTuple):
    """The runs of a study.

    Attributes:
        runs: `{arm: {seed: {part: {metric: value}}}}`.
        curves: frame F1, a row per arm, seed, part and threshold.
        versions: the files by digest of `code`, `parameters` and `data`.
    """

    runs: dict[str, dict]
    curves: pd.DataFrame
    versions: dict[str, dict[str, list[str]]]


def gather(
    folder: str | Path,
    arms: Iterable[str],
    *,
    only: Collection[str] | None = None,
    mixed: Collection[str] = (),
) -> Gathered:
    """Read all runs of these arms that are done, `<seed>_<arm>.json` and `.tsv`.

    Arms come in the order given; behind them those of `SCORED`, from FLAM's own runs.

    Args:
        folder: where the runs lie.
        arms: names of arms; files of others are not read.
        only: names of the runs to read, such as "0_flam"; None: all.
        mixed: of `code`, `parameters` and `data` those in which runs may differ.

    Raises:
        FileNotFoundError: there is no run of `flam` to compare with.
        ValueError: runs differ in something that is not in `mixed`, see `provenance.versions`.
    """
    runs: dict[str, dict] = {arm: {} for arm in (*arms, *SCORED)}
    paths = sorted(Path(folder).glob("*.json"))
    paths = [path for path in paths if path.stem.split("_", 1)[1] in runs]  # not of other arms
    paths = [path for path in paths if only is None or path.stem in only]
    read = {path: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    records = {path.name: numbers.pop("provenance", {}) for path, numbers in read.items()}
    if not any(path.stem.split("_", 1)[1] == "flam" for path in paths):
        raise FileNotFoundError(f"{folder} has no run of flam that others could be compared with")
    versions = provenance.versions(records, mixed=mixed)
    curves = []
    for path, numbers in read.items():
        seed, arm = path.stem.split("_", 1)
        table = pd.read_csv(path.with_suffix(".tsv"), sep="\t").assign(seed=seed)
        for way in ("", *SCORED) if arm == "flam" else ("",):
            prefix = f"{way}_" if way else ""
            parts = {name: name.removeprefix(prefix) for name in numbers if _way(name) == way}
            if not parts:
                continue
            shared = {} if way == "" else {k: v for k, v in numbers.items() if _way(k) == ""}
            of = shared | {short: numbers[name] for name, short in parts.items()}
            runs[way or arm][seed] = of
            drawn = table[table["part"].map(_way) == way]
            named = drawn["part"].str.removeprefix(prefix)
            curves.append(drawn.assign(arm=way or arm, part=named))
    runs = {arm: of for arm, of in runs.items() if of}
    return Gathered(runs, pd.concat(curves, ignore_index=True), versions)


def counted(versions: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, dict[str, int]]:
    """Count the runs of each digest of `Gathered.versions`."""
    return {
        kind: {digest: len(names) for digest, names in of.items()} for kind, of in versions.items()
    }


def _way(part: str) -> str:
    """In which of the ways of `SCORED` a part was scored; "" for the usual one."""
    return next((way for way in SCORED if part.startswith(f"{way}_")), "")


def values(runs: Runs, metrics: Mapping[str, tuple[str, str]] = METRICS) -> pd.DataFrame:
    """One row per arm and seed, one column per name of `metrics`; nan where it is not defined."""
    rows = {
        (arm, seed): {
            name: numbers.get(part, {}).get(metric) for name, (part, metric) in metrics.items()
        }
        for arm, of in runs.items()
        for seed, numbers in of.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index").astype(float)
    return table.rename_axis(["arm", "seed"])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Of `values`: `n`, and mean ± s.d. over seeds as text, one row per arm."""
    by_arm = table.groupby(level="arm", sort=False)
    mean, spread = by_arm.mean(), by_arm.std()
    text = mean.map("{:.3f}".format) + spread.map(lambda x: "" if np.isnan(x) else f" ± {x:.3f}")
    return text.where(mean.notna(), "").assign(n=by_arm.size())[["n", *table]]


def differences(table: pd.DataFrame, *, against: str = "flam") -> pd.DataFrame:
    """Of `values`: each arm less `against`, over the seeds that both have.

    One row per arm and metric: `difference low high n`; see the module's docstring.
    """
    rows = []
    reference = table.loc[against]
    for arm in table.index.unique("arm").drop(against):
        paired = (table.loc[arm] - reference).dropna(how="all")
        for name in table:
            d = paired[name].dropna()
            if len(d) == 0:
                continue
            n, low, high = len(d), np.nan, np.nan
            if n > 1:
                half = scipy.stats.t.ppf(0.975, n - 1) * d.std() / np.sqrt(n)
                low, high = d.mean() - half, d.mean() + half
            rows.append(dict(arm=arm, metric=name, difference=d.mean(), low=low, high=high, n=n))
    return pd.DataFrame(rows).set_index(["arm", "metric"])


def findings(of: pd.DataFrame, claims: Sequence[PaperClaim] = PAPER_CLAIMS) -> pd.DataFrame:
    """Of `differences`: each claim beside what was found here, a row per claim and metric.

    `here` says "agrees" or "disagrees" where the interval leaves out zero, and "not settled" where
    it does not, or where there is one seed.
    """
    rows = []
    for claim in claims:
        for name in claim.metrics:
            if (claim.arm, name) not in of.index:
                continue
            found = of.loc[(claim.arm, name)]
            settled = found["low"] > 0 or found["high"] < 0
            agrees = np.sign(found["difference"]) == claim.sign
            here = ("agrees" if agrees else "disagrees") if settled else "not settled"
            seeds = {"n": int(found["n"]), "here": here}
            rows.append({"claim": claim.says, "arm": claim.arm, "metric": name, **found, **seeds})
    return pd.DataFrame(rows)


def nested(of: pd.DataFrame) -> dict[str, dict[str, dict[str, float | None]]]:
    """Of `differences`: `{arm: {metric: {difference, low, high, n}}}`, None for nan."""
    found: dict[str, dict] = {}
    for (arm, name), row in of.iterrows():
        numbers = {key: None if np.isnan(value) else float(value) for key, value in row.items()}
        found.setdefault(arm, {})[name] = numbers | {"n": int(row["n"])}
    return found


COLORS = (BLUE, RED, ORANGE, GREEN, INK, GREY)
LINES = ("-", "--", "-.", ":")


@styled
def f1_curves(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Macro F1 of the frames over the threshold that all captions share, one panel per part.

    `curves[arm]` has a row `part threshold f1` for each part, threshold and seed. Areas are the
    mean ± s.d. over seeds. The first arm is drawn thickest.
    """
    parts = list(dict.fromkeys(part for table in curves.values() for part in table["part"]))
    figure = Figure(figsize=(PAGE, 2.8), layout="constrained")
    panels = figure.subplots(1, len(parts), squeeze=False)[0]
    for axes, part in zip(panels, parts, strict=True):
        for i, (arm, table) in enumerate(curves.items()):
            here = table[table["part"] == part].groupby("threshold")["f1"]
            mean, spread = here.mean(), here.std().fillna(0)
            look = {"color": COLORS[i % len(COLORS)], "linestyle": LINES[i % len(LINES)]}
            axes.plot(mean.index, mean, label=_words(arm), linewidth=1.5 if i else 2.2, **look)
            area = {"color": look["color"], "alpha": 0.15, "linewidth": 0}
            axes.fill_between(mean.index, mean - spread, mean + spread, **area)
        axes.set(xlim=(0, 1), ylim=(0, None), xlabel="threshold")
        axes.set_title(part.replace("_", " "))
        axes.grid(axis="y")
    panels[0].set_ylabel("frame F1, mean over captions")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


@styled
def difference_map(of: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """Draw `differences`: what each change was worth, in points, a panel per metric.

    Lines are the intervals; blue where they leave out zero to the better, red to the worse.
    """
    arms = list(of.index.unique("arm"))
    figure = Figure(figsize=(PAGE, 0.9 + 0.17 * len(arms)), layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, metrics, strict=True):
        here = of[of.index.get_level_values("metric") == name]
        table = here.droplevel("metric").reindex(arms)
        better = -1 if name.startswith("ECE") else 1
        for row, (_, found) in enumerate(table.iterrows()):
            low, high = better * found["low"], better * found["high"]
            color = BLUE if min(low, high) > 0 else RED if max(low, high) < 0 else GREY
            axes.hlines(row, 100 * found["low"], 100 * found["high"], color=color, alpha=0.5)
            axes.plot(100 * found["difference"], row, "o", color=color)
        axes.axvline(0, color=GREY, linewidth=0.6, linestyle=(0, (1, 2)))
        axes.set_title(name.replace(", ", "\n"), fontsize=7)
        axes.grid(axis="x")
    panels[0].set_yticks(range(len(arms)), map(_words, arms))
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    figure.supxlabel("difference to FLAM, points", fontsize=8)
    meanings = {BLUE: "better than FLAM", RED: "worse", GREY: "the interval holds zero"}
    handles = [Line2D([], [], marker="o", color=c, label=text) for c, text in meanings.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return figure


def _words(arm: str) -> str:
    """The name of an arm as words."""
    return arm.replace("_", " ")
