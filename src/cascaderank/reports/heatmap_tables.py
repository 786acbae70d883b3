"""Heat maps of losses over (m, k) as tables of Markdown."""

from cascaderank.experiments.heatmap import Heatmap


def heatmap_markdown(found: Heatmap) -> str:
    """Return a heat map as Markdown tables, with the best model of each column in bold."""
    heads = [f"{a}@{b}" for a, b in found.grid]
    runs = _folds_and_seeds(found)
    lines = [f"**{found.dataset}: Recall@m@k, {found.requests:,} test requests, {runs}**"]
    for result in found.losses:
        lines += [
            "",
            f"`{result.loss}`: consistency {result.consistency:.2f}, regret {result.regret:.4f}",
            "",
            f"| trained for | {' | '.join(heads)} |",
            f"| :-- |{' --: |' * len(heads)}",
        ]
        best = [max(column) for column in zip(*result.recall, strict=True)]
        for head, row in zip(heads, result.recall, strict=True):
            texts = [
                f"**{x:.3f}**" if x == top else f"{x:.3f}" for x, top in zip(row, best, strict=True)
            ]
            lines.append(f"| {head} | {' | '.join(texts)} |")
    return "\n".join([*lines, ""])


def _folds_and_seeds(found: Heatmap) -> str:
    folds = "1 fold" if found.folds == 1 else f"{found.folds} folds"
    return folds + (", 1 seed" if found.seeds == 1 else f", {found.seeds} seeds")
