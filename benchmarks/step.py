"""A training step of two stages, compared with a direct implementation of the same models.

The peer is a straightforward implementation: one embedding per lookup, the request repeated for
every candidate of a perceptron, attention over the concatenation of every entry with every
candidate, LCRON by its formula, and AdamW with its defaults. Both start from the same weights and
take the same steps.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade, build_stage
from cascaderank.layers.target_attention import TargetAttention
from cascaderank.objectives import build_objective
from cascaderank.schema import Feature, FittedSchema
from cascaderank.settings.run import TrainSettings
from cascaderank.stages.din import DIN
from cascaderank.stages.two_tower import TwoTower
from cascaderank.training.forward import build_forward
from cascaderank.training.optimizer import build_optimizer
from top_k import Pair, lcron

SIZES = {
    "user": 20_000, "device": 20_000, "age": 8, "gender": 3, "province": 40, "video": 50_000,
    "author": 20_000, "category_one": 50, "category_two": 400, "upload_type": 12, "weekday": 7,
    "hour": 24, "minute": 60, "upload_weekday": 7, "upload_hour": 24, "upload_minute": 60,
}  # fmt: skip
OF_REQUEST = ("weekday", "hour", "minute", "user", "device", "age", "gender", "province")
OF_VIDEO = ("video", "author", "category_one", "category_two", "upload_type")
OF_ITEM = (*OF_VIDEO, "upload_weekday", "upload_hour", "upload_minute")
GROUND_TRUTH = 10
STEPS = 4


def categories(name: str, role: str, vocabulary: str = "") -> Feature:
    size = SIZES[vocabulary or name]
    return Feature(name=name, role=role, kind="categorical", vocabulary=vocabulary, buckets=size)


FEATURES = (
    *(categories(name, "request") for name in OF_REQUEST),
    *(categories(name, "item") for name in OF_ITEM),
    *(categories(f"seen_{name}", "history", name) for name in OF_VIDEO),
)


def random_batch(requests: int, n: int, length: int, *, seed: int) -> RequestBatch:
    """Return random requests of the shape of RecFlow's, with full lists and histories."""
    g = torch.Generator().manual_seed(seed)

    def codes(name: str, *shape: int) -> Tensor:
        return torch.randint(0, SIZES[name] + 1, (requests, *shape), generator=g)

    return RequestBatch(
        mask=torch.ones(requests, n).bool(),
        items={name: codes(name, n) for name in OF_ITEM},
        request={name: codes(name) for name in OF_REQUEST},
        history={f"seen_{name}": codes(name, length) for name in OF_VIDEO},
        history_mask={"history": torch.ones(requests, length).bool()},
        labels=torch.randn(requests, n, generator=g),
    )


def two_stages() -> Cascade:
    """Return the stages of the LCRON experiments, with their widths (arXiv 2503.09492)."""
    schema = FittedSchema(features=FEATURES)
    stages = {name: build_stage(name, schema) for name in ("two_tower", "din")}
    return Cascade(stages, quotas=(30, 20))


def looked_up(stage: TwoTower | DIN, values: dict[str, Tensor], prefix: str = "") -> Tensor:
    tables = stage.embedder.tables
    return torch.cat([tables[name.removeprefix(prefix)](v) for name, v in values.items()], dim=-1)


def plain_two_tower(stage: TwoTower, batch: RequestBatch) -> Tensor:
    history = looked_up(stage, batch.history, "seen_").mean(1)
    request = stage.request_tower(torch.cat([looked_up(stage, batch.request), history], dim=-1))
    return (request.unsqueeze(1) * stage.item_tower(looked_up(stage, batch.items))).sum(-1)


def plain_attention(attention: TargetAttention, history: Tensor, items: Tensor) -> Tensor:
    n, length = items.shape[1], history.shape[1]
    entries = history.unsqueeze(1).expand(-1, n, -1, -1)
    pairs = torch.cat([items.unsqueeze(2).expand(-1, -1, length, -1), entries], dim=-1)
    weights = attention.weigh.rest(attention.weigh.first.both(pairs)).squeeze(-1)
    return weights @ history


def plain_din(stage: DIN, batch: RequestBatch) -> Tensor:
    items, history = looked_up(stage, batch.items), looked_up(stage, batch.history, "seen_")
    attended = plain_attention(stage.attentions[0], history, items)
    request = looked_up(stage, batch.request).unsqueeze(1).expand(-1, items.shape[1], -1)
    whole = torch.cat([request, attended, items], dim=-1)
    return stage.head.rest(stage.head.first.both(whole)).squeeze(-1)


def stepping(
    cascade: nn.Module, loss: Callable[[RequestBatch], Tensor], batches: list[RequestBatch]
) -> Callable[[], Tensor]:
    optimizer = torch.optim.AdamW(cascade.parameters(), lr=1e-3, weight_decay=0.0)
    done = 0

    def step() -> Tensor:
        nonlocal done
        value = loss(batches[done % len(batches)])
        done += 1
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(cascade.parameters(), 10.0)
        optimizer.step()
        return value.detach()

    return step


def table_pair(rows: int, codes: int, *, beside: str = "adamw", ours: str = "auto") -> Pair:
    """A step on a large table of embeddings of size 8: another optimizer, and the default one."""
    chosen = torch.randint(0, rows, (codes,))

    def steps(choice: str) -> Callable[[], Tensor]:
        table = nn.Embedding.from_pretrained(torch.ones(rows, 8), freeze=False)
        settings = TrainSettings(embedding_optimizer=choice)
        optimizer = build_optimizer(table, nn.ParameterList([torch.ones(1)]), settings)

        def step() -> Tensor:
            optimizer.zero_grad()
            loss = table(chosen).sum()
            loss.backward()
            optimizer.clip(10.0)
            optimizer.step()
            return loss.detach()

        return step

    return steps(beside), steps(ours)


def attention_pair(requests: int, n: int, length: int) -> Pair:
    """Attention of DIN with gradients: entries of five embeddings of size 8, items of eight."""
    attention = TargetAttention(40, 64)
    history, items = torch.randn(requests, length, 40), torch.randn(requests, n, 64)
    mask, above = torch.ones(requests, length).bool(), torch.randn(requests, n, 40)

    def outcome(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Tensor]:
        leaves = [history.clone().requires_grad_(), items.clone().requires_grad_()]
        of_what = [*leaves, *attention.parameters()]

        def both_ways() -> Tensor:
            pooled = function(*leaves)
            torch.autograd.grad(pooled, of_what, above)
            return pooled.detach()

        return both_ways

    return (
        outcome(lambda h, i: plain_attention(attention, h, i)),
        outcome(lambda h, i: attention(h, i, mask)),
    )


def step_pair(requests: int, n: int, length: int) -> Pair:
    """The step of the peer and of this library, after some steps in which their losses agree."""
    cascade = two_stages()
    copy = deepcopy(cascade)
    objective = build_objective(
        "lcron", stages=cascade.stage_names, quotas=cascade.quotas, ground_truth=GROUND_TRUTH
    )
    batches = [random_batch(requests, n, length, seed=seed) for seed in range(2)]

    def formula(batch: RequestBatch) -> Tensor:
        towers, din = copy.stages.values()
        scores = torch.stack([plain_two_tower(towers, batch), plain_din(din, batch)])
        return lcron(scores, batch.labels, GROUND_TRUTH, in_logs=False)

    def ours(batch: RequestBatch) -> Tensor:
        return objective(cascade(batch), batch.labels, mask=batch.mask).total

    pair = stepping(copy, formula, batches), stepping(cascade, ours, batches)
    curves = [torch.stack([step() for _ in range(STEPS)]) for step in pair]
    torch.testing.assert_close(curves[1], curves[0], rtol=1e-4, atol=1e-5)
    return pair


def option_pair(requests: int, n: int, length: int, **options: object) -> Pair:
    """A step with default options, and one with other options of training."""
    batches = [random_batch(requests, n, length, seed=seed) for seed in range(2)]

    def of(settings: TrainSettings) -> Callable[[], Tensor]:
        torch.manual_seed(0)
        cascade = two_stages()
        forward = build_forward(cascade, settings, torch.device("cpu"))
        objective = build_objective(
            "lcron", stages=cascade.stage_names, quotas=cascade.quotas, ground_truth=GROUND_TRUTH
        )

        def loss(batch: RequestBatch) -> Tensor:
            scores = torch.stack([output.scores for output in forward(batch)])
            return objective(scores, batch.labels, mask=batch.mask).total

        return stepping(cascade, loss, batches)

    return of(TrainSettings()), of(TrainSettings.model_validate(options))
