"""Networks as PyTorch modules, and from them.

Imported where PyTorch is used: ``fastmlp`` itself does without.
"""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    import torch
    from torch import nn
except ImportError as error:
    raise ImportError("PyTorch modules need torch: see https://pytorch.org") from error

from fastmlp import _checks
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS, Activation, OutputActivation
from fastmlp.exchange.layers import folded_weights, network_of_layers
from fastmlp.exchange.vocabulary import Allowed, of_module, parameter_of, row_of
from fastmlp.network import MLP, copying

#: A module of a sequence and its name there.
_Named = tuple[str, Any]


class Exp(nn.Module):  # type: ignore[misc]
    """exp, which PyTorch has as a function only.

    Examples
    --------
    >>> Exp()(torch.zeros(1))
    tensor([1.])
    """

    def forward(self, z: Any) -> Any:
        """Return exp(z)."""
        return torch.exp(z)


class Scale(nn.Module):  # type: ignore[misc]
    """Multiplication by a constant: a network's `input_scale`.

    Parameters
    ----------
    factor : float

    Examples
    --------
    >>> Scale(0.5)(torch.ones(2))
    tensor([0.5000, 0.5000])
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Any) -> Any:
        """Return x times the factor."""
        return x * self.factor

    def extra_repr(self) -> str:
        """Return what stands between the parentheses."""
        return f"{self.factor!r}"


def to_torch(network: MLP, logits: bool = False) -> Any:
    """Return a network as a sequence of PyTorch modules, on the CPU, with copies of its parameters.

    Parameters
    ----------
    network : MLP
    logits : bool, default False
        Leave out the output activation, as PyTorch's losses for classes want it.

    Returns
    -------
    torch.nn.Sequential
        Of `Linear` and activations, after a `Scale` where the network has an input scale.

    Raises
    ------
    ValueError
        If an activation is not one of the library's own.

    Examples
    --------
    >>> to_torch(MLP([2, 3]))
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): Softmax(dim=-1)
    )
    """
    with copying:
        network = network.copy()
    modules: list[Any] = [] if network.input_scale == 1.0 else [Scale(network.input_scale)]
    dtype = torch.float32 if network.dtype == np.float32 else torch.float64
    activations: list[Activation | OutputActivation] = list(network.hidden_activations)
    activations.append(network.output_activation)
    for activation, w, b in zip(activations, folded_weights(network), network.biases, strict=True):
        # Made without values, which would be drawn from PyTorch's random numbers.
        linear = nn.Linear(*w.shape, dtype=dtype, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T))
            linear.bias.copy_(torch.from_numpy(b))
        modules += [linear, _module_of(activation)]
    is_linear = network.output_activation.name == "linear"
    return nn.Sequential(*(modules[:-1] if logits or is_linear else modules))


def from_torch(module: Any, output: str | OutputActivation | None = None) -> MLP:
    """Return the network that a sequence of PyTorch modules is, with copies of its parameters.

    Parameters
    ----------
    module : torch.nn.Sequential
        Of `Linear` and known activations; sequences inside it, `Identity` and `Dropout`, which
        does nothing in prediction, may be there too, and a `Flatten` or `Scale` at its start.
        A `Softmax`, `LogSoftmax`, `Sigmoid` or `Exp` at its end becomes the output activation;
        with `LogSoftmax` the module's outputs are the logarithms of the network's.
    output : str, OutputActivation or None, default None
        The output activation where the module ends with a `Linear`, whose values are logits to
        PyTorch's losses; None takes them as the network's outputs ("linear").

    Returns
    -------
    MLP
        float64 if the parameters are, else float32.

    Raises
    ------
    TypeError
        If it is no `Sequential`.
    ValueError
        If a module is not understood, which the message names; if sizes do not follow one from
        another; or if it has another output activation than `output`.

    Examples
    --------
    >>> from_torch(nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 2)), output="softmax")
    MLP([4, 8, 2], hidden_activation='silu', output_activation='softmax', dtype='float32', seed=0)
    """
    if not isinstance(module, nn.Sequential):
        raise TypeError(f"from_torch takes a torch.nn.Sequential, got {type(module).__name__}")
    scale, layers = _layers_of([one for one in _leaves("", module) if not _does_nothing(one[1])])
    hidden = [_activation_of(activation, ACTIVATIONS) for _, activation in layers[:-1]]
    found: OutputActivation = _activation_of(layers[-1][1], OUTPUT_ACTIVATIONS)
    wanted = (
        found
        if output is None
        else _checks.choose(output, OutputActivation, OUTPUT_ACTIVATIONS, "output activation")
    )
    if wanted != found and found.name != "linear":
        raise ValueError(f"the module ends with {found.name!r}, but output is {wanted.name!r}")
    weights = [_array(linear, "weight").T for linear, _ in layers]
    biases = [
        np.zeros(w.shape[1], w.dtype) if linear[1].bias is None else _array(linear, "bias")
        for (linear, _), w in zip(layers, weights, strict=True)
    ]
    return network_of_layers(weights, biases, hidden, wanted, scale)


def _module_of(activation: Activation | OutputActivation) -> Any:
    written = row_of(activation).torch[0]
    settings = {
        name: parameter_of(activation, value.written if isinstance(value, Allowed) else value)
        for name, value in written.settings.items()
    }
    return Exp() if written.name == "Exp" else getattr(nn, written.name)(**settings)


def _leaves(name: str, module: Any) -> list[_Named]:
    """Return the modules of a sequence, and of sequences in it, with their names."""
    if module._forward_hooks or module._forward_pre_hooks:
        raise ValueError(f"the module {name or 'itself'!r} has hooks, which may change its values")
    if type(module) is not nn.Sequential:
        return [(name, module)]
    prefix = f"{name}." if name else ""
    return [leaf for inner, one in module.named_children() for leaf in _leaves(prefix + inner, one)]


def _does_nothing(module: Any) -> bool:
    return type(module) in (nn.Dropout, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Identity)


def _layers_of(modules: list[_Named]) -> tuple[float, list[tuple[_Named, _Named]]]:
    """Return the input's scale, and every linear module with the activation that follows it."""
    scale = 1.0
    if modules and type(modules[0][1]) is nn.Flatten:
        name, flatten = modules.pop(0)
        if (flatten.start_dim, flatten.end_dim) != (1, -1):
            raise ValueError(f"the module {name!r} is not understood: {flatten!r}")
    if modules and type(modules[0][1]) is Scale:
        scale = modules.pop(0)[1].factor
    layers: list[tuple[_Named, _Named]] = []
    nothing = ("", nn.Identity())
    for name, module in modules:
        if type(module) is nn.Linear:
            layers.append(((name, module), nothing))
        elif layers and layers[-1][1] is nothing:
            layers[-1] = (layers[-1][0], (name, module))
        else:
            raise ValueError(
                f"the module {name!r} is not understood where it is: {module!r}; a plain "
                "multilayer perceptron has an activation after each Linear"
            )
    if not layers:
        raise ValueError("the module has no Linear")
    return scale, layers


def _activation_of(named_module: _Named, named: Any) -> Any:
    name, module = named_module
    own = type(module).__module__.startswith(("torch.nn.", __name__))
    found = of_module(type(module).__name__, module, named) if own else None
    if found is None:
        place = "output" if named is OUTPUT_ACTIVATIONS else "hidden"
        raise ValueError(
            f"the module {name!r}, {module!r}, is no {place} activation that is known "
            f"({', '.join(named)})"
        )
    return found


def _array(named_linear: _Named, which: str) -> Any:
    name, linear = named_linear
    values = getattr(linear, which).detach().cpu()
    if values.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"the module {name!r} has a {which} of {values.dtype}, which must be float32 or float64"
        )
    return values.numpy()
