import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from flamlib.training.average import MovingAverage


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    return net


def moved(net):
    """As a step of training moves it."""
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    net[1].running_mean.add_(1)


def test_it_is_torchs_average(net):
    ours = MovingAverage(net, 0.9)
    torchs = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for _ in range(4):
        moved(net)
        ours.update_parameters(net)
        torchs.update_parameters(net)
        assert ours.state_dict().keys() == torchs.state_dict().keys()
        for name, tensor in torchs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor), name


def test_what_does_not_learn_takes_no_memory(net):
    average = MovingAverage(net, 0.9)
    assert average.module[0].weight.data_ptr() == net[0].weight.data_ptr()
    assert average.module[2].weight.data_ptr() != net[2].weight.data_ptr()
    state = copy.deepcopy(average.state_dict())
    moved(net)
    average.update_parameters(net)
    average.load_state_dict(state)
    assert torch.equal(average.module[2].weight, state["module.2.weight"])
