import json

import pytest
import set_files
from set_files import write_text

from flamlib.data.datasets import sed_sets
from flamlib.sound_events.events import Event


def by_name(found):
    return {clip.name: clip for clip in found.clips}


def test_audioset_asks_for_the_classes_of_both_lists(tmp_path):
    found = sed_sets.audioset_strong(set_files.audioset(tmp_path))
    clips = by_name(found)
    assert found.captions == ["dog", "speech", "thump, thud"]  # no silence: eval alone has it
    assert clips["AbCdEfGh_-1_30000"].events == [Event(0.0, 10.0, "dog")]  # it overlapped itself
    assert clips["AbCdEfGh_-1_30000"].path.name == "YAbCdEfGh_-1.wav"
    assert clips["-zYxWvUtSr0_0"].events == [Event(1.204, 1.377, "thump, thud")]
    assert clips["-zYxWvUtSr0_0"].path.name == "-zYxWvUtSr0_0.flac"
    assert found.missing == ["gone5678901_5000"]
    assert found.repairs == {"merged": 1}
    assert found.notes == ["1 of 4 classes left out: training has none of them"]


def test_audioset_without_the_other_list_says_which_classes_it_asks_for(tmp_path):
    root = set_files.audioset(tmp_path)
    (root / "audioset_train_strong.tsv").unlink()
    found = sed_sets.audioset_strong(root)
    assert "silence" in found.captions
    assert found.notes == ["all 4 classes of this split, as audioset_train_strong.tsv is not there"]


def test_audioset_refuses_a_segment_without_its_start(tmp_path):
    root = set_files.audioset(tmp_path)
    table = root / "audioset_eval_strong.tsv"
    table.write_text(table.read_text().replace("-zYxWvUtSr0_0", "-zYxWvUtSr0"))
    with pytest.raises(
        ValueError, match=r"line 5: '-zYxWvUtSr0' is not <YouTube id>_<start in ms>"
    ):
        sed_sets.audioset_strong(root)


def test_audioset_refuses_a_machine_id_without_a_name(tmp_path):
    root = set_files.audioset(tmp_path)
    write_text(root / "mid_to_display_name.tsv", f"{set_files.DOG}\tDog")
    with pytest.raises(ValueError, match=r"eval_strong.tsv, line 4: unknown label '/m/028v0c'"):
        sed_sets.audioset_strong(root)


def test_desed_keeps_a_recording_without_events(tmp_path):
    found = sed_sets.desed(set_files.desed(tmp_path))
    clips = by_name(found)
    assert clips["YzYxWvUtSr00_2.000_12.000.wav"].events == []
    assert clips["YzYxWvUtSr00_2.000_12.000.wav"].duration_s == pytest.approx(9.3)
    assert clips["YAbCdEfGh_-1_30.000_40.000.wav"].events == [
        Event(0.0, 2.081, "speech"),
        Event(1.618, 10.0, "alarm bell ringing"),
    ]
    assert (found.repairs, found.missing) == ({"clipped": 1}, ["Ygone_000000_2.000_12.000.wav"])
    assert len(found.captions) == 10
    assert len(found.clips) == 3  # not the recording that no table lists


def test_desed_public_has_names_of_its_own(tmp_path):
    [clip] = sed_sets.desed(set_files.desed(tmp_path), "public").clips
    assert (clip.name, clip.path.name) == ("AbCdEfGh_-1_30_40.wav",) * 2


def test_desed_refuses_a_class_that_it_does_not_have(tmp_path):
    root = set_files.desed(tmp_path)
    write_text(
        root / "metadata/eval/public.tsv",
        "filename\tonset\toffset\tevent_label",
        "x.wav\t0\t1\tBlinder",
    )
    with pytest.raises(
        ValueError, match=r"public.tsv, line 2: .*'Blinder'; did you mean 'Blender'"
    ):
        sed_sets.desed(root, "public")


def test_maestro_takes_more_than_one_half_and_joins_seconds(tmp_path):
    found = sed_sets.maestro(set_files.maestro(tmp_path))
    [clip] = found.clips
    assert clip.name == "cafe_restaurant_04"
    assert clip.events == [Event(0.0, 2.0, "people talking"), Event(3.0, 4.0, "people talking")]
    assert len(found.captions) == 11
    assert "coffee machine" not in found.captions
    assert found.repairs == {}  # seconds that touch are one event by definition


def test_maestro_keeps_a_file_in_which_nothing_scored_sounds_and_says_so(tmp_path):
    root = set_files.maestro(tmp_path)
    scene = root / "development_annotation/soft_labels_cafe_restaurant"
    write_text(scene / "cafe_restaurant_10.txt", "0.0\t1.0\tcoffee machine\t0.9")
    set_files.write_audio(root / "development_audio/cafe_restaurant/cafe_restaurant_10.wav", 2.0)
    found = sed_sets.maestro(root)
    assert by_name(found)["cafe_restaurant_10"].events == []
    assert "1 files without a class that is scored" in found.notes[0]
    write_text(scene / "cafe_restaurant_10.txt", "0.0\t1.0\tfootsteps\t90")
    with pytest.raises(ValueError, match=r"_10.txt, line 1: a soft label of 90.0, expected 0 to 1"):
        sed_sets.maestro(root)


def test_maestro_trains_on_the_other_files(tmp_path):
    [clip] = sed_sets.maestro(set_files.maestro(tmp_path), "train").clips
    assert (clip.name, clip.events) == ("cafe_restaurant_01", [Event(0.0, 1.0, "birds singing")])


@pytest.mark.parametrize("jams", [True, False])
def test_urban_sed_is_the_same_from_jams_and_from_text(tmp_path, jams):
    [clip] = sed_sets.urban_sed(set_files.urban_sed(tmp_path, jams)).clips
    assert [event.caption for event in clip.events] == ["dog bark", "siren"]
    assert clip.events[0].offset == pytest.approx(2.871905)
    assert clip.events[1].offset == 10.0


@pytest.mark.parametrize("jams", [True, False])
def test_the_last_digits_of_urban_sed_are_no_repair(tmp_path, jams):
    root = set_files.urban_sed(tmp_path, jams)
    path = next((root / "annotations/test").glob("*.jams" if jams else "*.txt"))
    onset, duration = 7.123456789012345, 2.876543210987657
    assert onset + duration == 10.000000000000002
    content = path.read_text().replace("5.977001", repr(onset))
    path.write_text(
        content.replace("4.023", repr(duration)).replace("10.0\tsi", f"{onset + duration}\tsi")
    )
    found = sed_sets.urban_sed(root)
    assert found.clips[0].events[1] == Event(onset, 10.0, "siren")
    assert found.repairs == {}


def test_urban_sed_is_found_in_the_folder_of_its_archive(tmp_path):
    set_files.urban_sed(tmp_path / "URBAN-SED_v2.0.0")
    assert len(sed_sets.urban_sed(tmp_path).present) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("annotations", "remarks"), "not a JAMS file"),
        (('"role"', '"roll"'), "not a JAMS file"),
        (('"scaper"', '"tempo"'), "no annotation in the namespaces .* it has tempo"),
        (('"scaper"', '"tag_open"'), "not a JAMS file of events .*the label of event 0 is no text"),
        (
            ('"dog_bark"', '"dog_brak"'),
            "event 0: unknown label 'dog_brak'; did you mean 'dog_bark'",
        ),
        (("2.458631", "NaN"), "event 0: duration is 'nan', expected a number"),
    ],
)
def test_urban_sed_refuses_what_is_no_jams_file_of_scaper(tmp_path, changed, message):
    root = set_files.urban_sed(tmp_path)
    path = root / "annotations/test/soundscape_test_bimodal0.jams"
    path.write_text(path.read_text().replace(*changed))
    with pytest.raises(ValueError, match=rf"bimodal0.jams.*{message}"):
        sed_sets.urban_sed(root)


def test_urban_sed_leaves_aside_annotations_of_another_kind(tmp_path):
    root = set_files.urban_sed(tmp_path)
    path = root / "annotations/test/soundscape_test_bimodal0.jams"
    content = json.loads(path.read_text())
    content["annotations"].append({"namespace": "tempo", "data": [{"value": 120}]})
    path.write_text(json.dumps(content))
    assert len(sed_sets.urban_sed(root).clips[0].events) == 2


def test_captions_of_tacos_that_read_the_same_are_one(tmp_path):
    root = set_files.tacos(tmp_path)
    rows = ["999001.mp3,A dog  barks twice,2.5,3", "999001.mp3,a dog\u2028barks Twice,1.5,2.2"]
    with (root / "annotations_strong.csv").open("a", encoding="utf-8") as table:
        table.write("\n".join(rows) + "\n")
    found = sed_sets.tacos(root)
    assert found.captions == ["a dog barks twice", "a man calls out, far away"]
    barks = [event for event in found.clips[0].events if event.caption == found.captions[0]]
    assert [(event.onset, event.offset) for event in barks] == [(0.52, 2.2), (2.5, 3.0)]


def test_tacos_has_texts_before_times(tmp_path):
    root = set_files.tacos(tmp_path)
    [clip] = sed_sets.tacos(root).clips
    assert clip.events[1] == Event(1.4, 3.75, "a man calls out, far away")
    [clip] = sed_sets.tacos(root, "development").clips
    assert clip.events == [Event(0.0, 4.6, "rain falling on leaves")]


def test_an_absent_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"validation.tsv"):
        sed_sets.desed(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"soft_labels"):
        sed_sets.maestro(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"neither .jams nor .txt"):
        sed_sets.urban_sed(tmp_path)
