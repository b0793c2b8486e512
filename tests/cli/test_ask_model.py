import argparse

import pytest

from flamlib.cli import ask_model
from flamlib.cli.errors import UsageError


def parsed(*given):
    parser = argparse.ArgumentParser()
    ask_model.add_questions(parser)
    return parser.parse_args(given)


def test_a_caption_is_asked_for_in_one_of_three_ways():
    for given in (["-c", "rain"], ["--captions", "c.txt"], ["--load-params", "p.json"]):
        ask_model.check_captions(parsed(*given))
    with pytest.raises(UsageError, match="captions are needed"):
        ask_model.check_captions(parsed())
