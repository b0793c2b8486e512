import subprocess
import sys
from importlib.metadata import version

import pytest

from flamlib.cli import import_models, main


@pytest.mark.parametrize("command", [[], ["detect"], ["mix"]])
def test_help_does_not_wait_for_torch_or_pandas(command):
    look = "import sys; from flamlib.cli import main\n"
    look += f"try: main.main([*{command}, '--help'])\n"
    look += "finally: print({'torch', 'pandas'} & sys.modules.keys())"
    asked = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert asked.stdout.startswith(" ".join(["usage: flam", *command]))
    assert asked.stdout.endswith("set()\n")


def test_help_needs_no_more_than_the_parser():
    """Of all commands: numpy is a quarter of a second, other libraries are more."""
    look = "import sys; from flamlib.cli import main\n"
    look += "try: main.main(['--help'])\n"
    look += (
        "finally: print([n for n in ('numpy', 'scipy', 'filelock', 'yaml') if n in sys.modules])"
    )
    asked = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert asked.stdout.endswith("[]\n")


def test_every_command_is_its_own_in_the_whole_parser():
    for name in main._COMMANDS:
        alone, of_all = (main._parser(only).format_help() for only in (name, None))
        assert alone == of_all
        for given in ([name, "--help"],):
            with pytest.raises(SystemExit, match="0"):
                main.main(given)


@pytest.mark.parametrize("command", ["detect", "embed", "export", "mix", "caption", "import-clap"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as left:
        main.main([command, "--help"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: flam {command}")
    assert command in main.__doc__ or command.startswith("import")


@pytest.mark.parametrize(
    "start", [["-m", "flamlib"], ["-c", "from flamlib.cli.main import main; main()"]]
)
def test_the_version_is_that_of_the_package(start):
    asked = [sys.executable, *start, "--version"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert told == f"flam {version('flamlib')}\n"


def test_no_command_is_an_error_that_lists_them(capsys):
    with pytest.raises(SystemExit) as left:
        main.main([])
    assert left.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_a_torchaudio_for_another_torch_is_named(monkeypatch, capsys):
    def run(args):
        raise OSError("Could not load this library: site-packages/torchaudio/lib/libtorchaudio.so")

    monkeypatch.setattr(import_models, "_clap", run)
    assert main.main(["import-clap", "source", "out"]) == 2
    assert capsys.readouterr().err.startswith("flam: torchaudio cannot be loaded beside this torch")


def test_an_interruption_is_a_line_and_130(monkeypatch, capsys, tmp_path):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("flamlib.storage.manifest.verify", interrupted)
    assert main.main(["verify", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "flam: stopped\n"


@pytest.mark.parametrize(
    ("shell", "code", "told"),
    [
        ("> /dev/full", 2, "flam: No space left on device: what is printed, or a temporary"),
        ("| true; exit ${PIPESTATUS[0]}", main.CLOSED, ""),
    ],
)
def test_what_is_printed_to_a_full_disk_or_a_closed_pipe(tmp_path, shell, code, told):
    (tmp_path / "a.py").write_text(
        "import sys, time\n"
        "from flamlib.cli import main, make\n"
        "make._verify = lambda args: time.sleep(0.5) or print('all is well')\n"
        "sys.exit(main.main(['verify', 'folder']))\n"
    )
    run = f"{sys.executable} {tmp_path / 'a.py'} {shell}"
    done = subprocess.run(["bash", "-c", run], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == bool(told)


@pytest.mark.parametrize(
    ("given", "usage", "told"),
    [
        (["detect", "a.wav", "--treshold", "0.5"], "flam detect",
         "no option --treshold; did you mean --threshold?"),
        (["detect", "a.wav", "--sorces=x"], "flam detect",
         "no option --sorces; did you mean --scores?"),
        (["verify", "folder", "--zzzz"], "flam verify", "no option --zzzz"),
        (["detect", "a.wav", "-c", "rain", "b.wav"], "flam detect", "unexpected b.wav: files"),
        (["detcet", "a.wav"], "flam", "no command detcet; did you mean detect?"),
        (["--zzzz", "models"], "flam", "no option --zzzz"),
    ],
)  # fmt: skip
def test_what_is_misspelled_is_told_with_the_usage_of_its_command(capsys, given, usage, told):
    with pytest.raises(SystemExit, match="2"):
        main.main(given)
    said = capsys.readouterr().err
    assert said.startswith(f"usage: {usage} ")
    last = said.splitlines()[-1]
    assert last.startswith(f"{usage}: error: {told}")


@pytest.mark.parametrize("name", ["-a.wav", "-o.wav", "--channel.wav"])
def test_a_file_whose_name_looks_like_an_option_is_told_how_to_name_it(
    monkeypatch, capsys, tmp_path, name
):
    """Not the -o that -o.wav would be."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(SystemExit, match="2"):
        main.main(["detect", "-c", "rain", "b.wav", name])
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        f"flam detect: error: {name} is taken for an option; the file of this name is ./{name}"
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]
    for named in ([f"./{name}"], ["--", name]):
        assert main.main(["detect", "-c", "rain", "--model", "nowhere", *named]) == 2
        assert "nowhere: no such folder" in capsys.readouterr().err
