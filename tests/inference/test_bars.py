import pytest

from flamlib.inference import bars


def test_a_bar_is_full_when_all_bytes_are_heard(capsys):
    with bars.by_bytes("detect", iter([1000, 3000]), shown=True) as bar:
        bar.update(1000)
        bar.refresh()
        assert " 25%" in capsys.readouterr().err
        bar.update(3000)
    told = capsys.readouterr().err
    assert "detect: 100%" in told
    assert "4.00k/4.00k" in told


@pytest.mark.parametrize(("sizes", "shown"), [([1000], False), ([], False)])
def test_one_that_is_not_shown_says_nothing(capsys, sizes, shown):
    with bars.by_bytes("detect", sizes, shown=shown) as bar:
        bar.update(1000)
    assert capsys.readouterr().err == ""


def test_no_recordings_and_recordings_without_bytes_are_no_special_case():
    for sizes in ([], [0, 0]):
        with bars.by_bytes("detect", sizes, shown=True) as bar:
            bar.update(0)
