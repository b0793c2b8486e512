import hashlib

import handmade
import numpy as np
import pandas as pd
import pytest
import soundfile
from handmade import background, clip, tone, wav, write_catalogue, write_tsv

from flamlib.data.corpus import build as corpus
from flamlib.data.corpus import catalogue
from flamlib.experiment.params.sounds import SourceConfig

N_TRAIN = 24
CAPTIONS = ("a dog barks", "a door closes", "glass breaks")


class Workshop:
    """A catalogue and its packages, made by hand and already downloaded."""

    def __init__(self, folder):
        self.folder = folder
        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        self.clips, self.contents, self.heard = [], {}, []
        for i in range(N_TRAIN):
            caption = CAPTIONS[i % 3]
            self.add(clip(f"train/{i}.wav", caption=caption, family=caption), wav(tone(200 + i)))
        self.add(clip("valid.wav", split="valid", caption=CAPTIONS[0], family=CAPTIONS[0]))
        for i, split in enumerate(["train", "valid", "heldout"]):
            self.add(background(f"box.pk3!rain{i}.wav", split=split), wav(tone(50 + i, seconds=2)))
        other = {"package": "other", "split": "seen_captions", "caption": CAPTIONS[1]}
        self.add(clip("sounds.cat!0", family=CAPTIONS[1], **other))
        unseen = {"package": "other", "split": "unseen_captions", "caption": "a cat meows"}
        self.add(clip("sounds.cat!1", family="cat", profile="full", **unseen))
        third = {"package": "third", "split": "seen_captions", "caption": CAPTIONS[2]}
        self.add(clip("glass.wav", family=CAPTIONS[2], **third))
        unseen = {"package": "third", "split": "unseen_captions", "caption": "a cow moos"}
        self.add(clip("cow.wav", family="cow", **unseen))
        self.heard.append({"package": "sounds", "member": "box.pk3!rain0.wav"})
        self.heard[0]["families"] = "|".join(CAPTIONS[:2])

    def add(self, row, content=None):
        content = wav(tone(300 + len(self.clips))) if content is None else content
        self.contents[row["package"], row["member"]] = content
        self.clips.append({"sha256": hashlib.sha256(content).hexdigest()} | row)

    def pack(self):
        """Write the packages as the clips' members need them, and the catalogue."""
        box, direct, third, cat = {}, {}, {}, []
        for (package, member), content in self.contents.items():
            if member.startswith("box.pk3!"):
                box[member.partition("!")[2]] = content
            elif member.startswith("sounds.cat!"):
                cat.append(content)
            else:
                (third if package == "third" else direct)[member] = content
        debs = {
            "sounds": handmade.deb(direct | {"box.pk3": handmade.zipped(box)}),
            "other": handmade.deb({"sounds.cat": handmade.cat(cat)}),
            "third": handmade.deb(third),
        }
        rows = []
        for name, content in debs.items():
            file = f"{name}_1.0_all.deb"
            (self.downloads / file).write_bytes(content)
            row = {"package": name, "version": "1.0", "channel": "apt", "profile": "core"}
            row |= {"file": file, "bytes": len(content), "licence": "CC0"}
            rows.append(row | {"sha256": hashlib.sha256(content).hexdigest()})
        write_catalogue(self.folder / "catalogue", self.clips, heard=self.heard, packages=rows)

    def build(self, **options):
        options = {"profile": "full", "own_sounds": None, "max_per_caption": 99} | options
        usual = {"only": [], "collections": [], "licences": [], "background_from_s": None}
        self.summary = corpus.build(
            SourceConfig(n_jobs=2, **usual | options),
            catalogue=self.folder / "catalogue",
            downloads=self.downloads,
            out=self.folder / "data",
            progress=False,
        )
        return self

    def table(self, name):
        path = self.folder / "data" / name
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=3)

    def files(self):
        data = self.folder / "data"
        return {p.relative_to(data): p.read_bytes() for p in data.rglob("*") if p.is_file()}


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no package client: all is downloaded
    return Workshop(tmp_path)


def test_every_recording_is_stored_with_what_is_known_of_it(workshop):
    workshop.pack()
    workshop.build()
    clips = workshop.table("clips.tsv")
    assert clips["member"].tolist() == [row["member"] for row in workshop.clips]
    assert clips["clip_id"].is_unique
    for row in clips.to_dict("records"):
        stored, rate = soundfile.read(workshop.folder / "data" / row["path"])
        sound, _ = soundfile.read(
            handmade.io.BytesIO(workshop.contents[row["package"], row["member"]])
        )
        np.testing.assert_array_equal(stored, sound)
        content = (workshop.folder / "data" / row["path"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert row["path"] == f"audio/{row['clip_id']}.flac"
        assert float(row["duration_s"]) == len(stored) / rate
        assert float(row["onset"]) < float(row["offset"]) <= float(row["duration_s"])
    assert workshop.table("skipped.tsv").empty


def test_the_other_tables_say_what_the_clips_do(workshop):
    workshop.pack()
    workshop.build()
    clips = workshop.table("clips.tsv")
    captions = workshop.table("captions.tsv")
    split = dict(zip(captions["caption"], captions["split"], strict=True))
    unseen = dict.fromkeys(["a cat meows", "a cow moos"], "unseen")
    assert split == dict.fromkeys(CAPTIONS, "train") | unseen
    [rain] = clips.loc[clips["member"] == "box.pk3!rain0.wav", "clip_id"]
    heard = workshop.table("background_families.tsv").to_dict("records")
    assert heard == [{"clip_id": rain, "family": family} for family in CAPTIONS[:2]]
    ledger = workshop.table("licences.tsv")
    assert ledger["n_clips"].astype(int).sum() == len(clips)
    assert workshop.summary["n_foregrounds"] == {
        "train": N_TRAIN,
        "valid": 1,
        "seen_captions": 2,
        "unseen_captions": 2,
    }
    assert workshop.summary["n_backgrounds"] == {"train": 1, "valid": 1, "heldout": 1}
    assert workshop.summary["n_captions"] == {"train": 3, "unseen": 2}


def test_a_smaller_profile_has_fewer_clips(workshop):
    workshop.pack()
    assert "a cat meows" not in set(workshop.build(profile="core").table("captions.tsv")["caption"])


def test_the_same_packages_give_the_same_bytes(workshop):
    workshop.pack()
    first = workshop.build().files()
    assert workshop.build().files() == first


def test_a_caption_has_at_most_so_many_training_clips_and_loses_no_others(workshop):
    workshop.pack()
    whole = workshop.build().table("clips.tsv")
    capped = workshop.build(max_per_caption=7).table("clips.tsv")
    foreground = capped[(capped["role"] == "foreground") & (capped["split"] == "train")]
    assert foreground["caption"].value_counts().to_dict() == dict.fromkeys(CAPTIONS, 7)
    assert workshop.summary["n_over_cap"] == N_TRAIN - 21
    assert (capped["split"] != "train").sum() == (whole["split"] != "train").sum()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (wav(np.zeros(1000)), "silent"),
        (wav(np.zeros(0)), "sample"),
        (b"RIFF is what it says", "Format not recognised"),
        (wav()[:44], "sample"),
        (wav()[:30], "rror"),
        (b"", "is empty"),
    ],
)
def test_a_recording_that_cannot_be_used_costs_only_itself(workshop, content, why):
    workshop.add(clip("odd.wav"), content)
    workshop.clips[-1] |= {"caption": CAPTIONS[0], "family": CAPTIONS[0]}
    workshop.pack()
    workshop.build()
    [row] = workshop.table("skipped.tsv").to_dict("records")
    assert (row["package"], row["member"]) == ("sounds", "odd.wav")
    assert why in row["why"]
    assert workshop.summary["n_unusable"] == 1
    assert not list((workshop.folder / "data/audio").glob("*odd*"))


def test_a_recording_that_is_another_or_missing_costs_only_itself(workshop):
    workshop.clips[0]["sha256"] = "0" * 64
    workshop.clips.append(workshop.clips[1] | {"member": "gone.wav", "group": "gone"})
    workshop.pack()
    workshop.build()
    skipped = workshop.table("skipped.tsv").set_index("member")["why"]
    assert "checksum differs" in skipped["train/0.wav"]
    assert "not in sounds_1.0_all.deb" in skipped["gone.wav"]
    assert len(workshop.table("clips.tsv")) == len(workshop.clips) - 2


def test_stereo_in_opposite_phase_is_kept(workshop):
    opposite = wav(np.stack([tone(), -tone()], axis=1))
    workshop.add(clip("phase.wav", caption=CAPTIONS[0], family=CAPTIONS[0]), opposite)
    workshop.pack()
    workshop.build()
    [path] = (workshop.folder / "data/audio").glob("*phase*")
    assert np.abs(soundfile.read(path)[0]).max() == pytest.approx(0.5, abs=0.01)


def test_a_package_that_cannot_be_had_is_listed(workshop):
    workshop.pack()
    (workshop.downloads / "other_1.0_all.deb").unlink()
    workshop.build()
    [row] = workshop.table("skipped.tsv").to_dict("records")
    assert row["package"] == "other"
    assert "Debian or Ubuntu" in row["why"]
    assert workshop.summary["n_without_package"] == 2


def test_of_another_version_only_what_kept_its_checksum_is_used(workshop):
    workshop.clips[0]["sha256"] = "0" * 64
    workshop.pack()
    path = workshop.downloads / "sounds_1.0_all.deb"
    path.rename(workshop.downloads / "sounds_1.1_all.deb")
    with pytest.warns(corpus.packages.Substituted):
        workshop.build()
    skipped = workshop.table("skipped.tsv").set_index("member")["why"]
    assert "sounds_1.1_all.deb is used" in skipped[""]
    assert "checksum differs" in skipped["train/0.wav"]
    assert len(workshop.table("clips.tsv")) == len(workshop.clips) - 1


def test_a_held_out_clip_of_a_caption_that_is_no_longer_trained_on_is_left_out(workshop):
    for row in workshop.clips[:N_TRAIN]:
        if row["caption"] == CAPTIONS[1]:
            row |= {"caption": CAPTIONS[0], "family": CAPTIONS[0]}
    workshop.pack()
    workshop.build()
    clips = workshop.table("clips.tsv")
    assert set(clips.loc[clips["split"] == "seen_captions", "caption"]) == {CAPTIONS[2]}
    assert "no training recording" in workshop.table("skipped.tsv")["why"][0]
    assert len(list((workshop.folder / "data/audio").iterdir())) == len(workshop.clips) - 1


@pytest.mark.parametrize("role", ["foreground", "background"])
def test_too_little_to_train_on_stops_and_says_what_was_skipped(workshop, role):
    for row in workshop.clips:
        if row["role"] == role and row["split"] == "train":
            row["sha256"] = "0" * 64
    workshop.pack()
    with pytest.raises(ValueError, match=r"(?s)are left to train on.*sounds .*checksum differs"):
        workshop.build()
    assert not (workshop.folder / "data").exists()


def test_a_build_that_stops_leaves_the_older_data_as_it_was(workshop):
    workshop.pack()
    before = workshop.build().files()
    (workshop.downloads / "sounds_1.0_all.deb").unlink()
    with pytest.raises(ValueError, match="Skipped"):
        workshop.build()
    assert workshop.files() == before
    assert not list(workshop.folder.glob(".data*"))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"caption": ""}, "line 2: no caption"),
        ({"role": ""}, "line 2: no role"),
        ({"split": "tain"}, "line 2: split 'tain'"),
        ({"member": "train/1.wav"}, "line 3: train/1.wav is listed already"),
        ({"package": "unheard-of"}, r"line 2: package 'unheard-of' is not in .*packages\.tsv"),
        ({"version": "2.0"}, "line 2: sounds is 2.0 from apt here, but 1.0"),
        ({"group": "valid.wav"}, "group valid.wav is in two splits"),
    ],
)
def test_wrong_tables_stop_before_anything_is_fetched(workshop, monkeypatch, wrong, why):
    workshop.pack()
    workshop.clips[0] |= wrong
    clips = [row for row in workshop.clips if row["role"] and row["caption"]]
    packages = (workshop.folder / "catalogue/packages.tsv").read_bytes()
    captions = [
        {"caption": c, "family": f} for c, f in {(r["caption"], r["family"]) for r in clips}
    ]
    captions = [row for row in captions if row["family"] != "ambience"]
    write_catalogue(workshop.folder / "catalogue", workshop.clips, captions)
    (workshop.folder / "catalogue/packages.tsv").write_bytes(packages)
    monkeypatch.setattr(corpus.packages, "fetch", lambda *args, **options: pytest.fail("fetched"))
    with pytest.raises(ValueError, match=why):
        workshop.build()


FORMATS = [
    ("mono 8 kHz.wav", 8000, 1, "PCM_16"),
    ("studio/stereo 96 kHz.flac", 96000, 2, "PCM_24"),
    ("5.1 – 日本.wav", 48000, 6, "FLOAT"),
    ("lossy.ogg", 22050, 2, "VORBIS"),
]


@pytest.fixture
def own(tmp_path):
    """A folder of one's own sounds: four formats, 20 more tones and three backgrounds."""
    folder = tmp_path / "my own sounds"
    rows = []
    for i, (name, rate, n_channels, subtype) in enumerate(FORMATS):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        waveform = np.stack([tone(500 + i, rate=rate)] * n_channels, axis=1)
        soundfile.write(path, waveform, rate, subtype=subtype)
        rows.append({"path": name, "caption": f"ein Geräusch – 音 {i}"})
    for i in range(20):
        soundfile.write(folder / f"{i}.wav", tone(600 + i), 16000)
        rows.append({"path": f"{i}.wav", "caption": "a hum"})
    for i, name in enumerate(["room.wav", "hall.wav", "street.wav"]):
        soundfile.write(folder / name, tone(60 + i, seconds=2), 16000)
        rows.append({"path": name, "caption": "a room", "role": "background"})
    rows = [row | {"split": "auto"} for row in rows]
    write_tsv(folder / "sounds.tsv", ["path", "caption", "role", "split"], rows)
    return folder


def test_own_sounds_alone_are_enough(workshop, own):
    workshop.pack()
    workshop.build(profile="none", own_sounds=str(own))
    clips = workshop.table("clips.tsv")
    assert len(clips) == 27
    assert set(clips["package"]) == {"own"}
    assert set(zip(clips["role"], clips["split"], strict=True)) == {
        (role, split) for role in ("foreground", "background") for split in catalogue.SPLITS[role]
    }
    catalogue.check_splits(clips, workshop.table("captions.tsv"))
    rates = dict(zip(clips["member"], clips["sample_rate"].astype(int), strict=True))
    assert [rates[name] for name, *_ in FORMATS] == [8000, 48000, 48000, 22050]
    assert clips["caption"][0] == "ein Geräusch – 音 0"
    assert workshop.table("skipped.tsv").empty


def test_own_sounds_join_the_catalogues(workshop, own):
    workshop.pack()
    workshop.build(own_sounds=str(own))
    assert len(workshop.table("clips.tsv")) == len(workshop.clips) + 27


def test_an_own_sound_that_is_missing_or_broken_costs_only_itself(workshop, own):
    (own / "0.wav").unlink()
    (own / "1.wav").write_bytes(b"no sound")
    workshop.pack()
    workshop.build(own_sounds=str(own))
    assert workshop.table("skipped.tsv")["member"].tolist() == ["0.wav", "1.wav"]


def test_the_labels_of_a_recording_are_own_sounds(workshop, own):
    (own / "room.txt").write_text(
        "0.2\t0.6\ta knock\n0.9\t1.4\ta hum\n1.3\t1.5\train\n9\t10\train\n"
    )
    with (own / "sounds.tsv").open("a") as table:
        table.write("room.wav\t\tforeground\n")
    workshop.pack()
    workshop.build(own_sounds=str(own))
    clips = workshop.table("clips.tsv").set_index("member")
    knock = clips.loc["room.wav#t=0.2,0.6"]
    assert (knock["caption"], knock["duration_s"]) == ("a knock", "0.400")
    assert soundfile.info(workshop.folder / "data" / knock["path"]).duration == pytest.approx(0.4)
    assert clips.loc["room.wav", "group"] == knock["group"]
    why = dict(workshop.table("skipped.tsv")[["member", "why"]].itertuples(index=False))
    assert "another sound during 'rain' from 1.3 to 1.5 s" in why["room.wav"]
    assert "no samples" in why["room.wav#t=9.0,10.0"]


def test_an_own_sound_of_an_unseen_family_stops_the_build(workshop, own):
    table = own / "sounds.tsv"
    text = table.read_text().replace("2.wav\ta hum", "2.wav\ta cat meows")
    table.write_text(text.replace("auto", ""))
    workshop.pack()
    with pytest.raises(ValueError, match=r"'cat' is kept for unseen_captions.*sounds\.tsv, line 8"):
        workshop.build(own_sounds=str(own))


def test_all_that_is_missing_is_said_at_once(workshop, own):
    """As of a table without splits: all of it would be trained on."""
    table = own / "sounds.tsv"
    table.write_text(table.read_text().replace("auto", ""))
    workshop.pack()
    with pytest.raises(ValueError, match="24 foregrounds and 3 backgrounds") as caught:
        workshop.build(profile="none", own_sounds=str(own))
    said = str(caught.value)
    missing = ["foregrounds of the split valid", "seen_captions", "unseen_captions"]
    missing += ["backgrounds of the split valid", "heldout", "`auto` in the column split"]
    assert [text for text in missing if text not in said] == []
    assert str(own) in said
    assert "to train on: " not in said  # of that there is enough
    # A notebook shows that and not where it was found out.
    assert caught.value._render_traceback_() == [said]


def test_nothing_at_all_is_too_little(workshop):
    workshop.pack()
    with pytest.raises(ValueError, match="0 foregrounds and 0 backgrounds") as caught:
        workshop.build(profile="none")
    assert "captions to train on: 0, at least 2" in str(caught.value)


def test_checksums_are_filled_in_and_nothing_else_changes(workshop):
    expected = [row["sha256"] for row in workshop.clips]
    for row in workshop.clips:
        del row["sha256"]
    workshop.pack()
    path = workshop.folder / "catalogue/clips.tsv"
    before = path.read_text()
    corpus.fill_checksums(workshop.folder / "catalogue", workshop.downloads, n_jobs=2)
    header, *lines = path.read_text().splitlines()
    assert [line.split("\t")[-1] for line in lines] == expected
    assert [header, *(line.rpartition("\t")[0] + "\t" for line in lines)] == before.splitlines()


def test_a_checksum_that_cannot_be_filled_in_is_named(workshop):
    workshop.pack()
    (workshop.downloads / "other_1.0_all.deb").unlink()
    with pytest.raises(
        ValueError, match=r"2 recordings cannot be downloaded: \['other sounds\.cat!0'"
    ):
        corpus.fill_checksums(workshop.folder / "catalogue", workshop.downloads, n_jobs=2)
