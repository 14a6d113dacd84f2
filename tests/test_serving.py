"""The web service as an application: what it answers, and what it refuses."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import MLP
from fastmlp.model_file import ModelFile
from fastmlp.preprocessing import Feature, Preprocessing

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastmlp.serving", exc_type=ImportError)

from fastmlp.serving import Limits, create_app  # noqa: E402
from fastmlp.serving.together import Together  # noqa: E402

FLOWER = ModelFile(MLP([4, 8, 3], seed=1))
FLOWER.network.feature_names = ("a", "b", "c", "d")
FLOWER.network.label_names = ("setosa", "versicolor", "virginica")
IMAGES = ModelFile(MLP([64, 8, 10], seed=2))
VALUES = ModelFile(MLP([2, 2], output_activation="linear"))
YES_OR_NO = ModelFile(MLP([2, 1], output_activation="sigmoid"))
YES_OR_NO.network.label_names = ("no", "yes")
HOUSE = ModelFile(
    MLP([5, 4, 2], seed=3),
    Preprocessing(
        (
            Feature("size"),
            Feature("colour", "category", ("blue", "red")),
            Feature("built", "date"),
            Feature("rooms", "category", (1,)),
        ),
        fill=(100.0, 0.0, 0.0, 15000.0, 0.0),
        mean=(100.0, 0.0, 0.0, 15000.0, 0.0),
        deviation=(20.0, 1.0, 1.0, 1000.0, 1.0),
        task="classification",
    ),
)
MODELS = {"flower": FLOWER, "images": IMAGES, "values": VALUES, "sign": YES_OR_NO, "house": HOUSE}
LIMITS = Limits(rows=50, body_bytes=200_000, seconds=1)
JSON = {"Content-Type": "application/json"}
ROW = [5.1, 3.5, 1.4, 0.2]


class Client:
    """Asks an application without a server between."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def get(self, path: str) -> Any:
        return asyncio.run(self._ask("GET", path))

    def post(self, path: str, **content: Any) -> Any:
        return asyncio.run(self._ask("POST", path, **content))

    async def _ask(self, method: str, path: str, **content: Any) -> Any:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **content)


def client_of(models: dict[str, ModelFile], limits: Limits = LIMITS) -> Client:
    return Client(create_app(models, limits, backend="numpy"))


@pytest.fixture(scope="module")
def client() -> Client:
    return client_of(MODELS)


def answer(client: Client, rows: Any, model: str = "flower", **more: Any) -> dict[str, Any]:
    response = client.post(f"/models/{model}/predict", json={"rows": rows, **more})
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: Client, content: Any, model: str = "flower") -> tuple[int, str]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    response = client.post(f"/models/{model}/predict", content=body, headers=JSON)
    assert 400 <= response.status_code < 500, response.text
    assert list(response.json()) == ["detail"]
    return response.status_code, response.json()["detail"]


# Answers -------------------------------------------------------------------------------------


def test_probabilities_are_the_networks_bit_for_bit(client: Client):
    X = np.random.default_rng(0).normal(size=(20, 4))
    made = answer(client, X.tolist())
    wanted = FLOWER.network.predict_proba(X)
    assert np.array(made["probabilities"], dtype=np.float32).tolist() == wanted.tolist()
    assert made["labels"] == list(FLOWER.network.label_names)
    assert made["predictions"] == [made["labels"][i] for i in wanted.argmax(axis=1)]
    assert made["model"] == "flower"


def test_names_may_stand_in_any_order_and_beside_positions(client: Client):
    by_name = {"d": 0.2, "b": 3.5, "a": 5.1, "c": 1.4}
    made = answer(client, [ROW, by_name])
    assert made["probabilities"][0] == made["probabilities"][1]


def test_columns_are_made_as_the_training_made_them(client: Client):
    """By hand: categories as 0 and 1, a date as days since 1970, gaps filled, standardized."""
    pytest.importorskip("polars")
    rows = [
        [120, "red", "2014-01-02", 1],
        {"size": None, "colour": " blue", "built": None, "rooms": None},
        [True, "", 16072, 1.0],
    ]
    X = [[1, 0, 1, 1.072, 1], [0, 1, 0, 0, 0], [-4.95, 0, 0, 1.072, 1]]
    made = answer(client, rows, "house")
    assert np.allclose(made["probabilities"], HOUSE.network.predict_proba(X), rtol=1e-5)


def test_other_outputs_have_answers_of_their_own(client: Client):
    values = answer(client, [[1, 2], [3, 4]], "values")
    assert values["probabilities"] is None
    assert values["labels"] is None
    wanted = VALUES.network.predict([[1, 2], [3, 4]])
    assert np.array(values["predictions"], dtype=np.float32).tolist() == wanted.tolist()
    sign = answer(client, [[1, 2]], "sign")
    assert sign["labels"] == ["no", "yes"]
    assert sum(sign["probabilities"][0]) == pytest.approx(1)
    assert sign["predictions"][0] in sign["labels"]


def test_unknown_names_of_categories_are_taken_as_none_where_that_is_wished(client: Client):
    row = [100, "green" * 100, 15000, 1]
    status, reason = refused(client, {"rows": [row]}, "house")
    assert (status, "'blue', 'red'" in reason) == (422, True)
    made = answer(client, [row], "house", ignore_unknown=True)
    assert made == answer(client, [[100, None, 15000, 1]], "house")


@pytest.mark.parametrize("threads", [1, 2])
def test_large_requests_are_answered_as_small_ones(threads: int):
    """A large network goes to the thread that predicts, a large body to the one that reads."""
    network = MLP([100, 2000, 600, 3], seed=1)
    X = np.random.default_rng(0).random((60, 100)).round(3)
    app = create_app({"large": ModelFile(network)}, backend="numpy", n_threads=threads)
    made = Client(app).post("/predict", json={"rows": np.tile(X, (20, 1)).tolist()}).json()
    wanted = np.tile(network.predict_proba(X), (20, 1))
    assert np.allclose(made["probabilities"], wanted, rtol=1e-4)


# Refusals ------------------------------------------------------------------------------------

#: What is sent, and the status and words of what is said.
WRONG: dict[str, tuple[Any, int, str]] = {
    "nothing": (b"", 400, "not JSON"),
    "no JSON": (b"{rows: 1}", 400, "not JSON"),
    "half of it": (b'{"rows": [[1, 2', 400, "not JSON"),
    "not UTF-8": (b'{"rows": "\xff"}', 400, "not UTF-8"),
    "NaN": (b'{"rows": [[1, 2, 3, NaN]]}', 400, "NaN is no number of JSON"),
    "Infinity": (b'{"rows": [[1, 2, 3, -Infinity]]}', 400, "-Infinity is no number of JSON"),
    "a number beyond floats": (b'{"rows": [[1, 2, 3, 1e999]]}', 422, "rows[0]: column 'd'"),
    "a whole number beyond floats": (b'{"rows": [[1, 2, 3, 1%s]]}' % (b"0" * 400), 422, "'d'"),
    "a number of many digits": (b'{"rows": [[1, 2, 3, 1%s]]}' % (b"0" * 9000), 400, "digit"),
    "a number beyond float32": ({"rows": [ROW, [1, 1e39, 2, 3]]}, 422, "rows[1]: column 'b'"),
    "logits beyond float32": ({"rows": [[3.4e38, -3.4e38, 3.4e38, -3.4e38]]}, 422, "logits"),
    "deep nesting": (b"[" * 90_000 + b"]" * 90_000, 400, "deep"),
    "a name twice": (b'{"rows": [{"a":1,"b":2,"c":3,"d":4,"b":5}]}', 400, "'b' stands twice"),
    "rows twice": (b'{"rows": [[1]], "rows": [[1]]}', 400, "'rows' stands twice"),
    "a list": ([[1, 2]], 422, "the body is [[1, 2]]"),
    "null": (None, 422, "the body is None"),
    "no rows": ({}, 422, "no rows"),
    "empty rows": ({"rows": []}, 422, "at least one row"),
    "rows that are none": ({"rows": 7}, 422, "rows is 7"),
    "another field": (
        {"rows": [ROW], "ignore_unknwon": True},
        422,
        "did you mean 'ignore_unknown'",
    ),
    "an option of another kind": ({"rows": [ROW], "ignore_unknown": 1}, 422, "truth value"),
    "a narrow row": ({"rows": [ROW, [1, 2, 3]]}, 422, "rows[1]: it has 3 values"),
    "a wide row": ({"rows": [[1, 2, 3, 4, 5]]}, 422, "the model takes 4: 'a', 'b', 'c', 'd'"),
    "a row of another kind": ({"rows": [ROW, 3]}, 422, "rows[1]: it is 3"),
    "a deep row": ({"rows": [[1, 2, 3, [4]]]}, 422, "rows[0]: column 'd' holds [4]"),
    "text": ({"rows": [ROW, [1, 2, "3", 4]]}, 422, "rows[1]: column 'c' holds '3', and no number"),
    "a gap": ({"rows": [[1, None, 3, 4]]}, 422, "rows[0]: column 'b' has no value"),
    "a missing name": ({"rows": [{"a": 1, "b": 2, "d": 3}]}, 422, "it lacks 'c' of the model's 4"),
    "an unknown name": ({"rows": [{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}]}, 422, "has 'e'"),
    "too many rows": ({"rows": [ROW] * 51}, 413, "51 rows, but may have 50"),
    "a huge body": (b" " * 200_001, 413, "more than 200000 bytes"),
}


@pytest.mark.parametrize(("content", "status", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(client: Client, content: Any, status: int, words: str):
    told, reason = refused(client, content)
    assert (told, words in reason) == (status, True), reason
    assert len(reason) < 500


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([1, 2, 3, 1], "column 'colour' holds 2, and no text"),
        ([1, "réd", 3, 1], "column 'colour' holds 'réd', which is none of the 2 values"),
        ([1, "red", "soon", 1], "column 'built' holds 'soon', and no date"),
        ([1, "red", [], 1], "column 'built' holds [], and no date"),
        ([1, "red", 3, 2], "column 'rooms' holds 2.0, which is none of the 1 values"),
        (["1", "red", 3, 1], "column 'size' holds '1', and no number"),
    ],
)
def test_cells_of_the_wrong_kind_are_named(client: Client, row: list[Any], words: str):
    pytest.importorskip("polars")
    good = [1, "red", 3, 1]
    status, reason = refused(client, {"rows": [good, row]}, "house")
    assert (status, reason.startswith(f"rows[1]: {words}")) == (422, True), reason


def test_long_texts_take_no_memory_for_every_row(client: Client):
    """NumPy's arrays of text are as wide as the longest: 40 rows of these would be 30 MB."""
    import tracemalloc

    rows = [[1, "x" * 190_000, 3, 1], *([[1, "red", 3, 1]] * 40)]
    tracemalloc.start()
    refused(client, {"rows": rows}, "house")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_other_content_types_are_refused(client: Client):
    response = client.post("/predict", content=b"a=1", headers={"Content-Type": "text/plain"})
    assert (response.status_code, "text/plain" in response.json()["detail"]) == (415, True)
    declared = {"Content-Type": "application/json; charset=utf-8"}
    assert client.post("/predict", content=b'{"rows": [[1,2,3,4]]}', headers=declared).is_success


def test_a_prediction_that_is_infinite_is_refused():
    network = MLP([1, 1], output_activation="exp")
    network.parameters = [1.0, 0.0]
    status, reason = refused(
        client_of({"grows": ModelFile(network)}), {"rows": [[1], [99]]}, "grows"
    )
    assert (status, reason) == (422, "rows[1]: its prediction is infinite")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("abcdx"), inner),
)


@given(st.sampled_from(["flower", "house"]), st.lists(JSON_VALUES, max_size=4))
def test_any_rows_are_answered_or_refused(model: str, rows: list[Any]):
    client = client_of(MODELS)
    body = json.dumps({"rows": rows}).encode()
    response = client.post(f"/models/{model}/predict", content=body, headers=JSON)
    assert response.status_code in (200, 400, 422), response.text


# Bodies as they come -------------------------------------------------------------------------


def asked(app: Any, parts: Any, headers: dict[str, str] = JSON) -> tuple[int, dict[str, Any], int]:
    """Return status, answer and the number of parts that were read of a body."""
    sent: list[Any] = []
    n_read = 0

    async def receive() -> dict[str, Any]:
        nonlocal n_read
        n_read += 1
        part = next(parts, None)
        if part is None:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": part, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": b"",
        "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"]), n_read


def test_a_body_is_read_no_further_than_allowed():
    def endless():
        while True:
            yield b" " * 50_000

    app = create_app({"flower": FLOWER}, LIMITS, backend="numpy")
    assert asked(app, endless())[::2] == (413, 5)


def test_a_body_that_says_it_is_too_large_is_not_read_at_all():
    app = create_app({"flower": FLOWER}, LIMITS, backend="numpy")
    declared = {**JSON, "Content-Length": "200001"}
    assert asked(app, iter([b" "]), declared)[::2] == (413, 0)


def test_a_body_that_does_not_come_is_given_up():
    app = create_app({"flower": FLOWER}, LIMITS, backend="numpy")
    status, told, _ = asked(app, iter([b'{"rows":']))
    assert (status, told["detail"]) == (408, "the body did not come within 1 s")


def test_all_bodies_together_are_limited():
    """Seventeen clients that send nearly all of the largest body, and then nothing."""
    app = create_app({"flower": FLOWER}, LIMITS, backend="numpy")
    with ThreadPoolExecutor(17) as pool:
        # Their loops differ; what they share is a count.
        made = list(pool.map(lambda _: asked(app, iter([b" " * 199_000])), range(17)))
    assert sorted(status for status, _, _ in made)[0] in (408, 503)
    assert {status for status, _, _ in made} == {408, 503}
    assert asked(app, iter([b"x" * 100]))[0] == 408  # all was given back


# Together ------------------------------------------------------------------------------------


def together(blocks: list[np.ndarray], function: Any, most_rows: int = 100) -> list[Any]:
    """Return what requests at the same time get, with the first one holding the thread."""

    async def ask() -> list[Any]:
        with ThreadPoolExecutor(1) as pool:
            predict = Together(function, pool, most_rows)
            asks = [asyncio.ensure_future(predict(block)) for block in blocks]
            return await asyncio.gather(*asks, return_exceptions=True)

    return asyncio.run(ask())


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 20))
def test_every_request_gets_its_own_rows(sizes: list[int], most_rows: int):
    calls: list[int] = []

    def doubled(X: np.ndarray) -> np.ndarray:
        calls.append(len(X))
        return 2 * X

    ends = np.cumsum([0, *sizes])
    blocks = [np.arange(a, b).reshape(-1, 1) for a, b in itertools.pairwise(ends)]
    made = together(blocks, doubled, most_rows)
    assert [rows.tolist() for rows in made] == [(2 * block).tolist() for block in blocks]
    assert sum(calls) == sum(sizes)
    assert all(call <= most_rows or call in sizes for call in calls)


def test_requests_that_wait_are_predicted_in_one_call():
    calls: list[int] = []
    made = together([np.ones((1, 1))] * 8, lambda X: calls.append(len(X)) or X)
    assert (len(made), calls) == (8, [8])


def test_a_request_that_fails_fails_alone():
    def positive(X: np.ndarray) -> np.ndarray:
        if (X < 0).any():
            raise ValueError("negative")
        return X

    good, bad, other = together([np.ones((2, 1)), -np.ones((1, 1)), np.zeros((1, 1))], positive)
    assert isinstance(bad, ValueError)
    assert (good.tolist(), other.tolist()) == ([[1.0], [1.0]], [[0.0]])


def test_a_request_that_is_given_up_harms_no_other():
    begun, go_on = threading.Event(), threading.Event()

    def slow(X: np.ndarray) -> np.ndarray:
        begun.set()
        go_on.wait(10)
        return X

    async def ask() -> Any:
        with ThreadPoolExecutor(1) as pool:
            predict = Together(slow, pool, 100)
            first, second = (asyncio.ensure_future(predict(np.ones((1, 1)))) for _ in range(2))
            await asyncio.to_thread(begun.wait, 10)
            first.cancel()
            go_on.set()
            return await second

    assert asyncio.run(ask()).tolist() == [[1.0]]


# What else it says ---------------------------------------------------------------------------


def test_it_describes_its_models(client: Client):
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/models").json() == {"models": list(MODELS)}
    flower = client.get("/model").json()
    assert flower == client.get("/models/flower").json()
    assert flower["layer_sizes"] == [4, 8, 3]
    assert [one["name"] for one in flower["features"]] == ["a", "b", "c", "d"]
    house = client.get("/models/house").json()
    assert house["features"][1] == {
        "name": "colour",
        "kind": "category",
        "categories": ["blue", "red"],
    }
    assert (house["missing_values"], flower["missing_values"]) == (True, False)
    assert client.get("/models/images").json()["image_side"] == 8


def test_an_unknown_model_is_named_with_those_that_there_are(client: Client):
    for response in (client.get("/models/flour"), client.post("/models/flour/predict", json={})):
        assert response.status_code == 404
        assert "'flour'; there are 'flower', 'images'" in response.json()["detail"]


def test_it_counts_what_it_answers():
    client = client_of({"flower": FLOWER})
    answer(client, [ROW, ROW])
    client.post("/predict", json={"rows": [ROW]})
    client.post("/predict", json={"rows": [[1]]})
    client.get("/no/such/page")
    lines = client.get("/metrics").text.splitlines()
    assert 'fastmlp_requests_total{path="/models/flower/predict",status="200"} 1' in lines
    assert 'fastmlp_requests_total{path="/predict",status="422"} 1' in lines
    assert 'fastmlp_requests_total{path="other",status="404"} 1' in lines
    assert 'fastmlp_rows_total{model="flower"} 3' in lines
    assert 'fastmlp_request_seconds_count{path="/predict"} 2' in lines
    assert "fastmlp_requests_in_progress 1" in lines
    samples = re.compile(r'(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)+\})? [0-9.e+-]+)')
    assert all(samples.fullmatch(line) for line in lines)


def test_prometheus_reads_the_counts(client: Client):
    parser = pytest.importorskip("prometheus_client.parser")
    answer(client, [ROW])
    families = {
        family.name for family in parser.text_string_to_metric_families(client.get("/metrics").text)
    }
    assert {"fastmlp_requests", "fastmlp_request_seconds", "fastmlp_rows"} <= families


def test_the_page_takes_nothing_from_elsewhere(client: Client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"https?://|src=|@import|<link", page.text)
    assert 'name="viewport"' in page.text


@pytest.mark.parametrize("name", ["", "a b", "../a", 'a"b', ".a", "ä", "a/b", "x" * 101])
def test_names_that_are_no_part_of_an_address_are_refused(name: str):
    with pytest.raises(ValueError, match="a model's name must be"):
        create_app({name: FLOWER}, backend="numpy")


def test_a_service_needs_a_model_and_limits_that_make_sense():
    with pytest.raises(ValueError, match="at least one"):
        create_app({})
    with pytest.raises(ValueError, match="rows"):
        Limits(rows=0)
