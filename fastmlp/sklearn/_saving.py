"""Model files and ONNX files of estimators that are one network."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from fastmlp import _checks
from fastmlp._schema import Fields, Integer, Maybe, Number
from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.errors import ModelFileError
from fastmlp.exchange.onnx_writer import write_onnx
from fastmlp.model_file import ModelFile, training_summary
from fastmlp.network import MLP
from fastmlp.sklearn._file_content import estimator_content, finite_or_none
from fastmlp.sklearn._fitted import Fitted
from fastmlp.sklearn._model_files import InModelFiles


class Saved(InModelFiles, Fitted):
    """Estimators that can be written to files, and read again."""

    #: Outputs as model files call them.
    _outputs_by_name: ClassVar[Mapping[str, str]]
    _fitted_fields = Fields({"n_iter": Integer(), "t": Integer(), "loss": Maybe(Number())})

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

    def _model_file(self) -> ModelFile:
        network = self._named_network()
        loss = getattr(self, "loss_", math.nan)
        content = estimator_content(
            self._kind,
            self,
            {"n_iter": int(self.n_iter_), "t": int(self.t_), "loss": finite_or_none(loss)},
        )
        solver = self.solver if self.optimizer is None else self.optimizer
        network.training = training_summary(
            self.n_iter_, {"loss": loss}, self._resolve_loss(), solver
        )
        return ModelFile(network, estimator=content)

    def _take(self, model: ModelFile, content: Mapping[str, Any]) -> None:
        network = model.network
        if model.members is not None:
            raise ValueError(f"it holds an ensemble, and no {self._kind} is one")
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
