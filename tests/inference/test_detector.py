import numpy as np
import own_thresholds
import pytest
import soundfile
import torch
from heldouts import write_model
from hypothesis import given
from hypothesis import strategies as st
from label_files import DOG, KINDS, RAIN, write
from recordings import encode
from sounds import RATE, noise, tone
from towers import HTSAT, SETTINGS, write_roberta

from flamlib.experiment.params.trials import DetectConfig
from flamlib.inference import detector, pieces
from flamlib.models.caption_thresholds import Chosen
from flamlib.models.flam import FLAM
from flamlib.sound_events import detection
from flamlib.sound_events.events import Event, write_events
from flamlib.sound_events.smoothing import Smoothing, median_filter
from flamlib.waveforms import audio

CAPTIONS = ["a dog barks", "a bell rings"]
PLAIN = {"method": "unbiased", "smoothing": Smoothing()}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector") / "model"
    write_model(folder)
    return FLAM.from_pretrained(folder)


@pytest.fixture(scope="module")
def waveform():
    sounds = [noise(2.0), tone(300, 1.5), tone(2000, 2.3), noise(1.47, 0.4, seed=1)]
    return np.concatenate(sounds).astype(np.float32)


@pytest.mark.parametrize("piece_frames", [1, 7, 23, 1000])
def test_where_a_recording_is_cut_changes_nothing(model, waveform, monkeypatch, piece_frames):
    whole = model.score(waveform, RATE, CAPTIONS)[0].numpy().T
    monkeypatch.setattr(pieces, "READ_FRAMES", piece_frames)
    heard = detector.score(model, (waveform, RATE), CAPTIONS, **PLAIN)
    assert heard.scores == pytest.approx(whole, abs=1e-5)
    assert heard.captions == CAPTIONS


@pytest.mark.parametrize(("rate", "n_over"), [(44_100, 1), (48_000, 1), (96_000, 2), (192_000, 5)])
@pytest.mark.parametrize("n_frames", [1, 7, 8])
def test_a_last_frame_of_less_than_a_sample_of_the_model_is_one(
    model, monkeypatch, rate, n_over, n_frames
):
    """As many samples over whole frames as resampling may leave nothing of."""
    monkeypatch.setattr(pieces, "READ_FRAMES", 7)
    n_samples = round(n_frames * model.frame_s * rate) + n_over
    waveform = noise(3.0, rate=rate)[:n_samples].astype(np.float32)
    found = detector.score(model, (waveform, rate), CAPTIONS, **PLAIN)
    assert len(found.scores) == len(found.frame_edges) - 1 == n_frames + 1
    [event, _] = detector.events(found, threshold=0.0, min_duration_s=0.0, merge_gap_s=0.0)
    assert event.offset == len(waveform) / rate


def test_a_few_milliseconds_after_a_piece_are_heard_with_it(monkeypatch, tmp_path):
    """Where a tower has windows, too: the same scores, whether the cut is there or not."""
    roberta = write_roberta(tmp_path / "roberta")
    towers = {"audio": HTSAT, "caption": {"pooling": "pooler"}}
    net = FLAM(roberta, **SETTINGS | towers).eval()
    recording = noise(20.01, rate=48_000).astype(np.float32), 48_000
    whole = detector.score(net, recording, CAPTIONS, **PLAIN)
    monkeypatch.setattr(pieces, "READ_FRAMES", 32)
    cut = detector.score(net, recording, CAPTIONS, **PLAIN)
    assert len(whole.scores) == 65
    assert cut.scores == pytest.approx(whole.scores, abs=1e-5)
    assert (cut.scores[64] == cut.scores[63]).all()
    assert cut.frame_edges[-1] == pytest.approx(20.01)


@pytest.mark.parametrize("name", ["mono.wav", "mono.flac"])
def test_a_file_is_heard_as_its_samples_are(model, waveform, monkeypatch, tmp_path, name):
    monkeypatch.setattr(pieces, "READ_FRAMES", 9)
    integers = np.round(waveform * 32767).astype(np.int16)
    soundfile.write(tmp_path / name, integers, RATE)
    samples = (integers / np.float32(32768)).astype(np.float32)
    from_file = detector.score(model, tmp_path / name, CAPTIONS, **PLAIN)
    from_samples = detector.score(model, (samples, RATE), CAPTIONS, **PLAIN)
    assert from_file.scores == pytest.approx(from_samples.scores, abs=1e-5)
    assert from_file.frame_edges.tolist() == from_samples.frame_edges.tolist()


@pytest.mark.parametrize("rate", [8000, 11127, 44100, 48000])
def test_any_rate_will_do(model, monkeypatch, tmp_path, rate):
    """Cutting does not matter either: a piece is resampled with what is around it."""
    stereo = np.stack([tone(300, 4.1, rate=rate), tone(900, 4.1, rate=rate)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", stereo, rate)
    whole = detector.score(model, tmp_path / "stereo.wav", CAPTIONS, **PLAIN)
    monkeypatch.setattr(pieces, "READ_FRAMES", 4)
    cut = detector.score(model, tmp_path / "stereo.wav", CAPTIONS, **PLAIN)
    assert cut.scores == pytest.approx(whole.scores, abs=1e-3)
    assert whole.frame_edges[-1] == pytest.approx(len(stereo) / rate)
    assert len(whole.scores) == 13


@given(n_samples=st.integers(1, 3 * 5120), rate=st.sampled_from([RATE, 22050, 44100]))
def test_the_frames_cover_the_recording_and_no_more(model, n_samples, rate):
    waveform = np.linspace(-0.1, 0.1, n_samples, dtype=np.float32)
    heard = detector.score(model, (waveform, rate), ["a tone"], **PLAIN)
    assert len(heard.frame_edges) == len(heard.scores) + 1
    assert (np.diff(heard.frame_edges) > 0).all()
    assert heard.frame_edges[0] == 0
    assert heard.frame_edges[-1] == pytest.approx(n_samples / rate, abs=1 / RATE)
    assert np.isfinite(heard.scores).all()


def test_captions_are_encoded_once_and_score_the_same_in_every_block(model, waveform, monkeypatch):
    """Bit by bit what each block scores when captions are encoded with it."""
    monkeypatch.setattr(pieces, "READ_FRAMES", 7)
    n_block, context = 7 * 5120, model.context_frames * 5120
    blocks = []
    for first in range(0, len(waveform), n_block):
        begin = max(0, first - context)
        alone = model.score(waveform[begin : first + n_block + context], RATE, CAPTIONS)[0]
        blocks.append(alone[:, (first - begin) // 5120 :][:, :7])
    texts, embed = [], model.caption.embed
    monkeypatch.setattr(model.caption, "embed", lambda batch: texts.append(batch) or embed(batch))
    found = detector.score(model, (waveform, RATE), CAPTIONS, **PLAIN)
    assert texts == [CAPTIONS]
    assert len(blocks) > 2
    assert (found.scores == torch.cat(blocks, dim=1).numpy().T).all()


def test_scores_are_smoothed_over_time(model, waveform):
    raw = detector.score(model, (waveform, RATE), CAPTIONS, **PLAIN)
    smooth = detector.score(
        model, (waveform, RATE), CAPTIONS, method="unbiased", smoothing=Smoothing(5)
    )
    assert (smooth.scores == median_filter(raw.scores.T, 5).T).all()


def test_what_is_detected_are_the_runs_above_the_threshold(model, waveform):
    heard = detector.score(model, (waveform, RATE), CAPTIONS, **PLAIN)
    threshold = float(np.median(heard.scores[:, 0]))
    found = detector.detect(
        model, (waveform, RATE), CAPTIONS, **PLAIN,
        threshold=threshold, min_duration_s=0.0, merge_gap_s=0.0,
    )  # fmt: skip
    middles = (heard.frame_edges[1:] + heard.frame_edges[:-1]) / 2
    for caption, scores in zip(CAPTIONS, heard.scores.T, strict=True):
        spans = [(f.onset, f.offset) for f in found if f.caption == caption]
        inside = [any(a < middle < b for a, b in spans) for middle in middles]
        assert inside == (scores >= threshold).tolist()


@pytest.mark.parametrize("seconds", [(3, 57), (57, 3)])
def test_all_of_an_mp3_that_does_not_say_its_length_is_heard(model, tmp_path, seconds):
    """libsndfile takes loud beginnings for too short, quiet ones for too long."""
    loud, quiet = (level * noise(s) for level, s in zip((1, 0.01), sorted(seconds), strict=True))
    waveform = np.concatenate([loud, quiet] if seconds[0] < seconds[1] else [quiet, loud])
    encode(tmp_path / "a.mp3", waveform, RATE, "libmp3lame", quality=4, write_xing="0")
    assert soundfile.info(tmp_path / "a.mp3").duration != pytest.approx(60, abs=5)
    heard = detector.score(model, tmp_path / "a.mp3", CAPTIONS, **PLAIN)
    assert heard.frame_edges[-1] == pytest.approx(60, abs=0.2)
    samples, rate = audio.read(tmp_path / "a.mp3")
    assert heard.frame_edges[-1] == len(samples) / rate


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "a.m4a", "a.opus"])
def test_pieces_of_a_lossy_file_score_as_the_whole(model, monkeypatch, tmp_path, name):
    waveform = np.concatenate([noise(3.0), tone(300, 2.0), noise(3.0, 0.3, seed=1)])
    codec = {"a.mp3": "libmp3lame", "a.m4a": "aac", "a.opus": "libopus"}.get(name)
    if codec is None:
        soundfile.write(tmp_path / name, waveform, RATE)
    else:
        encode(tmp_path / name, waveform, 48000, codec)
    whole = detector.score(model, audio.read(tmp_path / name), CAPTIONS, **PLAIN)
    monkeypatch.setattr(pieces, "READ_FRAMES", 5)
    cut = detector.score(model, tmp_path / name, CAPTIONS, **PLAIN)
    assert cut.frame_edges.tolist() == whole.frame_edges.tolist()
    assert cut.scores == pytest.approx(whole.scores, abs=1e-3)


def test_what_is_no_recording_is_refused(model, tmp_path):
    (tmp_path / "notes.txt").write_text("not audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    for name in ("notes.txt", "empty.wav", "missing.wav"):
        with pytest.raises(audio.Unreadable, match=name):
            detector.score(model, tmp_path / name, CAPTIONS, **PLAIN)
    with pytest.raises(ValueError, match="not empty"):
        detector.score(model, (np.zeros(0, np.float32), RATE), CAPTIONS, **PLAIN)


def test_a_caption_is_asked_once(model, waveform):
    with pytest.raises(ValueError, match="twice"):
        detector.score(model, (waveform, RATE), ["a tone", "a tone"], **PLAIN)


@pytest.mark.parametrize(
    "other", ["A Bell", "a\u00a0bell ", "a\u2028bell", "\uff41 bell", "a be\u200bll"]
)
def test_captions_that_read_the_same_are_one_asked_twice(model, waveform, other):
    with pytest.raises(ValueError, match=r"given twice: 'a bell' and '.*ell'"):
        detector.score(
            model,
            (waveform, 16000),
            ["rain", "a bell", other],
            method="unbiased",
            smoothing=Smoothing(1),
        )


def test_a_caption_is_shown_on_one_line_and_composed(model, waveform):
    found = detector.score(
        model,
        (waveform, 16000),
        [" a cafe\u0301\n is busy "],
        method="unbiased",
        smoothing=Smoothing(1),
    )
    assert found.captions == ["a caf\u00e9 is busy"]


def test_the_ground_truth_is_found_and_spelled_as_what_is_asked_for(tmp_path):
    recording = tmp_path / "cafe\u0301.flac"
    truth = {"caf\u00e9.flac": [Event(1.0, 2.0, "Rain"), Event(3.0, 4.0, "a bell")]}
    write_events(tmp_path / "events.tsv", truth)
    captions, events = detector.select_captions(recording, ["rain", "a wind"], n_absent=1)
    assert captions == ["rain", "a wind"]
    assert [event.caption for event in events] == ["rain", "a bell"]


def test_a_mixture_is_asked_for_what_sounds_in_it_and_for_some_that_does_not(tmp_path):
    rain, bell, tone = (Event(1.0, 2.0, caption) for caption in ("rain", "a bell", "a tone"))
    write_events(tmp_path / "events.tsv", {"a.flac": [rain, bell, rain], "b.flac": [tone, bell]})
    ask = detector.select_captions
    assert ask(tmp_path / "a.flac", [], n_absent=0) == (["rain", "a bell"], [rain, bell, rain])
    assert ask(tmp_path / "b.flac", [], n_absent=5)[0] == ["a tone", "a bell", "rain"]
    # Who asks for something gets that and no more, compared with what is known.
    assert ask(tmp_path / "b.flac", ["a dog"], n_absent=5) == (["a dog"], [tone, bell])


def test_a_clip_known_to_be_silent_is_asked_for_what_sounds_elsewhere(tmp_path):
    write_events(tmp_path / "events.tsv", {"a.flac": [Event(1.0, 2.0, "rain")], "quiet.flac": []})
    assert detector.select_captions(tmp_path / "quiet.flac", [], n_absent=2) == (["rain"], [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_file_beside_the_recording_is_its_ground_truth(tmp_path, kind):
    suffix, text = KINDS[kind]
    soundfile.write(tmp_path / "a.wav", np.zeros(2 * RATE), RATE)
    write(tmp_path / f"a{suffix}", text(DOG, RAIN, Event(1.0, 1.0, "a click")))
    with pytest.warns(UserWarning, match=rf"a{suffix}: events changed: .*1 zero_length"):
        asked, truth = detector.select_captions(tmp_path / "a.wav", [], n_absent=2)
    assert (asked, truth) == ([DOG.caption, RAIN.caption], [DOG, RAIN._replace(offset=2.0)])


def test_what_was_detected_is_no_ground_truth(tmp_path):
    soundfile.write(tmp_path / "mine.wav", np.zeros(RATE), RATE)
    found = [detection.Detection(0.0, 1.0, "rain", 0.9)]
    for name in ("mine.tsv", "events.tsv"):
        detection.write_detections(tmp_path / name, found, filename="mine.wav")
        ask = detector.select_captions
        assert ask(tmp_path / "mine.wav", ["rain"], n_absent=2) == (["rain"], None)


def test_an_unknown_recording_needs_captions(tmp_path):
    assert detector.select_captions(tmp_path / "mine.wav", ["rain"], n_absent=2) == (["rain"], None)
    with pytest.raises(ValueError, match=r"mine.wav: captions are needed"):
        detector.select_captions(tmp_path / "mine.wav", [], n_absent=2)


@pytest.mark.parametrize(
    ("start_s", "stop_s", "frames"), [(0.0, 3.0, (0, 3)), (0.5, 1.5, (0, 2)), (1.0, 2.0, (1, 2))]
)
def test_an_excerpt_has_the_frames_that_meet_it_and_their_times(start_s, stop_s, frames):
    scores = detector.Scores(np.arange(3.0)[:, None], np.arange(4.0), ["rain"])
    near = detector.excerpt(scores, start_s, stop_s)
    first, last = frames
    assert near.scores[:, 0].tolist() == list(range(first, last))
    assert near.frame_edges.tolist() == list(range(first, last + 1))


def test_a_model_has_thresholds_of_its_own(model, waveform, monkeypatch):
    """For the kind of scores that they are of; else, and without any, there is one default."""
    chosen = [Chosen(CAPTIONS[0], 0.0, True, 12), Chosen(CAPTIONS[1], 1.0, False, 0)]
    own = own_thresholds.made(
        {CAPTIONS[0]: (0.0, 12)}, median_frames=1, hysteresis=0.0, fallback=1.0, novel=1.0
    )
    default = [Chosen(caption, 0.9, False, 0) for caption in CAPTIONS]
    assert detector.choose_thresholds(model, CAPTIONS, **PLAIN) == default
    usual = Smoothing(DetectConfig.median_frames, DetectConfig.hysteresis)
    assert detector.smoothing_of(model) == usual
    monkeypatch.setattr(model, "thresholds", own)
    assert detector.smoothing_of(model) == PLAIN["smoothing"]
    assert detector.choose_thresholds(model, CAPTIONS, **PLAIN) == chosen
    assert detector.choose_thresholds(model, detector.ask(model, CAPTIONS), **PLAIN) == chosen
    for other in ({"method": "biased"}, {"smoothing": Smoothing(3)}):
        assert detector.choose_thresholds(model, CAPTIONS, **PLAIN | other) == default
    found = detector.detect(model, (waveform, RATE), CAPTIONS, **PLAIN)
    assert [event.caption for event in found] == CAPTIONS[:1]
    assert detector.detect(model, (waveform, RATE), CAPTIONS, **PLAIN, threshold=1.0) == []
