import gradient_reference as small
import pytest

from kerascomp import callbacks
from kerascomp.callbacks import _time_stopping


class Clock:
    """Goes on by a second at every look."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        self.now += 1
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(_time_stopping, "time", clock)
    return clock


def steps_until_stopped(model, stop, epochs=4):
    x, y = small.data("mlp")
    before = int(model.optimizer.iterations)
    history = small.fitted(model, x, y, [stop], epochs=epochs)
    return int(model.optimizer.iterations) - before, len(history.epoch)


def test_stops_after_the_batch_in_which_time_is_up(capsys):
    model = small.compiled()
    stop = callbacks.TimeStopping(6, verbose=1)
    # Four looks in the first epoch, one after it, and the sixth is too late.
    steps, epochs = steps_until_stopped(model, stop)
    assert (steps, epochs) == (5, 2)
    assert stop.stopped_epoch == 1
    assert capsys.readouterr().out == (
        "TimeStopping: stopped in epoch 2 of 4, after 6.0 of 6 seconds.\n"
    )
    assert steps_until_stopped(model, stop)[0] == 5


def test_stops_after_whole_epochs_if_asked():
    model = small.compiled()
    stop = callbacks.TimeStopping(2, within_epoch=False)
    assert steps_until_stopped(model, stop) == (8, 2)
    assert stop.stopped_epoch == 1


def test_a_budget_may_last_for_several_fits(capsys):
    model = small.compiled()
    stop = callbacks.TimeStopping(8, across_fits=True)
    # Four batches, the end of the epoch, and the end of training.
    assert steps_until_stopped(model, stop, epochs=1) == (4, 1)
    assert (stop.used_seconds, stop.stopped_epoch) == (6, None)
    assert steps_until_stopped(model, stop)[0] == 2
    assert stop.stopped_epoch == 0
    assert steps_until_stopped(model, stop)[0] == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_the_budget_must_be_positive(seconds):
    with pytest.raises(ValueError, match=r"`seconds` must be in \(0, inf\)"):
        callbacks.TimeStopping(seconds)
