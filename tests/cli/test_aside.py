import sys

import pytest

from flamlib.cli import aside


def test_notes_are_lines_that_a_terminal_can_show(capsys):
    aside.say("one\ntwo", "\x1b[31mred")
    assert capsys.readouterr() == ("", "flam: one two\nflam: \\x1b[31mred\n")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_is_for_terminals(monkeypatch, is_terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    assert aside.shows_progress() == is_terminal
    with aside.silenced(True):
        assert not aside.shows_progress()
        with aside.silenced(False):
            assert aside.shows_progress() == is_terminal
        assert not aside.shows_progress()


def test_an_error_ends_the_silence(capsys):
    def fail():
        with aside.silenced(True):
            aside.say("nothing of this")
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fail()
    aside.say("but this")
    assert capsys.readouterr().err == "flam: but this\n"
