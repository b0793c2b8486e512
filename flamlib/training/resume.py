"""States of a training run on disk, to resume it exactly, and its best model so far."""

import hashlib
import json
import math
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from flamlib.models import state_dict
from flamlib.models.checkpoint import TRAINING
from flamlib.models.dual_encoder import DualEncoder
from flamlib.storage import files

STATE = "state.json"
TENSORS = "state.safetensors"
BEST = "best"

Row = dict[str, int | float]  # what is logged of a step


def checksum(path: str | Path) -> str:
    """Compute a digest of a file's content, or of the names and contents of a folder's files."""
    path = Path(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_dir():
            with open(file, "rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
            digest.update(str(file.relative_to(path)).encode())
    return digest.hexdigest()[:16]


class Checkpoints:
    """The last states of a run, and its best model, in a folder named after the run's parameters.

        <folder>/<parameters>/step_000250/   state.json  state.safetensors
        <folder>/<parameters>/best/          a saved model

    Tensors are safetensors and the rest is JSON: nothing in a checkpoint is ever executed. A state
    has its name only when it is whole; then all but the last `n_kept` are removed.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any], *, n_kept: int) -> None:
        self.parameters = json.loads(json.dumps(parameters, default=str))
        key = json.dumps(self.parameters, sort_keys=True).encode()
        self.folder = folder / hashlib.sha256(key).hexdigest()[:12]
        self.n_kept = n_kept

    def states(self) -> list[Path]:
        """List the folders of the states, from the oldest to the newest."""
        return sorted(self.folder.glob("step_*"), key=lambda path: int(path.name[5:]))

    def save(
        self,
        step: int,
        history: list[Row],
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: AveragedModel,
        scaler: torch.amp.GradScaler | None,
    ) -> None:
        """Write the state of a run, and remove all but the last `n_kept`.

        Args:
            step: steps done.
            history: what was logged so far.
            net, optimizer, average, scaler: what `load` restores; no scaler without fp16.
        """
        moments = optimizer.state_dict()["state"]
        tensors = {f"model.{k}": v for k, v in net.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
        tensors |= {
            f"optimizer.{i}.{k}": torch.as_tensor(v)
            for i, m in moments.items()
            for k, v in m.items()
        }
        with files.atomic_folder(self.folder / f"step_{step:06d}") as folder:
            # Copies, because safetensors refuses tensors that share memory.
            copies = {k: v.detach().cpu().clone() for k, v in tensors.items()}
            state_dict.write(copies, folder / TENSORS)
            state = {"step": step, "history": history, "parameters": self.parameters}
            state["scaler"] = None if scaler is None else scaler.state_dict()
            (folder / STATE).write_text(json.dumps(state))
        for old in self.states()[: -self.n_kept]:
            shutil.rmtree(old, ignore_errors=True)

    def load(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: AveragedModel,
        scaler: torch.amp.GradScaler | None,
    ) -> tuple[int, list[Row]]:
        """Restore the newest state, if there is one; one that cannot be read counts as none.

        Args:
            net, optimizer, average, scaler: what is restored, in place.

        Returns:
            The number of steps done, 0 for a fresh start, and what was logged.

        Raises:
            ValueError: the state was made with other parameters, one of which is named, or is that
                of a model with other tensors; or the best model so far is damaged.
        """
        found, why = self._newest()
        history = [] if found is None else found[1]["history"]
        self._check_best(net, history)
        if found is None:
            if why:
                warnings.warn(f"{why}; starting anew", stacklevel=2)
            return 0, []
        newest, state, tensors = found
        if why:
            warnings.warn(f"{why}; resuming from {newest.name}", stacklevel=2)
        for name, value in self.parameters.items():
            if state["parameters"].get(name) != value:
                raise ValueError(
                    f"{newest} was made with {name} = {state['parameters'].get(name)!r}, not "
                    f"{value!r}: remove it to start anew"
                )

        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

        try:
            state_dict.check(part("model."), net.state_dict(), newest / TENSORS)
        except ValueError as error:
            raise ValueError(
                f"{error}: it is of a model as another version of the code builds it; remove "
                f"{self.folder} to start anew"
            ) from None
        net.load_state_dict(part("model."))
        average.load_state_dict(part("average."))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimizer.").items():
            i, name = key.split(".")
            moments.setdefault(int(i), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if scaler is not None:
            scaler.load_state_dict(state["scaler"])
        return state["step"], history

    def _newest(self) -> tuple[tuple[Path, dict[str, Any], dict[str, Tensor]] | None, str]:
        """The newest state that can be read, and why newer ones cannot."""
        why = ""
        for path in reversed(self.states()):
            try:
                state = json.loads((path / STATE).read_text(encoding="utf-8"))
                if not isinstance(state, dict) or not {"step", "history", "parameters"} <= {*state}:
                    raise ValueError(f"{path / STATE} is not the state of a run")
                return (path, state, state_dict.read(path / TENSORS)), why
            except PermissionError:
                raise
            except (OSError, ValueError, RecursionError) as error:
                why = why or f"{path} cannot be read ({state_dict.reason(error)})"
        return None, why

    def _check_best(self, net: nn.Module, history: list[Row]) -> None:
        """A best model that is damaged is lost; without it, a worse one would become the best."""
        if not isinstance(net, DualEncoder):
            return
        try:
            if math.isinf(self.best_loss()):
                raise FileNotFoundError(f"{self.folder / BEST / TRAINING} is missing or damaged")
            self.load_best(type(net))
        except PermissionError:
            raise
        except Exception as error:  # whatever a damaged file makes its reader do
            if any("valid_loss" in row for row in history):
                raise ValueError(
                    f"the best model so far cannot be read ({state_dict.reason(error)}); remove "
                    f"{self.folder} to start anew"
                ) from error
            shutil.rmtree(self.folder / BEST, ignore_errors=True)

    def best_loss(self) -> float:
        """Return the validation loss of the best model so far; infinite if there is none."""
        try:
            return float(json.loads((self.folder / BEST / TRAINING).read_text())["valid_loss"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return float("inf")

    def save_best(self, step: int, valid_loss: float, net: DualEncoder) -> None:
        """Save a model as the best so far."""
        net.save_pretrained(self.folder / BEST, provenance={"step": step, "valid_loss": valid_loss})

    def load_best(self, kind: type[DualEncoder]) -> DualEncoder:
        """Load the best model so far."""
        return kind.from_pretrained(self.folder / BEST)

    def remove(self) -> None:
        """Remove the states of this run; those of runs with other parameters stay."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # not empty: another run's
            self.folder.parent.rmdir()
