import argparse

import pytest

from flamlib.cli import arguments


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (arguments.caption, "  a dog \n barks", "a dog barks"),
        (arguments.caption, "é 犬", "é 犬"),
        (arguments.caption, "cafe\u0301\u2028noise\u200b", "caf\u00e9 noise"),
        (arguments.share, "1", 1.0),
        (arguments.seconds, "0.25", 0.25),
        (arguments.odd, "3", 3),
        (arguments.clip_seconds, "10", 10.0),
        (arguments.count, "1e6", 1_000_000),
        (arguments.number, "-2.5", -2.5),
        (arguments.whole, "-2", -2),
    ],
)
def test_what_an_argument_means(read, text, value):
    found = read(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (arguments.caption, " "),
        (arguments.caption, "\u200b\u00a0"),
        (arguments.caption, "a dog\udcff"),
        (arguments.share, "1.01"),
        (arguments.share, "nan"),
        (arguments.seconds, "-1"),
        (arguments.seconds, "inf"),
        (arguments.odd, "2"),
        (arguments.odd, "1.5"),
        (arguments.odd, "999999999"),
        (arguments.odd, "inf"),
        (arguments.clip_seconds, "0"),
        (arguments.clip_seconds, "1e9"),
        (arguments.clip_seconds, "nan"),
        (arguments.count, "0"),
        (arguments.count, "2.5"),
        (arguments.number, "many"),
        (arguments.seconds, "1_0"),
        (arguments.count, "1_000"),
        (arguments.whole, "1_0"),
        (arguments.whole, "0.5"),
        (arguments.number, "\u0663"),
    ],
)
def test_what_an_argument_cannot_mean(read, text):
    with pytest.raises(argparse.ArgumentTypeError):
        read(text)


def test_an_error_of_the_user_is_told_and_one_of_ours_is_not_hidden():
    with pytest.raises(arguments.UsageError, match="no such"), arguments.usage_errors(KeyError):
        raise KeyError("no such thing")
    with pytest.raises(arguments.UsageError), arguments.usage_errors(LookupError):
        raise KeyError("missing")
    with pytest.raises(KeyError), arguments.usage_errors():
        raise KeyError("a bug")
