import hashlib
import os
import sys
import textwrap
import time
from pathlib import Path

import pytest

from flamlib.data.corpus import packages
from flamlib.data.corpus.packages import Package, Substituted, fetch, read_packages

CONTENT = b"the package itself " * 100

FAKE_CLIENT = """\
    #!{python}
    import os, pathlib, shutil, sys
    shelf = pathlib.Path({shelf!r})
    with open(shelf / "calls", "a") as calls:
        print(pathlib.Path(sys.argv[0]).name, *sys.argv[1:], file=calls)
    if "update" in sys.argv:
        sys.exit((shelf / "offline").exists())
    name, _, version = sys.argv[-1].replace("==", "=").replace("@", "=").partition("=")
    found = sorted(shelf.glob(f"{{name}}/{{version or '*'}}/*"))
    if not found:
        print("a line of no interest", file=sys.stderr)
        sys.exit(f"E: Version '{{version}}' for '{{name}}' was not found")
    shutil.copy(found[-1], os.getcwd())
"""


class Shelf:
    """What the fake clients have to give, and what they were asked for."""

    def __init__(self, folder):
        self.folder = folder

    def put(self, name, version, file, content=CONTENT):
        path = self.folder / name / version / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def calls(self):
        log = self.folder / "calls"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """apt-get, npm and the python that runs pip, as scripts that copy from a folder."""
    shelf = Shelf(tmp_path / "shelf")
    shelf.folder.mkdir()
    (tmp_path / "bin").mkdir()
    script = textwrap.dedent(FAKE_CLIENT).format(python=sys.executable, shelf=str(shelf.folder))
    for name in ("apt-get", "npm", "python"):
        client = tmp_path / "bin" / name
        client.write_text(script)
        client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    return shelf


def package(name="bells", version="1.0", channel="apt", file=None, content=CONTENT):
    suffix = {"apt": f"_{version}_all.deb", "pip": f"-{version}-py3-none-any.whl"}
    return Package(
        name=name,
        version=version,
        channel=channel,
        profile="core",
        file=file or name + suffix.get(channel, f"-{version}.tgz"),
        sha256=hashlib.sha256(content).hexdigest(),
        n_bytes=len(content),
        licence="CC0",
        note="",
    )


def fetched(wanted, downloads):
    return fetch(wanted, downloads, n_jobs=2, progress=False)


def test_every_channel_gives_its_file(tmp_path, shelf):
    wanted = [package("bells"), package("gongs", channel="pip"), package("bars", channel="npm")]
    for p in wanted:
        shelf.put(p.name, p.version, p.file)
    paths, skipped = fetched(wanted, tmp_path / "downloads")
    assert skipped == {}
    assert paths == {p.name: tmp_path / "downloads" / p.file for p in wanted}
    assert all(path.read_bytes() == CONTENT for path in paths.values())
    assert sorted(p.name for p in (tmp_path / "downloads").iterdir()) == sorted(
        p.file for p in wanted
    )


def test_what_is_there_is_not_fetched_again(tmp_path, shelf):
    shelf.put("bells", "1.0", "bells_1.0_all.deb")
    fetched([package()], tmp_path)
    n_calls = len(shelf.calls())
    paths, skipped = fetched([package()], tmp_path)
    assert paths == {"bells": tmp_path / "bells_1.0_all.deb"}
    assert skipped == {}
    assert len(shelf.calls()) == n_calls


def test_apt_reads_its_lists_once_for_all_packages_and_only_if_there_are_any(tmp_path, shelf):
    names = ["bells", "gongs", "bars"]
    for name in names:
        shelf.put(name, "1.0", f"{name}_1.0_all.deb")
    fetched([package(name) for name in names], tmp_path)
    assert sum(call.endswith("update") for call in shelf.calls()) == 1


def test_a_truncated_download_is_replaced(tmp_path, shelf):
    shelf.put("bells", "1.0", "bells_1.0_all.deb")
    (tmp_path / "bells_1.0_all.deb").write_bytes(CONTENT[:50])
    paths, _ = fetched([package()], tmp_path)
    assert paths["bells"].read_bytes() == CONTENT


def test_a_file_put_there_by_hand_needs_no_client(tmp_path, shelf, monkeypatch):
    monkeypatch.setenv("PATH", "")
    (tmp_path / "bells_1.0_all.deb").write_bytes(CONTENT)
    assert fetched([package()], tmp_path) == ({"bells": tmp_path / "bells_1.0_all.deb"}, {})


def test_without_a_client_the_reason_says_what_to_do(tmp_path, shelf, monkeypatch):
    monkeypatch.setenv("PATH", "")
    paths, skipped = fetched([package("bells"), package("bars", channel="npm")], tmp_path)
    assert paths == {}
    assert "Debian or Ubuntu" in skipped["bells"]
    assert "bells_1.0_all.deb" in skipped["bells"]
    assert "by hand" in skipped["bells"]
    assert "npm" in skipped["bars"]


def test_a_python_without_pip_is_reported(tmp_path, shelf, monkeypatch):
    script = f"#!{os.path.realpath('/bin/sh')}\necho $0: No module named pip >&2\nexit 1\n"
    Path(sys.executable).write_text(script)
    _, skipped = fetched([package(channel="pip")], tmp_path)
    assert "No module named pip" in skipped["bells"]


def test_without_a_network_the_reason_names_the_step(tmp_path, shelf):
    (shelf.folder / "offline").touch()
    _, skipped = fetched([package()], tmp_path)
    assert "apt-get update" in skipped["bells"]


def test_a_package_that_cannot_be_had_costs_only_itself(tmp_path, shelf):
    shelf.put("bells", "1.0", "bells_1.0_all.deb")
    paths, skipped = fetched([package("gone"), package("bells")], tmp_path)
    assert list(paths) == ["bells"]
    assert "E: Version '1.0' for 'gone' was not found" in skipped["gone"]
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_wrong_checksum_is_never_taken(tmp_path, shelf):
    shelf.put("bells", "1.0", "bells_1.0_all.deb", b"another content")
    paths, skipped = fetched([package()], tmp_path)
    assert paths == {}
    assert "checksum" in skipped["bells"]
    assert not (tmp_path / "bells_1.0_all.deb").exists()


def test_a_version_that_is_gone_gives_way_to_the_newest_with_a_warning(tmp_path, shelf):
    shelf.put("bells", "1.1", "bells_1.1_all.deb", b"newer")
    with pytest.warns(Substituted, match=r"bells 1\.0 cannot be downloaded: bells_1\.1_all\.deb"):
        paths, skipped = fetched([package()], tmp_path)
    assert paths["bells"].name == "bells_1.1_all.deb"
    assert skipped == {}


@pytest.mark.parametrize(
    ("wanted", "file"),
    [
        (package("bells"), "bells_1.2_all.deb"),
        (package("more-bells", channel="pip"), "more_bells-1.2-py3-none-any.whl"),
        (package("bars", channel="npm"), "bars-1.2.tgz"),
    ],
)
def test_another_version_put_there_by_hand_is_taken_with_a_warning(tmp_path, shelf, wanted, file):
    for name in (file, "bells-extra_1.0_all.deb", "more_bells_extra-1.0-py3.whl", "bars-x-1.tgz"):
        (tmp_path / name).write_bytes(b"by hand")
    with pytest.warns(Substituted):
        paths, _ = fetched([wanted], tmp_path)
    assert paths[wanted.name].name == file


def test_what_a_killed_fetch_left_is_swept_but_not_what_a_running_one_needs(tmp_path, shelf):
    for name in (".old.partial", ".new.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half.deb").touch()
    long_ago = time.time() - 3 * packages._TIMEOUT_S
    os.utime(tmp_path / ".old.partial", (long_ago, long_ago))
    fetched([], tmp_path)
    assert [path.name for path in tmp_path.glob(".*")] == [".new.partial"]


def test_a_client_that_hangs_is_given_up(tmp_path, shelf, monkeypatch):
    client = Path(os.environ["PATH"]) / "npm"
    client.write_text(
        f"#!{os.path.realpath('/bin/sh')}\nexec {os.path.realpath('/bin/sleep')} 60\n"
    )
    monkeypatch.setattr(packages, "_TIMEOUT_S", 0.2)
    _, skipped = fetched([package(channel="npm")], tmp_path)
    assert "did not finish within" in skipped["bells"]


def write_table(path, *rows):
    lines = ["\t".join(packages.COLUMNS), *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_is_read_as_it_was_written(tmp_path):
    rows = [package("bells"), package("gongs", channel="pip")]
    assert read_packages(write_table(tmp_path / "packages.tsv", *rows)) == rows


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"channel": "ftp"}, "channel 'ftp'"),
        ({"file": "../bells.deb"}, "no file name"),
        ({"file": ""}, "no file name"),
        *(
            ({"file": name}, "no file name")
            for name in ("..", ".", "-o", "a\\b", "a\0b", "a" * 300)
        ),
        ({"sha256": "abc"}, "no SHA-256"),
        ({"n_bytes": "many"}, "no number"),
        ({"n_bytes": "²"}, "no number"),
        ({"n_bytes": "9" * 5000}, "no number"),
        ({"n_bytes": "-1"}, "no number"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, wrong, why):
    path = write_table(tmp_path / "packages.tsv", package("a"), package()._replace(**wrong))
    with pytest.raises(ValueError, match=f"line 3: package 'bells': .*{why}"):
        read_packages(path)


NO_NAMES = [
    *(
        "--option",
        "-oDir::x",
        "http://x/y",
        "git+https://x/y",
        "../x",
        "./x",
        "/x",
        "x/y",
        "x:i386",
    ),
    *("", " ", "x y", "x*", "x[y]", "x=1", "x>1", "x@1", "x;y", "$(x)", "x\ny", "é", "x" * 300),
]


@pytest.mark.parametrize("column", ["name", "version"])
@pytest.mark.parametrize("channel", ["apt", "pip", "npm"])
@pytest.mark.parametrize("text", NO_NAMES)
def test_what_a_client_could_take_for_anything_but_a_package_is_refused(
    tmp_path, shelf, channel, column, text
):
    wrong = package("bells", channel=channel)._replace(**{column: text})
    with pytest.raises(ValueError, match=r"packages\.tsv, line [23]: "):
        read_packages(write_table(tmp_path / "packages.tsv", wrong))
    assert shelf.calls() == []


@pytest.mark.parametrize(
    ("channel", "name", "version"),
    [
        ("apt", "wesnoth-1.16-data", "1:1.16.9-1"),
        ("apt", "libstdc++6", "3.43~svn170+dfsg-7"),
        ("pip", "gt_all.MiniLM-L6", "1!2.0.post1+cpu"),
        ("npm", "@scope/ion-sound", "3.0.7-beta.1+build.5"),
    ],
)
def test_the_names_and_versions_that_a_channel_allows_are_read(tmp_path, channel, name, version):
    row = package(name, version, channel=channel)
    row = row._replace(file="a%3a1.0_all.deb")
    assert read_packages(write_table(tmp_path / "packages.tsv", row)) == [row]


def test_a_package_listed_twice_or_a_wrong_column_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"line 3: package 'bells' is listed twice, first in .*line 2"
    ):
        read_packages(write_table(tmp_path / "packages.tsv", package(), package()))
    (tmp_path / "odd.tsv").write_text("name\tversion\n")
    with pytest.raises(ValueError, match=r"odd\.tsv, line 1: no column"):
        read_packages(tmp_path / "odd.tsv")


def test_the_project_pins_every_package_by_checksum():
    table = Path(__file__).parents[3] / "catalogue/packages.tsv"
    pinned = read_packages(table)
    assert {"core", "full", "extra", "weights"} == {package.profile for package in pinned}
    assert all(package.licence for package in pinned)
