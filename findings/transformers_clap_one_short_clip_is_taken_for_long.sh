#!/usr/bin/env bash
# transformers' fused CLAP embeds one clip of a batch of short ones by another way, drawn by chance.
#
# With `truncation="fusion"`, as `laion/clap-htsat-fused` has it, ClapFeatureExtractor marks clips of
# more than ten seconds (`is_longer`), and the model hears these through a branch that fuses four
# spectrograms. If a batch has no such clip, one of it is marked all the same, drawn from numpy's global
# random numbers. So of a folder of short sounds, such as those of ESC-50, one clip of each batch has
# another embedding than it would have beside a long one, another clip in the next call, and a clip
# alone always has. What is stored, ranked or classified of it changes from run to run. LAION's own code
# does so in training alone. No error and no warning. Set `is_longer` to False where nothing is longer,
# before the model is called.
#
# Seen with transformers 5.24.0, torch 2.13.0, on Python 3.11: four clips of two seconds, three calls
# after np.random.seed(0); embeddings of a small model with random weights, in evaluation mode. (How far
# those of published weights are apart was not seen.)
#     call 1: is_longer of clip 0, cosines to is_longer of none: 0.707 1.000 1.000 1.000
#     call 2: is_longer of clip 3, cosines to is_longer of none: 1.000 1.000 1.000 0.706
#     call 3: is_longer of clip 1, cosines to is_longer of none: 1.000 0.701 1.000 1.000
#     alone: is_longer of clip 0, cosine 0.707
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export HF_HUB_OFFLINE=1 HF_HOME="$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    transformers==5.24.0 torch==2.13.0 numpy==2.3.5
cat > try.py <<'PYTHON'
import numpy as np
import torch
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
)

RATE = 48000
audio = ClapAudioConfig(
    enable_fusion=True,
    patch_embeds_hidden_size=16,
    hidden_size=128,
    depths=[1, 1, 1, 1],
    num_attention_heads=[1, 1, 2, 2],
)
text = ClapTextConfig(
    vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16
)
torch.manual_seed(0)
model = ClapModel(ClapConfig(audio_config=audio.to_dict(), text_config=text.to_dict())).eval()
extractor = ClapFeatureExtractor(truncation="fusion", padding="repeatpad")
clips = [0.1 * np.random.default_rng(seed).normal(size=2 * RATE) for seed in range(4)]


def embed(clips, longer=None):
    """Return which clips are marked, by the extractor or as `longer` says of all, and embeddings."""
    inputs = extractor(clips, sampling_rate=RATE, return_tensors="pt")
    if longer is not None:
        inputs["is_longer"] = torch.full_like(inputs["is_longer"], longer)
    with torch.inference_mode():
        found = model.get_audio_features(**inputs).pooler_output
    return inputs["is_longer"].flatten().tolist(), found


def cosines(found):
    return torch.nn.functional.cosine_similarity(found, plain[: len(found)], dim=-1).tolist()


_, plain = embed(clips, longer=False)
np.random.seed(0)
marked = set()
for call in (1, 2, 3):
    marks, found = embed(clips)
    [clip] = np.flatnonzero(marks)
    marked.add(clip)
    of = cosines(found)
    told = " ".join(f"{value:.3f}" for value in of)
    print(f"call {call}: is_longer of clip {clip}, cosines to is_longer of none: {told}")
    assert [value < 0.99 for value in of] == marks, (marks, of)
assert len(marked) > 1, "the same clip in all calls"
marks, found = embed(clips[:1])
print(f"alone: is_longer of clip 0, cosine {cosines(found)[0]:.3f}")
assert marks == [True] and cosines(found)[0] < 0.99, (marks, cosines(found))
_, found = embed(clips, longer=False)
assert (found == plain).all(), "not chance alone"
PYTHON
venv/bin/python -W ignore try.py
