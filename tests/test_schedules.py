"""Learning-rate schedules: their formulas, and how the trainer follows them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import LBFGS, MLP, SGD, CheckpointError, Trainer
from fastmlp.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    CosineLog,
    Exponential,
    FunctionSchedule,
    InverseScaling,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
    choose_schedule,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
Y = RNG.integers(0, 2, 40)

STEPS_PER_EPOCH, EPOCHS = 5, 8
TOTAL = STEPS_PER_EPOCH * EPOCHS


def factors(schedule: Schedule) -> np.ndarray:
    epochs = np.arange(TOTAL).reshape(EPOCHS, STEPS_PER_EPOCH)
    return np.concatenate([schedule.factors(steps, i, EPOCHS) for i, steps in enumerate(epochs)])


def make_trainer(schedule, backend="numpy", learning_rate: float = 0.2) -> Trainer:
    return Trainer(
        MLP([3, 2]), optimizer=SGD(learning_rate), batch_size=8, schedule=schedule, backend=backend
    )


# Formulas ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_factors_are_float64_between_0_and_1(name):
    values = factors(SCHEDULES[name])
    assert values.shape == (TOTAL,)
    assert values.dtype == np.float64
    assert np.all((values >= 0) & (values <= 1))


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    taken=st.integers(0, 10**6),
    epoch=st.integers(0, EPOCHS - 1),
)
def test_the_sizes_of_earlier_epochs_do_not_move_a_built_in_schedule(name, taken, epoch):
    steps = taken + np.arange(STEPS_PER_EPOCH)
    expected = factors(SCHEDULES[name])[epoch * STEPS_PER_EPOCH :][:STEPS_PER_EPOCH]
    np.testing.assert_array_equal(SCHEDULES[name].factors(steps, epoch, EPOCHS), expected)


class Own(Schedule):
    """Returns what it is told to."""

    name = "own"

    def __init__(self, returned) -> None:
        self.returned = returned

    def factors(self, steps, epoch, total_epochs):
        return self.returned


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (0.5, r"Own must return 5 factors, one for each step .* shape \(\)"),
        (np.ones(4), r"must return 5 factors, .* shape \(4,\)"),
        ([1, 1, np.nan, 1, 1], "finite factors of at least 0, got nan for step 2"),
        ([1, 1, 1, -0.5, 1], "finite factors of at least 0, got -0.5 for step 3"),
    ],
)
@pytest.mark.parametrize("of_an_estimator", [False, True])
def test_what_a_schedule_of_ones_own_returns_is_checked(returned, message, of_an_estimator):
    if of_an_estimator:
        sklearn = pytest.importorskip("fastmlp.sklearn")
        model = sklearn.MLPClassifier((), schedule=Own(returned), batch_size=8, backend="numpy")
        start = lambda: model.fit(X, Y)  # noqa: E731
    else:
        trainer = make_trainer(Own(returned))
        start = lambda: trainer.fit(X, Y, 1, verbose=False)  # noqa: E731
    with pytest.raises(ValueError, match=message):
        start()


@pytest.mark.parametrize("of_an_estimator", [False, True])
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda t: 0.5, r"FunctionSchedule must return 5 factors, one for each step .* shape \(\)"),
        (lambda t: t[1:], r"FunctionSchedule must return 5 factors, .* shape \(4,\)"),
        (lambda t: 1 - 3 * t, r"finite factors of at least 0, got -0.2.* for step 2"),
        (lambda t: t / (t > 0.5), r"FunctionSchedule must return finite factors .* for step 0"),
    ],
)
def test_what_a_function_returns_is_checked(function, message, of_an_estimator):
    if of_an_estimator:
        sklearn = pytest.importorskip("fastmlp.sklearn")
        model = sklearn.MLPClassifier(
            (), schedule=function, batch_size=8, max_iter=1, backend="numpy"
        )
        start = lambda: model.fit(X, Y)  # noqa: E731
    else:
        trainer = make_trainer(function)
        start = lambda: trainer.fit(X, Y, 1, verbose=False)  # noqa: E731
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        start()


def torch_rates(make, n_steps: int) -> np.ndarray:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(n_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(rates)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (StepDecay(epochs=3, factor=0.5), lambda s, o: s.StepLR(o, 3, 0.5)),
        (Exponential(0.9), lambda s, o: s.ExponentialLR(o, 0.9)),
    ],
)
def test_schedules_of_epochs_agree_with_pytorch(ours, theirs):
    expected = np.repeat(torch_rates(theirs, EPOCHS), STEPS_PER_EPOCH)
    np.testing.assert_allclose(factors(ours), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Cosine(), lambda s, o: s.CosineAnnealingLR(o, TOTAL - 1)),
        (Cosine(final=0.1), lambda s, o: s.CosineAnnealingLR(o, TOTAL - 1, eta_min=0.1)),
        (OneCycle(rise=0.3), lambda s, o: s.OneCycleLR(o, 1.0, TOTAL, pct_start=0.3)),
    ],
)
def test_schedules_of_steps_agree_with_pytorch(ours, theirs):
    expected = torch_rates(theirs, TOTAL)
    np.testing.assert_allclose(factors(ours), expected, atol=1e-9)


def test_inverse_scaling_counts_epochs():
    expected = np.repeat(np.arange(1, EPOCHS + 1.0) ** -0.5, STEPS_PER_EPOCH)
    np.testing.assert_allclose(factors(InverseScaling()), expected)


@pytest.mark.parametrize("cycles", [1, 2, 4])
def test_cosine_log_follows_its_paper(cycles):
    """Each cycle is twice as long as the one before."""
    t = np.arange(TOTAL) / TOTAL
    ends = (2.0 ** np.arange(cycles + 1) - 1) / (2.0**cycles - 1)
    each = np.searchsorted(ends, t, side="right") - 1
    share = np.log2(1 + (t - ends[each]) / (ends[each + 1] - ends[each]))
    expected = 0.5 * (1 - np.cos(2 * np.pi * share))
    np.testing.assert_allclose(factors(CosineLog(cycles)), expected, atol=1e-12)


def test_cosine_log_has_the_names_that_people_know():
    assert choose_schedule("coslog4") == choose_schedule("cosine_log") == CosineLog(cycles=4)


def test_cosine_warms_up_in_a_line():
    values = factors(Cosine(warm_up=0.25))
    np.testing.assert_allclose(np.diff(values[:10]), 1 / 11)
    assert values[10] == 1.0
    assert values[-1] == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepDecay(epochs=0), "epochs must be at least 1"),
        (lambda: StepDecay(factor=2.0), "factor must be greater than 0 and at most 1"),
        (lambda: Exponential(0.0), "factor must be greater than 0"),
        (lambda: InverseScaling(-1.0), "power must be at least 0"),
        (lambda: Cosine(warm_up=1.0), "warm_up must be .* less than 1"),
        (lambda: OneCycle(rise=0.0), "rise must be greater than 0"),
        (lambda: CosineLog(cycles=0), "cycles must be at least 1, got 0"),
        (lambda: CosineLog(cycles=53), "cycles must be at most 52, got 53"),
        (lambda: ReduceOnPlateau(factor=1.0), "factor must be .* less than 1"),
        (lambda: ReduceOnPlateau(patience=-1), "patience must be at least 0"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# In the trainer ------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [None, "constant", Constant()])
def test_no_schedule_keeps_the_rate(schedule):
    history = make_trainer(schedule).fit(X, Y, 3, verbose=False)
    assert history["learning_rate"] == [0.2] * 3


def test_the_history_holds_the_rate_of_each_epochs_last_step(backend):
    history = make_trainer(Cosine(), backend).fit(X, Y, EPOCHS, verbose=False)
    expected = 0.2 * factors(Cosine())[STEPS_PER_EPOCH - 1 :: STEPS_PER_EPOCH]
    assert history["learning_rate"] == pytest.approx(expected)


def test_every_step_gets_its_rate(backend):
    network = MLP([3, 2])
    trainer = Trainer(network, optimizer=SGD(0.2), batch_size=8, schedule="cosine", backend=backend)
    session = trainer.backend.bind(network, optimizer=SGD(0.2), batch_size=8)
    session.train(X, Y, np.tile(np.arange(40), EPOCHS), 0.2 * factors(Cosine()))
    trainer.fit(X, Y, EPOCHS, shuffle=False, verbose=False)
    np.testing.assert_array_equal(network.parameters, session.store().parameters)


def test_a_second_fit_continues_the_schedule():
    trainer = make_trainer(StepDecay(epochs=2, factor=0.5))
    trainer.fit(X, Y, 3, verbose=False)
    trainer.fit(X, Y, 3, verbose=False)
    assert trainer.history["learning_rate"] == [0.2, 0.2, 0.1, 0.1, 0.05, 0.05]


def test_the_rate_follows_a_plateau(backend):
    schedule = ReduceOnPlateau(factor=0.5, patience=1, threshold=10.0, minimum=0.2)
    history = make_trainer(schedule, backend).fit(X, Y, 9, verbose=False)
    # The first epoch is the best; after two more the rate halves, and never below a fifth.
    expected = [0.2, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05, 0.04, 0.04]
    assert history["learning_rate"] == pytest.approx(expected)


def test_a_plateau_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=2, threshold=0.02, threshold_mode="abs"
    )
    rates = []

    def follow(trainer, record):
        rates.append(optimizer.param_groups[0]["lr"])
        theirs.step(record["loss"])

    schedule = ReduceOnPlateau(factor=0.5, patience=2, threshold=0.02)
    history = make_trainer(schedule).fit(X, Y, 40, callbacks=[follow], verbose=False)
    assert history["learning_rate"] == pytest.approx(rates)
    assert rates[-1] < 0.01


def test_a_plateau_of_a_score_counts_upward():
    schedule = ReduceOnPlateau(patience=0, threshold=0.0, metric="accuracy")
    history = make_trainer(schedule).fit(X, Y, 20, verbose=False)
    best, rate, expected = -1.0, 0.2, []
    for accuracy in history["accuracy"]:
        expected.append(rate)
        best, rate = (accuracy, rate) if accuracy > best else (best, rate * 0.1)
    assert history["learning_rate"] == pytest.approx(expected)


def test_a_plateau_of_what_is_not_recorded_is_an_error():
    with pytest.raises(ValueError, match="'val_loss' is not recorded"):
        make_trainer(ReduceOnPlateau(metric="val_loss")).fit(X, Y, 3, verbose=False)


# A function of ones own ----------------------------------------------------------------------


def falling(t):
    return 1 - t


def test_a_function_is_a_schedule(backend):
    trainer = make_trainer(falling, backend)
    assert trainer.schedule == FunctionSchedule(falling)
    history = trainer.fit(X, Y, EPOCHS, verbose=False)
    last = np.arange(STEPS_PER_EPOCH - 1, TOTAL, STEPS_PER_EPOCH)
    assert history["learning_rate"] == pytest.approx(0.2 * (1 - last / TOTAL))


def test_a_function_gets_the_shares_that_are_over():
    given = []

    def note(t):
        given.extend(t)
        return np.ones(len(t))

    make_trainer(note).fit(X, Y, 4, verbose=False)
    np.testing.assert_allclose(given, np.arange(20) / 20)


def test_a_function_may_be_assigned():
    trainer = make_trainer(None)
    trainer.schedule = falling
    assert trainer.fit(X, Y, 1, verbose=False)["learning_rate"] == pytest.approx([0.2 / 5])


def test_a_function_of_a_module_is_pickled_with_its_trainer():
    trainer = make_trainer(falling)
    trainer.fit(X, Y, 2, verbose=False)
    twin = pickle.loads(pickle.dumps(trainer))
    assert twin.schedule == trainer.schedule
    for one in (trainer, twin):
        one.fit(X, Y, 2, verbose=False)
    np.testing.assert_array_equal(twin.network.parameters, trainer.network.parameters)


def test_a_checkpoint_goes_on_with_a_function_but_not_without(tmp_path: Path):
    """Functions cannot be compared; that there is one can."""
    path, trainer = tmp_path / "run.npz", make_trainer(falling)
    trainer.fit(X, Y, 2, verbose=False)
    trainer.save_checkpoint(path)
    resumed = make_trainer(falling)
    resumed.load_checkpoint(path)
    for one in (trainer, resumed):
        one.fit(X, Y, 2, verbose=False)
    np.testing.assert_array_equal(resumed.network.parameters, trainer.network.parameters)
    with pytest.raises(CheckpointError, match=r"saved with schedule FunctionSchedule\(\), but"):
        make_trainer("cosine").load_checkpoint(path)


@pytest.mark.parametrize("given", [Cosine, 3, [1.0, 0.5]])
def test_what_is_no_schedule_is_refused(given):
    message = r"schedule must be a name \('constant', .*\), a Schedule instance or a function of t"
    with pytest.raises(TypeError, match=message):
        make_trainer(given)
    sklearn = pytest.importorskip("fastmlp.sklearn")
    with pytest.raises((TypeError, ValueError), match="schedule"):
        sklearn.MLPClassifier((), schedule=given).fit(X, Y)


def test_a_function_schedule_needs_a_function():
    with pytest.raises(TypeError, match=r"must be a function of t, got 0\.5"):
        FunctionSchedule(0.5)


def test_l_bfgs_has_no_rate_for_a_function():
    with pytest.raises(ValueError, match="no learning rate for the schedule 'function' to set"):
        Trainer(MLP([3, 2]), optimizer=LBFGS(), schedule=falling, backend="numpy")


def test_an_estimator_follows_a_function_and_leaves_it_out_of_its_file(tmp_path: Path):
    pytest.importorskip("safetensors")
    sklearn = pytest.importorskip("fastmlp.sklearn")
    models = [
        sklearn.MLPClassifier((), schedule=schedule, max_iter=3, random_state=0, backend="numpy")
        for schedule in (falling, FunctionSchedule(falling), "constant")
    ]
    for model in models:
        with pytest.warns(match="Maximum iterations"):
            model.fit(X, Y)
    np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])
    assert np.any(models[0].coefs_[0] != models[2].coefs_[0])
    for model in models[:2]:
        with pytest.warns(UserWarning, match="schedule cannot be kept in a model file"):
            model.save(tmp_path / "model.safetensors")
