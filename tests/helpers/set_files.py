"""The public test sets in their official layouts, with a few clips of noise, quirks included.

Ids are made up. In each set one clip is listed that has no audio, where the set allows it.
"""

import json

import numpy as np
import soundfile

RATE = 16000
DOG, SPEECH, THUMP, SILENCE = "/m/0bt9lr", "/m/09x0r", "/m/07qnq_y", "/m/028v0c"


def write_audio(path, seconds=10.0, seed=0, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.05, round(seconds * rate))
    soundfile.write(path, noise.astype(np.float32), rate)


def write_text(path, *lines, newline="\n", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + newline for line in lines).encode(encoding))


def write_damaged(folder):
    """Files whose headers are good and whose samples are not, each half as long as it says or not
    to be read at all; and what there is to be heard of them."""
    half_s = {}
    for name in ("a.flac", "b.mp3", "c.wav"):
        write_audio(folder / name, 8.0)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        half_s[name] = name != "a.flac"
    soundfile.write(folder / "nan.wav", np.array([0.1, np.nan] * 800), 16000, subtype="FLOAT")
    return half_s | {"nan.wav": False}


def audioset(root):
    """An id that begins with a dash, one with an underscore; a class of eval alone; a name with a
    comma in it; one class twice at once; a clip without audio."""
    write_text(
        root / "mid_to_display_name.tsv",
        f"{DOG}\tDog",
        f"{SPEECH}\tSpeech",
        f"{THUMP}\tThump, thud",
        f"{SILENCE}\tSilence",
    )
    header = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel"
    write_text(
        root / "audioset_eval_strong.tsv",
        header,
        f"AbCdEfGh_-1_30000\t0.000\t4.215\t{DOG}",
        f"AbCdEfGh_-1_30000\t3.980\t10.000\t{DOG}",
        f"AbCdEfGh_-1_30000\t1.000\t2.000\t{SILENCE}",
        f"-zYxWvUtSr0_0\t1.204\t1.377\t{THUMP}",
        f"gone5678901_5000\t0.000\t1.000\t{SPEECH}",
    )
    write_text(
        root / "audioset_eval_strong_framed_posneg.tsv",
        f"{header}\tpresent",
        f"AbCdEfGh_-1_30000\t0.000\t0.960\t{DOG}\tPRESENT",
        f"AbCdEfGh_-1_30000\t0.000\t0.960\t{SPEECH}\tNOT_PRESENT",
    )
    write_text(
        root / "audioset_train_strong.tsv",
        header,
        *[f"AAAAAAAAAA{i}_0\t0.000\t1.000\t{mid}" for i, mid in enumerate([DOG, SPEECH, THUMP])],
    )
    write_audio(root / "audio/eval/YAbCdEfGh_-1.wav")
    write_audio(root / "audio/eval/-zYxWvUtSr0_0.flac", 9.5)
    write_audio(root / "audio/train/YAAAAAAAAAA0.wav")
    return root


def desed(root):
    """A row without an event, an event beyond the audio, a file name with dots in it."""
    header = "filename\tonset\toffset\tevent_label"
    write_text(
        root / "metadata/validation/validation.tsv",
        header,
        "YAbCdEfGh_-1_30.000_40.000.wav\t0.000\t2.081\tSpeech",
        "YAbCdEfGh_-1_30.000_40.000.wav\t1.618\t10.115\tAlarm_bell_ringing",
        "YzYxWvUtSr00_2.000_12.000.wav\t\t\t",
        "Ygone_000000_2.000_12.000.wav\t0.5\t1.5\tDog",
    )
    write_text(
        root / "metadata/eval/public.tsv", header, "AbCdEfGh_-1_30_40.wav\t0.000\t2.000\tDog"
    )
    write_text(
        root / "metadata/train/audioset_strong.tsv",
        header,
        "YBbCdEfGh_-1_20.000_30.000.wav\t0.0\t0.24999\tCat",
        "YBbCdEfGh_-1_20.000_30.000.wav\t8.0\t11.0\tVacuum_cleaner",
    )
    # Beside them what no reader takes for events: lengths, labels without times, names alone.
    write_text(
        root / "metadata/validation/validation_durations.tsv",
        "filename\tduration",
        "YAbCdEfGh_-1_30.000_40.000.wav\t10.0",
    )
    write_text(
        root / "metadata/train/weak.tsv",
        "filename\tevent_labels",
        "Yw_0.000_10.000.wav\tDog,Speech",
    )
    write_text(root / "metadata/train/unlabel_in_domain.tsv", "filename", "Yu_0.000_10.000.wav")
    write_audio(root / "audio/train/strong_label_real/YBbCdEfGh_-1_20.000_30.000.wav")
    write_audio(root / "audio/validation/validation/YAbCdEfGh_-1_30.000_40.000.wav")
    write_audio(root / "audio/validation/validation/YzYxWvUtSr00_2.000_12.000.wav", 9.3)
    write_audio(root / "audio/validation/validation/Ynot_listed_0.000_10.000.wav")
    write_audio(root / "audio/eval/public/AbCdEfGh_-1_30_40.wav")
    return root


def maestro(root):
    """Exactly one half is not enough; seconds that touch; a class that is not scored; no header."""
    write_text(
        root / "development_annotation/soft_labels_cafe_restaurant/cafe_restaurant_04.txt",
        "0.0\t1.0\tpeople talking\t0.87",
        "1.0\t2.0\tpeople talking\t0.51",
        "2.0\t3.0\tpeople talking\t0.5",
        "3.0\t4.0\tpeople talking\t1.02",
        "0.0\t1.0\tcutlery and dishes\t0.31",
        "0.0\t1.0\tcoffee machine\t1.0",
    )
    write_text(
        root / "development_annotation/soft_labels_cafe_restaurant/cafe_restaurant_01.txt",
        "0.0\t1.0\tbirds_singing\t0.9",
    )
    write_text(
        root / "development_metadata.csv", "filename\tduration", "cafe_restaurant_04\t25.5"
    )  # tabs, in spite of its name
    write_audio(root / "development_audio/cafe_restaurant/cafe_restaurant_04.wav", 25.5)
    write_audio(root / "development_audio/cafe_restaurant/cafe_restaurant_01.wav", 3.0)
    return root


def scaper(time, duration, label, role="foreground"):
    """An observation of scaper 1; the duration in its value is from before time-stretching."""
    value = {
        "label": label,
        "role": role,
        "source_file": f"{label}/7.wav",
        "source_time": 0.0,
        "event_time": time,
        "event_duration": duration / 2,
        "snr": 12.5,
        "pitch_shift": None,
        "time_stretch": 2.0,
    }
    return {"time": time, "duration": duration, "confidence": 1.0, "value": value}


def urban_sed(root, jams=True):
    """A background observation; a duration after stretching that is not the value's; an end that
    rounding puts behind that of the recording."""
    for split in ("train", "validate", "test"):
        stem, folder = f"soundscape_{split}_bimodal0", root / "annotations" / split
        observations = [
            scaper(0.0, 10.0, "noise", "background"),
            scaper(0.413274, 2.458631, "dog_bark"),
            scaper(5.977001, 4.023, "siren"),
        ]
        write_text(folder / f"{stem}.txt", "0.413274\t2.871905\tdog_bark", "5.977001\t10.0\tsiren")
        if jams:
            annotation = {"namespace": "scaper", "time": 0, "duration": 10.0, "data": observations}
            content = {
                "annotations": [annotation | {"sandbox": {}, "annotation_metadata": {}}],
                "file_metadata": {"duration": 10.0, "title": "", "jams_version": "0.3.0"},
                "sandbox": {},
            }
            write_text(folder / f"{stem}.jams", json.dumps(content, indent=2))
        write_audio(root / f"audio/{split}/{stem}.wav")
    write_text(root / "FREESOUNDCREDITS.txt", "7.wav by nobody")
    return root


def tacos(root):
    """The text comes before the times, and has commas."""
    write_text(
        root / "annotations_strong.csv",
        "\ufefffilename,text,onset,offset",
        "999001.mp3,a dog barks twice,0.52,1.94",
        '999001.mp3,"a man calls out, far away",1.40,3.75',
        "999002.mp3,rain falling on leaves,0.0,4.6",
    )
    write_text(root / "annotations_weak.csv", "filename,text", "999001.mp3,a dog and a man")
    write_text(
        root / "metadata.csv", "filename,keywords,freesound_id,license", "999001.mp3,dog,999001,CC0"
    )
    write_text(root / "test_split.csv", "filename", "999001.mp3")
    write_text(root / "development_split.csv", "filename", "999002.mp3")
    write_audio(root / "audio/999001.wav", 5.0)
    write_audio(root / "audio/999002.wav", 5.0)
    return root


def clotho(root):
    """Names with brackets, an apostrophe and an accent, which the disk may hold decomposed; beside
    the captions a table in Latin-1."""
    write_text(
        root / "clotho_metadata_evaluation.csv",
        "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license",
        'Bird\'s caf\u00e9.wav,bird;caf\u00e9,Not found,,"[0, 9]",someone,CC0',
        encoding="latin-1",
    )
    write_text(
        root / "clotho_captions_evaluation.csv",
        "file_name,caption_1,caption_2,caption_3,caption_4,caption_5",
        'Made Up Engine (1).wav,A motor hums.,An engine idles.,"A machine runs, then slows.",'
        "Someone lets a motor run.,The engine hums.",
        "Bird's caf\u00e9.wav,Birds call.,Birds chirp.,Chicks peep.,Birds tweet.,A bird sings.",
        "gone.wav,Rain.,It rains.,Drops fall.,A storm.,Wet weather.",
    )
    write_audio(root / "evaluation/Made Up Engine (1).wav", 16.0)
    write_audio(root / "evaluation/Bird's cafe\u0301.wav", 15.0, seed=1)
    return root


def audiocaps(root):
    """Windows line ends; the rows of a clip apart from each other; a caption of two clips."""
    header = "audiocap_id,youtube_id,start_time,caption"
    for split in ("train", "val"):
        write_text(root / f"dataset/{split}.csv", header, "900009,zZ11yY22xX3,7,A bell rings")
    write_text(
        root / "dataset/test.csv",
        header,
        "900001,AbCdEfGh_-1,30,A dog barks while a man speaks",
        '900002,-zYxWvUtSr0,0,"Water splashes, then a woman laughs"',
        "900003,AbCdEfGh_-1,30,A man talks near a barking dog",
        "900004,gone5678901,5,Nothing to be heard",
        "900005,gone5678901,5,A dog barks while a man speaks",
        newline="\r\n",
    )
    write_audio(root / "audio/YAbCdEfGh_-1.wav")
    write_audio(root / "audio/-zYxWvUtSr0.flac", seed=1)
    return root


def esc50(root):
    write_text(
        root / "ESC-50-master/meta/esc50.csv",
        "filename,fold,target,category,esc10,src_file,take",
        "1-999001-A-0.wav,1,0,dog,True,999001,A",
        "1-999001-B-0.wav,1,0,dog,True,999001,B",
        "5-999002-A-43.wav,5,43,car_horn,False,999002,A",
    )
    write_audio(root / "ESC-50-master/audio/1-999001-A-0.wav", 5.0)
    write_audio(root / "ESC-50-master/audio/5-999002-A-43.wav", 5.0, seed=1)
    return root


def urbansound8k(root):
    """A slice much shorter than any frame."""
    write_text(
        root / "metadata/UrbanSound8K.csv",
        "slice_file_name,fsID,start,end,salience,fold,classID,class",
        "999001-3-0-0.wav,999001,0.0,0.317551,1,5,3,dog_bark",
        "999002-2-0-117.wav,999002,58.5,62.5,1,5,2,children_playing",
        "999003-8-1-4.wav,999003,12.25,16.25,2,10,8,siren",
    )
    write_text(root / "UrbanSound8K_README.txt", "Slices of recordings.")
    write_audio(root / "audio/fold5/999001-3-0-0.wav", 0.05)
    write_audio(root / "audio/fold10/999003-8-1-4.wav", 4.0, seed=1)
    return root


def vggsound(root):
    """No header; a label with a comma; a class of the training list alone."""
    write_text(
        root / "vggsound.csv",
        "AbCdEfGh_-1,30,dog barking,train",
        "-zYxWvUtSr0,1,people marching,test",
        'ZZ11yY22xX3,185,"playing marimba, xylophone",test',
    )
    write_audio(root / "test/-zYxWvUtSr0_000001.wav")
    write_audio(root / "test/ZZ11yY22xX3_000185.flac", seed=1)
    return root


def query(qid, query, vid, duration, *windows, **more):
    """A line of CASTELLA or Clotho-Moment."""
    line = {"qid": qid, "query": query, "duration": duration, "vid": vid}
    return json.dumps(line | {"relevant_windows": [list(w) for w in windows]} | more)


def castella(root):
    """Ids that begin with dashes; a window that ends after the recording, one beyond it, one of no
    length; two queries that read the same; windows in no order that overlap; no audio of one."""
    write_text(
        root / "data/castella/castella_test_release.jsonl",
        query("--0w1YA1Hm4_1", "A car horn blares", "--0w1YA1Hm4", 9, [7, 10], [1, 3]),
        query("--0w1YA1Hm4_2", "Footsteps echo", "--0w1YA1Hm4", 9, [9, 11], [2, 4], [3, 5], [6, 6]),
        query("-zYxWvUtSr0_1", "A dog barks", "-zYxWvUtSr0", 12, [0, 2]),
        query("-zYxWvUtSr0_2", "A dog barks", "-zYxWvUtSr0", 12, [5, 12]),
        query("-zYxWvUtSr0_3", "Someone sneezes", "-zYxWvUtSr0", 12, [12, 13]),
        query("gone5678901_1", "Music plays", "gone5678901", 60, [0, 61]),
    )
    write_audio(root / "audio/--0w1YA1Hm4.wav", 9.4)
    write_audio(root / "audio/-zYxWvUtSr0.flac", 12.0, seed=1)
    return root


def clotho_moment(root):
    """Dots in names, which are no suffix; a key more; the same sentence in two recordings."""
    write_text(
        root / "clotho_moment_test_release.jsonl",
        query("00000", "water splashes.", "Wildlife_0.0_60.0", 12, [2.5, 7.5], fg_dB=-2.08),
        query("00001", "Water splashes.", "Wildlife_1.0_61.0", 12, [3.1, 4.1], fg_dB=3.41),
        query("00002", "a bell", "Wildlife_1.0_61.0", 12, [6.3, 11.9], fg_dB=0.5),
    )
    write_audio(root / "audio/test/Wildlife_0.0_60.0.wav", 12.0)
    write_audio(root / "audio/test/Wildlife_1.0_61.0.wav", 12.0, seed=1)
    return root


def asfx_sed(root):
    """The neutral form of a set whose official one is not known."""
    write_text(
        root / "events.tsv",
        "filename\tonset\toffset\tevent_label",
        "mix_00001.wav\t1.250\t3.900\ttroll scream",
        "mix_00001.wav\t2.700\t4.100\tmetallic creak",
        "mix_00002.wav\t0.000\t0.640\ttennis ball hit",
    )
    write_audio(root / "audio/mix_00001.wav")
    write_audio(root / "audio/mix_00002.wav", seed=1)
    return root


def asfx(root):
    write_text(root / "captions.csv", "filename,caption", "a.wav,a whoosh", 'b.wav,"a thud, low"')
    write_audio(root / "audio/a.wav", 2.0)
    write_audio(root / "audio/b.wav", 3.0, seed=1)
    return root


WRITERS = {
    "asfx_sed": asfx_sed,
    "audioset_strong": audioset,
    "desed_public": desed,
    "desed_validation": desed,
    "maestro": maestro,
    "urbansed": urban_sed,
    "asfx": asfx,
    "clotho": clotho,
    "audiocaps": audiocaps,
    "esc50": esc50,
    "urbansound8k": urbansound8k,
    "vggsound": vggsound,
    "castella": castella,
    "clotho_moment": clotho_moment,
}
