"""The record of a monitor as CSV, as a figure, and for TensorBoard."""

import csv
import subprocess
import sys

import backend
import keras
import numpy as np
import pytest
from gradient_reference import compiled, data, fitted

from kerascomp.callbacks import GradientNormMonitor
from kerascomp.callbacks._record import Recorder

ROWS = 450
LAYERS = [f"block_{n}/a_layer_with_quite_a_long_name_{n}" for n in range(20)]


class Made(Recorder):
    """Has a record without training."""

    plotted = "layers"
    quantity = "norm"

    def __init__(self, rows=ROWS, **arguments):
        super().__init__(**arguments)
        rng = np.random.default_rng(2)
        total = rng.normal(size=rows).astype("float32")
        total[3:5] = np.nan, np.inf
        self.record = {
            "step": 2 * np.arange(rows),
            "total": total,
            "layers": {
                name: np.exp(rng.normal(size=rows) - n)
                for n, name in enumerate(LAYERS)
            },
            "few": {"a": rng.random(rows), "b": np.zeros(rows)},
        }

    @property
    def history(self):
        return self.record


def test_csv_has_a_column_a_series_and_reads_back(tmp_path):
    monitor = Made()
    monitor.to_csv(tmp_path / "record.csv")
    with (tmp_path / "record.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == [
        "step",
        "total",
        *(f"layers/{name}" for name in LAYERS),
        "few/a",
        "few/b",
    ]
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    assert [int(n) for n in columns["step"]] == list(range(0, 2 * ROWS, 2))
    found = np.array(columns["total"], "float32")
    np.testing.assert_array_equal(found, monitor.record["total"])
    for name, series in monitor.record["layers"].items():
        own = np.array(columns[f"layers/{name}"], "float64")
        np.testing.assert_array_equal(own, series)


def test_an_empty_record_is_a_header_and_an_empty_figure(tmp_path):
    monitor = Made(rows=9)
    monitor.record = {"epoch": np.zeros(0, int), "rate": np.zeros(0)}
    monitor.to_csv(tmp_path / "new" / "record.csv")
    text = (tmp_path / "new" / "record.csv").read_text()
    assert text == "epoch,rate\n"
    assert monitor.plot("rate").axes[0].get_xlabel() == "epoch"


def test_many_layers_are_the_rows_of_a_heat_map():
    axes, bar = Made().plot().axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == len(LAYERS)
    assert all(
        name.endswith(label.lstrip("\N{HORIZONTAL ELLIPSIS}"))
        for name, label in zip(LAYERS, labels, strict=True)
    )
    (image,) = axes.images
    assert image.norm.__class__.__name__ == "LogNorm"
    # Averages of neighbors: as many as there are pixels.
    assert image.get_array().shape == (20, 400)
    monitor = Made(rows=400)
    (image,) = monitor.plot().axes[0].images
    table = np.stack(list(monitor.record["layers"].values()))
    np.testing.assert_array_equal(image.get_array(), table)
    assert bar.get_ylabel() == "norm"


def test_few_series_are_lines():
    (axes,) = Made().plot("few").axes
    assert [line.get_label() for line in axes.lines] == ["a", "b"]
    assert axes.get_yscale() == "log"
    assert np.isnan(axes.lines[1].get_ydata()).all()  # It is all 0.
    (axes,) = Made().plot("total").axes
    assert axes.get_ylabel() == "total"
    monitor = Made()
    monitor.log_scale = False
    (axes,) = monitor.plot("total").axes
    assert axes.get_yscale() == "linear"
    np.testing.assert_array_equal(
        axes.lines[0].get_ydata(), monitor.record["total"]
    )


@pytest.mark.parametrize("name", ["step", "nothing"])
def test_only_what_is_there_can_be_drawn(name):
    with pytest.raises(ValueError, match=f"Received: name='{name}'"):
        Made().plot(name)


def test_without_tensorboard_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with pytest.raises(ImportError, match=r'"kerascomp\[tensorboard\]"'):
        GradientNormMonitor(log_dir=tmp_path)


def events_of(path):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    everything = {"scalars": 0, "histograms": 0}
    found = accumulators.EventAccumulator(str(path), everything)
    found.Reload()
    return found


def test_tensorboard_reads_scalars_and_histograms_of_every_step(tmp_path):
    pytest.importorskip("tensorboard")
    model, (x, y) = compiled(), data("mlp")
    monitor = GradientNormMonitor(log_dir=tmp_path, every=3)
    fitted(model, x, y, [monitor])
    first = monitor.history
    fitted(model, x, y, [monitor])
    events = events_of(tmp_path)
    assert set(events.Tags()["scalars"]) == {
        "grad_norm",
        *(f"layers/{name}" for name in first["layers"]),
        *(f"variables/{name}" for name in first["variables"]),
    }
    # The second fit goes on after the last recorded step, 6.
    found = events.Scalars("grad_norm")
    assert [event.step for event in found] == [0, 3, 6, 7, 10, 13]
    norms = [*first["grad_norm"], *monitor.history["grad_norm"]]
    np.testing.assert_allclose([e.value for e in found], norms, rtol=1e-6)
    histogram = events.Histograms("layers")[1].histogram_value
    across = [norms[1] for norms in first["layers"].values()]
    assert histogram.num == sum(histogram.bucket) == len(across)
    np.testing.assert_allclose(
        [histogram.min, histogram.max], [min(across), max(across)]
    )


def test_events_of_an_interrupted_fit_and_a_copy_are_kept_apart(tmp_path):
    pytest.importorskip("tensorboard")
    for _ in range(2):
        monitor = Made(rows=5, log_dir=tmp_path)
        monitor.on_train_begin()
        monitor.on_epoch_end(0)
    assert len(list(tmp_path.iterdir())) == 2
    monitor.on_train_end()  # Nothing is new.
    steps = [event.step for event in events_of(tmp_path).Scalars("total")]
    assert steps == 2 * [0, 2, 4, 6, 8]


@pytest.mark.skipif(
    backend.NAME == "tensorflow", reason="TensorFlow is there anyway"
)
def test_event_files_do_not_need_tensorflow(tmp_path):
    pytest.importorskip("tensorboard")
    program = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from kerascomp.callbacks._tensorboard import EventFile, histogram\n"
        f"file = EventFile({str(tmp_path)!r}, 'made')\n"
        "file.append([(3, {'a': 0.5, 'b': histogram([1.0, 2.0])})])\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    (event,) = events_of(tmp_path).Scalars("a")
    assert (event.step, event.value) == (3, 0.5)


def test_figures_of_an_epoch_reach_other_callbacks(tmp_path):
    x, y = data("mlp")
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    log = fitted(compiled(), x, y, [GradientNormMonitor(), logger], epochs=1)
    with (tmp_path / "log.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["grad_norm"]) == log.history["grad_norm"][0]
