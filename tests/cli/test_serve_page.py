"""Of `flam serve`."""

import socket
import subprocess
import sys
import urllib.request

import pytest

from flamlib.cli import main


def test_it_says_where_it_is_and_ends_at_ctrl_c(here):
    command = [sys.executable, "-m", "flamlib", "serve", "--port", "0"]
    command += ["--model", str(here / "artifacts/checkpoints/flam")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(url, timeout=30) as page:
            assert b"Drop a recording" in page.read()
    finally:
        process.send_signal(2)
        assert process.wait(30) == 0


def test_a_port_that_is_taken_and_an_index_that_is_not_there(here, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main.main(["serve", "--port", str(taken.getsockname()[1])]) == 2
    assert "running already" in capsys.readouterr().err
    assert main.main(["serve", "--index", "nowhere"]) == 2
    assert "no index" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main.main(["serve", "--port", "70000"])
