"""What a run says of itself while it lasts: its curves, its speed, how far it has come."""

import time
from pathlib import Path

from dvclive import Live
from tqdm import tqdm

from flamlib.training.resume import Row


class Logbook:
    """The rows that were logged, DVCLive's tables of them, and a bar that shows the last.

    All processes keep the rows; only the one that is `shown` writes and draws.
    """

    def __init__(
        self, curves: Path, history: list[Row], *, first: int, n_steps: int, shown: bool
    ) -> None:
        """Goes on at step `first` of `n_steps`; what `history` says of the steps before is kept."""
        self.history = history
        self._live = (
            Live(str(curves), save_dvc_exp=False, report=None, dvcyaml=None) if shown else None
        )
        for row in history:
            self._write(row)
        self._bar = tqdm(total=n_steps, initial=first, desc="train", disable=not shown, unit="step")

    def add(self, step: int, row: Row) -> None:
        """Log these numbers of a step; none leave no row."""
        if row:
            self.history.append({"step": step} | row)
            self._write(self.history[-1])
            losses = {k: f"{v:.2f}" for k, v in row.items() if k.endswith("loss")}
            self._bar.set_postfix(losses)
        self._bar.update()

    def close(self) -> None:
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


class Clock:
    """Seconds spent waiting for data and computing, since the last look."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.steps = 0
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        """What came since the last lap was `name`: "load", or "compute", which ends a step."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.steps += name == "compute"
        self.last = now

    def skip(self) -> None:
        """What came since the last lap is neither."""
        self.last = time.perf_counter()

    def rates(self, n_clips: int) -> dict[str, float]:
        """Clips a second, and which share of the time was computing; the clock starts anew."""
        total = sum(self.seconds.values())
        rates = {
            "clips_per_s": self.steps * n_clips / total,
            "compute_share": self.seconds["compute"] / total,
        }
        self.seconds, self.steps = {}, 0
        return rates
