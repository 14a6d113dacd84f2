"""The multilayer perceptron: layer sizes, activations and one flat vector of parameters."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastmlp import _bfloat16, _checks
from fastmlp._frames import as_numbers, check_names, column_names
from fastmlp._mapped import release_pages
from fastmlp._schema import Items, Scalar, shown
from fastmlp._settings import own_scalar
from fastmlp.activations import (
    ACTIVATIONS,
    OUTPUT_ACTIVATIONS,
    Activation,
    OutputActivation,
)
from fastmlp.initializers import INITIALIZERS, Initializer

Array = NDArray[Any]

_ROWS_AT_ONCE = 4096
#: What the inputs of products may be rounded to.
PRECISIONS = ("full", "bfloat16")
#: What sessions copy when they are bound to a network.
_FIXED = (
    "layer_sizes",
    "hidden_activations",
    "output_activation",
    "initializer",
    "dtype",
    "seed",
    "input_scale",
    "scaling_layer",
    "precision",
)

#: Held while a network's parameters are copied, so that no thread reads half of an assignment. A
#: fork waits for it: a child has all networks whole.
copying = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=copying.acquire,
        after_in_parent=copying.release,
        after_in_child=copying.release,
    )


class MLP:
    """A multilayer perceptron.

    Parameters
    ----------
    layer_sizes : sequence of int
        Number of inputs, of units in each hidden layer, and of outputs: at least two numbers.
        With two there is no hidden layer.
    hidden_activation : str, Activation or a sequence of them, default "relu"
        One for all hidden layers, or one for each.
    output_activation : str or OutputActivation, default "softmax"
        "softmax", "sigmoid", "linear" or "exp".
    initializer : str, Initializer or None, default None
        How weights are drawn. None takes what suits each layer's activation: He for ReLU and its
        kin, LeCun for SELU, Glorot for the others. Biases start at zero.
    dtype : dtype, default float32
        float32 or float64.
    seed : int, default 0
        Seed of the initial weights. Both dtypes start from the same draws, rounded.
    input_scale : float, default 1.0
        Inputs are multiplied by it, in training and prediction: 1 / 255 lets a network take
        uint8 images as they are.
    scaling_layer : bool, default False
        Whether a learned factor for every input, 1 at the start, stands directly in front of the
        first weight layer: ``(X * input_scale * scale) @ weights[0] + biases[0]`` (the scaling
        layer of Holzmuller et al. 2024, arXiv 2407.04491). Noise and dropout come before it;
        L1, L2 and `max_norm` leave it alone, as they leave biases.
    precision : {None, "full", "bfloat16"}, default None
        What matrix products are computed with, in training and prediction. None is "full": the
        dtype. With "bfloat16", for float32 only, the factors of every product are rounded to
        bfloat16, to the nearest and halves to even; sums, and all else, are float32. See Notes.

    Attributes
    ----------
    parameters : ndarray of shape (n_parameters,)
        All weights and biases: layer by layer, weights in row-major order, then biases. The
        scaling layer's factors, where there is one, are the last.
    weights : sequence of ndarray of shape (n_in, n_out)
        Views of `parameters`, one for each layer; assigning to one, or to all, copies into it.
    biases : sequence of ndarray of shape (n_out,)
        Likewise.
    scale : ndarray of shape (n_inputs,) or None
        The scaling layer's factors, a view of `parameters`; None without one. Assigning copies.
    feature_names : tuple of str or None
        The columns of the data frame that it was trained on: frames with others, or in another
        order, are refused.
    label_names : tuple or None
        What the outputs stand for: classes of a softmax, labels of sigmoids or targets, one for
        each output; of a single sigmoid also the two classes. Names, numbers or truth values.
        `predict` gives their numbers from 0.
    training : dict or None
        What `Trainer.fit` says of the training: epochs, last scores, loss, optimizer and version.

    Raises
    ------
    ValueError, TypeError
        If a size, a name, the dtype or the seed is not as stated.
    AttributeError
        If anything but parameters is changed later: what uses the network relies on it.

    Notes
    -----
    With ``precision="bfloat16"``, processors that have instructions for it train large networks
    faster, to about the same accuracy. What is rounded, and when:

    - a layer's inputs, forward and for the gradient of its weights: rows once they are scaled
      (`input_scale`) and have noise and dropout, activations once they have dropout. Of sparse
      rows what is zero stays so;
    - a layer's weights, forward and backward. Optimizers change float32 weights, of which products
      read rounded copies. Where there is a scaling layer, what is rounded is the product of its
      factors and the first weights;
    - a layer's deltas, the loss's gradient by its pre-activations, backward and for the gradient
      of its weights and biases: once they are multiplied by the derivatives of the activations,
      which are taken before activations are rounded.

    Biases are not rounded, nor are logits, outputs, losses, gradients, moments and averages.
    Parameters are kept, saved and exported in float32; PyTorch and ONNX compute with them in full.

    Examples
    --------
    >>> network = MLP([4, 8, 3], hidden_activation="tanh", seed=1)
    >>> network.n_parameters
    67
    >>> network.predict_proba([0.1, 0.2, 0.3, 0.4]).shape
    (3,)

    Products of numbers with eight bits of precision, and sums of float32:

    >>> network = MLP([1, 1], output_activation="linear", precision="bfloat16")
    >>> network.weights[0] = [[1.001]]
    >>> network.logits([[3.0]])
    array([[3.]], dtype=float32)
    """

    #: Here too for pickles of earlier versions.
    scaling_layer: bool = False
    precision: str = "full"
    feature_names: tuple[str, ...] | None = None
    training: Mapping[str, Any] | None = None
    _label_names: tuple[Any, ...] | None = None

    def __init__(
        self,
        layer_sizes: Sequence[int],
        hidden_activation: str | Activation | Sequence[str | Activation] = "relu",
        output_activation: str | OutputActivation = "softmax",
        initializer: str | Initializer | None = None,
        dtype: DTypeLike = np.float32,
        seed: int = 0,
        input_scale: float = 1.0,
        scaling_layer: bool = False,
        precision: str | None = None,
    ) -> None:
        self.layer_sizes = _layer_sizes(layer_sizes)
        self.hidden_activations = _hidden_activations(hidden_activation, self.n_layers - 1)
        self.output_activation = _checks.choose(
            output_activation, OutputActivation, OUTPUT_ACTIVATIONS, "output activation"
        )
        self.initializer = initializer
        self.dtype = _dtype(dtype)
        self.seed = _checks.integer(seed, "seed", at_least=0)
        self.input_scale = _checks.real(input_scale, "input_scale", above=0)
        self.scaling_layer = _checks.boolean(scaling_layer, "scaling_layer")
        self.precision = _precision(precision, self.dtype)
        self._bind_parameters(np.zeros(self.n_parameters, dtype=self.dtype))
        self._initialize()

    @property
    def n_layers(self) -> int:
        """Number of weight layers: hidden layers and the output layer."""
        return len(self.layer_sizes) - 1

    @property
    def n_inputs(self) -> int:
        """Number of input features."""
        return self.layer_sizes[0]

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return self.layer_sizes[-1]

    @property
    def n_parameters(self) -> int:
        """Number of weights, biases and the scaling layer's factors together."""
        in_layers = sum((n_in + 1) * n_out for n_in, n_out in self.layer_shapes)
        return in_layers + (self.n_inputs if self.scaling_layer else 0)

    @property
    def layer_shapes(self) -> list[tuple[int, int]]:
        """(n_in, n_out) of every weight layer."""
        return list(zip(self.layer_sizes[:-1], self.layer_sizes[1:], strict=True))

    @property
    def parameters(self) -> Array:
        """The flat vector of all parameters; assigning copies into it, whole for other threads."""
        return self._parameters

    @parameters.setter
    def parameters(self, values: ArrayLike) -> None:
        _checks.not_masked(values, "parameters")
        values = np.asarray(values)
        if values.shape != self._parameters.shape:
            raise ValueError(
                f"parameters must have shape {self._parameters.shape}, got {values.shape}"
            )
        with copying:
            self._parameters[:] = values

    @property
    def weights(self) -> LayerViews:
        """Every layer's weights, views of `parameters`; assigning copies into them."""
        return self._weights

    @weights.setter
    def weights(self, values: Sequence[ArrayLike]) -> None:
        self._weights[:] = values

    @property
    def biases(self) -> LayerViews:
        """Every layer's biases, views of `parameters`; assigning copies into them."""
        return self._biases

    @biases.setter
    def biases(self, values: Sequence[ArrayLike]) -> None:
        self._biases[:] = values

    @property
    def scale(self) -> Array | None:
        """The scaling layer's factors, a view of `parameters`; assigning copies into it."""
        return scale_view(self._parameters, self.layer_shapes)

    @scale.setter
    def scale(self, values: ArrayLike) -> None:
        view = self.scale
        if view is None:
            raise ValueError(
                "the network has no scaling layer; make it with scaling_layer=True to set scale"
            )
        _copy_into([view], [values], "scale")

    @property
    def label_names(self) -> tuple[Any, ...] | None:
        """What the outputs stand for; any sequence of as many names may be assigned, or None."""
        return self._label_names

    @label_names.setter
    def label_names(self, names: Iterable[Any] | None) -> None:
        if names is None:
            self._label_names = None
            return
        given = tuple(own_scalar(name) for name in names)
        is_binary = self.output_activation.name == "sigmoid" and self.n_outputs == 1
        if len(given) != self.n_outputs and not (is_binary and len(given) == 2):
            raise ValueError(
                f"label_names must be {self.n_outputs} names, one for each output"
                f"{', or two classes' if is_binary else ''}, got {len(given)}"
            )
        Items(Scalar()).check(given, "label_names")
        if len(set(given)) < len(given):
            raise ValueError(f"label_names must differ, got {shown(given)}")
        self._label_names = given

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a model file, whole or not at all (needs ``fastmlp[safetensors]``).

        The file is one of the safetensors format: parameters, and in the header layers,
        activations, dtype, `input_scale`, `seed`, names and `training`. It holds no code.

        Parameters
        ----------
        path : str or Path
            Replaced if it exists.

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        ImportError
            If safetensors is not installed.
        ModelFileError
            If parameters are NaN or infinite, or an activation is not the library's own. It is a
            ValueError.

        Examples
        --------
        >>> import tempfile
        >>> network = MLP([4, 3], seed=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     network.save(f"{folder}/model.safetensors")
        ...     same = MLP.load(f"{folder}/model.safetensors")
        >>> bool((same.parameters == network.parameters).all())
        True
        """
        from fastmlp.model_file import ModelFile, save_model

        save_model(path, ModelFile(self))

    @staticmethod
    def load(path: str | os.PathLike[str]) -> MLP:
        """Return the network of a model file, whatever wrote it.

        Loading runs nothing that the file could choose, so that a file from anywhere may be
        loaded. Its parameters are those that were written, bit for bit; how its first weights
        were drawn is not kept. Of a file that `fastmlp train` made of a table it is the network
        alone, which takes the columns as they were encoded; `fastmlp predict` takes the table.

        Parameters
        ----------
        path : str or Path

        Raises
        ------
        OSError
            If the file cannot be opened.
        ImportError
            If safetensors is not installed.
        ModelFileError
            If the file is damaged, no model file, or of a later version of the format. It is a
            ValueError.

        Examples
        --------
        >>> MLP.load("nowhere.safetensors")
        Traceback (most recent call last):
            ...
        FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.safetensors'
        """
        from fastmlp.model_file import load_model

        return load_model(path).network

    def copy(self) -> MLP:
        """Return a network with the same architecture and a copy of the parameters.

        Examples
        --------
        >>> network = MLP([2, 2])
        >>> network.copy().parameters is network.parameters
        False
        """
        twin = MLP.__new__(MLP)
        twin.__setstate__(self.__getstate__())
        return twin

    def drawn_anew(self, seed: int) -> MLP:
        """Return an untrained network with the same architecture and names, of another seed.

        Its parameters are those that ``MLP(..., seed=seed)`` draws.

        Raises
        ------
        ValueError, TypeError
            If the seed is no integer of at least 0.

        Examples
        --------
        >>> network = MLP([2, 2], seed=1)
        >>> bool((network.drawn_anew(5).parameters == MLP([2, 2], seed=5).parameters).all())
        True
        """
        twin = self.copy()
        twin.__dict__["seed"] = _checks.integer(seed, "seed", at_least=0)
        twin.training = None
        twin.parameters[:] = 0
        twin._initialize()
        return twin

    def logits(self, X: ArrayLike) -> Array:
        """Return the last layer's values before the output activation.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_inputs) or (n_inputs,)

        Returns
        -------
        ndarray of shape (n_samples, n_outputs) or (n_outputs,)

        Raises
        ------
        ValueError
            If X has another width, is not numeric, masked, or holds NaN or infinite values; or if
            the logits are NaN or infinite.

        Examples
        --------
        >>> MLP([2, 3]).logits([[0.0, 0.0]])
        array([[0., 0., 0.]], dtype=float32)
        """
        rows, single = self.as_rows(X)
        check_finite(rows, self.dtype, self.input_scale)
        with np.errstate(all="ignore"):  # what overflows is reported below, once
            logits = self.forward(rows)
        check_logits(logits)
        return logits[0] if single else logits

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the network's outputs: probabilities for softmax and sigmoid, else values.

        Shapes and errors as for `logits`.

        Examples
        --------
        >>> MLP([2, 2]).predict_proba([[0.0, 0.0]])
        array([[0.5, 0.5]], dtype=float32)
        """
        logits = self.logits(X)
        rows = logits.reshape(-1, self.n_outputs)
        return self.output_activation.forward(rows, out=rows).reshape(logits.shape)

    def predict(self, X: ArrayLike) -> Array:
        """Return labels (softmax: class numbers; sigmoid: 0 or 1) or predicted values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_inputs) or (n_inputs,)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Class numbers for softmax; for the others one column for each output, or a vector
            where there is one output. A single 1-D sample gives its row alone.

        Raises
        ------
        ValueError
            As for `logits`.

        Examples
        --------
        >>> MLP([2, 2]).predict([[0.0, 0.0]])
        array([0])
        """
        return self.decide(self.logits(X))

    def decide(self, logits: Array) -> Array:
        """Return what `predict` returns, from logits of shape (..., n_outputs).

        Examples
        --------
        >>> MLP([2, 3]).decide(np.array([0.1, 0.9, 0.3]))
        np.int64(1)
        """
        return decide(self.output_activation, logits)

    def as_rows(self, X: Any) -> tuple[Any, bool]:
        """Return X as rows for this network, and whether it was a single 1-D sample.

        Raises
        ------
        ValueError
            If X is not numeric, has another shape, or has other columns than `feature_names`.

        Examples
        --------
        >>> MLP([2, 3]).as_rows([1.0, 2.0])
        (array([[1., 2.]]), True)
        """
        check_names(column_names(X), self.feature_names)
        return as_rows(X, self.n_inputs)

    def to_onnx(self, path: str | Path) -> None:
        """Write the network as an ONNX file, whole or not at all; it needs ``fastmlp[onnx]``.

        The input is ``X`` of shape (n, n_inputs) and the network's dtype. The outputs are
        ``probabilities`` for softmax and sigmoid, after ``label`` where the network has label
        names, or ``variable`` for values. What onnxruntime computes by it differs from ours by
        rounding; float64 networks are written in operators that it has for float64. The file is
        of operator set 17. The factors of a scaling layer are taken into the first weights.

        Parameters
        ----------
        path : str or Path
            Replaced if it exists.

        Raises
        ------
        ImportError
            If the package onnx is not installed.
        FileNotFoundError
            If there is no such folder.
        ModelFileError
            If the network has an activation that is not the library's, parameters that are NaN or
            infinite or take more than 2 GiB, or labels that are neither numbers nor text.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     MLP([2, 8, 3], "gelu").to_onnx(Path(folder, "model.onnx"))
        ...     MLP.from_onnx(Path(folder, "model.onnx")).hidden_activations
        (GELU(),)
        """
        from fastmlp.exchange.onnx_writer import write_onnx

        write_onnx(path, self)

    @staticmethod
    def from_onnx(path: str | Path, output: str | OutputActivation | None = None) -> MLP:
        """Return the network of an ONNX file that holds a plain multilayer perceptron.

        Files of `to_onnx` are read, and what PyTorch, skl2onnx and TensorFlow write: Gemm, or
        MatMul and Add, with known activations, after a Flatten and multiplication by a number.
        A LogSoftmax at the end is read as the softmax. Files from anywhere may be given: reading
        one opens files in its folder alone, and takes no more memory than their sizes call for.

        Parameters
        ----------
        path : str or Path
        output : str, OutputActivation or None, default None
            The output activation, for a file that ends with logits; None takes them as values.

        Raises
        ------
        ImportError
            If the package onnx is not installed.
        OSError
            If the file cannot be opened.
        ModelFileError
            If it is damaged, or another model: the message names the node that is not understood.
        ValueError
            If `output` is unknown.

        Examples
        --------
        >>> MLP.from_onnx("nowhere.onnx")
        Traceback (most recent call last):
            ...
        FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.onnx'
        """
        from fastmlp.exchange.onnx_reader import read_onnx

        return read_onnx(path, output)

    def to_torch(self, logits: bool = False) -> Any:
        """Return the network as a `torch.nn.Sequential` on the CPU, with copies of the parameters.

        The factors of a scaling layer are taken into the first weights.

        Parameters
        ----------
        logits : bool, default False
            Leave out the output activation, as PyTorch's losses for classes want it.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        ValueError
            If an activation is not one of the library's own.

        Examples
        --------
        >>> MLP([2, 8, 3]).to_torch(logits=True)  # doctest: +SKIP
        Sequential(
          (0): Linear(in_features=2, out_features=8, bias=True)
          (1): ReLU()
          (2): Linear(in_features=8, out_features=3, bias=True)
        )
        """
        from fastmlp.exchange.torch import to_torch

        return to_torch(self, logits)

    @staticmethod
    def from_torch(module: Any, output: str | OutputActivation | None = None) -> MLP:
        """Return the network that a `torch.nn.Sequential` is, with copies of its parameters.

        Parameters
        ----------
        module : torch.nn.Sequential
            Of `Linear` and known activations, also in sequences inside it. `Dropout` is left out,
            and a `Flatten` at the start. A `Softmax`, `LogSoftmax` (read as the softmax) or
            `Sigmoid` at the end becomes the output activation.
        output : str, OutputActivation or None, default None
            The output activation where the module ends with a `Linear`, whose values are logits
            to PyTorch's losses; None takes them as the network's outputs ("linear").

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        TypeError
            If it is no `Sequential`.
        ValueError
            If a module is not understood, which the message names; if sizes do not follow one
            from another; or if the module has another output activation than `output`.

        Examples
        --------
        >>> MLP.from_torch(MLP([2, 3]).to_torch()).layer_sizes  # doctest: +SKIP
        (2, 3)
        """
        from fastmlp.exchange.torch import from_torch

        return from_torch(module, output)

    @staticmethod
    def from_sklearn(estimator: Any) -> MLP:
        """Return the network of a fitted scikit-learn estimator, with copies of its weights.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            Of `sklearn.neural_network` or `fastmlp.sklearn`. Two classes have a single sigmoid
            output there and here, the probability of the second.

        Raises
        ------
        TypeError
            If it is no such estimator.
        ValueError
            If it is not fitted.

        Examples
        --------
        >>> from sklearn.neural_network import MLPRegressor
        >>> model = MLPRegressor(solver="lbfgs", random_state=0)
        >>> MLP.from_sklearn(model.fit([[0.0], [1.0]], [0.0, 2.0])).layer_sizes
        (1, 100, 1)
        """
        from fastmlp.exchange.sklearn import from_sklearn

        return from_sklearn(estimator)

    def summary(self) -> None:
        """Print every layer's shape, activation and number of parameters, and their sum.

        Examples
        --------
        >>> MLP([784, 32, 10], dtype="float64").summary()
        layer  shape      activation  parameters
            1  784 x 32   relu            25,120
            2  32 x 10    softmax            330
        total 25,450 parameters of float64, 198.8 KiB
        """
        names = [*(one.name for one in self.hidden_activations), self.output_activation.name]
        wide = max(10, *map(len, names))
        print(f"layer  {'shape':<9}  {'activation':<{wide}}  parameters")
        if self.scaling_layer:
            print(f"scale  {self.n_inputs:<9}  {'':<{wide}}  {self.n_inputs:10,}")
        for layer, ((n_in, n_out), name) in enumerate(
            zip(self.layer_shapes, names, strict=True), start=1
        ):
            shape = f"{n_in} x {n_out}"
            print(f"{layer:5}  {shape:<9}  {name:<{wide}}  {(n_in + 1) * n_out:10,}")
        kibibytes = self.parameters.nbytes / 1024
        print(f"total {self.n_parameters:,} parameters of {self.dtype.name}, {kibibytes:,.1f} KiB")

    def forward(self, X: Array) -> Array:
        """Return the logits of checked rows of any numeric dtype, in blocks.

        Examples
        --------
        >>> MLP([2, 3]).forward(np.zeros((5, 2))).shape
        (5, 3)
        """
        out = np.empty((X.shape[0], self.n_outputs), dtype=self.dtype)
        weights, scale = self.factors()
        for start in range(0, X.shape[0], _ROWS_AT_ONCE):
            a = self.scaled(X[start : start + _ROWS_AT_ONCE])
            if scale is not None:
                a = a * scale
            for layer in range(self.n_layers):
                z = self.as_factor(a) @ weights[layer]
                z += self.biases[layer]
                if layer < self.n_layers - 1:
                    a = self.hidden_activations[layer].forward(z, out=z)
            out[start : start + _ROWS_AT_ONCE] = z
            release_pages(X)
        return out

    def scaled(self, rows: Array) -> Array:
        """Return rows in the network's dtype, times `input_scale`.

        Examples
        --------
        >>> MLP([1, 1], input_scale=0.5).scaled(np.array([[4]]))
        array([[2.]], dtype=float32)
        """
        # In one layout, as linear algebra libraries give other bits to another.
        dense = rows.toarray() if hasattr(rows, "toarray") else rows
        rows = np.ascontiguousarray(dense, dtype=self.dtype)
        return rows if self.input_scale == 1.0 else rows * self.dtype.type(self.input_scale)

    def factors(self) -> tuple[Sequence[Array], Array | None]:
        """Return the weights that products read, and what the first layer's inputs are times.

        The latter is the scaling layer's factors, or None: where there is no such layer, or where
        the first weights are multiplied by them, because it is their product that is rounded.

        Examples
        --------
        >>> network = MLP([1, 1], scaling_layer=True, precision="bfloat16")
        >>> network.weights[0], network.scale = [[1.001]], [3.0]
        >>> network.factors()
        ([array([[3.]], dtype=float32)], None)
        """
        if self.precision == "full":
            return self.weights, self.scale
        first, *others = self.weights
        if self.scale is not None:
            first = first * self.scale[:, None]
        return [_bfloat16.rounded(weights) for weights in (first, *others)], None

    def as_factor(self, values: Array) -> Array:
        """Return activations or deltas as products read them: themselves, or rounded.

        Examples
        --------
        >>> values = np.array([1.001], dtype="float32")
        >>> MLP([1, 1], precision="bfloat16").as_factor(values)
        array([1.], dtype=float32)
        """
        return values if self.precision == "full" else _bfloat16.rounded(values)

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k not in ("_weights", "_biases")}
        with copying:
            state["_parameters"] = self._parameters.copy()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind_parameters(state["_parameters"])

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in self.__dict__:
            raise AttributeError(f"a network's {name} is fixed when it is made; make another MLP")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        names = [activation.name for activation in self.hidden_activations]
        hidden = names[0] if len(set(names)) == 1 else names
        return (
            f"MLP({list(self.layer_sizes)}, hidden_activation={hidden!r}, "
            f"output_activation={self.output_activation.name!r}, dtype={self.dtype.name!r}, "
            f"seed={self.seed}{', scaling_layer=True' if self.scaling_layer else ''}"
            f"{'' if self.precision == 'full' else f', precision={self.precision!r}'})"
        )

    def _bind_parameters(self, parameters: Array) -> None:
        self._parameters = parameters
        weights, biases = layer_views(parameters, self.layer_shapes)
        self._weights, self._biases = LayerViews(weights), LayerViews(biases)

    def _initialize(self) -> None:
        generator = np.random.default_rng(self.seed)
        suited = [activation.initializer for activation in self.hidden_activations]
        suited.append(self.output_activation.initializer)
        for (n_in, n_out), weights, default in zip(
            self.layer_shapes, self.weights, suited, strict=True
        ):
            wanted = default if self.initializer is None else self.initializer
            initializer = _checks.choose(wanted, Initializer, INITIALIZERS, "initializer")
            weights[:] = initializer.sample(generator, n_in, n_out)
        if self.scaling_layer:
            self.scale = np.ones(self.n_inputs)


class LayerViews(tuple[Array, ...]):
    """Every layer's view of a flat vector; assigning to items copies into the views.

    Examples
    --------
    >>> network = MLP([2, 1])
    >>> network.weights[0] = [[1.0], [2.0]]
    >>> network.parameters
    array([1., 2., 0.], dtype=float32)
    """

    __slots__ = ()

    def __setitem__(self, index: Any, values: Any) -> None:
        if not isinstance(index, slice):
            views, given = [self[index]], [values]
        else:
            views, given = list(self[index]), list(values)
        if len(given) != len(views):
            raise ValueError(f"{len(views)} layers need as many arrays, got {len(given)}")
        _copy_into(views, given, "a layer's array")


def layer_views(
    parameters: Array, layer_shapes: Sequence[tuple[int, int]]
) -> tuple[list[Array], list[Array]]:
    """Return the weights and biases of every layer as views of a flat vector.

    Examples
    --------
    >>> weights, biases = layer_views(np.arange(6.0), [(2, 2)])
    >>> biases
    [array([4., 5.])]
    """
    weights, biases, start = [], [], 0
    for n_in, n_out in layer_shapes:
        middle = start + n_in * n_out
        weights.append(parameters[start:middle].reshape(n_in, n_out))
        biases.append(parameters[middle : middle + n_out])
        start = middle + n_out
    return weights, biases


def scale_view(parameters: Array, layer_shapes: Sequence[tuple[int, int]]) -> Array | None:
    """Return the scaling layer's factors as a view of a flat vector: what follows all layers.

    None where nothing follows them.

    Examples
    --------
    >>> scale_view(np.arange(8.0), [(2, 2)]), scale_view(np.arange(6.0), [(2, 2)])
    (array([6., 7.]), None)
    """
    end = sum((n_in + 1) * n_out for n_in, n_out in layer_shapes)
    return parameters[end:] if len(parameters) > end else None


def _copy_into(views: Sequence[Array], given: Sequence[ArrayLike], what: str) -> None:
    """Copy arrays into views, all or none; `what` each is called where it does not fit."""
    # All are copied and checked before any is written: one may be a view of another.
    for one in given:
        _checks.not_masked(one, what)
    arrays = [np.array(one) for one in given]
    for view, array in zip(views, arrays, strict=True):
        if array.shape != view.shape or array.dtype.kind not in "biuf":
            raise ValueError(
                f"{what} must hold numbers of shape {view.shape}, got an array of "
                f"dtype {array.dtype} and shape {array.shape}"
            )
    with copying:
        for view, array in zip(views, arrays, strict=True):
            view[:] = array


def as_rows(X: Any, n_features: int) -> tuple[Any, bool]:
    """Return X as rows of `n_features` numbers, and whether it was a single 1-D sample.

    Arrays, memory maps and SciPy's CSR rows pass through without a copy; its other formats, and
    data frames, are converted.

    Raises
    ------
    ValueError
        If X is not numeric, has another shape, or has masked values.

    Examples
    --------
    >>> as_rows([1.0, 2.0], 2)
    (array([[1., 2.]]), True)
    """
    X = as_numbers(X)
    if X.dtype.kind not in "biuf":
        raise ValueError(f"X must hold numbers, got an array of dtype {X.dtype}")
    single = X.ndim == 1
    rows = X.reshape(1, -1) if single else X
    if rows.ndim != 2 or rows.shape[1] != n_features:
        raise ValueError(
            f"X must have shape (n_samples, {n_features}) for this network, got {X.shape}"
        )
    return rows, single


def check_finite(X: Any, dtype: DTypeLike = np.float64, scale: float = 1.0) -> None:
    """Raise ValueError if rows hold NaN, or values that are infinite as `dtype`, or times `scale`.

    Examples
    --------
    >>> check_finite(np.array([[1.0, np.nan]]))
    Traceback (most recent call last):
        ...
    ValueError: X holds NaN or infinite values (first in row 0); remove or replace them
    """
    if X.dtype.kind != "f" and scale <= 1.0:
        return
    values = X.data if hasattr(X, "toarray") else X
    for start in range(0, len(values), _ROWS_AT_ONCE):
        block = values[start : start + _ROWS_AT_ONCE]
        suspicious = _is_suspicious(block, dtype, scale)
        release_pages(X)
        if not suspicious:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            converted = block.astype(dtype)
            scaled = converted * converted.dtype.type(scale)
        finite = np.isfinite(scaled)
        if not np.all(finite):
            where = ""
            if values.ndim == 2:
                where = f" (first in row {start + int(np.argmin(finite.all(axis=1)))})"
            kind = "NaN or infinite values"
            if np.all(np.isfinite(converted)):
                kind = f"values that are infinite as {np.dtype(dtype)}, times input_scale={scale:g}"
            elif np.all(np.isfinite(block)):
                kind = f"values that are infinite as {np.dtype(dtype)}"
            raise ValueError(f"X holds {kind}{where}; remove or replace them")


def check_logits(logits: Array) -> None:
    """Raise ValueError if logits of finite rows are NaN or infinite.

    Examples
    --------
    >>> check_logits(np.array([[1.0, 2.0]]))
    """
    if not np.all(np.isfinite(logits)):
        raise ValueError(
            "the network's logits are NaN or infinite: its parameters are, or they are so large "
            f"that sums overflow {logits.dtype}"
        )


def decide(output_activation: OutputActivation, logits: Array) -> Array:
    """Return what `MLP.predict` returns, from logits of shape (..., n_outputs).

    Examples
    --------
    >>> from fastmlp.activations import OUTPUT_ACTIVATIONS
    >>> decide(OUTPUT_ACTIVATIONS["sigmoid"], np.array([[0.1], [-0.9]]))
    array([1, 0])
    """
    if output_activation.name == "softmax":
        return logits.argmax(axis=-1)
    if output_activation.name == "sigmoid":
        values = (logits >= 0).astype(np.int64)
    else:
        rows = logits.reshape(-1, logits.shape[-1])
        values = output_activation.forward(rows, out=rows.copy()).reshape(logits.shape)
    return values[..., 0][()] if logits.shape[-1] == 1 else values


def _is_suspicious(block: Array, dtype: DTypeLike, scale: float) -> bool:
    """Return False where all values are surely finite, by a look that is cheap."""
    with np.errstate(all="ignore"):
        if scale <= 1.0 or not block.size:
            # A sum is several times cheaper than a test of every element.
            return not math.isfinite(float(block.sum(dtype=np.float32)))
        most = max(abs(float(block.max())), abs(float(block.min())))
        return not most * scale < float(np.finfo(dtype).max) / 2


def _layer_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(sizes, str | bytes) or not hasattr(sizes, "__iter__"):
        raise TypeError(f"layer_sizes must be a list of integers, got {sizes!r}")
    checked = tuple(_checks.integer(size, "a layer size", at_least=1) for size in sizes)
    if len(checked) < 2:
        raise ValueError(
            f"layer_sizes needs at least the number of inputs and of outputs, got {list(sizes)!r}"
        )
    return checked


def _hidden_activations(
    given: str | Activation | Sequence[str | Activation], n_hidden: int
) -> tuple[Activation, ...]:
    each = [given] * n_hidden if isinstance(given, str | Activation) else given
    if not isinstance(each, Sequence):
        raise TypeError(f"hidden_activation must be a name or a sequence of names, got {given!r}")
    if isinstance(given, str | Activation):
        _checks.choose(given, Activation, ACTIVATIONS, "hidden activation")
    if len(each) != n_hidden:
        raise ValueError(
            f"hidden_activation needs one activation for each of the {n_hidden} hidden layers, "
            f"got {len(each)}"
        )
    return tuple(_checks.choose(one, Activation, ACTIVATIONS, "hidden activation") for one in each)


def _dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        chosen = None if dtype is None else np.dtype(dtype)  # NumPy takes None for float64
    except TypeError:
        chosen = None
    if chosen is None or chosen not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
    return chosen


def _precision(given: str | None, dtype: np.dtype[Any]) -> str:
    chosen = "full" if given is None else given
    if chosen not in PRECISIONS:
        raise ValueError(
            f"precision must be None or one of {_checks.listing(PRECISIONS)}, got {given!r}"
        )
    if chosen != "full" and dtype != np.float32:
        raise ValueError(f"precision={chosen!r} is for float32 networks, got dtype={dtype}")
    return chosen
