from flamlib.data.datasets import testsets
from flamlib.report import published


def test_every_column_is_of_a_set_that_can_be_evaluated_or_of_our_own():
    own = {"seen_captions", "unseen_captions", "held_out", "heldout_seen", "heldout_unseen"}
    for table in (published.SED, published.RETRIEVAL, published.ZERO_SHOT):
        assert {column.testset for column in table} <= own | set(testsets.SETS)
        assert len({(column.testset, column.key) for column in table}) == len(table)


def test_the_numbers_of_the_paper_stand_where_they_belong():
    flam = published.PUBLISHED["sed"]["FLAM"]
    assert flam["asfx_sed", "auroc_macro"] == 81.23
    assert flam["urbansed", "psds1"] == 29.52
    assert published.PUBLISHED["retrieval"]["OpenFLAM"]["audiocaps", "a2t_r5"] == 76.50
    assert published.PUBLISHED["zero_shot"]["FLAM"] == {
        ("esc50", "top1"): 86.9,
        ("urbansound8k", "top1"): 75.6,
        ("vggsound", "top1"): 39.3,
    }


def test_every_published_number_has_a_column():
    tables = {
        "sed": published.SED,
        "retrieval": published.RETRIEVAL,
        "zero_shot": published.ZERO_SHOT,
    }
    for name, columns in tables.items():
        keys = {(column.testset, column.key) for column in columns}
        for model, row in published.PUBLISHED[name].items():
            assert set(row) <= keys, model
            assert all(0 < value <= 100 for value in row.values())
