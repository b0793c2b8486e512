"""A chat server on this machine that speaks the OpenAI protocol."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """A chat server on this machine, for tests of what asks one.

    `answers` are given in turn, the last for ever: a text, a status, the whole JSON of an answer,
    or a function that makes a text of the question.
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
                text = answer(body) if callable(answer) else answer
                status = text if isinstance(text, int) else 200
                said = {"choices": [{"message": {"role": "assistant", "content": text}}]}
                said = text if isinstance(text, dict) else said
                content = json.dumps(said).encode() if status == 200 else b"busy"
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                if status == 429:
                    self.send_header("retry-after", "0")
                self.end_headers()
                self.wfile.write(content)

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
