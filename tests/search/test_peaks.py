import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from flamlib.search import peaks
from flamlib.search.peaks import Peak

CURVES = nps.arrays(
    np.float32, st.integers(1, 40), elements=st.integers(-8, 16).map(lambda n: n / 16)
)


def slow(cosine):
    """Every frame whose run of half its cosine has no higher frame, and none as high before it."""
    found = []
    for at, peak in enumerate(cosine):
        if peak <= 0:
            continue
        start, stop = at, at + 1
        while start > 0 and cosine[start - 1] >= peak / 2:
            start -= 1
        while stop < len(cosine) and cosine[stop] >= peak / 2:
            stop += 1
        if all(cosine[start:at] < peak) and all(cosine[at:stop] <= peak):
            found.append(Peak(start, stop, float(peak)))
    return sorted(found, key=lambda hit: -hit.cosine)


@given(CURVES)
def test_hits_are_those_of_the_definition_the_surest_first(cosine):
    assert list(peaks.find(cosine)) == slow(cosine)


@given(CURVES)
def test_no_frame_is_of_two_hits(cosine):
    frames = [k for hit in peaks.find(cosine) for k in range(hit.start, hit.stop)]
    assert len(frames) == len(set(frames))


def test_without_evidence_there_is_no_hit():
    assert list(peaks.find(np.array([0.0, -0.5, 0.0]))) == []


def test_a_curve_is_left_as_it_is():
    cosine = np.array([0.2, 0.9, 0.1])
    assert list(peaks.find(cosine)) == [Peak(1, 2, np.float32(0.9))]
    assert cosine.tolist() == [0.2, 0.9, 0.1]
