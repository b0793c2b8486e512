"""Progress of a training run: logged rows, curves, the progress bar, and speed."""

import time
from pathlib import Path

from dvclive import Live
from tqdm import tqdm

from flamlib.storage import files
from flamlib.training.resume import Row

SPEEDS = ("step", "clips_per_s", "compute_share")  # columns of the file of speeds


class Logbook:
    """Keep the logged rows, write them as DVCLive's tables, and show the last in a progress bar.

    All processes keep the rows; only the one with `shown` writes and draws. Speeds, which are
    others at each run, have a file of their own beside those results.
    """

    def __init__(
        self,
        curves: Path,
        history: list[Row],
        *,
        speeds: Path,
        first: int,
        n_steps: int,
        shown: bool,
    ) -> None:
        """Begin, or go on.

        Args:
            curves: folder for the tables.
            speeds: file for what `add` is told of them; begun anew with the first step.
            history: rows of the steps before, which are kept.
            first: the first step, from 0.
            n_steps: steps of the whole run.
            shown: whether this process writes the tables and draws the bar.
        """
        self.history = history
        self._live = (
            Live(str(curves), save_dvc_exp=False, report=None, dvcyaml=None) if shown else None
        )
        for row in history:
            self._write(row)
        self._speeds = speeds
        if shown:
            files.atomic_write(speeds, _until(speeds, first))
        self._bar = tqdm(total=n_steps, initial=first, desc="train", disable=not shown, unit="step")

    def add(self, step: int, row: Row, speed: Row | None = None) -> None:
        """Log the numbers of a step, and its speed; an empty row only moves the progress bar."""
        if row:
            self.history.append({"step": step} | row)
            self._write(self.history[-1])
            losses = {k: f"{v:.2f}" for k, v in row.items() if k.endswith("loss")}
            self._bar.set_postfix(losses)
        if speed and self._live is not None:
            values = (({"step": step} | speed)[name] for name in SPEEDS)
            with open(self._speeds, "a", encoding="utf-8") as file:
                file.write("\t".join(f"{value:.6g}" for value in values) + "\n")
        self._bar.update()

    def close(self) -> None:
        """End the progress bar and the tables."""
        self._bar.close()
        if self._live is not None:
            self._live.end()

    def _write(self, row: Row) -> None:
        if self._live is None:
            return
        self._live.step = int(row["step"])
        for name, value in row.items():
            if name != "step":
                self._live.log_metric(name, value)


def _until(speeds: Path, first: int) -> str:
    """A file of speeds as it was before a step; what a killed run did after its last state is done
    again."""
    header = "\t".join(SPEEDS)
    lines = speeds.read_text(encoding="utf-8").splitlines()[1:] if first and speeds.exists() else []
    rows = [line for line in lines if line.count("\t") == len(SPEEDS) - 1]  # whole ones
    kept = [row for row in rows if float(row.split("\t")[0]) <= first]
    return "\n".join([header, *kept, ""])


class Clock:
    """Measure the seconds spent on loading data and on computing, since the last `rates`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.steps = 0
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Count the time since the last lap as "load", or as "compute", which ends a step."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.steps += name == "compute"
        self.last = now

    def skip(self) -> None:
        """Leave out the time since the last lap."""
        self.last = time.perf_counter()

    def rates(self, n_clips: int) -> dict[str, float]:
        """Return clips per second and the share of time spent computing, and start again."""
        total = sum(self.seconds.values())
        rates = {
            "clips_per_s": self.steps * n_clips / total,
            "compute_share": self.seconds["compute"] / total,
        }
        self.seconds, self.steps = {}, 0
        return rates
