"""``cascaderank serve`` in a process of its own."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass


@dataclass
class ServerProcess:
    process: subprocess.Popen
    url: str

    @property
    def port(self):
        return int(self.url.rsplit(":", 1)[1])

    def connection(self, timeout=30):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def post(self, path, value, **headers):
        """Return status, headers and content of a reply on a connection of its own."""
        with contextlib.closing(self.connection()) as connection:
            return post(connection, path, value, **headers)

    def stop(self):
        """Stop the server; return its exit code, and what it wrote since it answers."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60), self.process.stderr.read()


def post(connection, path, value, **headers):
    """Return status, headers and content of a reply."""
    headers = {n.replace("_", "-"): v for n, v in headers.items()}
    body = json.dumps(value)
    connection.request("POST", path, body, {"content-type": "application/json", **headers})
    reply = connection.getresponse()
    return reply.status, reply.headers, json.loads(reply.read())


@contextlib.contextmanager
def serving(bundle, *words, **variables):
    """Start a server at a free port; kill it at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cascaderank", "serve", str(bundle), "--port", "0", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )
    try:
        line = process.stderr.readline()
        assert " on http://" in line, line + process.stderr.read()
        yield ServerProcess(process, line.split()[-1])
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
