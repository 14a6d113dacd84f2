"""Where pickles look that are older than the estimators' own modules."""

from fastmlp.sklearn._classifier import MLPClassifier
from fastmlp.sklearn._regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
