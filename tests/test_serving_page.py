"""The service's page in a browser: Chromium without a window, if there is one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, Trainer
from fastmlp.datasets import load_digits
from fastmlp.model_file import ModelFile, save_model
from fastmlp.preprocessing import Feature, Preprocessing

pytest.importorskip("fastmlp.serving", exc_type=ImportError)
pytest.importorskip("safetensors")
webdriver = pytest.importorskip("selenium.webdriver")

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

from tests.serving_process import Process, service  # noqa: E402

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="there is no Chromium with its chromedriver"
)

HOUSE = ModelFile(
    MLP([3, 4, 2], seed=3),
    Preprocessing(
        (Feature("size"), Feature("colour", "category", ("blue", "<b>red</b>"))),
        fill=(100.0, 0.0, 0.0),
        task="classification",
    ),
)
HOUSE.network.label_names = ("<i>cheap</i>", "dear")


def digits() -> MLP:
    (X, y), _ = load_digits()
    trainer = Trainer(MLP([64, 32, 10], seed=0), "cross_entropy", "adam", backend="numpy")
    trainer.fit(X, y, epochs=20, verbose=False)
    return trainer.network


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("models")
    digits().save(folder / "digits.safetensors")
    save_model(folder / "house.safetensors", HOUSE)
    # The page's images of 28 x 28 are shown as they are: an output for every row of pixels.
    rows = MLP([784, 28], output_activation="linear")
    rows.weights[0] = np.kron(np.eye(28), np.ones((28, 1)))
    rows.save(folder / "rows.safetensors")
    with service(*sorted(folder.iterdir())) as it:
        yield it


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield made
    made.quit()


class Page:
    """What a person does with the page, and sees of it."""

    def __init__(self, browser: Any, address: str, model: str, width: int, height: int) -> None:
        self.browser = browser
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": width < 600})
        browser.get(address)
        self.until(lambda: self.all("#models option"))
        Select(self.one("#models")).select_by_value(model)
        self.until(lambda: self.one("#about").text.startswith(f"{model}: "))

    def one(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def until(self, condition: Any) -> Any:
        return WebDriverWait(self.browser, 20, 0.05).until(lambda _: condition())

    def prediction(self) -> str:
        """Return what is shown once nothing more is asked: drawing asks again and again."""
        self.until(lambda: self.one("#result").get_attribute("aria-busy") == "false")
        assert self.one("#error").text == ""
        return self.one(".prediction").text

    def draw(self, *strokes: list[tuple[float, float]], touch: bool = False) -> None:
        """Draw strokes of points, given as parts of the canvas's sides."""
        box = self.browser.execute_script(
            "const c = document.getElementById('canvas'); c.scrollIntoView({block: 'center'});"
            "const b = c.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]"
        )
        for stroke in strokes:
            points = [{"x": box[0] + x * box[2], "y": box[1] + y * box[3]} for x, y in stroke]
            (self._touch if touch else self._mouse)(points)

    def _mouse(self, points: list[dict[str, float]]) -> None:
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1)]
        for kind, point in zip([*kinds, "mouseReleased"], [*points, points[-1]], strict=True):
            event = {"type": kind, "button": "left", "buttons": 1, "clickCount": 1, **point}
            self.browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    def _touch(self, points: list[dict[str, float]]) -> None:
        kinds = ["touchStart", *["touchMove"] * (len(points) - 1)]
        for kind, point in zip(kinds, points, strict=True):
            event = {"type": kind, "touchPoints": [point]}
            self.browser.execute_cdp_cmd("Input.dispatchTouchEvent", event)
        self.browser.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []}
        )

    def errors(self) -> list[str]:
        return [
            one["message"]
            for one in self.browser.get_log("browser")
            if "favicon" not in one["message"]
        ]


@pytest.fixture
def page(browser: Any, running: Process) -> Iterator[Any]:
    def open_page(model: str, width: int = 1000, height: int = 900) -> Page:
        browser.get_log("browser")
        return Page(browser, running.address, model, width, height)

    return open_page


ONE = [(0.5, 0.15), (0.5, 0.5), (0.5, 0.85)]
#: A ring, from its top and around.
ZERO = [
    (0.5 + 0.22 * np.sin(turn), 0.5 - 0.33 * np.cos(turn)) for turn in np.linspace(0, 2 * np.pi, 24)
]


@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "phone"])
def test_a_digit_that_is_drawn_is_predicted(page: Any, touch: bool):
    opened = page("digits", *((360, 640) if touch else (1000, 900)))
    opened.draw(ZERO, touch=touch)
    assert opened.prediction() == "0"
    bars = opened.all(".bar")
    assert [bar.find_element(By.TAG_NAME, "b").text for bar in bars] == list("0123456789")
    widths = [bar.find_element(By.TAG_NAME, "i").size["width"] for bar in bars]
    assert int(np.argmax(widths)) == 0
    opened.one("#clear").click()
    assert not opened.all(".bar")
    opened.draw(ONE, touch=touch)
    assert opened.prediction() == "1"
    assert opened.errors() == []


def test_the_page_fits_a_phone(page: Any):
    opened = page("digits", 360, 640)
    opened.draw(ZERO, touch=True)
    opened.prediction()
    assert opened.browser.execute_script(
        "return [innerWidth, document.documentElement.scrollWidth <= innerWidth]"
    ) == [360, True]


def test_drawings_are_fitted_as_mnist_fits_them(page: Any):
    """Into 20 x 20 pixels of 28 x 28, their centre of mass in the middle, wherever they were."""
    made = []
    for shift in (-0.3, 0.25):
        opened = page("rows")
        opened.draw([(0.4 + shift, 0.3), (0.4 + shift, 0.6)])
        text = opened.prediction()
        made.append(np.array([float(part.split(": ")[1]) for part in text.split(", ")]))
    for rows in made:
        inked = np.flatnonzero(rows > 0.5)
        assert 19 <= len(inked) <= 21
        assert abs(np.average(np.arange(28) + 0.5, weights=np.maximum(rows, 0)) - 14) < 0.6
    assert np.abs(made[0] - made[1]).max() < 1.5


def test_a_form_asks_for_each_feature(page: Any):
    opened = page("house")
    field, choice = opened.all("#fields input, #fields select")
    field.send_keys("120.5")
    Select(choice).select_by_visible_text("<b>red</b>")
    opened.one("#ask").click()
    wanted = HOUSE.network.predict_proba([[120.5, 0, 1]])[0]
    # Names are shown as they are, never as part of the page.
    assert opened.prediction() == HOUSE.network.label_names[int(wanted.argmax())]
    shown = [bar.text.split("\n") for bar in opened.all(".bar")]
    assert [name for name, _ in shown] == ["<i>cheap</i>", "dear"]
    percents = [float(number.removesuffix(" %")) for _, number in shown]
    assert np.allclose(percents, 100 * wanted, atol=0.051)
    assert opened.errors() == []


def test_what_is_wrong_is_shown_and_goes_away(page: Any):
    opened = page("house")
    (field, _) = opened.all("#fields input, #fields select")
    field.send_keys("big")
    opened.one("#ask").click()
    opened.until(lambda: "column 'size' holds 'big', and no number" in opened.one("#error").text)
    field.clear()
    opened.one("#ask").click()  # a gap, which the model fills
    assert opened.prediction()
    assert opened.one("#error").text == ""


@pytest.mark.parametrize(
    "text",
    [
        "120;blue\n\n90;<b>red</b>\n",
        '[[120, "blue"], [90, "<b>red</b>"]]',
        '{"rows": [{"colour": "blue", "size": 120}, {"size": 90, "colour": "<b>red</b>"}]}',
    ],
)
def test_rows_are_pasted_as_text_or_json(page: Any, text: str):
    opened = page("house")
    opened.one("#paste summary").click()
    opened.one("#text").send_keys(text)
    opened.one("#send").click()
    opened.prediction()
    labels = HOUSE.network.label_names
    wanted = HOUSE.network.predict([[120, 1, 0], [90, 0, 1]])
    assert [one.text for one in opened.all(".prediction")] == [labels[i] for i in wanted]


def test_text_that_is_no_json_is_told(page: Any):
    opened = page("digits")
    opened.one("#paste summary").click()
    opened.one("#text").send_keys("[1, 2")
    opened.one("#send").click()
    opened.until(lambda: "JSON" in opened.one("#error").text)
    opened.one("#text").clear()
    opened.one("#text").send_keys(json.dumps([0.5] * 64))
    opened.one("#send").click()
    assert opened.prediction() in map(str, range(10))
