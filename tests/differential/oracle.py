"""The same training by PyTorch in float64: gradients by autograd, updates by torch.optim.

It shares no code with the library: penalties, limits and averages are written here from their
formulas, activations and losses in `tests.torch_backend`. Only the random numbers of dropout and
noise are the library's documented ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastmlp import optimizers
from fastmlp.losses import CustomLoss
from fastmlp.regularization import DividedL2, dropout_mask, gaussian_noise
from tests import torch_backend

from .generator import Setting
from .problem import Problem

Array = np.ndarray[Any, Any]


def train(torch: Any, problem: Problem) -> dict[str, Array]:
    """Return losses, logits and the state of training, and predictions by it."""
    oracle = _Oracle(torch, problem)
    results = oracle.train()
    X = torch.tensor(problem.rounded(problem.predicted)) * problem.setting.input_scale
    with torch.no_grad():
        return {**results, "predictions": oracle.logits(X, None).numpy()}


class _Oracle:
    def __init__(self, torch: Any, problem: Problem) -> None:
        self.torch, self.problem, self.s = torch, problem, problem.setting
        network = problem.network("float64")
        pairs = zip(network.weights, network.biases, strict=True)
        self.parameters = [torch.tensor(p, requires_grad=True) for pair in pairs for p in pair]
        self.weights = self.parameters[::2]
        self.scale = None
        if network.scale is not None:
            self.scale = torch.tensor(network.scale, requires_grad=True)
            self.parameters.append(self.scale)
        self.X = torch.tensor(problem.rounded(problem.values))
        self.y = torch.tensor(_dense(problem))
        weights = problem.weights
        self.sample_weight = torch.tensor(
            np.ones(self.s.n_rows) if weights is None else weights.astype(float)
        )

    def flat(self, parts: Any) -> Array:
        return np.concatenate([part.detach().numpy().ravel() for part in parts])

    # Forward

    def logits(self, a: Any, step: int | None) -> Any:
        """Return logits of scaled rows; without dropout and noise where `step` is None."""
        r, F = self.s.regularization, self.torch.nn.functional
        n_layers = len(self.weights)
        rates = r.dropout_rates(n_layers) if step is not None else (0.0,) * n_layers
        if step is not None and r.input_noise:
            noise = gaussian_noise(self.s.seed, step, tuple(a.shape), "float64")
            a = a + r.input_noise * self.torch.tensor(noise)
        for layer in range(n_layers):
            if rates[layer]:
                shape = tuple(a.shape)
                mask = dropout_mask(rates[layer], self.s.seed, step, layer, shape, "float64")
                a = a * self.torch.tensor(mask)
            if layer == 0 and self.scale is not None:
                a = a * self.scale
            a = F.linear(a, self.weights[layer].T, self.parameters[2 * layer + 1])
            if layer < n_layers - 1:
                kind = self.s.hidden[layer]
                a = torch_backend.HIDDEN[kind.name](a, kind)
        return a

    def loss(self, rows: Array, step: int) -> tuple[Any, Any]:
        """Return the weighted mean of rows' losses, without penalties, and their logits."""
        z = self.logits(self.X[rows] * self.s.input_scale, step)
        each = _losses(self.torch, self.s, z, self.y[rows])
        weights = self.sample_weight[rows]
        total = weights.sum()
        return (each * weights).sum() / (total if total > 0 else 1.0), z

    def penalty(self, rows: Array) -> Any:
        r = self.s.regularization
        l2, total = r.l2, float(self.sample_weight[rows].sum())
        if isinstance(r, DividedL2):
            l2 = r.l2 / total if total > 0 else 0.0
        return sum(r.l1 * w.abs().sum() + l2 / 2 * (w**2).sum() for w in self.weights)

    # Training

    def train(self) -> dict[str, Any]:
        torch, r = self.torch, self.s.regularization
        groups = [{"params": [p]} for p in self.parameters]
        optimizer = _optimizer(torch, self.problem.optimizer, groups)
        factors = _rate_factors(self.problem.optimizer, len(self.weights))
        if self.scale is not None:
            given = self.problem.optimizer.rate_factors
            factors.append(1.0 if given is None else given.scale)
        average = [p.detach().clone() for p in self.parameters]
        losses, logits = [], []
        for step, rate in enumerate(self.problem.rates):
            for p in self.parameters:
                p.grad = None
            rows = self.problem.order[self.problem.span(step)]
            loss, z = self.loss(rows, step)
            (loss + self.penalty(rows)).backward()
            losses.append(loss.item())
            logits.append(z.detach().numpy())
            if r.clip_value is not None:
                torch.nn.utils.clip_grad_value_(self.parameters, r.clip_value)
            if r.clip_norm is not None:
                norm = math.sqrt(sum(float((p.grad**2).sum()) for p in self.parameters))
                for p in self.parameters:
                    p.grad *= min(1.0, r.clip_norm / max(norm, 1e-300))
            for group, factor in zip(optimizer.param_groups, factors, strict=True):
                group["lr"] = float(rate) * factor
            optimizer.step()
            with torch.no_grad():
                for w in self.weights if r.max_norm is not None else ():
                    norms = w.norm(dim=0)
                    w *= torch.where(norms > r.max_norm, r.max_norm / norms, 1.0)
                for mean, p in zip(average, self.parameters, strict=True):
                    decay = r.ema or 0.0
                    mean.mul_(decay).add_((1 - decay) * p)
        arrays = {"parameters": self.flat(self.parameters)}
        for number, name in enumerate(_moment_names(self.problem.optimizer)):
            arrays[f"moment {number}"] = self.flat(
                optimizer.state[p][name] for p in self.parameters
            )
        if r.ema is not None:
            arrays["average"] = self.flat(average)
        return {"losses": np.array(losses), "logits of training": np.concatenate(logits), **arrays}


def _dense(problem: Problem) -> Array:
    y = problem.raw_targets
    return np.eye(problem.setting.sizes[-1])[y] if problem.setting.labels else y.astype(float)


def _losses(torch: Any, s: Setting, z: Any, t: Any) -> Any:
    """Return every row's loss, from the formulas."""
    if isinstance(s.loss, CustomLoss):  # the generator's, as PyTorch writes it
        return (torch.sqrt(1 + (torch_backend.OUTPUTS[s.output](z) - t) ** 2) - 1).mean(dim=1)
    return torch_backend.losses(s.loss, s.output, z, t)


def _optimizer(torch: Any, optimizer: Any, parameters: list[Any]) -> Any:
    """Return PyTorch's optimizer of the same definition."""
    kind, o = type(optimizer), optimizer
    decay = {"lr": o.learning_rate, "weight_decay": o.weight_decay}
    if kind is optimizers.SGD:
        return torch.optim.SGD(parameters, momentum=o.momentum, nesterov=o.nesterov, **decay)
    if kind in (optimizers.Adam, optimizers.AdamW):
        peer = torch.optim.Adam if kind is optimizers.Adam else torch.optim.AdamW
        return peer(parameters, betas=(o.beta_1, o.beta_2), eps=o.epsilon, **decay)
    if kind is optimizers.RMSprop:
        options = {"alpha": o.smoothing, "eps": o.epsilon, "momentum": o.momentum}
        return torch.optim.RMSprop(parameters, **options, **decay)
    if kind is optimizers.Adagrad:
        return torch.optim.Adagrad(parameters, eps=o.epsilon, **decay)
    return _lion(torch)(parameters, {**decay, "betas": (o.beta_1, o.beta_2)})


def _rate_factors(optimizer: Any, n_layers: int) -> list[float]:
    """Return the factors on the rate of every layer's weights and biases, in turns."""
    given = optimizer.rate_factors
    if given is None:
        return [1.0] * (2 * n_layers)
    pair = [f if isinstance(f, tuple) else (f,) * n_layers for f in (given.weights, given.biases)]
    return [factor for layer in zip(*pair, strict=True) for factor in layer]


def _lion(torch: Any) -> Any:
    class Lion(torch.optim.Optimizer):
        """Algorithm 2 of Chen et al. 2023 (arXiv 2302.06675)."""

        def step(self) -> None:
            for group in self.param_groups:
                beta_1, beta_2 = group["betas"]
                for p in group["params"]:
                    momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    c = beta_1 * momentum + (1 - beta_1) * p.grad
                    with torch.no_grad():
                        p -= group["lr"] * (c.sign() + group["weight_decay"] * p)
                    momentum.mul_(beta_2).add_((1 - beta_2) * p.grad)

    return Lion


def _moment_names(optimizer: Any) -> tuple[str, ...]:
    """Return what PyTorch calls the library's moments, in the library's order."""
    kind = type(optimizer)
    if kind is optimizers.SGD:
        return ("momentum_buffer",) if optimizer.momentum else ()
    if kind is optimizers.RMSprop:
        return ("square_avg", "momentum_buffer") if optimizer.momentum else ("square_avg",)
    return {
        optimizers.Adam: ("exp_avg", "exp_avg_sq"),
        optimizers.AdamW: ("exp_avg", "exp_avg_sq"),
        optimizers.Adagrad: ("sum",),
        optimizers.Lion: ("momentum",),
    }[kind]
