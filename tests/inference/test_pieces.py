import numpy as np
import pytest
import soundfile
import torch
from heldouts import write_model
from sounds import RATE, noise

from flamlib.inference import pieces
from flamlib.models.flam import FLAM
from flamlib.waveforms import audio


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    write_model(folder)
    return FLAM.from_pretrained(folder)


@pytest.mark.parametrize("n_frames", [4, 7, 1000])
@pytest.mark.parametrize("seconds", [0.05, 6.4, 9.0])
@pytest.mark.parametrize("rate", [RATE, 22050])
def test_a_recording_in_pieces_has_the_embeddings_of_the_whole(
    model, tmp_path, monkeypatch, n_frames, seconds, rate
):
    monkeypatch.setattr(pieces, "READ_FRAMES", n_frames)
    waveform = noise(seconds)
    soundfile.write(tmp_path / "a.wav", waveform, rate, subtype="FLOAT")
    heard, _ = audio.read(tmp_path / "a.wav")
    whole = model.embed_audio(heard[None], rate)
    with pieces.cut(tmp_path / "a.wav", model) as opened:
        found = model.embed_pieces(opened.pieces, opened.sample_rate)
    assert opened.duration_s == pytest.approx(len(heard) / rate)
    np.testing.assert_allclose(found.clip_emb, whole.clip_emb, atol=1e-5)
    np.testing.assert_allclose(found.frame_emb, whole.frame_emb, atol=1e-5)
    with pieces.cut(tmp_path / "a.wav", model) as opened:
        frames = torch.cat([piece.frame_emb for piece in pieces.embed(model, opened)], dim=1)
    np.testing.assert_allclose(frames, whole.frame_emb[:, : frames.shape[1]], atol=1e-5)


def test_of_a_long_recording_no_more_than_a_piece_is_read_at_once(model, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", noise(20.0), RATE)
    read, lengths = audio.Recording.read, []

    def spy(self, start_s=0.0, stop_s=None):
        part = read(self, start_s, stop_s)
        lengths.append(len(part) / RATE)
        return part

    monkeypatch.setattr(audio.Recording, "read", spy)
    monkeypatch.setattr(pieces, "READ_FRAMES", 6)
    with pieces.cut(tmp_path / "a.wav", model) as opened:
        model.embed_pieces(opened.pieces, opened.sample_rate)
    assert sum(lengths) > 20
    assert max(lengths) <= (6 + 2 * model.context_frames) * model.frame_s + 1 / RATE


def test_samples_that_are_no_recording_are_refused(model):
    nothing = np.zeros(0, np.float32), RATE
    with pytest.raises(ValueError, match="not empty"), pieces.cut(nothing, model):
        pass


def test_notes_are_collected_or_warned_of(model, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(2.0), RATE)
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[: len(whole) // 2])
    notes = []
    with pieces.cut(tmp_path / "a.wav", model, notes=notes) as opened:
        assert sum(len(piece.waveform) for piece in opened.pieces) > 0
    assert len(notes) == 1
    with (
        pytest.warns(audio.Repaired, match=r"a\.wav"),
        pieces.cut(tmp_path / "a.wav", model) as opened,
    ):
        list(opened.pieces)


@pytest.mark.parametrize(("level", "says"), [(0.0, True), (0.3, True), (None, False)])
def test_a_file_without_any_sound_is_noted(model, tmp_path, monkeypatch, level, says):
    monkeypatch.setattr(pieces, "READ_FRAMES", 7)
    waveform = np.zeros(5 * RATE, np.float32)
    waveform[:] = level or 0.0
    if level is None:
        waveform[-1] = 0.5
    soundfile.write(tmp_path / "a.wav", waveform, RATE)
    notes = []
    with pieces.cut(tmp_path / "a.wav", model, notes=notes) as opened:
        list(pieces.embed(model, opened))
    assert notes == [pieces.SILENT] * says


def test_pieces_in_one_have_all_frames(model, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "READ_FRAMES", 7)
    soundfile.write(tmp_path / "a.wav", noise(9.0), RATE)
    with pieces.cut(tmp_path / "a.wav", model) as opened:
        frames = [piece.frame_emb for piece in pieces.embed(model, opened)]
    with pieces.cut(tmp_path / "a.wav", model) as opened:
        whole = pieces.embed_whole(model, opened)
    assert len(frames) > 2
    assert torch.equal(whole.frame_emb, torch.cat(frames, dim=1))


def test_the_width_is_that_of_audio_and_captions(model):
    assert pieces.width(model) == model.embed_captions(["rain"]).caption_emb.shape[1]
