"""The cascade of `serving_peers.py` behind LitServe, whose workers are processes.

python benchmarks/serving_litserve.py BUNDLE 8000
"""

import argparse
from pathlib import Path
from typing import Any

import litserve

from serving_peers import WORKERS, EagerCascade


class RankApi(litserve.LitAPI):
    """All items by every stage; a class of a module, because workers unpickle it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(api_path="/v1/rank")
        self.folder = folder

    def setup(self, device: str) -> None:  # noqa: ARG002 - as LitServe calls it
        self.cascade = EagerCascade(self.folder, staged=False)

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        inner = request["request"]
        assert isinstance(inner, dict)
        return inner

    def predict(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        return self.cascade.rank(request)

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {"items": output}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    server = litserve.LitServer(
        RankApi(arguments.bundle), accelerator="cpu", workers_per_device=WORKERS
    )
    server.run("127.0.0.1", arguments.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
