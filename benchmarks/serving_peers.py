"""What one would write without this library: the trained modules behind FastAPI.

The modules, in eager PyTorch, and the encoded items come from the bundle that the server beside it
has, and so does the code that encodes a request. Every request scores all items by every stage, or,
with `staged`, only the items that the stages before have left. The kept items are those of the
cascade: answers equal those of `cascaderank serve`, up to equal scores.

    python benchmarks/serving_peers.py BUNDLE 8000
"""

import argparse
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cascaderank.batch import RequestBatch
from cascaderank.serving.bundle import Bundle
from cascaderank.serving.value_encoder import ValueEncoder

WORKERS = 2  # as many as cores


class EagerCascade:
    """The modules of a run, applied to all items of each request.

    Args:
        folder: bundle with the modules and the encoded items.
        staged: whether a stage scores only what the stages before it have left.
    """

    def __init__(self, folder: Path, *, staged: bool) -> None:
        torch.set_num_threads(1)  # two requests at a time are faster than two threads for one
        bundle = Bundle.load(folder)
        assert bundle.items is not None
        length = bundle.manifest.history_length
        self._encoder = ValueEncoder(bundle.stage_schema, history_length=length)
        self._items = bundle.items.encoded(bundle.items.features, np.arange(len(bundle.items)))
        self._keys, self._staged = bundle.items.keys, staged
        self._stages = list(bundle.cascade.stages.values())
        self._quotas = bundle.cascade.quotas

    @torch.inference_mode()
    def rank(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the best items with their scores, best first."""
        encoded = self._encoder.request(request)
        everything = self._batch(encoded, self._items)
        if not self._staged:
            all_scores = [stage(everything)[0] for stage in self._stages]
        left = torch.arange(len(self._keys))
        for number, (stage, quota) in enumerate(zip(self._stages, self._quotas, strict=True)):
            if not self._staged:
                scores = all_scores[number][left]
            elif number == 0:
                scores = stage(everything)[0]
            else:
                items = {name: values[:, left] for name, values in self._items.items()}
                scores = stage(self._batch(encoded, items))[0]
            best = scores.topk(min(quota, len(left)))
            left = left[best.indices]
        return [
            {"id": self._keys[place], "score": score}
            for place, score in zip(left.tolist(), best.values.tolist(), strict=True)
        ]

    def _batch(self, request: RequestBatch, items: dict[str, Tensor]) -> RequestBatch:
        count = next(iter(items.values())).shape[1]
        return RequestBatch(
            mask=torch.ones(1, count, dtype=torch.bool),
            items=items,
            request=request.request,
            history=request.history,
            history_mask=request.history_mask,
        )


def serve(folder: Path, port: int, *, staged: bool) -> None:
    """Serve until a signal ends the process."""
    import anyio.to_thread
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    cascade = EagerCascade(folder, staged=staged)

    class RankRequest(BaseModel):
        request: dict[str, Any]

    class Item(BaseModel):
        id: int
        score: float

    class RankReply(BaseModel):
        items: list[Item]

    @asynccontextmanager
    async def two_at_a_time(_: FastAPI) -> Any:
        anyio.to_thread.current_default_thread_limiter().total_tokens = WORKERS
        yield

    app = FastAPI(lifespan=two_at_a_time)

    @app.post("/v1/rank")
    def rank(body: RankRequest) -> RankReply:
        return RankReply(items=[Item(**item) for item in cascade.rank(body.request)])

    @app.get("/health")
    def health() -> dict[str, bool]:
        return {"ready": True}

    uvicorn.run(app, port=port, log_level="warning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--staged", action="store_true", help="score what is left only")
    arguments = parser.parse_args()
    serve(arguments.bundle, arguments.port, staged=arguments.staged)


if __name__ == "__main__":
    main()
