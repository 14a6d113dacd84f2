"""A backend by PyTorch's automatic differentiation: formulas of its own, nothing by hand.

It writes losses and updates down as documented, and lets PyTorch differentiate the losses. Only the
random numbers of dropout and noise are the library's; a user's losses are functions of NumPy, which
it says that it does not support.
"""

from __future__ import annotations

import numpy as np
import torch

from fastmlp.backends import Backend, Session, TrainingState
from fastmlp.losses import CustomLoss
from fastmlp.network import layer_views, scale_view
from fastmlp.regularization import DividedL2, dropout_mask, gaussian_noise

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
    "hard_sigmoid": lambda z, _: functional.relu6(z + 3) / 6,
    "hard_swish": lambda z, _: z * functional.relu6(z + 3) / 6,
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


def stepped(optimizer, p, g, moments, rate, step):
    """Return the parameters after one step; change the moments in place."""
    o, name = optimizer, optimizer.name
    if name == "adamw":
        p = p * (1 - rate * o.weight_decay)
    elif name != "lion":
        g = g + o.weight_decay * p
    if name == "sgd" and o.momentum:
        moments[0] = o.momentum * moments[0] + g
        g = g + o.momentum * moments[0] if o.nesterov else moments[0]
    if name in ("adam", "adamw"):
        moments[0].lerp_(g, 1 - o.beta_1)
        moments[1] = o.beta_2 * moments[1] + (1 - o.beta_2) * g * g
        root = (moments[1] / (1 - o.beta_2**step)).sqrt() + o.epsilon
        g = moments[0] / (1 - o.beta_1**step) / root
    elif name == "rmsprop":
        moments[0] = o.smoothing * moments[0] + (1 - o.smoothing) * g * g
        g = g / (moments[0].sqrt() + o.epsilon)
        if o.momentum:
            moments[1] = o.momentum * moments[1] + g
            g = moments[1]
    elif name == "adagrad":
        moments[0] += g * g
        g = g / (moments[0].sqrt() + o.epsilon)
    elif name == "lion":
        direction = (o.beta_1 * moments[0] + (1 - o.beta_1) * g).sign()
        moments[0] = o.beta_2 * moments[0] + (1 - o.beta_2) * g
        g = direction + o.weight_decay * p
    return p - rate * g


class TorchBackend(Backend):
    name = "torch"

    def unsupported(self, network, loss, optimizer, regularization):
        if isinstance(loss, CustomLoss):
            return "the PyTorch backend cannot differentiate functions of NumPy"
        return None

    def _bind(
        self, network, loss, optimizer, regularization, batch_size, n_threads, seed
    ) -> Session:
        return TorchSession(network, loss, optimizer, regularization, batch_size, seed)


class TorchSession(Session):
    def __init__(self, network, loss, optimizer, regularization, batch_size, seed) -> None:
        super().__init__(network, loss, optimizer, regularization, batch_size, seed)
        self._load(TrainingState.initial(network, optimizer, regularization))

    def _load(self, state):
        self.parameters = state.parameters.astype(self.dtype)
        self.moments = torch.tensor(state.moments, dtype=torch.tensor(self.parameters).dtype)
        self.average = None if state.average is None else torch.tensor(state.average)

    def _store(self):
        average = None if self.average is None else self.average.numpy().copy()
        moments = self.moments.numpy().copy()
        return TrainingState(self.parameters.copy(), moments, average, self.step)

    def _weight_matrices(self):
        return layer_views(self.parameters, self.layer_shapes)[0]

    def _rows(self, X):
        dense = X.toarray() if hasattr(X, "toarray") else X
        return torch.tensor(np.array(dense, dtype=self.dtype, order="C")) * self.input_scale

    def _forward(self, rows, parameters, drop=lambda layer, a: a):
        a, start = drop(0, rows), 0
        scale = scale_view(parameters, self.layer_shapes)
        if scale is not None:
            a = a * scale
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
        l2 = r.l2
        if isinstance(r, DividedL2):
            l2 = r.l2 / float(total) if total > 0 else 0.0
        is_weight = torch.tensor(self._is_weight(), dtype=z.dtype)
        w = parameters * is_weight
        (loss + r.l1 * w.abs().sum() + l2 / 2 * (w * w).sum()).backward()
        gradient[:] = parameters.grad.numpy()
        return float(loss.detach())

    def _factors(self):
        factors = np.ones(self.n_parameters)
        given = self.optimizer.layer_factors(self.n_layers)
        for parts, each in zip(layer_views(factors, self.layer_shapes), given, strict=True):
            for part, factor in zip(parts, each, strict=True):
                part[:] = factor
        if self.scaling_layer:
            scale_view(factors, self.layer_shapes)[:] = self.optimizer.scale_factor
        return factors

    def _is_weight(self):
        flags = np.zeros(self.n_parameters)
        for w in layer_views(flags, self.layer_shapes)[0]:
            w[:] = 1
        return flags

    def _update(self, gradient, learning_rate):
        self.step += 1
        r, p, g = self.regularization, torch.tensor(self.parameters), torch.tensor(gradient)
        if r.clip_value is not None:
            g = g.clamp(-r.clip_value, r.clip_value)
        if r.clip_norm is not None:
            g = g * min(1.0, r.clip_norm / max(float(g.double().norm()), 1e-300))
        rates = torch.tensor(learning_rate * self._factors()).to(p.dtype)
        p = stepped(self.optimizer, p, g, self.moments, rates, self.step)
        if r.max_norm is not None:
            for w in layer_views(p, self.layer_shapes)[0]:
                w *= torch.clamp(r.max_norm / w.norm(dim=0).clamp(min=1e-30), max=1)
        if self.average is not None:
            self.average += (1 - r.ema) * (p - self.average)
        self.parameters = p.numpy()
