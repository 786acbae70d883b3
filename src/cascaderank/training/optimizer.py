"""Who moves the weights: AdamW, and a lazy one for large tables of embeddings.

A step of AdamW reads and writes every row of a table, whatever the batch. The lazy optimizers move
the rows that the batch names, from a gradient that holds no others: time and memory of a step do
not depend on the vocabulary. Every other row stays as it is, to the bit: momentum does not carry
it on, and weight decay does not reach it.
"""

from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor, nn

from cascaderank.settings.run import TrainSettings

LARGE = 1_000_000
"""Rows from which ``"auto"`` is lazy."""


@final
class RowWiseAdagrad(torch.optim.Optimizer):
    r"""Adagrad with one number of state for each row of a table, and only of touched rows a step.

    .. math:: s_r \leftarrow s_r + \overline{g_r^2}, \qquad
              w_r \leftarrow (1 - \eta\lambda)\, w_r - \eta\, g_r / \sqrt{s_r}

    The mean is over the entries of a row. Like Adam's, the first step of a row has the length of
    the learning rate; later ones shrink with what the row has seen.

    Args:
        tables: parameters ``[rows, dim]`` whose gradients are sparse, as ``nn.Embedding`` makes
            them with ``sparse=True``.
        lr: the learning rate.
        weight_decay: decoupled, of touched rows.

    Examples:
        >>> table = nn.Embedding(4, 2, sparse=True)
        >>> optimizer = RowWiseAdagrad([table.weight], lr=0.1)
        >>> before = table.weight.detach().clone()
        >>> table(torch.tensor([1, 1])).sum().backward()
        >>> optimizer.step()
        >>> before - table.weight.detach()
        tensor([[0.0000, 0.0000],
                [0.1000, 0.1000],
                [0.0000, 0.0000],
                [0.0000, 0.0000]])

    Source: Adagrad (Duchi et al., 2011), its state shared within a row as in large recommenders.
    """

    def __init__(self, tables: Iterable[Tensor], *, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(tables, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move the rows that the gradients name."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._move(table, lr=group["lr"], weight_decay=group["weight_decay"])

    def _move(self, table: Tensor, *, lr: float, weight_decay: float) -> None:
        rows, of_rows = touched(table)
        state = self.state[table]
        if not state:
            state["squares"] = table.new_zeros(len(table))
        squares = state["squares"].index_select(0, rows).add_(of_rows.square().mean(-1))
        state["squares"].index_copy_(0, rows, squares)
        # A row that never had a gradient stays where it is: 0 over anything is 0.
        length = squares.sqrt_().clamp_(min=torch.finfo(squares.dtype).tiny).unsqueeze(-1)
        moved = table.index_select(0, rows).mul_(1 - lr * weight_decay)
        table.index_copy_(0, rows, moved.addcdiv_(of_rows, length, value=-lr))


@final
class Optimizers:
    """Several optimizers as one, each over parameters of its own.

    Args:
        members: the optimizers.
    """

    def __init__(self, *members: torch.optim.Optimizer) -> None:
        self._members = members

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of all members; what is set in them holds."""
        return [group for member in self._members for group in member.param_groups]

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for member in self._members:
            member.zero_grad(set_to_none=set_to_none)

    def clip(self, longest: float) -> None:
        """Shorten the gradient of all parameters together to at most this length."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_([_stand_in(p) for p in parameters], longest)

    def step(self) -> None:
        """Take a step of each."""
        for member in self._members:
            member.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the members."""
        return {str(i): member.state_dict() for i, member in enumerate(self._members)}

    def load_state_dict(self, states: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        for i, member in enumerate(self._members):
            member.load_state_dict(states[str(i)])


def build_optimizer(
    cascade: nn.Module, objective: nn.Module, settings: TrainSettings
) -> Optimizers:
    """Give every parameter an optimizer; tables that get a lazy one are set to sparse gradients.

    Args:
        cascade: on its device; tables are its modules ``nn.Embedding``.
        objective: its parameters are never decayed.
        settings: which say how fast, and ``embedding_optimizer``: ``"adamw"`` for every table;
            ``"sparse_adam"`` or ``"row_wise_adagrad"`` for every table, the first with two numbers
            of state for each number of the table, the second with one for each row; or ``"auto"``:
            ``"row_wise_adagrad"`` for tables of at least 1,000,000 rows, ``"adamw"`` for others.
    """
    choice = settings.embedding_optimizer
    tables: dict[int, Tensor] = {}
    for module in cascade.modules():
        if isinstance(module, nn.Embedding):
            large = module.num_embeddings >= LARGE and module.weight.device.type != "mps"
            module.sparse = large if choice == "auto" else choice != "adamw"
            if module.sparse:
                tables[id(module.weight)] = module.weight
    members: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [
                {
                    "params": [p for p in cascade.parameters() if id(p) not in tables],
                    "weight_decay": settings.weight_decay,
                },
                {"params": list(objective.parameters()), "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            # One pass over each weight instead of one for each operation.
            fused=all(p.device.type == "cpu" for p in cascade.parameters()) or None,
        )
    ]
    if tables and choice == "sparse_adam":
        members.append(torch.optim.SparseAdam(tables.values(), lr=settings.learning_rate))
    elif tables:
        members.append(
            RowWiseAdagrad(
                tables.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
            )
        )
    return Optimizers(*members)


def touched(table: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows a sparse gradient names, each once and ascending, and their gradients.

    The gradient is left merged, so that this is done once a step; the second tensor is part of
    it, and writing to it changes it.
    """
    gradient = table.grad
    if gradient is None or not gradient.is_sparse:
        raise ValueError("the gradient must be sparse")
    if not gradient.is_coalesced():
        # What coalesce() does, to the bit, in half the time.
        rows, places = torch.unique(gradient._indices()[0], return_inverse=True)  # noqa: SLF001
        values = gradient._values()  # noqa: SLF001
        merged = values.new_zeros(len(rows), *values.shape[1:]).index_add_(0, places, values)
        gradient = table.grad = torch.sparse_coo_tensor(
            rows.unsqueeze(0), merged, gradient.shape, is_coalesced=True, check_invariants=False
        )
    return gradient.indices()[0], gradient.values()


def _stand_in(parameter: nn.Parameter) -> nn.Parameter:
    """What has for a gradient only the rows that are touched, in the same memory."""
    if parameter.grad is None or not parameter.grad.is_sparse:
        return parameter
    _, of_rows = touched(parameter)
    stand_in = nn.Parameter(of_rows, requires_grad=False)
    stand_in.grad = of_rows
    return stand_in
