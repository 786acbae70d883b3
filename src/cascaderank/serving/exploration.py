"""Exploration: noise on the request vector of the first stage, reproducible by request id."""

import hashlib
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.errors import ConfigError


@final
@dataclass(frozen=True, kw_only=True)
class Exploration:
    r"""Gaussian noise on the request vector :math:`u` of the first stage.

    .. math::
        u' = u + \sigma \, \frac{\lVert u \rVert}{\sqrt d} \, z, \qquad z \sim \mathcal N(0, I_d)

    The noise is proportional to the vector, so that one :math:`\sigma` has the same meaning for all
    models: the expected squared length of the noise is :math:`\sigma^2 \lVert u \rVert^2`. It is a
    function of the seed and the id of the request.

    Args:
        scale: :math:`\sigma`, at least 0.
        seed: seed of the noise.

    Raises:
        ConfigError: if the scale is negative or not finite.

    Examples:
        >>> exploration = Exploration(scale=0.1)
        >>> vector = np.array([3.0, 4.0], dtype=np.float32)
        >>> bool((exploration.noisy(vector, "a") == exploration.noisy(vector, "a")).all())
        True

    Source: FS-LTR, section 7 ("some noise to the top representation vector of users"); the
    distribution, and its scale in units of the vector, are of this project.
    """

    scale: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not (isfinite(self.scale) and self.scale >= 0):
            raise ConfigError(f"exploration must be a number of at least 0; got {self.scale}")

    def noisy(self, vector: NDArray[np.float32], request_id: str) -> NDArray[np.float32]:
        """Return the vector of a request with its noise.

        Args:
            vector: ``[dim]`` request vector.
            request_id: id of the request.
        """
        digest = hashlib.blake2b(f"{self.seed}\0{request_id}".encode(), digest_size=16).digest()
        generator = np.random.default_rng(int.from_bytes(digest, "little"))
        noisy: NDArray[np.float32] = self.draws(vector, 1, generator)[0]
        return noisy

    def draws(
        self, vector: NDArray[np.float32], count: int, generator: np.random.Generator
    ) -> NDArray[np.float32]:
        """Return independent noisy copies of a vector, ``[count, dim]``.

        Args:
            vector: ``[dim]`` request vector.
            count: number of copies.
            generator: generator of the noise.
        """
        noise = generator.standard_normal((count, len(vector)), np.float32)
        deviation = self.scale * float(np.linalg.norm(vector)) / sqrt(len(vector))
        noisy: NDArray[np.float32] = (vector + deviation * noise).astype(np.float32)
        return noisy


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ExploredVector:
    """Request vector of the first stage, ``[width]``, without and with noise."""

    own: Tensor
    noisy: Tensor
