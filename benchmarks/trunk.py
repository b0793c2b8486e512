"""Training steps per CPU second: from stored outputs of the frozen trunk, and from waveforms.

    python benchmarks/trunk.py [--quick] [--json]

A step is that of `params.yaml`: mixtures and single recordings through YAMNet with tags, projected
and compared with captions by the frame-wise and the clip-wise loss, backwards, and AdamW. Ours
reads what the trunk made of the clips from files, in half precision; the peer has the waveforms in
memory and runs the whole tower, layer by layer. Both get the same clips, and their losses are
compared before they are timed. Mixing of waveforms is left out: it takes a fortieth of the time.

CPU seconds are those of all threads, user and system; the system's share of ours is printed too.
Needs no data. Threads are torch's own; OMP_NUM_THREADS=1 asks for one.
"""

import argparse
import json
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

# Before torch is loaded, and as the pipeline does: threads that wait for others sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
import torch.nn.functional as F
import train_step
from torch import Tensor, nn

from flamlib.data import trunk_features
from flamlib.experiment.config import load_config
from flamlib.losses import frame_wise
from flamlib.models.yamnet import YAMNet
from flamlib.storage import manifest
from flamlib.training.distributed import precision

N_CAPTIONS = 150
CONTENT = {"clips": "noise"}


class Step(nn.Module):
    """A tower, a projection, and the losses of made-up labels."""

    def __init__(self, tower: YAMNet, dim: int) -> None:
        super().__init__()
        self.tower = tower
        self.project = nn.Sequential(nn.Linear(tower.width, dim), nn.ReLU(), nn.Linear(dim, dim))
        g = torch.Generator().manual_seed(0)
        self.register_buffer("captions", F.normalize(torch.randn(N_CAPTIONS, dim, generator=g)))
        learning = [p for p in self.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(learning, lr=1e-5, fused=True)

    def run(self, clips: Tensor, pairs: Tensor) -> float:
        """Move the weights once; return the loss."""
        with train_step.autocast(clips.device):
            frames, whole = self.embed(clips), self.embed(pairs).mean(dim=1)
        scale, bias = torch.full((N_CAPTIONS,), 10.0), torch.full((N_CAPTIONS,), -4.5)
        logits = frame_wise.frame_logits(frames, self.captions, scale, bias)
        g = torch.Generator().manual_seed(1)
        active = torch.rand(logits.shape, generator=g) < 0.01
        known = torch.ones(logits.shape[:2], dtype=torch.bool)
        loss = 200 * frame_wise.framewise_loss(logits, active, known)
        unit = F.normalize(whole, dim=-1)
        loss = loss + frame_wise.clip_loss(unit, self.captions[: len(unit)], torch.tensor(2.6))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def embed(self, audio: Tensor) -> Tensor:
        """Unit vectors of frames, of waveforms or of the trunk's output."""
        stored = audio if audio.ndim == 3 else self.tower.trunk(audio)
        features = self.tower(stored)[..., : self.tower.width]
        return F.normalize(self.project(features).float(), dim=-1)


def store(
    folder: Path, tower: YAMNet, clips: Tensor, shard_clips: int
) -> trunk_features.ClipFeatures:
    """Write what the trunk makes of clips, as the stage `features` does."""

    def write(path: Path, job: dict) -> dict:
        with torch.inference_mode():
            stored = tower.trunk(clips[job["start"] : job["stop"]]).half().numpy()
        with open(path, "wb") as file:
            np.save(file, stored)
        return {"shape": list(stored.shape[1:])}

    jobs = [
        {"name": trunk_features.shard_name(k), "start": rows.start, "stop": rows.stop}
        for k, rows in enumerate(manifest.split(len(clips), shard_clips))
    ]
    wanted = trunk_features.parameters(tower.trunk_id(), CONTENT)
    manifest.fill(folder, wanted, jobs, write, n_jobs=1, scheduler=None, progress=False)
    return trunk_features.open_part(folder, tower.trunk_id(), CONTENT)


def cpu_seconds() -> np.ndarray:
    """User and system seconds of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([used.ru_utime, used.ru_stime])


def timed(run: Callable[[], object], n_runs: int) -> np.ndarray:
    """CPU seconds of a call, user and system: the median of several, after one that is not one."""
    took = []
    for _ in range(n_runs + 1):
        start = cpu_seconds()
        run()
        took.append(cpu_seconds() - start)
    return np.median(took[1:], axis=0)


def layer_by_layer(tower: YAMNet) -> None:
    """Run the frozen layers one after the other, as modules of torch do."""
    tower.layers = nn.Sequential(*tower.layers)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    config = load_config()
    train, dim = config.train, config.network.dim
    ours, peer = (Step(train_step.default_tower(), dim) for _ in range(2))
    ours.tower.local[3].p = peer.tower.local[3].p = 0.0  # no dropout: the losses are compared
    peer.load_state_dict(ours.state_dict())
    layer_by_layer(peer.tower)
    rate = ours.tower.sample_rate
    clips = 0.1 * torch.randn(train.batch_size, round(config.mixture.clip_s * rate))
    pairs = 0.1 * torch.randn(train.pair_batch_size, round(train.pair_s * rate))
    with tempfile.TemporaryDirectory() as folder:
        stored = [
            store(Path(folder) / name, ours.tower, of, config.features.shard_clips)
            for name, of in (("clips", clips), ("pairs", pairs))
        ]
        runs = {
            "ours": lambda: ours.run(*(part.read(range(len(part))) for part in stored)),
            "peer": lambda: peer.run(clips, pairs),
        }
        first = {name: run() for name, run in runs.items()}
        assert abs(first["ours"] / first["peer"] - 1) < 2e-3, first  # bf16 in the peer's trunk
        took = {name: timed(run, 3 if arguments.quick else 15) for name, run in runs.items()}
    rates = {name: 1 / seconds.sum() for name, seconds in took.items()}
    system = {name: seconds[1] / seconds.sum() for name, seconds in took.items()}
    ratio = rates["ours"] / rates["peer"]
    if arguments.json:
        about = {"unit": "steps per CPU second", "precision": precision("auto"), "system": system}
        about |= {"threads": torch.get_num_threads()}
        print(json.dumps({**rates, "ratio": ratio, **about}))
    else:
        print(f"{torch.get_num_threads()} threads, mixed precision {precision('auto')}")
        for name, rate in rates.items():
            print(f"{name}  {rate:.2f} steps per CPU second, {system[name]:.1%} of it the system's")
        print(f"ours / peer: {ratio:.2f}")
