"""A loss and a metric of this library in a training loop of your own.

Run with ``python examples/own_loop.py``. Only two functions of the library are used. Lists differ
in length: the mask is True for real candidates, and masked entries change neither the loss, nor its
gradient, nor the metric.
"""

import torch
from torch import Tensor, nn

from cascaderank.losses import arf_loss
from cascaderank.metrics import recall_metric


def queries(count: int, *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return lists of 60 to 100 documents with grades that depend on two of four features."""
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 100, 4, generator=g)
    gain = features[..., 0] + features[..., 1] ** 2 + torch.randn(count, 100, generator=g)
    labels = gain.round().clamp(0, 4)
    lengths = torch.randint(60, 101, (count, 1), generator=g)
    return features, labels, torch.arange(100) < lengths


def main() -> tuple[float, float]:
    """Train for Recall@30@15 and return it on test queries, before and after training."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    features, labels, mask = queries(128, seed=1)
    test_features, test_labels, test_mask = queries(64, seed=2)

    def recall() -> float:
        with torch.no_grad():
            scores = model(test_features).squeeze(-1)
        return float(recall_metric(scores, test_labels, m=30, k=15, mask=test_mask).nanmean())

    before = recall()
    for _ in range(10):
        for batch in torch.randperm(len(features)).split(16):
            scores = model(features[batch]).squeeze(-1)
            loss = arf_loss(scores, labels[batch], m=30, k=15, temperature=30.0, mask=mask[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return before, recall()


if __name__ == "__main__":
    before, after = main()
    print(f"Recall@30@15 of unseen queries: {before:.3f} before training, {after:.3f} after")
