"""Model files and ONNX files of estimators."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from fastmlp import _checks
from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.errors import ModelFileError
from fastmlp.exchange.onnx_writer import write_onnx
from fastmlp.model_file import ModelFile, load_model, save_model, training_summary
from fastmlp.network import MLP
from fastmlp.sklearn._file_content import check_content, estimator_content, parameters_of
from fastmlp.sklearn._fitted import Fitted


class Saved(Fitted):
    """Estimators that can be written to files, and read again."""

    #: What model files call the estimator, and its outputs as they are called there.
    _kind: ClassVar[str]
    _outputs_by_name: ClassVar[Mapping[str, str]]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what predictions need to a model file (needs ``fastmlp[safetensors]``).

        The file is one of the safetensors format, written whole or not at all: the network, its
        classes and their dtype, names of features, and the parameters. It holds no code, unlike a
        pickle, and not the state of the optimizer.

        Parameters
        ----------
        path : str or Path
            Replaced if it exists.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        FileNotFoundError
            If there is no such folder.
        ImportError
            If safetensors is not installed.
        ModelFileError
            If weights are NaN or infinite, or classes or an activation are nothing that a file can
            hold. It is a ValueError.

        Warns
        -----
        UserWarning
            If parameters are left out that no file can hold: callbacks, functions, instances of
            backends and generators.

        Examples
        --------
        >>> import tempfile
        >>> from fastmlp.sklearn import MLPClassifier
        >>> model = MLPClassifier(solver="lbfgs", random_state=0, backend="numpy")
        >>> model = model.fit([[0.0], [1.0], [2.0]], ["low", "low", "high"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model.safetensors")
        ...     MLPClassifier.load(f"{folder}/model.safetensors").predict([[1.9]])
        array(['high'], dtype='<U4')
        """
        check_is_fitted(self)
        try:
            network = self._named_network()
            content = estimator_content(self._kind, self)
        except ValueError as error:
            raise ModelFileError(f"{os.path.basename(path)} is not written: {error}") from error
        scores = {"loss": getattr(self, "loss_", math.nan)}
        solver = self.solver if self.optimizer is None else self.optimizer
        network.training = training_summary(self.n_iter_, scores, self._resolve_loss(), solver)
        save_model(path, ModelFile(network, estimator=content))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the fitted estimator of a model file that `save` wrote.

        It predicts what the one that was saved does, bit for bit. Loading runs nothing that the
        file could choose, so that a file from anywhere may be loaded.

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
            If the file is damaged, no model file, of a later version of the format or of another
            estimator. It is a ValueError.

        Examples
        --------
        >>> from fastmlp.sklearn import MLPRegressor
        >>> MLPRegressor.load("nowhere.safetensors")
        Traceback (most recent call last):
            ...
        FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.safetensors'
        """
        model = load_model(path)
        try:
            content = check_content(model.estimator, cls._kind)
            estimator = cls(**parameters_of(content, cls))
            estimator._take(model.network, content)
        except (ValueError, TypeError) as error:
            raise ModelFileError(f"{os.path.basename(path)} is no such model: {error}") from error
        return estimator

    def to_onnx(self, path: str | Path) -> None:
        """Write the fitted model as an ONNX file, whole or not at all; it needs ``fastmlp[onnx]``.

        The input is ``X`` of shape (n, n_features) and the weights' dtype. A classifier's outputs
        are ``label``, what `predict` returns, and ``probabilities``, what `predict_proba` returns;
        a regressor's is ``variable``, a column for each output.

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
            If an activation is not the library's, or the weights are NaN or infinite or take more
            than 2 GiB, or the classes are neither numbers nor text.

        Examples
        --------
        >>> import tempfile
        >>> from fastmlp import MLP
        >>> from fastmlp.sklearn import MLPRegressor
        >>> model = MLPRegressor(solver="lbfgs", random_state=0, backend="numpy")
        >>> model = model.fit([[0.0], [1.0]], [0.0, 2.0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.to_onnx(f"{folder}/model.onnx")
        ...     MLP.from_onnx(f"{folder}/model.onnx").predict([[1.0]]).round(2)
        array([2.])
        """
        check_is_fitted(self)
        try:
            network = self._named_network()
        except ValueError as error:
            raise ModelFileError(f"{os.path.basename(path)} is not written: {error}") from error
        write_onnx(path, network, of_estimator=True)

    def _take(self, network: MLP, content: Mapping[str, Any]) -> None:
        """Become fitted, as a model file says; raise ValueError where its parts do not fit."""
        self._validate_params()
        self._check_names()
        output = network.output_activation.name
        if output not in self._outputs_by_name:
            raise ValueError(f"no {self._kind} has the output {output!r}")
        given = [
            _checks.choose(one, Activation, ACTIVATIONS, "activation")
            for one in self._activations(network.n_layers - 1)
        ]
        if given != list(network.hidden_activations):
            raise ValueError("the parameter 'activation' is not that of the network")
        self.out_activation_ = self._outputs_by_name[output]
        self.n_outputs_, self.n_layers_ = network.n_outputs, network.n_layers + 1
        self.n_features_in_ = network.n_inputs
        if network.feature_names is not None:
            self.feature_names_in_ = np.array(network.feature_names, dtype=object)
        fitted = content["fitted"]
        self.n_iter_, self.t_ = fitted["n_iter"], fitted["t"]
        self.loss_ = math.nan if fitted["loss"] is None else fitted["loss"]
        self._show(network)

    def _named_network(self) -> MLP:
        """Return a copy of the network with the names of features and classes."""
        network = self._live_network().copy()
        names = getattr(self, "feature_names_in_", None)
        network.feature_names = None if names is None else tuple(map(str, names))
        network.label_names = getattr(self, "classes_", None)
        return network
