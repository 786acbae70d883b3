"""Sub-network routing: which part of a network each tower reads is learnt."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.errors import ConfigError
from cascaderank.layers.hard_concrete import HardConcrete


@final
class Routing(nn.Module):
    r"""Two layers of sub-networks that are joined by gates, and read by towers through gates.

    .. math::
        u_j = \mathrm{relu}(A_j x + a_j), \qquad
        v_i = \mathrm{relu}\left(B_i \sum_j z_{ij} u_j + b_i\right), \qquad
        o_t = \sum_i z'_{ti} v_i

    Each gate is one number, so that what is cheap to learn is cheap to leave out: a sub-network
    that nobody reads is dropped by :meth:`pruned`.

    Args:
        inputs: length of the input.
        towers: how many outputs there are.
        blocks: how many sub-networks the first and the second layer have.
        width: of every sub-network.
        beta: of the gates, see :class:`~cascaderank.layers.hard_concrete.HardConcrete`.
        gamma: of the gates.
        zeta: of the gates.
        learnt: whether the gates are; if not, they are fixed numbers, 1 to begin with.

    Raises:
        ConfigError: if a size is not positive, or a number of the gates is out of range.

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
        learnt: bool = True,
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
            HardConcrete(*shape, **options) if learnt else Codes(torch.ones(shape))
            for shape in shapes
        )
        self._width = width

    def forward(self, inputs: Tensor, towers: Sequence[int] | None = None) -> Tensor:
        """Return what towers read, ``[..., towers, width]``.

        Args:
            inputs: ``[..., inputs]``.
            towers: which ones; all if not given.
        """
        blocks = self.first(inputs).unflatten(-1, (-1, self._width)).relu()
        mixed = torch.einsum("ij,...jw->i...w", self.codes(), blocks)
        outputs = [block(x) for block, x in zip(self.second, mixed, strict=True)]
        codes = self.tower_codes()
        codes = codes if towers is None else codes[list(towers)]
        return torch.einsum("ti,...iw->...tw", codes, torch.stack(outputs, dim=-2).relu())

    @property
    def blocks(self) -> tuple[int, int]:
        """How many sub-networks the first and the second layer have."""
        return self.first.out_features // self._width, len(self.second)

    @property
    def gates(self) -> int:
        """How many gates can still be learnt."""
        return sum(len(p.flatten()) for c in self._learnt() for p in c.parameters())

    def expected_open(self) -> Tensor:
        """Return how many gates are expected not to be 0: their L0 norm, a scalar."""
        first, *rest = [codes.open_probability().sum() for codes in self._learnt()]
        return torch.stack([first, *rest]).sum()

    @torch.no_grad()
    def pruned(self, towers: Sequence[int]) -> "Routing":
        """Return a copy for some towers, with fixed gates and without sub-networks nobody reads.

        At least one sub-network of each layer stays.

        Args:
            towers: those that stay, in their new order.

        Raises:
            ConfigError: if the gates are fixed already.
        """
        self._learnt()
        codes, tower_codes = (_settled(c) for c in (self.codes, self.tower_codes))
        tower_codes = tower_codes[list(towers)]
        second = _read(tower_codes)
        first = _read(codes[second])
        width = self._width
        smaller = Routing(
            self.first.in_features,
            towers=len(towers),
            blocks=(len(first), len(second)),
            width=width,
            learnt=False,
        )
        rows = (torch.tensor(first)[:, None] * width + torch.arange(width)).flatten()
        smaller.first.weight.copy_(self.first.weight[rows])
        smaller.first.bias.copy_(self.first.bias[rows])
        for new, old in zip(smaller.second, second, strict=True):
            new.load_state_dict(self.second[old].state_dict())
        smaller.codes = Codes(codes[second][:, first])
        smaller.tower_codes = Codes(tower_codes[:, second])
        return smaller.to(self.first.weight).train(self.training)

    def _learnt(self) -> list[HardConcrete]:
        codes = [c for c in (self.codes, self.tower_codes) if isinstance(c, HardConcrete)]
        if not codes:
            raise ConfigError("the gates are fixed: this network was pruned already")
        return codes


@final
class Codes(nn.Module):
    """Gates that are learnt no more.

    Args:
        values: what they are.
    """

    values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values.clone())

    def forward(self) -> Tensor:
        """Return the gates."""
        return self.values


def _settled(codes: nn.Module) -> Tensor:
    """Gates as they are when nothing is learnt."""
    mode = codes.training
    values: Tensor = codes.eval()()
    codes.train(mode)
    return values


def _read(codes: Tensor) -> list[int]:
    """Which columns anyone reads; the best of all if there is none."""
    most = codes.amax(0)
    read: list[int] = most.nonzero().flatten().tolist()
    return read or [int(most.argmax())]
