import pytest

from flamlib.cli import errors


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb\t c", "a b c"), ("caf\u00e9", "caf\u00e9"), ("\x1b[31mred", "\\x1b[31mred")],
)
def test_what_is_printed_is_one_line_and_moves_no_terminal(text, shown):
    assert errors.printable(text) == shown
