"""What holds for every test: one thread, no screen, no network, no luck."""

import os
import tempfile

# Set before torch, matplotlib or transformers are imported. Two OpenMP threads on a busy two-core
# machine are slower than one, and pytest-xdist already keeps both cores busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
# What tests unpack is of no use to anyone after them.
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="flam-datasets-")

import atexit
import shutil
import socket

import pytest
from hypothesis import settings

atexit.register(shutil.rmtree, os.environ["HF_DATASETS_CACHE"], ignore_errors=True)

# The same examples on every machine and every day; no deadline, because CI machines pause.
settings.register_profile("house", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("house")


pytest_plugins = ["browsers", "labelled_folders", "projects"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that asks for another machine fails and says which."""
    look_up = socket.getaddrinfo

    def local_only(host, *args, **kwargs):
        if host not in (None, "localhost", "127.0.0.1", "::1", socket.gethostname()):
            raise AssertionError(f"a test asked the network for {host!r}")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", local_only)
