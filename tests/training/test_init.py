import shutil

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch._inductor.utils import fresh_cache
from towers import HTSAT

from flamlib.experiment.params.learning import LossWeights
from flamlib.models import dual_encoder
from flamlib.models.flam import FLAM
from flamlib.training import init

NETWORK = {
    "audio": {"tower": "yamnet", "tags": True},
    "caption": {"tower": "tiny_text", "pooling": "mean"},
    "dim": 8,
    "dropout": 0.0,
    "scale_init": 10.0,
    "bias_init": -2.0,
    "temperature_init": 0.07,
}
FLAM_WEIGHTS = {"clip": 1.0, "frame": 20.0, "prior": 1.0}
GLOBAL = {"clip": 1.0, "frame": 0.0, "prior": 0.0}
FROZEN_CAPTIONS = tiny.config(lr_audio=1e-4, lr_caption=0.0, lr_heads=1e-3).train


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    tiny.write_text_tower(folder / "tiny_text")
    (folder / "yamnet").mkdir()
    tiny.write_yamnet(folder / "yamnet")
    return folder


@pytest.fixture
def bare(tmp_path):
    """Weights of the caption tower alone."""
    tiny.write_text_tower(tmp_path / "weights/tiny_text")
    return tmp_path / "weights"


def pretrained(weights, **changes):
    return init.pretrained(weights, tiny.config(network=NETWORK | changes).network)


@pytest.fixture
def small(monkeypatch):
    """The tower of ten lines."""
    monkeypatch.setattr(dual_encoder, "audio_tower", lambda **settings: tiny.TinyAudioTower())
    return {"audio": {"tower": "yamnet"}}


def test_towers_carry_their_weights_and_tags_their_names(weights):
    net = pretrained(weights)
    audio, reader = (load_file(weights / t / "model.safetensors") for t in ("yamnet", "tiny_text"))
    first = "layers.1.weight"
    assert torch.equal(net.audio.state_dict()[first], audio[first])
    assert torch.equal(net.audio.classifier.weight, audio["classifier.weight"])
    word = "embeddings.word_embeddings.weight"
    assert torch.equal(net.caption.encoder.state_dict()[word], reader[word])
    assert torch.equal(net.tag_names[7], net.caption.embed(["sound 7"])[0])


def test_a_tower_without_weights_is_warned_of(bare, small):
    with pytest.warns(UserWarning, match=r"yamnet has no model\.safetensors: .* random weights"):
        pretrained(bare, **small)


@pytest.mark.filterwarnings("ignore:.*random weights")
def test_a_start_of_other_settings_is_refused_by_their_names(bare, small, tmp_path):
    pretrained(bare, **small).save_pretrained(tmp_path / "saved")
    wider = pretrained(bare, **small, dim=16)
    with pytest.raises(ValueError, match=r"its settings differ in {'dim': \(8, 16\)}"):
        init.start_from(wider, tmp_path / "saved")


@pytest.mark.filterwarnings("ignore:.*random weights")
def test_a_start_from_other_initial_numbers_is_refused(bare, small, tmp_path):
    pretrained(bare, **small).save_pretrained(tmp_path / "saved")
    rarer = pretrained(bare, **small | {"bias_init": -8.0})
    with pytest.raises(ValueError, match=r"would be taken over: {'bias_init': \(.*, -8.0\)}"):
        init.start_from(rarer, tmp_path / "saved")


@pytest.mark.filterwarnings("ignore:.*random weights")
def test_a_start_of_another_caption_tower_is_refused_by_its_tensors(bare, small, tmp_path):
    """Its width is no setting of the model, and so the settings are the same."""
    tiny.write_text_tower(tmp_path / "tiny_text", width=24)
    pretrained(tmp_path, **small).save_pretrained(tmp_path / "saved")
    with pytest.raises(
        ValueError, match=r"of the same settings: \d+ differ .* such as {'bias_head.*\[16\]"
    ):
        init.start_from(pretrained(bare, **small), tmp_path / "saved")


@pytest.mark.filterwarnings("ignore:.*random weights")
def test_mga_clap_begins_with_the_pretrained_towers_where_others_begin_with_a_flam(
    bare, small, tmp_path, capsys
):
    pretrained(bare, **small).save_pretrained(tmp_path / "saved")
    net = init.pretrained(bare, tiny.config(network=small).network, tiny.config().codebook)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    init.start_from(net, tmp_path / "saved")
    assert "is a FLAM, from which MGA-CLAP cannot start" in capsys.readouterr().out
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_what_has_no_rate_or_no_loss_does_not_learn(weights):
    net = pretrained(weights)
    init.freeze(net, FROZEN_CAPTIONS, LossWeights(**GLOBAL))
    learning = {n.split(".")[0] for n, p in net.named_parameters() if p.requires_grad}
    assert learning == {"audio", "audio_projection", "caption_projection", "log_temperature"}


@pytest.mark.parametrize(("weights", "learns"), [({"frame": 1.0}, False), ({"clip": 1.0}, True)])
def test_a_projection_of_clips_alone_learns_where_clips_are_compared(bare, small, weights, learns):
    with pytest.warns(UserWarning, match="random weights"):
        net = pretrained(bare, **small, clip_projection="own")
    init.freeze(net, FROZEN_CAPTIONS, LossWeights(**weights))
    assert {p.requires_grad for p in net.clip_projection.parameters()} == {learns}


def test_every_learning_parameter_is_in_one_group(weights):
    """New branches of a tower learn as fast as the heads."""
    net = pretrained(weights)
    init.freeze(net, FROZEN_CAPTIONS, LossWeights(**FLAM_WEIGHTS))
    groups = init.parameter_groups(net, FROZEN_CAPTIONS)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rate) == sum(len(group["params"]) for group in groups)
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            assert id(parameter) not in rate
        else:
            pretrained_part = name.startswith("audio.layers.")
            assert rate[id(parameter)] == (1e-4 if pretrained_part else 1e-3), name
    assert not any(p.requires_grad for p in net.audio.layers.parameters()), "with tags"


def test_only_towers_that_learn_are_computed_twice(weights):
    net = pretrained(weights).train()
    init.freeze(net, FROZEN_CAPTIONS, LossWeights(**FLAM_WEIGHTS))
    init.adapt(net, torch.device("cpu"), tiny.config(checkpointing=True).train)
    assert not net.audio.keeps_activations
    assert not net.caption.encoder.is_activation_checkpointing
    other = pretrained(weights)
    init.adapt(other, torch.device("cpu"), tiny.config(checkpointing=True).train)
    assert other.caption.encoder.is_activation_checkpointing


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.timeout(600)  # for the compiler: half a minute on a busy machine
@pytest.mark.filterwarnings("ignore:.*random weights")
def test_a_compiled_tower_computes_the_same(bare, small):
    """Through the compiler that is used in training; test_fit.py holds that both learn the same."""
    net = pretrained(bare, **small).train()
    init.freeze(net, FROZEN_CAPTIONS, LossWeights(**FLAM_WEIGHTS))  # one tower is enough
    log_mel = torch.randn(2, 128, 64, generator=torch.Generator().manual_seed(0))

    def features_and_gradients():
        net.zero_grad()
        features = net.audio(log_mel)
        features.square().mean().backward()
        return [features.detach(), *(p.grad for p in net.audio.parameters())]

    expected = features_and_gradients()
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    init.adapt(net, torch.device("cpu"), tiny.config(compile=True).train)
    with fresh_cache():  # kernels of another CPU, or of other settings of oneDNN, do not fit
        found = features_and_gradients()
    assert torch._dynamo.utils.counters["inductor"]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*random weights")
def test_normalisation_over_all_processes_has_the_same_weights(weights):
    net = pretrained(weights, audio=HTSAT).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    waveform = 0.1 * torch.randn(2, 480_000, generator=torch.Generator().manual_seed(0))
    expected = net.encode_audio(waveform).clip_emb
    device = torch.device("cuda")  # where it would run; nothing is moved there
    net.load_state_dict(before)
    init.adapt(net, device, tiny.config(sync_batch_norm=True).train)
    assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in net.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.state_dict().keys() == before.keys()
    torch.testing.assert_close(
        net.encode_audio(waveform).clip_emb, expected
    )  # one process is all of them


def test_normalisation_that_cannot_be_shared_is_refused(weights):
    net = pretrained(weights)
    synchronised = tiny.config(sync_batch_norm=True).train
    with pytest.raises(ValueError, match="torch cannot do so on a CPU"):
        init.adapt(net, torch.device("cpu"), synchronised)
    with pytest.raises(ValueError, match="no layer of this network normalises by the batch"):
        init.adapt(net, torch.device("cuda"), synchronised)


def test_a_model_takes_over_all_weights_of_another(weights, tmp_path):
    torch.manual_seed(1)
    other = pretrained(weights)
    other.save_pretrained(tmp_path / "saved")
    torch.manual_seed(2)
    net = pretrained(weights)
    assert not torch.equal(net.scale_head.layers[0].weight, other.scale_head.layers[0].weight)
    init.start_from(net, tmp_path / "saved")
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in other.state_dict().items())
    assert isinstance(net, FLAM)
