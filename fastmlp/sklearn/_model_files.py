"""Model files of estimators: written and read alike, whatever the estimator is."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

from sklearn.utils.validation import check_is_fitted

from fastmlp._schema import Kind
from fastmlp.errors import ModelFileError
from fastmlp.model_file import ModelFile, load_model, save_model
from fastmlp.sklearn._bases import BaseEstimator
from fastmlp.sklearn._file_content import check_content, parameters_of


class InModelFiles(BaseEstimator):
    """Estimators that can be written to model files, and read again."""

    #: What model files call the estimator.
    _kind: ClassVar[str]
    #: What they hold of its fit, beside parameters and labels.
    _fitted_fields: ClassVar[Kind]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what predictions need to a model file (needs ``fastmlp[safetensors]``).

        The file is one of the safetensors format, written whole or not at all: networks, classes
        and their dtype, names of features, what else was learned from the data, and the
        parameters. It holds no code, unlike a pickle, and not the state of the optimizer. What a
        fit tells of its epochs and of training rows, such as the predictions of rows held out, is
        not kept.

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
            hold, or what stands beside the weights takes more than 8 MiB, as of an estimator for
            tables with more than 40 targets. It is a ValueError.

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
            model = self._model_file()
        except ValueError as error:
            raise ModelFileError(f"{os.path.basename(path)} is not written: {error}") from error
        save_model(path, model)

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
        model = load_model(path, ensemble=None)
        with named(path):
            return cls.of_model_file(model)

    @classmethod
    def of_model_file(cls, model: ModelFile) -> Self:
        """Return the fitted estimator that a file's content describes; not for users.

        Raises
        ------
        ValueError, TypeError
            If it is of another estimator, or does not hang together.
        """
        content = check_content(model.estimator, cls._kind, cls._fitted_fields)
        estimator = cls(**parameters_of(content, cls))
        estimator._validate_params()
        estimator._take(model, content)
        return estimator

    @abstractmethod
    def _model_file(self) -> ModelFile:
        """Return what is to be written; raise ValueError where no file can hold it."""

    @abstractmethod
    def _take(self, model: ModelFile, content: Mapping[str, Any]) -> None:
        """Become fitted, as a model file says; raise ValueError where its parts do not fit."""


@contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn errors of what a model file says into one that names the file."""
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelFileError(f"{os.path.basename(path)} is no such model: {error}") from error
