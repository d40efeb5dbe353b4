"""A small HTTP server on loopback that speaks the OpenAI chat protocol, with faults on request."""

import base64
import json
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "a-key"
MODEL = "a-vision-model"


class Script:
    """What the server does: `answer(request) -> str` writes the text; `faults` are used up first, in order.

    A fault is a status code, "hang", "reset", "cut" (finish_reason length) or "empty" (no choices).
    """

    def __init__(self, answer: Callable[[dict], str], faults=()):
        self.answer = answer
        self.faults = list(faults)
        self.requests = []
        self.open = 0
        self.most_open = 0
        self.delay_s = 0.0
        self.lock = threading.Lock()
        self.stop = threading.Event()


def images_of(request):
    """Return the JPEG bytes of the pictures in a request."""
    content = request["messages"][1]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return [base64.b64decode(url.removeprefix("data:image/jpeg;base64,")) for url in urls]


def text_of(request):
    """Return the text of the first user message."""
    return next(part["text"] for part in request["messages"][1]["content"] if part["type"] == "text")


@contextmanager
def serving(script):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with script.lock:
                script.requests.append(request)
                script.open += 1
                script.most_open = max(script.most_open, script.open)
                fault = script.faults.pop(0) if script.faults else None
            try:
                self.reply(request, fault)
            finally:
                with script.lock:
                    script.open -= 1

        def reply(self, request, fault):
            time.sleep(script.delay_s)
            if self.headers.get("authorization") != f"Bearer {KEY}":
                fault = 401
            elif self.path != "/v1/chat/completions":
                fault = 404
            if fault == "hang":
                script.stop.wait(5)
                self.close_connection = True
            elif fault == "reset":
                self.close_connection = True
            elif isinstance(fault, int):
                self.send(fault, {"error": {"message": f"fault {fault}", "type": "fault", "code": fault}})
            else:
                text = script.answer(request)
                choice = {
                    "index": 0,
                    "message": {"role": "assistant", "content": text[: len(text) // 2] if fault == "cut" else text},
                    "finish_reason": "length" if fault == "cut" else "stop",
                }
                usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
                self.send(200, {"id": "1", "object": "chat.completion", "created": 0, "model": request["model"],
                                "choices": [] if fault == "empty" else [choice], "usage": usage})  # fmt: skip

        def send(self, status, body):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.send_header("retry-after-ms", "5")
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        script.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()
