"""The backend: what it knows, and the device that its sessions use."""

from __future__ import annotations

from typing import ClassVar

from fastmlp import _checks
from fastmlp.backends.base import Backend, Session, first_unknown
from fastmlp.backends.jax_backend.devices import find_devices
from fastmlp.backends.jax_backend.formulas import HIDDEN, LOSSES, OUTPUTS
from fastmlp.backends.jax_backend.rules import RULES
from fastmlp.backends.jax_backend.session import JaxSession
from fastmlp.losses import Loss
from fastmlp.network import MLP
from fastmlp.optimizers import Optimizer
from fastmlp.regularization import DividedL2, Regularization

_KNOWN_TYPES = {*HIDDEN, *OUTPUTS, *LOSSES, *RULES, Regularization, DividedL2}


class JaxBackend(Backend):
    """Networks on a device of JAX: the processor, a GPU or a TPU.

    Many steps are one compiled program, which is compiled when a session first needs it. Parameters
    stay on the device. The samples of a fit are put there once, where they are plain arrays and
    there is room: what changes in them during the fit is not seen. Sparse rows, memory maps and
    what is larger travel row by row. Products are computed in full precision, also on GPUs.
    `n_threads` has no effect: on the processor, JAX uses the cores that the process may use.

    Parameters
    ----------
    device : str or None, default None
        "cpu", "gpu" or "tpu", with a number where there are several, as in "gpu:1". None takes the
        one that JAX prefers. "gpu:0,1" or, for all, "gpu:*" divide every batch among devices.
    kept_bytes : int or None, default None
        How many bytes of a fit's samples may be kept on each device. None takes half of its memory,
        where it tells how much that is, and else 1 GiB.

    Raises
    ------
    ValueError
        If there is no such device; the message lists those there are.

    Examples
    --------
    >>> from fastmlp import Trainer
    >>> trainer = Trainer(MLP([2, 2]), backend=JaxBackend("cpu"))
    >>> trainer.predict([[0.0, 0.0]])
    array([0])
    """

    name = "jax"
    takes_device: ClassVar[bool] = True

    def __init__(self, device: str | None = None, *, kept_bytes: int | None = None) -> None:
        find_devices(device)
        self.device = device
        self.kept_bytes = kept_bytes
        if kept_bytes is not None:
            self.kept_bytes = _checks.integer(kept_bytes, "kept_bytes", at_least=0)

    def unsupported(
        self, network: MLP, loss: Loss, optimizer: Optimizer, regularization: Regularization
    ) -> str | None:
        if network.precision != "full":
            return (
                f"the JAX backend computes in full precision only, not in {network.precision}; "
                "the backends 'numba' and 'numpy' do"
            )
        unknown = first_unknown(_KNOWN_TYPES, network, loss, optimizer, regularization)
        if unknown is None:
            return None
        return (
            f"the JAX backend has no formula for the {unknown}; "
            "the NumPy backend computes any, with backend='numpy'"
        )

    def _bind(
        self,
        network: MLP,
        loss: Loss,
        optimizer: Optimizer,
        regularization: Regularization,
        batch_size: int,
        n_threads: int | None,
        seed: int,
    ) -> Session:
        given = network, loss, optimizer, regularization, batch_size, seed
        return JaxSession(*given, device=self.device, kept_bytes=self.kept_bytes)

    def __repr__(self) -> str:
        given = {"device": self.device, "kept_bytes": self.kept_bytes}
        shown = [f"{name}={value!r}" for name, value in given.items() if value is not None]
        return f"JaxBackend({', '.join(shown)})"
