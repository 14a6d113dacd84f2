"""Our backends pass the conformance kit, and the kit catches backends that are wrong."""

from __future__ import annotations

import sys
import unittest
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given

from fastmlp import MLP, testing
from fastmlp.activations import ReLU
from fastmlp.backends import Backend, get_backend
from fastmlp.backends.numpy_backend import NumpyBackend, NumpySession
from fastmlp.losses import MeanSquaredError
from fastmlp.optimizers import Adam
from fastmlp.regularization import Regularization
from fastmlp.testing import (
    CHECKS,
    REGULARIZATION_CASES,
    ConformanceError,
    cases,
    check_backend,
    check_case,
    random_cases,
)
from tests.broken_backends.mutants import (
    MUTANTS,
    AddsToTheGradient,
    CannotBePickled,
    ForgetsTheLastBias,
    Wrong,
    WrongBackend,
    WrongWithScale,
)


@pytest.mark.parametrize("check", CHECKS)
def test_our_backends_conform(backend: Backend, check: str):
    check_backend(backend, [check])


def test_a_name_will_do():
    check_backend("numpy", ["errors"])


def test_an_unknown_check_is_refused():
    with pytest.raises(ValueError, match="unknown check 'speed'; choose of 'predict', 'gradient'"):
        check_backend("numpy", ["speed"])


def test_the_unbroken_mutant_passes():
    check_backend(WrongBackend(Wrong), ["predict", "update", "states", "inputs"])


@pytest.mark.parametrize(("mutant", "check"), MUTANTS.items())
def test_a_wrong_backend_is_caught(mutant: type[NumpySession], check: str):
    needs_scale = issubclass(mutant, WrongWithScale)

    def until_caught() -> None:
        likely_first = sorted(cases([check]), key=lambda c: c.setting.scaling_layer != needs_scale)
        for case in likely_first:
            check_case(WrongBackend(mutant), case)

    with np.errstate(all="ignore"), pytest.raises(ConformanceError, match=f"{check}: "):
        until_caught()


def test_there_are_many_wrong_backends():
    assert len(MUTANTS) >= 40


def test_ids_of_cases_are_unique_and_stable():
    ids = [case.id for case in cases()]
    assert len(set(ids)) == len(ids)
    assert ids == [case.id for case in cases()]
    for kind in ("float64", "float32", "bfloat16"):
        assert [case.id for case in cases(["curves"], [kind])] == [
            id for id in ids if id.startswith("curves") and id.endswith(kind)
        ]


def test_a_sample_is_the_same_again_and_meets_both_dtypes():
    drawn = cases(["gradient"], sample=0.05)
    assert drawn == cases(["gradient"], sample=0.05) != cases(["gradient"], sample=0.05, seed=1)
    assert {"float32", "float64"} <= {case.setting.kind for case in drawn}


def test_every_failing_case_is_reported_up_to_a_number():
    with pytest.raises(ConformanceError) as caught:
        check_backend(WrongBackend(ForgetsTheLastBias), ["predict"])
    _, *failures, last = str(caught.value).splitlines()
    assert len(failures) == 20
    assert last == f"and {len(cases(['predict'])) - 20} more of {len(cases(['predict']))} cases"


def test_expected_failures_are_no_failures_and_must_fail():
    broken = WrongBackend(CannotBePickled)
    check_backend(broken, ["states"], expected_failures={"states-*": "holds a lock"})
    with pytest.raises(ConformanceError, match=r"errors: passes, but should fail \(a guess\)"):
        check_backend("numpy", ["errors"], expected_failures={"errors-*-float32": "a guess"})


def test_progress_is_told_of_every_case():
    told: list[tuple[int, int, str]] = []
    check_backend("numpy", ["states"], progress=lambda n, of, case: told.append((n, of, case.id)))
    assert [n for n, _, _ in told] == list(range(1, len(told) + 1))
    assert [id for _, _, id in told] == [case.id for case in cases(["states"])]


class KnowsNoAdam(NumpyBackend):
    name = "knows no adam"

    def unsupported(self, network, loss, optimizer, regularization):
        return "it knows no Adam" if isinstance(optimizer, Adam) else None


def test_what_a_backend_does_not_support_is_skipped_and_counted():
    with pytest.warns(UserWarning, match=r"\d+ of \d+ cases skipped: it knows no Adam"):
        check_backend(KnowsNoAdam(), ["update"])
    with pytest.raises(unittest.SkipTest, match="it knows no Adam"):
        check_case(KnowsNoAdam(), cases(["trainer"])[0])
    with pytest.raises(NotImplementedError, match="it knows no Adam"):
        KnowsNoAdam().bind(MLP([2, 2]), optimizer=Adam())


class Halves(NumpyBackend):
    """Computes float64 networks in float32, and says so."""

    name = "halves"

    def _bind(self, *arguments):
        return WrongBackend(ComputesGradientsInSinglePrecision)._bind(*arguments)

    def machine_epsilon(self, dtype):
        return float(np.finfo(np.float32).eps)


class ComputesGradientsInSinglePrecision(Wrong):
    def _loss_and_gradient(self, *arguments):
        loss = super()._loss_and_gradient(*arguments)
        arguments[3][:] = arguments[3].astype(np.float32)
        return loss


def test_bounds_follow_what_a_backend_declares():
    check_backend(Halves(), ["gradient"], dtypes=["float64"], sample=0.1)
    with pytest.raises(ConformanceError, match="gradients differ"):
        check_backend(
            WrongBackend(ComputesGradientsInSinglePrecision), ["gradient"], dtypes=["float64"]
        )


@dataclass(frozen=True)
class MyAdam(Adam):
    pass


@dataclass(frozen=True)
class MyReLU(ReLU):
    pass


@dataclass(frozen=True)
class MySquaredError(MeanSquaredError):
    pass


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"optimizer": MyAdam()}, "optimizer MyAdam"),
        ({"loss": MySquaredError()}, "loss MySquaredError"),
        ({"network": MLP([2, 3, 2], MyReLU(), "linear")}, "hidden activation MyReLU"),
    ],
)
def test_numba_refuses_subclasses_that_it_has_no_kernels_for(options, name: str):
    arguments = {"network": MLP([2, 3, 2], output_activation="linear")} | options
    with pytest.raises(NotImplementedError, match=f"no kernel for the {name}; the NumPy backend"):
        get_backend("numba").bind(**arguments)
    get_backend("numpy").bind(**arguments)


def test_all_failed_checks_are_listed():
    dtypes = ["float64", "float32"]  # what is allowed in bfloat16 may be more than this adds
    checks = ["predict", "gradient", "update", "epoch"]
    with pytest.raises(ConformanceError) as caught:
        check_backend(WrongBackend(AddsToTheGradient), checks, dtypes=dtypes)
    title, *failures = str(caught.value).splitlines()
    assert title == "WrongBackend() is not like the reference"
    assert [line.split(":")[0] for line in failures[:-1]] == ["gradient"] * 20
    failed = testing._SHOWN_FAILURES + int(failures[-1].split()[1])
    assert failed == len(cases(["gradient", "epoch"], dtypes))


def test_an_error_in_a_check_is_reported_with_its_cause():
    with pytest.raises(ConformanceError, match="states: raises TypeError: cannot pickle") as caught:
        check_backend(WrongBackend(CannotBePickled), ["states"])
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_message_says_where_and_by_how_much():
    message = r"logits differ from the reference by [\d.e-]+, allowed is [\d.e-]+ \(layers \(5, 18"
    with pytest.raises(ConformanceError, match=message):
        check_backend(WrongBackend(ForgetsTheLastBias), ["predict"])


def test_all_at_once_is_regularized():
    for name, nothing in vars(Regularization()).items():
        assert getattr(REGULARIZATION_CASES[-1], name) != nothing


def test_the_reference_refuses_every_mistake():
    mistakes = list(testing._mistakes(testing.Setting()))
    assert len(mistakes) > 20
    for name, call in mistakes:
        assert testing._outcome(call, NumpyBackend()).startswith(("ValueError", "TypeError")), name


def check_automatic_differentiation(check: str, sample: float) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from tests.torch_backend import TorchBackend

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\d+ of \d+ cases skipped")
        check_backend(TorchBackend(), [check], sample=sample)


@pytest.mark.parametrize("check", CHECKS)
def test_a_backend_by_automatic_differentiation_conforms(check: str):
    check_automatic_differentiation(check, sample=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_a_backend_by_automatic_differentiation_conforms_in_every_case(check: str):
    check_automatic_differentiation(check, sample=1.0)


@given(case=random_cases())
def test_random_cases_conform(backend: Backend, case):
    check_case(backend, case)


def test_a_sample_may_be_a_number_of_cases():
    assert len(cases(["predict"], sample=7)) == len(cases(["predict"], sample=np.int64(7))) == 7
    assert len(cases(["errors"], sample=10_000)) == len(cases(["errors"]))
    with pytest.raises(ValueError, match="sample must be at least 1, got 0"):
        cases(sample=0)


def test_random_cases_say_what_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match="pip install hypothesis"):
        random_cases()


def test_progress_is_a_line_for_each_check(capsys):
    check_backend("numpy", ["errors", "trainer"], progress=True)
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.err.splitlines()] == ["errors", "trainer"]
    assert not printed.out
