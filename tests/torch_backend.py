"""A backend by PyTorch's automatic differentiation: formulas of its own, nothing by hand.

It writes the losses down as documented and lets PyTorch differentiate them. It knows the
activations that PyTorch has, plain SGD, penalties, and the shared random numbers of dropout and
noise; everything else it says that it does not support.
"""

from __future__ import annotations

import numpy as np
import torch

from fastmlp.backends import Backend, Session, TrainingState
from fastmlp.losses import CustomLoss
from fastmlp.network import layer_views
from fastmlp.optimizers import SGD
from fastmlp.regularization import Regularization, dropout_mask, gaussian_noise

functional = torch.nn.functional
torch.set_num_threads(1)  # others of its threads would wait by spinning

HIDDEN = {
    "relu": lambda z, _: functional.relu(z),
    "sigmoid": lambda z, _: torch.sigmoid(z),
    "tanh": lambda z, _: torch.tanh(z),
    "identity": lambda z, _: z,
    "leaky_relu": lambda z, kind: functional.leaky_relu(z, kind.negative_slope),
    "elu": lambda z, kind: functional.elu(z, kind.alpha),
    "selu": lambda z, _: functional.selu(z),
    "gelu": lambda z, _: functional.gelu(z),
    "gelu_tanh": lambda z, _: functional.gelu(z, approximate="tanh"),
    "silu": lambda z, _: functional.silu(z),
    "mish": lambda z, _: z * torch.tanh(torch.logaddexp(z, torch.zeros_like(z))),
    "softplus": lambda z, _: torch.logaddexp(z, torch.zeros_like(z)),
    "relu6": lambda z, _: functional.relu6(z),
    "hard_tanh": lambda z, _: functional.hardtanh(z),
    # PyTorch differentiates its own with 1 / 6 in float32.
    "hard_sigmoid": lambda z, _: torch.clamp(z / 6 + 0.5, 0, 1),
    "hard_swish": lambda z, _: functional.hardswish(z),
}
OUTPUTS = {
    "softmax": lambda z: torch.softmax(z, 1),
    "sigmoid": torch.sigmoid,
    "linear": lambda z: z,
    "exp": torch.exp,
}


def losses(loss, output: str, z, t):
    """Return every row's loss."""
    p = OUTPUTS[output](z)
    if loss.name == "cross_entropy":
        s = loss.label_smoothing
        t = t * (1 - s) + s / (t.shape[1] if output == "softmax" else 2)
        if output == "softmax":
            return -(t * torch.log_softmax(z, 1)).sum(1)
        return functional.binary_cross_entropy_with_logits(z, t, reduction="none").mean(1)
    if loss.name == "poisson":
        return (p - t * z).mean(1)
    e = t - p
    if loss.name == "huber":
        d = loss.threshold
        return torch.where(e.abs() <= d, e**2 / 2, d * (e.abs() - d / 2)).mean(1)
    if loss.name == "quantile":
        q = torch.tensor(loss.levels, dtype=z.dtype)
        return torch.where(e > 0, q * e, (q - 1) * e).mean(1)
    return {"mse": e**2, "squared_error": e**2 / 2, "mae": e.abs()}[loss.name].mean(1)


class TorchBackend(Backend):
    name = "torch"

    def unsupported(self, network, loss, optimizer, regularization):
        known = Regularization(
            l1=regularization.l1,
            l2=regularization.l2,
            dropout=regularization.dropout,
            input_noise=regularization.input_noise,
        )
        if isinstance(loss, CustomLoss):
            return "the PyTorch backend has no custom losses"
        if regularization != known or optimizer != SGD(optimizer.learning_rate):
            return "the PyTorch backend has plain SGD with penalties, dropout and noise only"
        return None

    def _bind(
        self, network, loss, optimizer, regularization, batch_size, n_threads, seed
    ) -> Session:
        return TorchSession(network, loss, optimizer, regularization, batch_size, seed)


class TorchSession(Session):
    def __init__(self, network, loss, optimizer, regularization, batch_size, seed) -> None:
        super().__init__(network, loss, optimizer, regularization, batch_size, seed)
        self.parameters = network.parameters.copy()

    def _load(self, state):
        self.parameters = state.parameters.astype(self.dtype)

    def _store(self):
        moments = np.empty((0, self.n_parameters), self.dtype)
        return TrainingState(self.parameters.copy(), moments, None, self.step)

    def _weight_matrices(self):
        return layer_views(self.parameters, self.layer_shapes)[0]

    def _rows(self, X):
        dense = X.toarray() if hasattr(X, "toarray") else X
        return torch.tensor(np.array(dense, dtype=self.dtype, order="C")) * self.input_scale

    def _forward(self, rows, parameters, drop=lambda layer, a: a):
        a, start = drop(0, rows), 0
        for layer, (n_in, n_out) in enumerate(self.layer_shapes):
            middle = start + n_in * n_out
            end = middle + n_out
            a = a @ parameters[start:middle].reshape(n_in, n_out) + parameters[middle:end]
            start = end
            if layer < self.n_layers - 1:
                kind = self.hidden_activations[layer]
                a = drop(layer + 1, HIDDEN[kind.name](a, kind))
        return a

    def _logits(self, X):
        return self._forward(self._rows(X), torch.tensor(self.parameters)).numpy()

    def _drop(self, layer, a):
        rate = self.regularization.dropout_rates(self.n_layers)[layer]
        if not rate:
            return a
        mask = dropout_mask(rate, self.seed, self.step, layer, tuple(a.shape), self.dtype)
        return a * torch.tensor(mask)

    def _loss_and_gradient(self, X, y, sample_weight, gradient, logits=None):
        r = self.regularization
        rows = self._rows(X)
        if r.input_noise:
            noise = gaussian_noise(self.seed, self.step, tuple(rows.shape), self.dtype)
            rows = rows + r.input_noise * torch.tensor(noise)
        parameters = torch.tensor(self.parameters, requires_grad=True)
        z = self._forward(rows, parameters, self._drop)
        if logits is not None:
            logits[:] = z.detach().numpy()
        targets = torch.tensor(np.eye(self.n_outputs)[y] if y.ndim == 1 else y, dtype=z.dtype)
        values = losses(self.loss, self.output_activation.name, z, targets)
        weights = torch.tensor(np.ones(len(rows)) if sample_weight is None else sample_weight)
        weights = weights.to(z.dtype)
        total = weights.sum()
        loss = (values * weights).sum() / (total if total > 0 else 1)
        is_weight = torch.tensor(self._is_weight(), dtype=z.dtype)
        w = parameters * is_weight
        (loss + r.l1 * w.abs().sum() + r.l2 / 2 * (w * w).sum()).backward()
        gradient[:] = parameters.grad.numpy()
        return float(loss.detach())

    def _is_weight(self):
        flags = np.zeros(self.n_parameters)
        for w in layer_views(flags, self.layer_shapes)[0]:
            w[:] = 1
        return flags

    def _update(self, gradient, learning_rate):
        self.step += 1
        self.parameters = self.parameters - self.dtype.type(learning_rate) * gradient
