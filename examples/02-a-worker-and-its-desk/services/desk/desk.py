"""Takes jobs, hands each one out once, and counts. It keeps them in memory: one replica, and no second version."""

import json
import os
import signal
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

waiting = deque()
done = []


class Jobs(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # header and body in one packet

    def do_GET(self):
        self.answer(200 if self.path == "/healthz" else 404)

    def do_POST(self):
        job = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "null")
        if self.path == "/jobs":
            waiting.append(job)
            self.answer(201)
        elif self.path == "/take":
            try:
                self.answer(200, waiting.popleft())
            except IndexError:
                self.answer(200)
        elif self.path == "/done":
            done.append(job)
            self.answer(200)
        else:
            self.answer(404)

    def answer(self, status, value=None):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Counts(Jobs):
    def do_GET(self):
        self.answer(200, {"waiting": len(waiting), "done": done})


jobs = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Jobs)
counts = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT_ADMIN"])), Counts)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=jobs.shutdown).start())
threading.Thread(target=counts.serve_forever, daemon=True).start()
jobs.serve_forever(poll_interval=0.1)
