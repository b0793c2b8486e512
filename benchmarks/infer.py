"""Ten minutes of audio against 50 captions: FLAM at the paper's size, and CLAP as its manual says.

    python benchmarks/infer.py [--quick] [--json]

Both are HTS-AT base and RoBERTa base with the same random weights. The plain way goes through
`ClapFeatureExtractor` and `ClapModel` in float32, ten seconds at a time, captions included each
time, and gives one score a clip; ours is `FLAM.score`, whose captions are read once, and gives 32.
Both are asked to agree on the clips before they are timed. Also: ours under bf16, and which share
of this machine's matrix-multiply peak our audio tower reaches in float32. On a GPU if there is one.
With --quick half a minute of audio, where reading the captions weighs more. Needs no data. Threads
are torch's own; OMP_NUM_THREADS=1 asks for one.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import ByteLevelBPETokenizer
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    RobertaTokenizer,
)

from flamlib.models.flam import FLAM
from flamlib.models.importers import clap

SAMPLE_RATE, CLIP_S, N_CAPTIONS = 48_000, 10, 50
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
THINGS = ("dog", "door", "bell", "engine", "crowd", "bird", "rain drop", "siren", "clock", "violin")
DOINGS = ("is heard far away", "sounds twice", "grows louder", "stops at once", "echoes in a hall")


def captions() -> list[str]:
    return [f"a {thing} {doing}" for thing in THINGS for doing in DOINGS][:N_CAPTIONS]


def pair() -> tuple[FLAM, ClapModel, RobertaTokenizer, ClapFeatureExtractor]:
    """Ours and theirs with the same weights, and what theirs is fed through."""
    torch.manual_seed(0)
    config = ClapConfig(
        text_config=ClapTextConfig().to_dict(),
        audio_config=ClapAudioConfig(
            patch_embeds_hidden_size=128,
            hidden_size=1024,
            depths=[2, 2, 12, 2],
            num_attention_heads=[4, 8, 16, 32],
        ).to_dict(),
    )
    theirs = ClapModel(config).eval()
    for name, parameter in theirs.named_parameters():  # as published, not all alike
        if "projection" in name and parameter.ndim == 2:
            torch.nn.init.xavier_normal_(parameter)
    extractor = ClapFeatureExtractor(truncation="rand_trunc", frequency_min=50)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        extractor.save_pretrained(folder)
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        trained = ByteLevelBPETokenizer()
        trained.train_from_iterator(captions() * 3, 1000, special_tokens=special)
        trained.save_model(folder)
        vocab, merges = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        tokenizer = RobertaTokenizer(vocab=str(vocab), merges=str(merges))
        tokenizer.save_pretrained(folder)
        ours = clap.read(folder)
    return ours, theirs, tokenizer, extractor


@torch.inference_mode()
def plain(theirs, tokenizer, extractor, waveform: np.ndarray, texts: list[str]) -> np.ndarray:
    """Cosines [clip, caption], the documented way."""
    found = []
    for start in range(0, len(waveform), CLIP_S * SAMPLE_RATE):
        clip = waveform[start : start + CLIP_S * SAMPLE_RATE]
        features = extractor(clip, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        tokens = tokenizer(texts, padding=True, return_tensors="pt").to(DEVICE)
        mel = features["input_features"].float().to(DEVICE)
        out = theirs(**tokens, input_features=mel)
        found.append((out.audio_embeds @ out.text_embeds.T)[0].numpy(force=True))
    return np.stack(found)


@torch.inference_mode()
def clip_cosines(ours: FLAM, waveform: np.ndarray, texts: list[str]) -> np.ndarray:
    clips = torch.from_numpy(waveform).reshape(-1, CLIP_S * SAMPLE_RATE)
    emb = ours.embed_audio(clips, SAMPLE_RATE).clip_emb
    return (emb @ ours.embed_captions(texts).caption_emb.T).numpy(force=True)


def seconds(run) -> float:
    start = time.perf_counter()
    run()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def matmul_peak() -> float:
    """The most float32 operations a second of three sizes, best of three each."""
    best = 0.0
    for n in (1024, 2048, 4096):
        a, b = torch.randn(n, n, device=DEVICE), torch.randn(n, n, device=DEVICE)
        best = max(best, *(2 * n**3 / seconds(lambda a=a, b=b: a @ b) for _ in range(3)))
    return best


@torch.inference_mode()
def share_of_peak(ours: FLAM) -> tuple[float, float]:
    """Operations of the audio tower's matrix products a second: share of the peak, and the peak."""
    log_mel = ours.audio.log_mel(torch.randn(4, CLIP_S * SAMPLE_RATE, device=DEVICE))
    with FlopCounterMode(display=False) as counter:
        ours.audio(log_mel)
    peak = matmul_peak()
    rate = max(counter.get_total_flops() / seconds(lambda: ours.audio(log_mel)) for _ in range(3))
    return rate / peak, peak


def measure(minutes: float) -> dict:
    ours, theirs, tokenizer, extractor = pair()
    ours, theirs, texts = ours.to(DEVICE), theirs.to(DEVICE), captions()
    rng = np.random.default_rng(0)
    waveform = (0.1 * rng.standard_normal(round(60 * minutes) * SAMPLE_RATE)).astype(np.float32)
    first = waveform[: CLIP_S * SAMPLE_RATE]
    difference = np.abs(
        plain(theirs, tokenizer, extractor, first, texts) - clip_cosines(ours, first, texts)
    ).max()
    assert difference < 1e-4, f"the two differ by {difference}"

    scores = []
    if DEVICE.type == "cuda":
        ours.score(waveform, SAMPLE_RATE, texts)
    cpu = [time.process_time()]
    peer_s = seconds(lambda: plain(theirs, tokenizer, extractor, waveform, texts))
    cpu.append(time.process_time())
    ours_s = seconds(lambda: scores.append(ours.score(waveform, SAMPLE_RATE, texts)))
    cpu.append(time.process_time())

    def low() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16):
            scores.append(ours.score(waveform, SAMPLE_RATE, texts))

    if DEVICE.type == "cuda":  # what libraries set up at their first call does not count
        low()
        scores.pop()
    bf16_s = seconds(low)
    share, peak = share_of_peak(ours)
    return {
        "ours": ours_s,
        "peer": peer_s,
        "ratio": peer_s / ours_s,
        "ratio_cpu_s": (cpu[1] - cpu[0]) / (cpu[2] - cpu[1]),  # where others share the cores
        "unit": f"s for {minutes:g} min of audio and {len(texts)} captions",
        "ours_bf16": bf16_s,
        "ratio_bf16": peer_s / bf16_s,
        "bf16_score_difference": (scores[0] - scores[1]).abs().max().item(),
        "difference": float(difference),
        "matmul_peak_gflops": peak / 1e9,
        "share_of_peak": share,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="half a minute of audio instead of ten"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    found = measure(minutes=0.5 if arguments.quick else 10)
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:24} {value:.4g}" if isinstance(value, float) else f"{name:24} {value}")
