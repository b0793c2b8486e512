"""A chat server on this machine that speaks the OpenAI protocol."""

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Raw:
    """What goes over the wire from the status line on: pieces of bytes, as fast as they come."""

    pieces: Iterable[bytes]


def raw(content, *, status="200 OK", **headers):
    """An answer of these bytes; `content_encoding="gzip"` is a header."""
    headers = {"content-length": len(content)} | headers
    lines = [f"HTTP/1.1 {status}", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    return Raw(["\r\n".join([*lines, "", ""]).encode() + content])


def completion(text):
    """The JSON of an answer with this content."""
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


class Server:
    """A chat server on this machine, for tests of what asks one.

    `answers` are given in turn, the last for ever: a text, a status, the whole JSON of an answer, a
    `Raw`, or a function that makes one of these of the question.
    """

    def __init__(self, *answers):
        self.answers, self.asked, self.keys = list(answers), [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.asked.append((self.path, body))
                server.keys.append(self.headers.get("authorization"))
                answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                answer = answer(body) if callable(answer) else answer
                if isinstance(answer, Raw):
                    self.close_connection = True
                    self._send(answer.pieces)
                    return
                status = answer if isinstance(answer, int) else 200
                said = answer if isinstance(answer, dict) else completion(answer)
                content = json.dumps(said).encode() if status == 200 else b"busy"
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                if status == 429:
                    self.send_header("retry-after", "0")
                self.end_headers()
                self.wfile.write(content)

            def _send(self, pieces):
                try:
                    for piece in pieces:
                        self.wfile.write(piece)
                except ConnectionError:  # who asked has heard enough
                    pass

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
