"""The command of `flam` that answers over HTTP and shows a page: serve."""

import argparse
import socket
from contextlib import suppress

from flamlib.cli.arguments import (
    add_model,
    count,
    model_folder,
    usage_errors,
    warnings_in_a_line,
    whole,
)
from flamlib.cli.aside import say
from flamlib.cli.errors import UsageError

HOST, PORT = "127.0.0.1", 8000
MAX_MB, MAX_MINUTES = 100, 30
N_CONNECTIONS = 64


def add_serve(serve: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam serve`."""
    serve.description = _serve.__doc__
    serve.set_defaults(run=_serve, extra="serve")
    add = serve.add_argument
    add("--index", metavar="INDEX", help="search this index, too, from `flam index`")
    add_model(serve)
    add(
        "--host",
        default=HOST,
        metavar="ADDRESS",
        help="the address to answer on (default: %(default)s, which only this machine reaches); "
        "there are no passwords and no encryption",
    )
    add("--port", type=_port, default=PORT, metavar="N", help="(default: %(default)s; 0: any)")
    add(
        "--max-mb",
        type=count,
        default=MAX_MB,
        metavar="N",
        help="size of a recording that is taken (default: %(default)s)",
    )
    add(
        "--max-minutes",
        type=count,
        default=MAX_MINUTES,
        metavar="N",
        help="length of a recording that is taken (default: %(default)s)",
    )


def _port(text: str) -> int:
    port = whole(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port: expected 0 to 65535")
    return port


def _serve(args: argparse.Namespace) -> None:
    """Show a page on which recordings are heard, asked and reviewed, and answer over HTTP
    (/openapi.json says how). It goes on until Ctrl-C."""
    import uvicorn

    from flamlib.models import baselines
    from flamlib.models.text_tower import UnknownWords
    from flamlib.models.weights import Fetching
    from flamlib.search import archive
    from flamlib.serve import app
    from flamlib.serve.limits import Limits
    from flamlib.serve.workspace import Workspace

    index = None if args.index is None else archive.read(args.index)
    folder = model_folder(args.model or (index and index.about.model_name))
    if index is not None:
        archive.check_model(index.folder, index.about, folder)
    is_ours = args.host in app.LOOPBACK
    with _bound(args.host, args.port) as listening, warnings_in_a_line((UnknownWords, Fetching)):
        with usage_errors():
            model = baselines.load(folder)
        limits = Limits(max_bytes=args.max_mb * 10**6, max_s=args.max_minutes * 60.0)
        workspace = Workspace(model, limits, name=folder.name, index=index)
        service = app.make(workspace, hosts=app.LOOPBACK if is_ours else None)
        host, port = listening.getsockname()[:2]
        say(f"model {folder.name}" + ("" if index is None else f"; index {args.index}"))
        if not is_ours:
            say("whoever reaches this machine can use it: there are no passwords, no encryption")
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        config = uvicorn.Config(
            service,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=N_CONNECTIONS,
            timeout_keep_alive=10,
        )
        with suppress(KeyboardInterrupt):  # the way it ends
            uvicorn.Server(config).run(sockets=[listening])


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that answers on an address. Raises UsageError if it cannot be had."""
    try:
        [(family, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server(address, family=family, backlog=128)
    except OSError as error:
        raise UsageError(
            f"{host}, port {port}: {error.strerror or error}; is flam serve running already? "
            "--port N takes another"
        ) from None
