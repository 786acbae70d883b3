"""Optimizers: AdamW, and lazy optimizers for large embedding tables.

A step of AdamW reads and writes every row of a table, whatever the batch. A lazy optimizer updates
only the rows that occur in the batch, from a sparse gradient, so that time and memory of a step do
not depend on the size of the vocabulary. All other rows are bitwise unchanged: neither momentum nor
weight decay applies to them.
"""

from collections.abc import Collection, Iterable
from typing import Any, final

import torch
from torch import Tensor, nn

from cascaderank.cascade import FEWER_PARAMETERS
from cascaderank.limits import check_fits
from cascaderank.settings.run import TrainSettings
from cascaderank.stages.boosted_trees import BoostedTrees
from cascaderank.training.boosting import Boosting

LARGE = 1_000_000
"""Smallest number of rows for which ``embedding_optimizer = "auto"`` is lazy."""


@final
class RowWiseAdagrad(torch.optim.Optimizer):
    r"""Adagrad with one accumulator per row of a table, applied to the rows of a sparse gradient.

    .. math:: s_r \leftarrow s_r + \overline{g_r^2}, \qquad
              w_r \leftarrow (1 - \eta\lambda)\, w_r - \eta\, g_r / \sqrt{s_r}

    The mean is over the entries of a row. As with Adam, the first step of a row has the length of
    the learning rate (root mean square over the row); later steps shrink as its squared gradients
    accumulate.

    Args:
        tables: parameters ``[rows, dim]`` with sparse gradients, such as those of ``nn.Embedding``
            with ``sparse=True``.
        lr: learning rate :math:`\eta`.
        weight_decay: coefficient :math:`\lambda` of decoupled weight decay, applied to the rows of
            the gradient; 0 by default.

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

    Source: Adagrad (Duchi et al., 2011); one accumulator per row, as in large recommender systems.
    """

    def __init__(self, tables: Iterable[Tensor], *, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(tables, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update the rows of the gradients."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._update(table, lr=group["lr"], weight_decay=group["weight_decay"])

    def _update(self, table: Tensor, *, lr: float, weight_decay: float) -> None:
        rows, gradients = touched(table)
        state = self.state[table]
        if not state:
            state["squares"] = table.new_zeros(len(table))
        squares = state["squares"].index_select(0, rows).add_(gradients.square().mean(-1))
        state["squares"].index_copy_(0, rows, squares)
        # A row whose gradients were all 0 does not change: 0 over a positive number is 0.
        scale = squares.sqrt_().clamp_(min=torch.finfo(squares.dtype).tiny).unsqueeze(-1)
        updated = table.index_select(0, rows).mul_(1 - lr * weight_decay)
        table.index_copy_(0, rows, updated.addcdiv_(gradients, scale, value=-lr))


@final
class Optimizers:
    """Several optimizers with disjoint parameters, used as one.

    Args:
        members: optimizers.
    """

    def __init__(self, *members: torch.optim.Optimizer | Boosting) -> None:
        self._members = members

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of all members; changes to them take effect."""
        return [group for member in self._members for group in member.param_groups]

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Reset the gradients of all members."""
        for member in self._members:
            member.zero_grad(set_to_none=set_to_none)

    def clip(self, max_norm: float) -> None:
        """Scale the gradient of all parameters to a total norm of at most ``max_norm``."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_([_with_dense_gradient(p) for p in parameters], max_norm)

    def step(self) -> None:
        """Take a step with each member."""
        for member in self._members:
            member.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the members, by their index."""
        return {str(i): member.state_dict() for i, member in enumerate(self._members)}

    def load_state_dict(self, states: dict[str, Any]) -> None:
        """Restore the states that :meth:`state_dict` returned."""
        for i, member in enumerate(self._members):
            member.load_state_dict(states[str(i)])


def build_optimizer(
    cascade: nn.Module, objective: nn.Module, settings: TrainSettings, *, batches: int = 1
) -> Optimizers:
    """Build the optimizers of a cascade and its objective.

    ``settings.embedding_optimizer`` selects the optimizer of the embedding tables:

    - ``"adamw"``: AdamW for all tables;
    - ``"sparse_adam"``: lazy Adam for all tables, with two state values per weight;
    - ``"row_wise_adagrad"``: :class:`RowWiseAdagrad` for all tables, with one state value per row;
    - ``"auto"``: ``"row_wise_adagrad"`` for tables of at least 1,000,000 rows, ``"adamw"`` for
      others, and for all tables on MPS.

    Tables with a lazy optimizer are switched to sparse gradients. All other parameters are trained
    with AdamW. Stages of boosted trees are trained with
    :class:`~cascaderank.training.boosting.Boosting`.

    Args:
        cascade: cascade on its device; its tables are its modules of type ``nn.Embedding``.
        objective: objective; its parameters have no weight decay.
        settings: settings of training: learning rates, weight decay, and the optimizer of tables.
        batches: number of steps of an epoch, for boosted trees.

    Raises:
        ConfigError: if weights, their average, gradients and moments do not fit into the memory of
            the machine.
    """
    choice = settings.embedding_optimizer
    tables: dict[int, Tensor] = {}
    for module in cascade.modules():
        if isinstance(module, nn.Embedding):
            large = module.num_embeddings >= LARGE and module.weight.device.type != "mps"
            module.sparse = large if choice == "auto" else choice != "adamw"
            if module.sparse:
                tables[id(module.weight)] = module.weight
    _check_memory(cascade, {*tables}, copies=1 if settings.average else 0)
    members: list[torch.optim.Optimizer | Boosting] = [
        torch.optim.AdamW(
            [
                {
                    "params": [p for p in cascade.parameters() if id(p) not in tables],
                    "weight_decay": settings.weight_decay,
                },
                {
                    "params": list(objective.parameters()),
                    "weight_decay": 0.0,
                    "lr": settings.objective_learning_rate or settings.learning_rate,
                },
            ],
            lr=settings.learning_rate,
            # The fused kernel passes over each weight once, not once per operation.
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
    trees = [module for module in cascade.modules() if isinstance(module, BoostedTrees)]
    if trees:
        members.append(Boosting(trees, batches=batches))
    return Optimizers(*members)


def _check_memory(cascade: nn.Module, lazy: Collection[int], *, copies: int) -> None:
    """Check that weights, their copies, gradients and the two moments of AdamW fit.

    Of lazy tables, only the weights and their copies.
    """
    parameters = [p for p in cascade.parameters() if p.device.type == "cpu"]
    check_fits(
        sum(4.0 * p.numel() * (copies + (1 if id(p) in lazy else 4)) for p in parameters),
        f"training of {sum(p.numel() for p in parameters):,} parameters",
        FEWER_PARAMETERS,
    )


def touched(table: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct rows of a sparse gradient, ascending, and their gradients.

    The gradient of ``table`` is replaced by its coalesced form, so that duplicates are summed only
    once per step. The second tensor is a view of it: writing to it changes the gradient.

    Args:
        table: parameter ``[rows, dim]`` with a sparse gradient.

    Returns:
        Row indices ``[n]`` and gradients ``[n, dim]``.

    Raises:
        ValueError: if ``table`` has no sparse gradient.
    """
    gradient = table.grad
    if gradient is None or not gradient.is_sparse:
        found = "no gradient" if gradient is None else "a dense gradient"
        raise ValueError(f"expected a sparse gradient; got {found}; use nn.Embedding(sparse=True)")
    if not gradient.is_coalesced():
        # Bitwise equal to coalesce(), in half the time.
        rows, places = torch.unique(gradient._indices()[0], return_inverse=True)  # noqa: SLF001
        values = gradient._values()  # noqa: SLF001
        merged = values.new_zeros(len(rows), *values.shape[1:]).index_add_(0, places, values)
        gradient = table.grad = torch.sparse_coo_tensor(
            rows.unsqueeze(0), merged, gradient.shape, is_coalesced=True, check_invariants=False
        )
    return gradient.indices()[0], gradient.values()


def _with_dense_gradient(parameter: nn.Parameter) -> nn.Parameter:
    """Return a parameter whose dense gradient shares memory with the rows of a sparse one."""
    if parameter.grad is None or not parameter.grad.is_sparse:
        return parameter
    _, gradients = touched(parameter)
    substitute = nn.Parameter(gradients, requires_grad=False)
    substitute.grad = gradients
    return substitute
