"""Networks as PyTorch modules, and from them."""

from __future__ import annotations

import copy
import doctest
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402

from fastmlp import MLP  # noqa: E402
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS, ReLU  # noqa: E402
from fastmlp.exchange.torch import Exp, Scale  # noqa: E402

HIDDEN = list(ACTIVATIONS)
OUTPUTS = list(OUTPUT_ACTIVATIONS)
BOUNDS = {"float32": 1e-6, "float64": 1e-14}


def network(hidden="relu", output="softmax", dtype="float32", sizes=(5, 7, 6, 3), **more) -> MLP:
    made = MLP(list(sizes), hidden, output, dtype=dtype, seed=3, **more)
    rng = np.random.default_rng(4)
    made.parameters = made.parameters + 0.3 * rng.normal(size=made.n_parameters)
    return made


def rows(n_features=5, dtype="float32", n=100) -> np.ndarray:
    return (3 * np.random.default_rng(5).normal(size=(n, n_features))).astype(dtype)


def outputs(module, X: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(X)).numpy()


def assert_same(one: MLP, other: MLP) -> None:
    assert one.layer_sizes == other.layer_sizes
    assert one.hidden_activations == other.hidden_activations
    assert one.output_activation == other.output_activation
    assert (one.dtype, one.input_scale) == (other.dtype, other.input_scale)
    assert one.parameters.tobytes() == other.parameters.tobytes()


@pytest.mark.parametrize("dtype", list(BOUNDS))
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_modules_compute_the_same_and_come_back(hidden, output, dtype):
    made = network(hidden, output, dtype)
    module = made.to_torch()
    X = rows(dtype=dtype)
    expected = made.predict_proba(X)
    seen = outputs(module, X)
    assert seen.dtype == expected.dtype
    largest = max(1, np.abs(made.logits(X)).max()) if output == "exp" else 1
    assert np.linalg.norm(seen - expected) / np.linalg.norm(expected) < BOUNDS[dtype] * largest
    assert_same(MLP.from_torch(module), made)


@pytest.mark.parametrize("dtype", list(BOUNDS))
def test_a_scaling_layer_is_part_of_the_first_weights(dtype):
    made = network("tanh", dtype=dtype, scaling_layer=True)
    before, X = made.parameters.copy(), rows(dtype=dtype)
    module, expected = made.to_torch(), made.predict_proba(X)
    seen = outputs(module, X)
    assert np.linalg.norm(seen - expected) / np.linalg.norm(expected) < BOUNDS[dtype]
    read = MLP.from_torch(module)
    assert read.scale is None
    np.testing.assert_array_equal(read.weights[0], made.scale[:, None] * made.weights[0])
    np.testing.assert_array_equal(made.parameters, before)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    hidden=st.sampled_from(HIDDEN),
    output=st.sampled_from(OUTPUTS),
    dtype=st.sampled_from(list(BOUNDS)),
    scale=st.sampled_from([1.0, 1 / 255]),
)
def test_any_network_goes_and_comes_back(sizes, hidden, output, dtype, scale):
    made = network(hidden, output, dtype, sizes, input_scale=scale)
    assert_same(MLP.from_torch(made.to_torch()), made)
    assert_same(MLP.from_torch(made.to_torch(logits=True), output=output), made)


@pytest.mark.parametrize(
    ("activation", "parameter", "value"),
    [(nn.LeakyReLU, "negative_slope", 0.3), (nn.ELU, "alpha", 0.7)],
)
def test_parameters_of_activations_are_kept(activation, parameter, value):
    read = MLP.from_torch(nn.Sequential(nn.Linear(2, 3), activation(value), nn.Linear(3, 1)))
    assert getattr(read.hidden_activations[0], parameter) == value
    assert getattr(read.to_torch()[1], parameter) == value


def test_softplus_is_exact_beyond_pytorchs_own_threshold():
    made = MLP([1, 1, 1], "softplus", "linear", dtype="float64")
    made.parameters = [1.0, 0.0, 1.0, 0.0]
    X = np.linspace(15, 45, 301)[:, None]
    np.testing.assert_allclose(outputs(made.to_torch(), X), made.predict_proba(X), rtol=3e-16)


def test_the_module_has_copies_and_learns():
    made = network()
    before = made.parameters.copy()
    module = made.to_torch(logits=True)
    X, y = torch.from_numpy(rows()), torch.zeros(100, dtype=torch.int64)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(X), y).backward()
        optimizer.step()
    np.testing.assert_array_equal(made.parameters, before)
    learned = MLP.from_torch(module, output="softmax")
    assert (learned.predict(rows()) == 0).mean() > (made.predict(rows()) == 0).mean()
    after = learned.parameters.copy()
    optimizer.step()
    np.testing.assert_array_equal(learned.parameters, after)


def test_pytorchs_random_numbers_are_left_alone():
    torch.manual_seed(0)
    first = torch.rand(3)
    torch.manual_seed(0)
    network().to_torch()
    assert torch.equal(torch.rand(3), first)


def test_modules_are_copied_and_pickled():
    module = network(output="exp", input_scale=0.5).to_torch()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        np.testing.assert_array_equal(outputs(twin, rows()), outputs(module, rows()))


def test_what_does_nothing_in_prediction_is_left_out():
    module = nn.Sequential(
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Sequential(nn.Linear(6, 4, bias=False), nn.Identity(), nn.Tanh()),
        nn.Dropout(0.2),
        nn.Sequential(nn.Linear(4, 2)),
    )
    read = MLP.from_torch(module)
    X = torch.randn(10, 2, 3)
    expected = module.eval()(X).detach().numpy()
    np.testing.assert_allclose(read.predict(X.reshape(10, 6).numpy()), expected, atol=1e-6)
    assert not read.biases[0].any()


def test_two_linear_modules_in_a_row_have_the_identity_between_them():
    read = MLP.from_torch(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))
    assert [one.name for one in read.hidden_activations] == ["identity"]


def test_the_end_of_a_module_is_the_output_activation():
    layer = nn.Linear(3, 2)
    ends = {
        "softmax": [nn.Softmax(dim=1), nn.Softmax(dim=-1), nn.LogSoftmax(dim=1)],
        "sigmoid": [nn.Sigmoid()],
        "exp": [Exp()],
        "linear": [nn.Identity()],
    }
    for name, modules in ends.items():
        for end in modules:
            read = MLP.from_torch(nn.Sequential(layer, end))
            assert read.output_activation.name == name
            seen = outputs(nn.Sequential(layer, end), rows(3))
            expected = np.exp(seen) if isinstance(end, nn.LogSoftmax) else seen
            np.testing.assert_allclose(read.predict_proba(rows(3)), expected, rtol=1e-5)


def test_logits_get_the_output_that_is_wanted():
    logits = nn.Sequential(nn.Linear(3, 2))
    assert MLP.from_torch(logits).output_activation.name == "linear"
    assert MLP.from_torch(logits, output="softmax").output_activation.name == "softmax"
    with pytest.raises(ValueError, match="ends with 'sigmoid', but output is 'softmax'"):
        MLP.from_torch(nn.Sequential(nn.Linear(3, 2), nn.Sigmoid()), output="softmax")
    with pytest.raises(ValueError, match="unknown output activation 'sofmax'; did you mean"):
        MLP.from_torch(logits, output="sofmax")


class Own(nn.Module):
    def forward(self, x):
        return x + 1


class ReLUOfMine(nn.ReLU):
    def forward(self, x):
        return x + 1


ReLUOfMine.__name__ = "ReLU"


def hooked() -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 2))
    module[0].register_forward_hook(lambda *_: None)
    return module


REFUSED = {
    r"'1', Conv1d\(": nn.Sequential(nn.Linear(2, 3), nn.Conv1d(1, 1, 1), nn.Linear(3, 2)),
    r"'1', BatchNorm1d": nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)),
    r"'1', Own\(\)": nn.Sequential(nn.Linear(2, 3), Own(), nn.Linear(3, 2)),
    r"'1', ReLU\(\)": nn.Sequential(nn.Linear(2, 3), ReLUOfMine(), nn.Linear(3, 2)),
    r"'1', Softplus\(beta=2": nn.Sequential(nn.Linear(2, 3), nn.Softplus(2.0), nn.Linear(3, 2)),
    r"'1', Softplus.*threshold=1": nn.Sequential(
        nn.Linear(2, 3), nn.Softplus(threshold=1.0), nn.Linear(3, 2)
    ),
    r"'1', Hardtanh": nn.Sequential(nn.Linear(2, 3), nn.Hardtanh(-2, 2), nn.Linear(3, 2)),
    r"'1', Softmax": nn.Sequential(nn.Linear(2, 3), nn.Softmax(1), nn.Linear(3, 2)),
    r"'1.0', PReLU": nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.PReLU()), nn.Linear(3, 2)),
    r"'1', ReLU\(\), is no output": nn.Sequential(nn.Linear(2, 3), nn.ReLU()),
    r"'1', Softmax\(dim=0": nn.Sequential(nn.Linear(2, 3), nn.Softmax(0)),
    r"'2' is not understood where it is: Tanh": nn.Sequential(
        nn.Linear(2, 3), nn.ReLU(), nn.Tanh(), nn.Linear(3, 2)
    ),
    r"'0' is not understood where it is: ReLU": nn.Sequential(nn.ReLU(), nn.Linear(2, 3)),
    r"'1' is not understood where it is: Flatten|'1', Flatten": nn.Sequential(
        nn.Linear(2, 3), nn.Flatten(), nn.Linear(3, 2)
    ),
    r"'0' is not understood: Flatten": nn.Sequential(nn.Flatten(0), nn.Linear(2, 3)),
    "has no Linear": nn.Sequential(),
    "layer 2 takes 3 values": nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(4, 2)),
    "'0' has a weight of torch.float16": nn.Sequential(nn.Linear(2, 3).half()),
    "'0' has hooks": hooked(),
    r"'0' has hooks, which may": nn.Sequential(nn.LazyLinear(3)),
    "NaN or infinite": nn.Sequential(nn.Linear(2, 3)).apply(
        lambda one: one.bias.data.fill_(math.nan) if isinstance(one, nn.Linear) else None
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_what_is_not_understood_is_named(reason):
    with pytest.raises(ValueError, match=reason):
        MLP.from_torch(REFUSED[reason])


def test_only_sequences_are_taken():
    for given_ in (nn.Linear(2, 3), Own(), "module", None):
        with pytest.raises(TypeError, match=r"takes a torch.nn.Sequential, got"):
            MLP.from_torch(given_)


class OwnActivation(ReLU):
    """An activation that is not the library's."""


def test_activations_of_a_user_are_refused():
    with pytest.raises(ValueError, match=r"OwnActivation.*cannot be written for other libraries"):
        network(OwnActivation()).to_torch()


def test_scales_show_their_factor():
    assert repr(Scale(0.5)) == "Scale(0.5)"
    assert MLP([2, 1], input_scale=0.5).to_torch()[0].factor == 0.5


def test_the_examples_run_where_pytorch_is():
    """They are skipped in the docstrings, as tests do without PyTorch."""
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for method in (MLP.to_torch, MLP.from_torch):
        text = method.__doc__.replace("# doctest: +SKIP", "")
        example = doctest.DocTestParser().get_doctest(text, {"MLP": MLP}, method.__name__, None, 0)
        assert example.examples
        assert runner.run(example).failed == 0
