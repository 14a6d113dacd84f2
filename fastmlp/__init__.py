"""fastmlp: multilayer perceptrons, trained fast on a CPU."""

from fastmlp.backends import Backend
from fastmlp.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, KeepBest, TensorBoard
from fastmlp.ensemble import Ensemble
from fastmlp.errors import CheckpointError, DivergenceError, ModelFileError, TrainingInterrupted
from fastmlp.history import History
from fastmlp.lbfgs import LBFGS
from fastmlp.network import MLP
from fastmlp.optimizers import SGD, Adagrad, Adam, AdamW, Lion, RateFactors, RMSprop
from fastmlp.predictor import Predictor
from fastmlp.regularization import Regularization
from fastmlp.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Backend",
    "CSVLog",
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "DivergenceError",
    "EarlyStopping",
    "Ensemble",
    "History",
    "KeepBest",
    "LBFGS",
    "Lion",
    "ModelFileError",
    "Predictor",
    "RMSprop",
    "RateFactors",
    "Regularization",
    "TensorBoard",
    "Trainer",
    "TrainingInterrupted",
]
