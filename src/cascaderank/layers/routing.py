"""Sub-network routing: trainable gates between sub-networks and task towers."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.errors import ConfigError
from cascaderank.layers.hard_concrete import HardConcrete


@final
class Routing(nn.Module):
    r"""Two layers of sub-networks, connected to each other and to towers by gates.

    .. math::
        u_j = \mathrm{relu}(A_j x + a_j), \qquad
        v_i = \mathrm{relu}\left(B_i \sum_j z_{ij} u_j + b_i\right), \qquad
        o_t = \sum_i z'_{ti} v_i

    Each gate is a scalar, so that it is cheap to train and a sub-network is cheap to remove: those
    that no tower reads are dropped by :meth:`pruned`.

    Args:
        inputs: length of the input.
        towers: number of outputs.
        blocks: number of sub-networks of the first and of the second layer.
        width: width of every sub-network.
        beta: temperature of the gates, see :class:`~cascaderank.layers.hard_concrete.HardConcrete`.
        gamma: lower end of the gates' stretched range.
        zeta: upper end of the gates' stretched range.
        trainable: whether the gates are trained; if not, they are constants, initially 1.

    Raises:
        ConfigError: if a size is not positive, or a parameter of the gates is out of range.

    Examples:
        >>> routing = Routing(6, towers=3, blocks=(8, 4), width=16)
        >>> routing(torch.rand(2, 5, 6)).shape
        torch.Size([2, 5, 3, 16])
        >>> routing.gates, routing.expected_open().item() < routing.gates
        (44, True)

    Source: SNR-Aver (Ma et al., AAAI 2019), with the sizes of ECMM (arXiv 2310.08039).
    """

    def __init__(
        self,
        inputs: int,
        *,
        towers: int,
        blocks: tuple[int, int] = (8, 4),
        width: int = 128,
        beta: float = 2 / 3,
        gamma: float = -0.1,
        zeta: float = 1.1,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        if min(inputs, towers, width, *blocks) < 1:
            raise ConfigError(
                f"inputs, towers, blocks and width must be positive; "
                f"got {inputs}, {towers}, {list(blocks)} and {width}"
            )
        first, second = blocks
        self.first = nn.Linear(inputs, first * width)
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(second))
        options = {"beta": beta, "gamma": gamma, "zeta": zeta}
        shapes = (second, first), (towers, second)
        self.codes, self.tower_codes = (
            HardConcrete(*shape, **options) if trainable else Codes(torch.ones(shape))
            for shape in shapes
        )
        self._width = width

    def forward(self, inputs: Tensor, towers: Sequence[int] | None = None) -> Tensor:
        """Return the inputs of the towers, ``[..., towers, width]``.

        Args:
            inputs: ``[..., inputs]``.
            towers: indices of the towers; all by default.
        """
        blocks = self.first(inputs).unflatten(-1, (-1, self._width)).relu()
        mixed = torch.einsum("ij,...jw->i...w", self.codes(), blocks)
        outputs = [block(x) for block, x in zip(self.second, mixed, strict=True)]
        codes = self.tower_codes()
        codes = codes if towers is None else codes[list(towers)]
        return torch.einsum("ti,...iw->...tw", codes, torch.stack(outputs, dim=-2).relu())

    @property
    def blocks(self) -> tuple[int, int]:
        """Number of sub-networks of the first and of the second layer."""
        return self.first.out_features // self._width, len(self.second)

    @property
    def gates(self) -> int:
        """Number of trainable gates."""
        return sum(len(p.flatten()) for c in self._trainable() for p in c.parameters())

    def expected_open(self) -> Tensor:
        """Return the expected number of nonzero gates: their L0 norm, a scalar."""
        first, *rest = [codes.open_probability().sum() for codes in self._trainable()]
        return torch.stack([first, *rest]).sum()

    @torch.no_grad()
    def pruned(self, towers: Sequence[int]) -> "Routing":
        """Return a copy for some towers, with constant gates and without unused sub-networks.

        At least one sub-network of each layer stays.

        Args:
            towers: indices of the towers that stay, in their new order.

        Raises:
            ConfigError: if the gates are constant already.
        """
        self._trainable()
        codes, tower_codes = (_evaluated(c) for c in (self.codes, self.tower_codes))
        tower_codes = tower_codes[list(towers)]
        second = _read(tower_codes)
        first = _read(codes[second])
        width = self._width
        smaller = Routing(
            self.first.in_features,
            towers=len(towers),
            blocks=(len(first), len(second)),
            width=width,
            trainable=False,
        )
        rows = (torch.tensor(first)[:, None] * width + torch.arange(width)).flatten()
        smaller.first.weight.copy_(self.first.weight[rows])
        smaller.first.bias.copy_(self.first.bias[rows])
        for new, old in zip(smaller.second, second, strict=True):
            new.load_state_dict(self.second[old].state_dict())
        smaller.codes = Codes(codes[second][:, first])
        smaller.tower_codes = Codes(tower_codes[:, second])
        return smaller.to(self.first.weight).train(self.training)

    def _trainable(self) -> list[HardConcrete]:
        codes = [c for c in (self.codes, self.tower_codes) if isinstance(c, HardConcrete)]
        if not codes:
            raise ConfigError("the gates are constant: this network was pruned already")
        return codes


@final
class Codes(nn.Module):
    """Constant gates.

    Args:
        values: values of the gates.
    """

    values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values.clone())

    def forward(self) -> Tensor:
        """Return the gates."""
        return self.values


def _evaluated(codes: nn.Module) -> Tensor:
    """Return the gates in evaluation mode."""
    mode = codes.training
    values: Tensor = codes.eval()()
    codes.train(mode)
    return values


def _read(codes: Tensor) -> list[int]:
    """Return the columns with a nonzero entry, or that with the largest entry if all are 0."""
    most = codes.amax(0)
    read: list[int] = most.nonzero().flatten().tolist()
    return read or [int(most.argmax())]
