"""What model files hold of the estimators for tables."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp._schema import Anything, Fields, Integer, Items, Kind, Maybe, Number, Text
from fastmlp.ensemble import Ensemble
from fastmlp.losses import Loss
from fastmlp.model_file import ModelFile
from fastmlp.network import MLP
from fastmlp.sklearn._file_content import estimator_content, finite_or_none
from fastmlp.sklearn._model_files import InModelFiles
from fastmlp.sklearn._table_encoder import TableEncoder

Array = NDArray[Any]

_MOST_EPOCHS = 2**48
#: Of the rows that members held out, by member.
SCORES = Items(Items(Number(least=0)))


@dataclass(frozen=True)
class TableSource:
    """What is known of the file of a table, beside its columns, for others to be read alike.

    Parameters
    ----------
    target : tuple of str, default ()
        Names of the target's columns.
    date_formats : mapping of str to str
        Formats of columns of dates, as for `datetime.strptime`.

    Examples
    --------
    >>> TableSource(("price",)).date_formats
    {}
    """

    target: tuple[str, ...] = ()
    date_formats: Mapping[str, str] = field(default_factory=dict)


def fitted_fields(own: Mapping[str, Kind]) -> Fields:
    """Return what a file holds of a fit: what every target has, and what a kind of target has.

    Examples
    --------
    >>> sorted(fitted_fields({}).fields)
    ['best_epochs', 'encoder', 'fold_scores', 'source', 'watched']
    """
    return Fields(
        {
            "encoder": Anything(),
            "watched": Text(),
            "best_epochs": Items(Integer(1, _MOST_EPOCHS)),
            "fold_scores": Items(Maybe(Number())),
            "source": Fields({"target": Items(Text()), "date_formats": Fields(others=Text())}),
            **own,
        }
    )


def scores_of(lists: Sequence[Sequence[float]], n_members: int, where: str) -> list[Array]:
    """Return every member's scores, or raise ValueError if they are none that a fit leaves.

    Examples
    --------
    >>> scores_of([[0.25, 1.0]], 1, "scores")
    [array([0.25, 1.  ])]
    """
    Items(Anything(), n_members).check(lists, where)
    scores = [np.array(own, dtype=np.float64) for own in lists]
    for i, own in enumerate(scores):
        if np.any(np.diff(own) < 0):
            raise ValueError(f"{where}[{i}] is not in order")
    return scores


class TabularInFiles(InModelFiles):
    """What the estimators for tables share of being written and read."""

    _output: ClassVar[str]
    _source: TableSource = TableSource()
    encoder_: TableEncoder
    ensemble_: Ensemble
    watched_: str
    best_epochs_: Any
    fold_scores_: Array

    def describe_source(self, target: tuple[str, ...], date_formats: Mapping[str, str]) -> None:
        """Keep in files what a command knows of the table's own file; not for users."""
        self._source = TableSource(target, date_formats)

    def _model_file(self) -> ModelFile:
        fitted = {
            "encoder": self.encoder_.to_content(),
            "watched": self.watched_,
            "best_epochs": self.best_epochs_.tolist(),
            "fold_scores": [finite_or_none(score) for score in self.fold_scores_],
            "source": {
                "target": list(self._source.target),
                "date_formats": dict(self._source.date_formats),
            },
            **self._own_content(),
        }
        content = estimator_content(self._kind, self, fitted)
        network = self.ensemble_.members[0].network.copy()
        network.label_names = getattr(self, "classes_", None)
        return ModelFile(network, estimator=content, members=self.ensemble_.parameters)

    def _take(self, model: ModelFile, content: Mapping[str, Any]) -> None:
        fitted, network, members = content["fitted"], model.network, model.members
        if members is None:
            raise ValueError(f"it holds a single network, and no {self._kind} has one")
        encoder = TableEncoder.from_content(fitted["encoder"], "estimator.fitted.encoder")
        n_encoded = len(encoder.get_feature_names_out())
        if network.n_inputs != n_encoded:
            raise ValueError(
                f"its networks take {network.n_inputs} columns, but its encoder makes {n_encoded}"
            )
        if network.output_activation.name != self._output:
            raise ValueError(f"no {self._kind} has the output {network.output_activation.name!r}")
        for name in ("best_epochs", "fold_scores"):
            Items(Anything(), len(members)).check(fitted[name], f"estimator.fitted.{name}")
        self._take_own(network, content, len(members))
        self.encoder_ = encoder
        self.ensemble_ = Ensemble.from_parameters(
            network,
            members,
            resampling=None,
            loss=self._loss(),
            backend=self.backend,
            n_threads=self.n_threads,
        )
        self.ensemble_.members[0].network.training = network.training
        self.watched_ = fitted["watched"]
        self.best_epochs_ = np.array(fitted["best_epochs"])
        self.fold_scores_ = np.array(
            [math.nan if score is None else score for score in fitted["fold_scores"]]
        )
        source = fitted["source"]
        self._source = TableSource(tuple(source["target"]), source["date_formats"])

    @abstractmethod
    def _loss(self) -> Loss:
        """Return what the networks are trained with."""

    @abstractmethod
    def _own_content(self) -> dict[str, Any]:
        """Return what a file holds of this kind of target."""

    @abstractmethod
    def _take_own(self, network: MLP, content: Mapping[str, Any], n_members: int) -> None:
        """Take over what `_own_content` wrote; raise ValueError where it does not fit."""
