"""Errors and warnings of training, and of the files that keep what was trained."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A file is damaged, no checkpoint, or the checkpoint of another trainer.

    Examples
    --------
    >>> issubclass(CheckpointError, ValueError)
    True
    """


class ModelFileError(ValueError):
    """A file is damaged or no model file, or a model cannot be kept in one.

    Examples
    --------
    >>> issubclass(ModelFileError, ValueError)
    True
    """


class DivergenceError(ArithmeticError):
    """The loss or the parameters became NaN or infinite.

    Examples
    --------
    >>> issubclass(DivergenceError, ArithmeticError)
    True
    """


class TrainingInterrupted(UserWarning):
    """Ctrl-C ended a fit before its last epoch.

    Examples
    --------
    >>> issubclass(TrainingInterrupted, UserWarning)
    True
    """
