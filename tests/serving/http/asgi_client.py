"""A client that calls an ASGI application without a socket."""

import asyncio
import json
from dataclasses import dataclass


@dataclass
class Reply:
    status: int
    headers: dict
    content: bytes

    @property
    def text(self):
        return self.content.decode()

    def json(self):
        return json.loads(self.content)


class Client:
    """Sends requests to an application, by default as JSON to localhost."""

    def __init__(self, application, **headers):
        self.application = application
        self.headers = {"host": "localhost", "content-type": "application/json", **headers}

    def get(self, path, **headers):
        return self.send("GET", path, headers=headers)

    def post(self, path, value=None, *, content=None, **headers):
        body = json.dumps(value).encode() if content is None else content
        return self.send("POST", path, [body], headers=headers)

    def send(self, method, path, chunks=(b"",), *, headers=(), pause=0.0):
        """Send a body in chunks; a pause in seconds is before each."""
        path, _, query = path.partition("?")
        given = {**self.headers, **{n.replace("_", "-"): v for n, v in dict(headers).items()}}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "scheme": "http",
            "server": ("localhost", 80),
            "client": ("127.0.0.1", 1),
            "headers": [
                (n.encode(), v.encode("latin-1")) for n, v in given.items() if v is not None
            ],
        }
        return asyncio.run(self._sent(scope, list(chunks), pause))

    async def _sent(self, scope, chunks, pause):
        messages = []

        async def receive():
            await asyncio.sleep(pause)
            if not chunks:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

        async def send(message):
            messages.append(message)

        try:
            await self.application(scope, receive, send)
        except Exception:  # noqa: BLE001 - after the answer
            assert messages, "an error without an answer"
        start, *rest = messages
        headers = {n.decode(): v.decode("latin-1") for n, v in start["headers"]}
        return Reply(start["status"], headers, b"".join(m.get("body", b"") for m in rest))
