from flamlib.data.datasets import testsets
from flamlib.report import set_tables

EVALUATED = {
    "flam": {"seen_captions": {"map": 1}, "retrieval": {"t2a_r1": 2}},
    "other": {"seen_captions": {"map": 3}},
    "difference": {"seen_captions": {"other": {"map": -2}}},
}


def test_the_numbers_of_04_are_turned_to_sets():
    assert set_tables.by_testset(EVALUATED, {}) == {
        "seen_captions": {
            "flam": {"map": 1},
            "other": {"map": 3},
            "difference": {"other": {"map": -2}},
        },
        "held_out_recordings": {"flam": {"t2a_r1": 2}},
    }


def test_external_models_join_those_of_04():
    external = {
        "flam": {"seen_captions": {"map": 1.001}},
        "theirs": {"seen_captions": {"map": 4}, "retrieval": {"t2a_r1": 5}},
        "difference": {"seen_captions": {"theirs": {"map": -3}}},
    }
    of_set = set_tables.by_testset(EVALUATED, external)["seen_captions"]
    assert [*of_set] == ["flam", "other", "difference", "theirs"]
    assert (of_set["flam"], of_set["theirs"]) == ({"map": 1}, {"map": 4})
    assert of_set["difference"] == {"other": {"map": -2}, "theirs": {"map": -3}}
    assert "difference" in EVALUATED
    assert EVALUATED["difference"]["seen_captions"] == {"other": {"map": -2}}


def cells_of(table):
    return {row["cells"][0]["text"]: row["cells"][1:] for row in table["rows"]}


def test_captions_right_for_their_own_clip_alone_have_rows_where_that_is_another_number():
    numbers = {"t2a_r1": 0.5, "n_clips": 9, "n_captions": 45}
    plain = set_tables.set_table("Mine", "retrieval", {"flam": numbers}, ["flam"])
    assert list(cells_of(plain)) == ["text to audio, R@1"]
    both = set_tables.set_table(
        "Mine", "retrieval", {"flam": numbers | {"t2a_r1_own": 0.25}}, ["flam"]
    )
    [name] = [name for name in cells_of(both) if "own clip alone" in name]
    assert cells_of(both)[name][0]["text"] == "25.0"


def test_a_row_is_a_number_of_every_model_and_what_no_model_has_is_none():
    sizes = {"n_clips": 4, "n_captions": 2}
    of_set = {
        "flam": {"auroc_macro": 0.9, "f1": 0.5, "ece": 0.1, **sizes},
        "theirs": {"auroc_macro": 0.8, "f1": 0.5, **sizes},
        "difference": {"theirs": {"auroc_macro_p": 0.02}},
    }
    table = set_tables.set_table("Mine", "sed", of_set, ["flam", "theirs", "absent"], "4 of 9")
    assert table["title"] == "Mine: 4 of 9 clips, 2 captions"
    found = cells_of(table)
    assert len(found) == 3
    first = found["AUROC of frames, mean over captions"]
    assert [cell["text"] for cell in first] == ["90.0", "80.0", "–"]
    assert [cell["small"] for cell in first] == ["", "p = .020", ""]
    assert [cell["why"] for cell in first] == ["", "", "not evaluated"]
    assert (
        found["expected calibration error (ECE), lower is better"][1]["why"] == "not defined here"
    )
    # Without mixtures for validation there is one threshold.
    assert "frame F1 at the best threshold on these clips" in found


def test_a_classification_has_its_templates_and_folds():
    numbers = {"top1": 0.5, "top1_sound_of": 0.5, "top1_sound_of_low": 0.4, "top5": 1.0}
    numbers |= {"macro": 0.6, "fold_mean": 0.55, "per_fold": {"1": 0.5, "2": 0.6}}
    numbers |= {"fold_1": 0.5, "fold_2": 0.6, "n_clips": 4, "n_captions": 2}
    table = set_tables.set_table("Mine", "classification", {"flam": numbers}, ["flam"])
    assert [*cells_of(table)] == [
        "accuracy, template “sound of”",
        "accuracy, mean over 2 folds",
        "accuracy, fold 1",
        "accuracy, fold 2",
        "top-5 accuracy",
        "accuracy, mean over classes",
    ]


def test_held_out_tables_are_those_there_are():
    of_set = {"flam": {"t2a_r1": 0.5, "n_clips": 4, "n_captions": 2}}
    [table] = set_tables.held_out_tables(
        {"held_out_recordings": of_set, "clotho": of_set}, ["flam"]
    )
    assert table["title"] == "Retrieval of held-out recordings: 4 clips, 2 captions"


def test_a_set_of_one_s_own_is_called_otherwise_than_the_embedded_corpus_s():
    assert {name for name, _, _ in set_tables.HELD_OUT} <= set(testsets.EMBEDDED)


def test_moments_are_of_so_many_sentences():
    numbers = {"moment_r1_50": 0.5, "n_moment_queries": 7, "n_captions": 3, "n_clips": 2}
    table = set_tables.set_table("Mine", "moments", {"flam": numbers}, ["flam"], "2 of 9")
    assert table["title"] == "Mine: 2 of 9 clips, 7 sentences"
    assert len(table["rows"]) == 1
