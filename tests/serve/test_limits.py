import pytest

from flamlib.serve import limits
from flamlib.serve.refusals import Refused


def test_as_many_captions_as_are_taken_are_taken():
    assert len(limits.check_captions([f"sound {i}" for i in range(limits.MAX_CAPTIONS)])) == 100


@pytest.mark.parametrize(
    "given", [[], [""], ["x" * 501], ["Rain", "rain "], ["a"] * 101, ["\ud83d"]]
)
def test_others_are_refused(given):
    with pytest.raises(Refused):
        limits.check_captions(given)
