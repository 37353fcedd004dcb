"""What a surrogate will know once the evaluations that are under way have ended."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Expected(NamedTuple):
    """Architectures whose evaluation is under way, as a process sees them; see :meth:`~ednag.samplers.surrogate.Fitted.expecting`.

    Attributes:
        facing: as the kernel's right-hand side, see :meth:`~ednag.samplers.kernel.Kernel.facing`, ``(R, P, D)``.
        cross: their covariance with the members, divided by the members' factor, float64 ``(R, M, P)``.
        factor: Cholesky factor of the covariance that the members leave to their noisy values, float64 ``(R, P, P)``.
    """

    facing: Tensor
    cross: Tensor
    factor: Tensor

    def explained(self, kernel: Tensor, v: Tensor) -> Tensor:
        """Variance that they will take from what is asked, float64 ``(R, N)``, relative to the signal's.

        Args:
            kernel: between what is asked and these, float64 ``(R, N, P)``.
            v: covariance of the members with what is asked, divided by their factor, float64 ``(R, M, N)``.
        """
        left = torch.linalg.solve_triangular(self.factor, kernel.mT - self.cross.mT @ v, upper=False)
        explained: Tensor = torch.linalg.vector_norm(left, dim=-2).square()
        return explained
