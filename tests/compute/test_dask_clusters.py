import http.server
import json
import os
import socket
import threading
import time

import psutil
import pytest

from flamlib.compute import dask_clusters


@pytest.fixture
def no_scheduler():
    """Ports at which nobody, a silent server, and one of web pages hear."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield {"nobody": nobody, "silent": silent.getsockname()[1], "pages": pages.server_port}
    pages.shutdown()
    pages.server_close()


@pytest.mark.parametrize("who", ["nobody", "silent", "pages"])
@pytest.mark.parametrize("by_file", [True, False])
def test_where_no_scheduler_is_the_address_is_named_within_seconds(
    tmp_path, monkeypatch, no_scheduler, who, by_file
):
    monkeypatch.setattr(dask_clusters, "CONNECT_S", 1)
    address = f"tcp://127.0.0.1:{no_scheduler[who]}"
    (tmp_path / "sched.json").write_text(json.dumps({"address": address}))
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match=rf"{address}: no dask scheduler is there"):
        dask_clusters.connect(str(tmp_path / "sched.json") if by_file else address)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"address"', "\0\0"])
def test_a_file_that_is_none_of_a_scheduler_is_named(tmp_path, content):
    (tmp_path / "sched.json").write_text(content)
    with pytest.raises(ValueError, match=r"sched\.json: not the file of a dask scheduler"):
        dask_clusters.connect(str(tmp_path / "sched.json"))


@pytest.mark.parametrize("scheduler", ["8786", "no/such/file.json", ""])
def test_what_is_neither_file_nor_address_is_named(scheduler):
    with pytest.raises(FileNotFoundError, match=rf"'{scheduler}': no such scheduler file"):
        dask_clusters.connect(scheduler)


def test_processes_of_this_machine_end_with_the_block():
    with dask_clusters.on_this_machine(2) as client:
        found = client.map(lambda _: os.getpid(), range(2), pure=False)
        workers = client.run(os.getpid).values()
        assert len(set(workers)) == 2
        assert set(client.gather(found)) <= set(workers)
        assert os.getpid() not in workers
    assert not any(map(psutil.pid_exists, workers))


def test_an_error_ends_processes_at_once_whatever_they_are_at_work_on():
    begun = time.monotonic()
    workers = []

    def work():
        with dask_clusters.on_this_machine(1) as client:
            workers.extend(client.run(os.getpid).values())
            client.submit(time.sleep, 300)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert not any(map(psutil.pid_exists, workers))
    assert time.monotonic() - begun < 100
