"""What a rehearsal starts from, made up: collections to train on, models in published layouts."""

import numpy as np
import soundfile
import torch
from collection_files import write_json, write_rows
from set_files import write_text
from towers import write_roberta
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizer,
)

from flamlib.experiment.parameters import plain
from flamlib.experiment.params.network import HtsatConfig
from flamlib.models.htsat import HTSAT
from flamlib.models.importers import clap

RATE = 16_000
# Of AudioSet, with the classes above: what a clip is, its broader captions.
CLASSES = {
    "Bark": "Dog,Animal",
    "Meow": "Cat,Animal",
    "Siren": "Alarm",
    "Bicycle_bell": "Alarm",
    "Applause": "Hands",
    "Knock": "Door",
    "Rain": "Water",
    "Acoustic_guitar": "Guitar,Music",
}
EFFECTS = {  # of a sound library: CatID and FX name
    "METLImpt": "Pot Lid Drop",
    "DOORWood": "Wooden Door Creak",
    "GLASBrk": "Window Glass Break",
    "WATRSplsh": "Small Water Splash",
}
PLACES = ("A busy street", "Wind in a forest", "An empty hall", "Waves on a beach", "A train ride")


def write_sound(path, seconds, seed):
    """A chord that beats, over noise: no two seeds sound alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    chord = sum(np.sin(2 * np.pi * hz * t) for hz in rng.uniform(150, 6000, 4))
    beat = 1 + np.sin(2 * np.pi * rng.uniform(1, 6) * t)
    samples = 0.05 * chord * beat + rng.normal(0, 0.01, len(t))
    soundfile.write(path, samples.astype(np.float32), RATE)


def fsd50k(root):
    """Four clips of each class: two to train on, one for validation, one for the test."""
    dev, evaluation, infos = [], [], {}
    for i, (name, above) in enumerate(CLASSES.items()):
        labels = f"{name},{above}"
        mids = ",".join(f"/m/{label}" for label in labels.split(","))
        for j, split in enumerate(("train", "train", "val", "test")):
            number = str(990_000 + 10 * i + j)
            infos[number] = {
                "title": f"{name} {j}.wav",
                "description": "",
                "tags": [name.lower()],
                "license": "http://creativecommons.org/publicdomain/zero/1.0/",
                "uploader": "nobody",
            }
            row = (number, labels, mids)
            folder = "eval" if split == "test" else "dev"
            (evaluation if split == "test" else dev).append(
                row if split == "test" else (*row, split)
            )
            write_sound(root / f"FSD50K.{folder}_audio/{number}.wav", 1.0 + 0.3 * j, 10 * i + j)
    truth = root / "FSD50K.ground_truth"
    write_rows(truth / "dev.csv", [("fname", "labels", "mids", "split"), *dev])
    write_rows(truth / "eval.csv", [("fname", "labels", "mids"), *evaluation])
    for name, rows in (("dev", dev), ("eval", evaluation)):
        of_rows = {row[0]: infos[row[0]] for row in rows}
        write_json(root / f"FSD50K.metadata/{name}_clips_info_FSD50K.json", of_rows)


def clotho_development(root):
    """Long recordings, which become backgrounds; beside the evaluation set, if that is there."""
    header = ["file_name", *(f"caption_{i}" for i in range(1, 6))]
    rows = [[f"{place}.wav", *[f"{place}."] * 5] for place in PLACES]
    write_rows(root / "clotho_captions_development.csv", [header, *rows])
    columns = "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license"
    about = [f'{place}.wav,x,{980_000 + i},,"[0, 9]",nobody,CC0' for i, place in enumerate(PLACES)]
    write_text(root / "clotho_metadata_development.csv", columns, *about, encoding="latin-1")
    for i, place in enumerate(PLACES):
        write_sound(root / f"development/{place}.wav", 15.0, 500 + i)


def library(root):
    """A sound library, named by the Universal Category System: five effects of a kind."""
    for i, (category, name) in enumerate(EFFECTS.items()):
        for j, kind in enumerate(("Near", "Far", "Hard", "Soft", "Old")):
            write_sound(
                root / f"{category}_{kind} {name}_NB_Attic.wav", 1.0 + 0.2 * j, 300 + 10 * i + j
            )


def write_clap(folder, audio, dim):
    """A CLAP that has learnt nothing, as `transformers` publishes it, of HTS-AT's settings."""
    tokenizer = RobertaTokenizer.from_pretrained(write_roberta(folder, max_tokens=128))
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "projection_dim": dim,
    }
    heard = {
        "patch_embeds_hidden_size": audio.embed,
        "hidden_size": audio.embed * 2 ** (len(audio.depths) - 1),
        "depths": audio.depths,
        "num_attention_heads": audio.heads,
        "projection_dim": dim,
        "projection_hidden_size": dim,
    }
    torch.manual_seed(0)
    model = ClapModel(ClapConfig(text_config=text, audio_config=heard, projection_dim=dim))
    model.save_pretrained(folder)
    ClapFeatureExtractor(truncation="rand_trunc", frequency_min=50).save_pretrained(folder)


def write_htsat(folder, audio: HtsatConfig):
    """An HTS-AT that has learnt nothing, as `flam import-htsat` writes it."""
    settings = plain(audio)
    del settings["tower"]
    torch.manual_seed(0)
    clap.write_tower(folder, HTSAT(**settings))


def write_roberta_base(folder):
    """A RoBERTa that has learnt nothing, as roberta-base is published: a language model."""
    write_roberta(folder, width=32, max_tokens=128)
    torch.manual_seed(0)
    RobertaForMaskedLM(RobertaConfig.from_pretrained(folder)).save_pretrained(folder)
