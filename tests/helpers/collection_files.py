"""Collections in the layouts in which they are published, tiny and made up."""

import csv
import json

import soundfile
from set_files import write_audio, write_text


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def fsd50k(root):
    """A chain of classes, two classes at once, a broader class alone; a clip that is not there."""
    dev = [
        ("999001", "Bark,Dog,Animal", "/m/1,/m/2,/m/3", "train"),
        ("999002", "Walk_and_footsteps", "/m/4", "train"),
        ("999003", "Meow,Cat,Animal", "/m/5,/m/6,/m/3", "val"),
        ("999004", "Bark,Dog,Animal,Walk_and_footsteps", "/m/1,/m/2,/m/3,/m/4", "train"),
        ("999005", "Animal", "/m/3", "train"),
        ("999006", "Meow,Cat,Animal", "/m/5,/m/6,/m/3", "train"),
        ("999007", "Dog,Animal", "/m/2,/m/3", "train"),
    ]
    evaluation = [("999008", "Bark,Dog,Animal", "/m/1,/m/2,/m/3")]
    truth = root / "FSD50K.ground_truth"
    write_rows(truth / "dev.csv", [("fname", "labels", "mids", "split"), *dev])
    write_rows(truth / "eval.csv", [("fname", "labels", "mids"), *evaluation])
    info = {
        "title": "Small_dog_barks 03.wav",
        "description": "My dog, in the yard.",
        "tags": ["dog", "bark"],
        "license": "http://creativecommons.org/licenses/by/3.0/",
        "uploader": "nobody",
    }
    infos = {"999001": info, "999002": info | {"title": "steps", "license": "Sampling+"}}
    write_json(root / "FSD50K.metadata/dev_clips_info_FSD50K.json", infos)
    write_json(root / "FSD50K.metadata/eval_clips_info_FSD50K.json", {"999008": info})
    for i, (name, *_) in enumerate(dev):
        if name != "999006":
            write_audio(root / f"FSD50K.dev_audio/{name}.wav", 1.0, seed=i)
    write_audio(root / "FSD50K.dev_audio/123.wav", 1.0, seed=8)
    write_audio(root / "FSD50K.eval_audio/999008.wav", 1.0, seed=9)
    return root


def wavcaps(root):
    """Two of the four files, a blacklist, a YouTube id that begins with `-`."""
    entries = [
        {"id": "999001", "caption": "A bell rings once.", "duration": 1.0, "audio": "wav_path"},
        {"id": "999010", "caption": "Rain falls on a roof.", "duration": 12.0, "audio": "wav_path"},
        {"id": "999011", "caption": "A door closes, then a dog barks.", "duration": 1.0},
        {"id": "gone", "caption": "A cat meows.", "duration": 1.0, "audio": "wav_path"},
        {"id": "999001", "caption": "A bell rings twice.", "duration": 1.0},
    ]
    captions = {"num_captions_per_audio": 1, "data": entries}
    write_json(root / "json_files/FreeSound/fsd_final.json", captions)
    videos = [{"id": "Y-zYxWvUtSr0.wav", "caption": "A dog barks.", "duration": 1.0}]
    videos.append({"id": "YAbCdEfGh_-1.wav", "caption": "A cow moos.", "duration": 1.0})
    write_json(
        root / "json_files/AudioSet_SL/as_final.json", {"num_captions_per_audio": 1, "data": videos}
    )
    listed = {"AudioSet": ["YAbCdEfGh_-1.wav"], "FreeSound": ["999099"]}
    write_json(root / "json_files/blacklist/blacklist_exclude_test_ac.json", listed)
    for i, (name, seconds) in enumerate([("999001", 1), ("999010", 12), ("999011", 1)]):
        write_audio(root / f"waveforms/FreeSound_flac/{name}.flac", seconds, seed=i)
    write_audio(root / "waveforms/AudioSet_SL_flac/Y-zYxWvUtSr0.flac", 1.0, seed=5)
    write_audio(root / "waveforms/AudioSet_SL_flac/YAbCdEfGh_-1.flac", 1.0, seed=6)
    return root


def clotho(root):
    header = ["file_name", *(f"caption_{i}" for i in range(1, 6))]
    rows = [
        [
            "Caf\u00e9 (1).wav",
            "Rain falls.",
            "It rains.",
            "Drops fall.",
            "A storm.",
            "Wet weather.",
        ],
        [
            "dog.wav",
            "A dog barks, then stops.",
            "Dogs.",
            "A dog barks.",
            "It barks.",
            "Barking dog.",
        ],
    ]
    write_rows(root / "clotho_captions_development.csv", [header, *rows])
    columns = "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license"
    write_text(
        root / "clotho_metadata_development.csv",
        columns,
        'Caf\u00e9 (1).wav,rain,999020,,"[0, 9]",someone,http://creativecommons.org/publicdomain/zero/1.0/',
        "dog.wav,dog,Not found,,,someone,",
        encoding="latin-1",
    )
    write_text(
        root / "clotho_metadata_evaluation.csv",
        columns,
        "other.wav,bell,999001,,,someone,CC0",
        encoding="latin-1",
    )
    write_audio(root / "development/Caf\u00e9 (1).wav", 15.0)
    write_audio(root / "development/dog.wav", 1.0, seed=1)
    return root


def audiocaps(root):
    header = "audiocap_id,youtube_id,start_time,caption"
    write_text(
        root / "dataset/train.csv",
        header,
        "900001,AbCdEfGh_-1,30,A dog barks while a man speaks",
        "900002,-zYxWvUtSr0,0,Water splashes",
        newline="\r\n",
    )
    write_text(root / "dataset/test.csv", header, "900003,-zYxWvUtSr0,0,Water splashes")
    write_audio(root / "audio/train/YAbCdEfGh_-1.wav")
    write_audio(root / "audio/train/-zYxWvUtSr0.wav", seed=1)
    return root


OWL = {"id": 999002, "name": "x", "tags": ["owl", "hoot"], "description": ""}


def freesound(root):
    """A sidecar by the name, one by the number, a title in the name, nothing, and one cut off."""
    info = {
        "id": 999001,
        "name": "Metal gate creaks.wav",
        "tags": ["gate", "metal"],
        "description": "An old gate.",
        "license": "https://creativecommons.org/licenses/by-nc/4.0/",
    }
    write_audio(root / "999001__nobody__metal-gate.wav")
    write_json(root / "999001__nobody__metal-gate.json", info)
    write_audio(root / "sub/999002.wav", seed=1)
    write_json(root / "sub/999002.json", OWL)
    write_audio(root / "999003__some_body__dog-bark.wav", seed=2)
    write_audio(root / "take one.wav", seed=3)
    write_audio(root / "999004.wav", seed=4)
    (root / "999004.json").write_text('{"id": 999', encoding="utf-8")
    write_audio(root / "again.wav", seed=5)
    write_json(root / "again.json", info)
    return root


def bext(path, description):
    """Put a chunk bext with a description at the end of a WAV file, and correct its size."""
    content = bytearray(path.read_bytes())
    chunk = description.encode("utf-8").ljust(602, b"\0")
    content += b"bext" + len(chunk).to_bytes(4, "little") + chunk
    content[4:8] = (len(content) - 8).to_bytes(4, "little")
    path.write_bytes(content)
    assert soundfile.info(path).frames


def ucs(root):
    write_text(
        root / "ucs.csv",
        "Category,SubCategory,CatID,CatShort,Explanations,Synonyms",
        'DOORS,WOOD,DOORWood,DOOR,"Doors, of wood",',
        "METAL,IMPACT,METLImpt,METL,,",
    )
    write_audio(root / "doors/DOORWood_Wooden Door Creak 01_NB_Attic.wav")
    write_audio(root / "doors/DOORWood_Wooden Door Creak 02_NB_Attic.wav", seed=1)
    write_audio(root / "METLImpt-MINE_Pot Lid Drop_NB_Kitchen_stereo_96k.wav", seed=2)
    bext(root / "METLImpt-MINE_Pot Lid Drop_NB_Kitchen_stereo_96k.wav", "A lid drops on a table")
    write_audio(root / "DOORWod_Knock_NB_Attic.wav", seed=3)
    write_audio(root / "take 3.wav", seed=4)
    return root
