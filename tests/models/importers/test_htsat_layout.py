import librosa
import pytest
import torch
from openflam_layout import random_state
from torch.testing import assert_close

from flamlib.models import htsat
from flamlib.models.htsat import HTSAT, LogMel
from flamlib.models.importers import htsat_layout

TEXT = {"words": 9, "width": 64, "layers": 1, "inner": 8, "positions": 9}


@pytest.fixture(scope="module")
def original():
    state = random_state(embed=8, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4), text=TEXT, dim=4)
    prefix = "audio_branch."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


@pytest.fixture(scope="module")
def tower(original):
    return HTSAT(**htsat_layout.settings(original, sample_rate=48_000))


def test_the_settings_are_read_off_the_tensors(original):
    settings = htsat_layout.settings(original, sample_rate=32_000)
    assert settings["embed"] == 8
    assert settings["depths"] == [1, 2, 1, 1]
    assert settings["heads"] == [1, 2, 2, 4]
    assert (settings["patch"], settings["sample_rate"]) == (4, 32_000)


def test_every_tensor_of_the_encoder_gets_its_own(original, tower):
    found = htsat_layout.encoder_tensors(original, tower)
    expected = tower.encoder.state_dict()
    assert found.keys() == expected.keys()
    assert {k: t.shape for k, t in found.items()} == {k: t.shape for k, t in expected.items()}


def test_query_key_and_value_are_the_thirds_in_this_order(original, tower):
    found = htsat_layout.encoder_tensors(original, tower)
    joint = original["layers.1.blocks.1.attn.qkv.weight"]
    name = "audio_encoder.layers.1.blocks.1.attention.self"
    for part, begin in (("query", 0), ("key", 16), ("value", 32)):
        assert torch.equal(found[f"{name}.{part}.weight"], joint[begin : begin + 16])


@pytest.mark.parametrize("sample_rate", [48_000, 32_000, 16_000])
def test_the_sample_rate_is_known_by_the_mel_filters(sample_rate):
    filters = LogMel(sample_rate).mel.mel_scale.fb
    assert htsat_layout.sample_rate({"logmel_extractor.melW": filters}) == sample_rate


def test_other_mel_filters_are_refused():
    with pytest.raises(ValueError, match="is missing: the sample rate is found by it"):
        htsat_layout.sample_rate({})
    with pytest.raises(ValueError, match="does not match the mel filters of"):
        htsat_layout.sample_rate({"logmel_extractor.melW": torch.zeros(513, 64)})


@pytest.mark.parametrize(
    "name",
    [
        "spectrogram_extractor.stft.conv_real.weight",
        "spectrogram_extractor.stft.conv_imag.weight",
        "logmel_extractor.melW",
        "layers.1.blocks.1.attn_mask",
    ],
)
def test_a_constant_that_is_another_is_named(original, tower, name):
    changed = original | {name: 1.01 * original[name] + 0.001}
    with pytest.raises(ValueError, match=rf"{name} differs from the constant"):
        htsat_layout.encoder_tensors(changed, tower)


def test_what_is_no_encoder_is_said_to_be_none(original):
    with pytest.raises(ValueError, match=r"not an HTS-AT: tensor patch_embed.proj.weight is"):
        htsat_layout.settings({}, sample_rate=48_000)
    partial = {k: v for k, v in original.items() if "bias_table" not in k}
    with pytest.raises(ValueError, match=r"not an HTS-AT: tensor layers.0.blocks.0.attn.relative"):
        htsat_layout.settings(partial, sample_rate=48_000)


def test_an_unknown_name_stays_as_it_is(original, tower):
    found = htsat_layout.encoder_tensors(original | {"new.bias": torch.ones(1)}, tower)
    assert_close(found["audio_encoder.new.bias"], torch.ones(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sample_rate", [48_000, 32_000, 16_000])
def test_constants_are_compared_at_the_files_own_precision(dtype, sample_rate):
    """librosa's filters, which differ from torchaudio's in the last digits, before rounding."""
    n_fft, low_hz, high_hz = htsat.FRONT_ENDS[sample_rate]
    filters = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=64, fmin=low_hz, fmax=high_hz)
    half = torch.from_numpy(filters.T).to(dtype)
    assert htsat_layout.sample_rate({"logmel_extractor.melW": half}) == sample_rate


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_encoder_of_half_precision_is_one(original, tower, dtype):
    half = {n: t.to(dtype) if t.is_floating_point() else t for n, t in original.items()}
    found = htsat_layout.encoder_tensors(half, tower)
    assert found.keys() == tower.encoder.state_dict().keys()
    name = "spectrogram_extractor.stft.conv_real.weight"
    for wrong in (half[name].roll(1), 1.02 * half[name], half[name].to(torch.int8)):
        with pytest.raises(ValueError, match="another front end"):
            htsat_layout.encoder_tensors(half | {name: wrong}, tower)
