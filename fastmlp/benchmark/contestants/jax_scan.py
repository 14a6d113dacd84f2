"""JAX: a whole epoch in one compiled `lax.scan`, its state donated."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastmlp.benchmark.contestants.base import (
    Array,
    Differentiating,
    Run,
    mean_over_samples,
    targets,
)
from fastmlp.benchmark.workloads import Workload
from fastmlp.network import MLP
from fastmlp.optimizers import Adam


class JaxScan(Differentiating):
    """JAX on the CPU, as its users write it. Its threads follow the process's affinity.

    Examples
    --------
    >>> JaxScan().name
    'jax-scan'
    """

    name = "jax-scan"
    packages = ("jax",)

    def prepare(self, workload: Workload, network: MLP, X: Array, y: Array, n_threads: int) -> Run:
        import jax

        if workload.dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        return _Run(workload, network, X, y)


class _Run(Run):
    def __init__(self, workload: Workload, network: MLP, X: Array, y: Array) -> None:
        import jax
        import jax.numpy as jnp

        self.X = jnp.asarray(X)
        self.targets = jnp.asarray(targets(workload, y))
        self.batch_size = workload.batch_size
        self.start(network)
        hidden, head = workload.hidden_activation, (workload.output_activation, workload.loss)
        update = _adam if isinstance(workload.optimizer, Adam) else _sgd
        step = functools.partial(
            _step,
            functools.partial(_loss, hidden, head),
            functools.partial(update, workload.optimizer),
        )
        self._epoch = jax.jit(functools.partial(_epoch, step, self.batch_size), donate_argnums=0)
        self._outputs = jax.jit(functools.partial(_outputs, hidden, head[0]))

    def start(self, network: MLP) -> None:
        import jax
        import jax.numpy as jnp

        parameters = [
            (jnp.array(w), jnp.array(b))
            for w, b in zip(network.weights, network.biases, strict=True)
        ]
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        self.state = (parameters, zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros((), jnp.int32))

    def epoch(self, order: Array) -> float:
        self.state, losses = self._epoch(self.state, self.X, self.targets, order)
        return mean_over_samples(losses, len(order), self.batch_size)

    def outputs(self, X: Array) -> Array:
        return np.asarray(self._outputs(self.state[0], np.atleast_2d(X)))


def _logits(hidden: str, parameters: Any, X: Any) -> Any:
    import jax

    activations = {"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid, "tanh": jax.numpy.tanh}
    activation = activations[hidden]
    for w, b in parameters[:-1]:
        X = activation(X @ w + b)
    w, b = parameters[-1]
    return X @ w + b


def _outputs(hidden: str, output: str, parameters: Any, X: Any) -> Any:
    import jax

    logits = _logits(hidden, parameters, X)
    return jax.nn.sigmoid(logits) if output == "sigmoid" else jax.nn.softmax(logits)


def _loss(hidden: str, head: tuple[str, str], parameters: Any, X: Any, targets: Any) -> Any:
    import jax
    import jax.numpy as jnp

    output, loss = head
    if loss == "mse":
        return jnp.mean((_outputs(hidden, output, parameters, X) - targets) ** 2)
    logits = _logits(hidden, parameters, X)
    if output == "sigmoid":
        return jnp.mean(jnp.logaddexp(0, logits) - targets * logits)
    logarithms = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(logarithms, targets[:, None], axis=1))


def _sgd(optimizer: Any, state: Any, gradient: Any) -> Any:
    import jax

    parameters, *rest = state
    rate = optimizer.learning_rate
    return (jax.tree.map(lambda p, g: p - rate * g, parameters, gradient), *rest)


def _adam(optimizer: Any, state: Any, gradient: Any) -> Any:
    import jax
    import jax.numpy as jnp

    parameters, m, v, step = state
    beta_1, beta_2 = optimizer.beta_1, optimizer.beta_2
    step = step + 1
    m = jax.tree.map(lambda m, g: beta_1 * m + (1 - beta_1) * g, m, gradient)
    v = jax.tree.map(lambda v, g: beta_2 * v + (1 - beta_2) * g * g, v, gradient)
    rate = optimizer.learning_rate / (1 - beta_1**step)
    scale = 1 / jnp.sqrt(1 - beta_2**step)
    parameters = jax.tree.map(
        lambda p, m, v: p - (rate * m / (jnp.sqrt(v) * scale + optimizer.epsilon)).astype(p.dtype),
        parameters,
        m,
        v,
    )
    return parameters, m, v, step


def _step(loss: Any, update: Any, state: Any, X: Any, targets: Any) -> Any:
    import jax

    value, gradient = jax.value_and_grad(loss)(state[0], X, targets)
    return update(state, gradient), value


def _epoch(step: Any, batch_size: int, state: Any, X: Any, targets: Any, order: Any) -> Any:
    """Scan over the whole batches, then take the rest in one smaller step."""
    import jax
    import jax.numpy as jnp

    n_whole = len(order) // batch_size
    batches = order[: n_whole * batch_size].reshape(n_whole, batch_size)
    state, losses = jax.lax.scan(
        lambda state, rows: step(state, X[rows], targets[rows]), state, batches
    )
    rest = order[n_whole * batch_size :]
    if len(rest):
        state, last = step(state, X[rest], targets[rest])
        losses = jnp.append(losses, last)
    return state, losses
