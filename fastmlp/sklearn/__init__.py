"""scikit-learn estimators: `MLPClassifier` and `MLPRegressor` as in `sklearn.neural_network`.

Change the import, and code that used scikit-learn's own runs several times faster::

    from fastmlp.sklearn import MLPClassifier, MLPRegressor

`TabularClassifier` and `TabularRegressor` take tables as they are, and need no tuning.

Needs ``pip install 'fastmlp[sklearn]'``.
"""

try:
    import scipy  # noqa: F401
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"fastmlp.sklearn needs scikit-learn and SciPy ({error}): pip install 'fastmlp[sklearn]'"
    ) from error

from fastmlp.sklearn._classifier import MLPClassifier
from fastmlp.sklearn._display import LossCurveDisplay
from fastmlp.sklearn._regressor import MLPRegressor
from fastmlp.sklearn._table_encoder import TableEncoder
from fastmlp.sklearn._tabular_classifier import TabularClassifier
from fastmlp.sklearn._tabular_display import MemberCurvesDisplay, OutOfFoldDisplay
from fastmlp.sklearn._tabular_regressor import TabularRegressor

__all__ = [
    "LossCurveDisplay",
    "MLPClassifier",
    "MLPRegressor",
    "MemberCurvesDisplay",
    "OutOfFoldDisplay",
    "TableEncoder",
    "TabularClassifier",
    "TabularRegressor",
]
