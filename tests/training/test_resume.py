import json
import os

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from flamlib.training import resume
from flamlib.training.resume import Checkpoints

PARAMETERS = {"seed": 0, "lr": 0.1}


class Run:
    """A model, its optimizer, its average and a gradient scaler, some steps on."""

    def __init__(self, seed, n_steps=0):
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=0.1)
        self.average = AveragedModel(self.net)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        for _ in range(n_steps):
            self.step()

    def step(self):
        loss = self.net(torch.randn(4, 3, generator=torch.Generator().manual_seed(1))).sum()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.average.update_parameters(self.net)

    @property
    def parts(self):
        return self.net, self.optimizer, self.average, self.scaler

    def state(self):
        tensors = {**self.net.state_dict(), **self.average.state_dict()}
        moments = self.optimizer.state_dict()["state"].items()
        return (
            {k: v.tolist() for k, v in tensors.items()},
            {(i, k): v.tolist() for i, m in moments for k, v in m.items()},
            self.scaler.state_dict(),
        )


def test_everything_comes_back(tmp_path):
    checkpoints = Checkpoints(tmp_path, PARAMETERS, n_kept=1)
    before, after = Run(0, n_steps=3), Run(9)
    checkpoints.save(3, [{"step": 3, "loss": 0.5}], *before.parts)
    assert checkpoints.load(*after.parts) == (3, [{"step": 3, "loss": 0.5}])
    assert after.state() == before.state()
    assert before.state()[2]["scale"] == 16.0  # it has grown since the start
    before.step()
    after.step()
    assert after.state() == before.state()


def test_a_fresh_run_starts_at_its_beginning(tmp_path):
    assert Checkpoints(tmp_path, PARAMETERS, n_kept=1).load(*Run(0).parts) == (0, [])


def test_the_newest_of_the_last_states_is_taken(tmp_path):
    checkpoints = Checkpoints(tmp_path, PARAMETERS, n_kept=2)
    run = Run(0)
    for step in (5, 50, 500):
        checkpoints.save(step, [], *run.parts)
    assert [path.name for path in checkpoints.states()] == ["step_000050", "step_000500"]
    assert checkpoints.load(*Run(1).parts)[0] == 500


def test_a_million_steps_are_more_than_fewer(tmp_path):
    checkpoints, run = Checkpoints(tmp_path, PARAMETERS, n_kept=1), Run(0)
    for step in (999_000, 1_000_000):
        checkpoints.save(step, [], *run.parts)
    assert checkpoints.load(*Run(1).parts)[0] == 1_000_000


def test_a_state_that_is_not_whole_does_not_count(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, PARAMETERS, n_kept=2)
    checkpoints.save(5, [], *Run(0).parts)

    def full(tensors, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(resume.state_dict, "write", full)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.save(10, [], *Run(0).parts)
    assert checkpoints.load(*Run(1).parts)[0] == 5


@pytest.mark.parametrize("name", [resume.STATE, resume.TENSORS])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.write_text("{}"),
        lambda path: path.write_text("[" * 100_000),
    ],
    ids=["removed", "emptied", "cut", "zeroed", "another", "nested"],
)
def test_a_damaged_state_is_said_and_the_one_before_it_taken(tmp_path, name, damage):
    checkpoints, run = Checkpoints(tmp_path, PARAMETERS, n_kept=2), Run(0, n_steps=1)
    checkpoints.save(5, [{"step": 5}], *run.parts)
    expected = run.state()
    run.step()
    checkpoints.save(10, [{"step": 5}, {"step": 10}], *run.parts)
    damage(checkpoints.states()[-1] / name)
    after = Run(9)
    with pytest.warns(
        UserWarning, match=r"step_000010 cannot be read .* resuming from step_000005"
    ):
        assert checkpoints.load(*after.parts) == (5, [{"step": 5}])
    assert after.state() == expected
    damage(checkpoints.states()[0] / name)
    with pytest.warns(UserWarning, match="step_000010 cannot be read .* starting anew"):
        assert checkpoints.load(*Run(9).parts) == (0, [])


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_others_may_read_a_state_as_the_umask_says(tmp_path, umask):
    old = os.umask(umask)
    try:
        Checkpoints(tmp_path / "run", PARAMETERS, n_kept=1).save(5, [], *Run(0).parts)
    finally:
        os.umask(old)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {0o666 & ~umask}


def test_runs_of_other_parameters_do_not_meet(tmp_path):
    one = Checkpoints(tmp_path, PARAMETERS, n_kept=1)
    other = Checkpoints(tmp_path, PARAMETERS | {"lr": 0.2}, n_kept=1)
    one.save(5, [], *Run(0).parts)
    assert other.load(*Run(1).parts)[0] == 0


def test_a_state_of_a_model_of_other_tensors_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path, PARAMETERS, n_kept=1)
    checkpoints.save(3, [], *Run(0).parts)
    other = Run(0)
    other.net.append(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"2 missing tensors: 2\.bias, 2\.weight.* to start anew"):
        checkpoints.load(*other.parts)


def test_nothing_in_a_state_is_executed(tmp_path):
    checkpoints = Checkpoints(tmp_path, PARAMETERS, n_kept=1)
    checkpoints.save(5, [], *Run(0).parts)
    [folder] = checkpoints.states()
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    json.loads((folder / resume.STATE).read_text())


def test_without_a_best_model_any_loss_is_better(tmp_path):
    assert Checkpoints(tmp_path, PARAMETERS, n_kept=1).best_loss() == float("inf")
