import pytest

from flamlib.serve import caps
from flamlib.serve.refusals import Refused


def test_as_many_captions_as_are_taken_are_taken():
    assert len(caps.check_captions([f"sound {i}" for i in range(caps.MAX_CAPTIONS)])) == 100


@pytest.mark.parametrize(
    "given", [[], [""], ["x" * 501], ["Rain", "rain "], ["a"] * 101, ["\ud83d"]]
)
def test_others_are_refused(given):
    with pytest.raises(Refused):
        caps.check_captions(given)
