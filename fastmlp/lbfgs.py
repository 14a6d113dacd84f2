"""Full-batch L-BFGS, for data sets small enough that every step can look at all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp import _checks

Array = NDArray[Any]


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS, SciPy's (Liu & Nocedal 1989; needs ``fastmlp[sklearn]``).

    It takes the place of an optimizer in a `Trainer`. Every step uses the gradient of all samples
    and a line search, so that there is no learning rate and no batch size. An epoch is
    `iterations` steps, each epoch starts its memory anew, and the fit ends when an epoch has
    converged. Of regularization it takes the L1 and L2 penalties.

    Parameters
    ----------
    iterations : int, default 20
        Steps in an epoch, at least 1.
    memory : int, default 10
        Number of past steps that shape the next one, at least 1.
    tolerance : float, default 1e-5
        Converged when no element of the gradient is larger, above 0.

    Examples
    --------
    >>> from fastmlp import MLP, Trainer
    >>> network = MLP([1, 1], output_activation="linear")
    >>> trainer = Trainer(network, optimizer=LBFGS(), backend="numpy")
    >>> history = trainer.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0], verbose=False)
    >>> trainer.predict([[3.0]]).round(2)
    array([7.], dtype=float32)
    """

    name: ClassVar[str] = "lbfgs"
    iterations: int = 20
    memory: int = 10
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        _checks.integer(self.iterations, "iterations", at_least=1)
        _checks.integer(self.memory, "memory", at_least=1)
        _checks.real(self.tolerance, "tolerance", above=0)

    def minimize(
        self, loss_and_gradient: Callable[[Array], tuple[float, Array]], start: Array
    ) -> tuple[Array, int, bool]:
        """Take at most `iterations` steps.

        Parameters
        ----------
        loss_and_gradient : callable
            From a float64 vector to the loss and its gradient, float64.
        start : ndarray of shape (n_parameters,)

        Returns
        -------
        parameters : ndarray of float64
        n_steps : int
        converged : bool

        Raises
        ------
        ImportError
            If SciPy is not installed.

        Examples
        --------
        >>> x, n_steps, converged = LBFGS().minimize(lambda x: (x @ x, 2 * x), np.ones(3))
        >>> x.round(3), converged
        (array([0., 0., 0.]), True)
        """
        try:
            from scipy.optimize import minimize
        except ImportError as error:
            raise ImportError("L-BFGS needs SciPy: pip install 'fastmlp[sklearn]'") from error
        result = minimize(
            loss_and_gradient,
            start.astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            options={
                "maxiter": self.iterations,
                "maxcor": self.memory,
                "gtol": self.tolerance,
                "ftol": 64 * np.finfo(np.float64).eps,  # as in scikit-learn
                "maxfun": np.iinfo(np.int32).max,
            },
        )
        # Also where rounding ends the line search: no further step would help.
        return result.x, int(result.nit), result.status != 1
