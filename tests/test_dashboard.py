import html.parser
import pathlib
import re

import gradient_reference as small
import numpy as np
import pytest

from kerascomp import _colors, callbacks
from kerascomp.callbacks import _charts, _dashboard_page


class Balanced(html.parser.HTMLParser):
    """Fails where an element is not closed; keeps what a page refers to."""

    EMPTY = ("meta", "path", "rect", "circle")

    def __init__(self, text):
        super().__init__()
        self.stack, self.loaded, self.text = [], [], []
        self.feed(text)
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        self.loaded += [v for k, v in attrs if k in ("src", "href")]
        if tag not in self.EMPTY:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


class Reading(small.keras.callbacks.Callback):
    """Reads the page after every epoch, as a browser would."""

    def __init__(self, path):
        super().__init__()
        self.path, self.pages = path, []

    def on_train_begin(self, logs=None):
        self.pages.append(self.path.read_text("utf-8"))

    def on_epoch_end(self, epoch, logs=None):
        logs["later"] = 5.0 + epoch
        self.pages.append(self.path.read_text("utf-8"))


def test_shows_the_run_while_it_lasts_and_after_it(tmp_path):
    x, y = small.data("mlp")
    path = tmp_path / "new" / "run.html"
    board = callbacks.Dashboard(path, title="A <small> run & more")
    monitors = [
        callbacks.GradientNormMonitor(),
        callbacks.GradientFlowMonitor(warmup_steps=2, action="warn"),
    ]
    reading = Reading(path)
    history = small.fitted(
        small.compiled(),
        x,
        y,
        [board, *monitors, reading],
        validation_data=(x, y),
    ).history
    pages = [*reading.pages, path.read_text("utf-8")]
    for page in pages:
        parsed = Balanced(page)
        assert not parsed.loaded
        assert "http://" not in page
        assert "url(" not in page
        assert "A &lt;small&gt; run &amp; more</h1>" in page
    waiting, first, _, last = pages
    assert "waiting for the first epoch" in waiting
    assert 'http-equiv="refresh"' in first
    assert "epoch 1 of 2" in first
    assert "finished" in last
    assert 'http-equiv="refresh"' not in last
    text = " ".join(Balanced(last).text)
    for title in ("loss", "GradientNormMonitor", "gradient norm by layer"):
        assert title in text
    for name in ("hidden", "out", "validation"):
        assert re.search(rf"\b{name}\b", text)
    assert f"{history['loss'][-1]:.4g}" in text
    assert monitors[1].verdict[1:] in text
    # Added to the logs after the page was written; the last one has it.
    assert "later" not in first
    assert "later 6" in re.sub(r"\s+", " ", text)
    # Monitors have their own section, and do not come twice.
    assert text.count("grad norm") == 1


def test_says_that_the_loss_is_not_finite_and_that_training_stopped(tmp_path):
    x, y = small.data("mlp")
    path = tmp_path / "run.html"
    stop = small.keras.callbacks.TerminateOnNaN()
    small.fitted(
        small.compiled(),
        np.where(x > 1, np.nan, x),
        y,
        [stop, callbacks.Dashboard(path)],
    )
    page = path.read_text("utf-8")
    Balanced(page)
    assert "Training, stopped early" in page
    assert "Loss is not finite from epoch 1 on." in page


class Monitor:
    """As those of other packages may look."""

    def __init__(self, **history):
        self.verdicts = {"lstm": "healthy: all well", "gru": "forgets"}
        self.history = history


def test_takes_monitors_of_other_fits(tmp_path):
    x, y = small.data("mlp")
    path = tmp_path / "run.html"
    rows = {f"row {n}": np.full(500, 10.0**n) for n in range(8)}
    rows["row 0"][3] = np.inf
    other = Monitor(step=np.arange(500), layers=rows, size=np.arange(500))
    small.fitted(small.compiled(), x, y, [callbacks.Dashboard(path, [other])])
    page = path.read_text("utf-8")
    Balanced(page)
    assert page.count('class="well"') == page.count('class="ill"') == 1
    assert "Monitor, gru</dt><dd>Forgets.</dd>" in page
    assert "not finite at step 3" in page
    # A row of equal numbers is one rectangle, or as many as it has gaps.
    assert 8 <= page.count("<rect") <= 10
    assert len(page) < 60_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": pathlib.Path(__file__).parent}, "a folder"),
        ({"path": "run.html", "monitors": [object()]}, "have a `history`"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        callbacks.Dashboard(**arguments)


def points(svg):
    """The corners of all lines, in pixels."""
    paths = re.findall(r'<path d="M([^"]+)" class="line"', svg)
    return [
        [tuple(map(float, p.split())) for p in path.split("L")]
        for path in paths
    ]


def test_lines_are_to_scale_and_break_where_numbers_are_missing():
    values = np.array([1.0, 3.0, np.nan, 2.0, 3.0])
    (first, second) = points(_charts.lines(np.arange(5), {"a": values}))
    assert len(first) == len(second) == 2
    (x0, y0), (x1, y1) = first
    (x3, y3), (x4, y4) = second
    assert x1 - x0 == pytest.approx(x4 - x3, abs=0.2)
    assert y1 == y4
    assert y0 - y1 == pytest.approx(2 * (y3 - y4), abs=0.2)
    (decades,) = points(
        _charts.lines(np.arange(3), {"a": np.array([1, 10, 100])}, log=True)
    )
    heights = [y for _, y in decades]
    assert heights[0] - heights[1] == pytest.approx(
        heights[1] - heights[2], abs=0.2
    )
    assert _charts.lines(np.arange(2), {"a": np.full(2, np.nan)}) == ""


def test_long_records_are_averaged():
    x = np.arange(10_000.0)
    (line,) = points(_charts.lines(x, {"a": x}))
    assert len(line) == 240
    svg, ends = _charts.heat_map(x, {"a": x, "b": x / 2})
    assert svg.count("<rect") <= 2 * 64
    assert ends[1] > 9000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.25, "0.25"),
        (-12.0, "\u221212"),
        (1.5e-7, "1.5e\u22127"),
        (2e9, "2e9"),
        (np.inf, "\u221e"),
        (np.nan, "NaN"),
    ],
)
def test_numbers_are_short(value, text):
    assert _charts.number(value) == text


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1, 6, False, [1, 2, 3, 4, 5, 6]),
        (0.3, 40, True, [1, 10]),
        (3e-6, 4.0, True, [1e-4, 1e-2, 1]),
        (0.6, 3.0, True, [1, 2]),
    ],
)
def test_ticks_are_round(low, high, log, expected):
    ticks = _charts.Axis(low, high, 0, 100, log).ticks(5)
    np.testing.assert_allclose(ticks, expected)


def test_colors_are_those_of_viridis():
    matplotlib = pytest.importorskip("matplotlib")
    for color, place in zip(
        _colors.ramp(5, 0, 1), np.linspace(0, 1, 5), strict=True
    ):
        found = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        wanted = matplotlib.colormaps["viridis"](place)[:3]
        # Straight lines between six of its colors.
        np.testing.assert_allclose(found, wanted, atol=0.05)


def test_text_stands_out_from_the_page():
    for theme in (0, 1):
        page = luminance(_colors.PAGE["page"][theme])
        for name in ("ink", "muted", "best"):
            assert contrast(luminance(_colors.PAGE[name][theme]), page) > 4.5
        lines = _colors.LINES["light" if theme == 0 else "dark"]
        assert len(lines) == _charts.MAX_LINES
        for color in lines:
            assert contrast(luminance(color), page) > 3
    assert "--heat-11:" in _dashboard_page._variables("dark")


def luminance(color):
    channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(
        channels <= 0.04045,
        channels / 12.92,
        ((channels + 0.055) / 1.055) ** 2.4,
    )
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
