"""Hyperband goes on where a trial stopped: weights, optimizer, schedule."""

import keras
import numpy as np
import pytest
import tuning

from kerascomp.schedules import WarmupCosine

pytestmark = pytest.mark.slow

CALLBACKS = [tuning.LaneWise, tuning.Alone]
EPOCHS = 4


def build(hp):
    """Returns a model whose schedule and moments must go on."""
    rate = hp.Float("rate", 1e-2, 1e-1, sampling="log")
    return tuning.model(keras.optimizers.Adam(WarmupCosine(rate, 8, 2)))


def chain(tuner, trial):
    """Returns a trial and those that it continues, first to last."""
    found = [trial]
    while "tuner/trial_id" in found[0].hyperparameters.values:
        before = found[0].hyperparameters.values["tuner/trial_id"]
        found.insert(0, tuner.oracle.get_trial(before))
    return found


@pytest.mark.parametrize("callback", CALLBACKS)
def test_promoted_trials_equal_one_long_training(callback, tmp_path):
    fit = tuning.fit_arguments(shuffle=False)
    del fit["epochs"]
    tuner = tuning.tuner(
        tmp_path, build, "hyperband", max_epochs=EPOCHS, factor=2
    )
    tuner.search(**fit, callbacks=[callback()])
    assert set(tuning.statuses(tuner)) == {"COMPLETED"}
    final = next(
        trial
        for trial in tuning.trials(tuner)
        if trial.hyperparameters.values["tuner/round"] == 2
    )
    rungs = chain(tuner, final)
    curves = [tuning.curve_of(tuner, trial) for trial in rungs]
    assert [[*curve] for curve in curves] == [[0], [1], [2, 3]]

    keras.utils.set_random_seed(tuner._seed_of(0))
    model = tuner.hypermodel.build(final.hyperparameters)
    history = model.fit(**fit, epochs=EPOCHS).history["val_loss"]
    together = [own for curve in curves for (own,) in curve.values()]
    assert together == pytest.approx(history, rel=1e-5)
    with np.load(tuner.state_path(final.trial_id, 0)) as file:
        state = [file[name] for name in file.files]
    whole = [*model.variables, *model.optimizer.variables]
    # The states order variables by what they are.
    assert sorted(float(np.sum(own)) for own in state) == pytest.approx(
        sorted(
            float(np.sum(keras.ops.convert_to_numpy(own)))
            for own in whole
            if not own.path.startswith(("loss", "mae", "compile_metrics"))
        ),
        rel=1e-4,
        abs=1e-6,
    )
    assert 8 in [own.item() for own in state if own.ndim == 0]  # Iterations.


@pytest.mark.parametrize("callback", CALLBACKS)
def test_failed_trials_do_not_cost_the_final_round(callback, tmp_path):
    def build(hp):
        rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
        rate = rate if rate < 0.03 else 1e20
        return tuning.model(keras.optimizers.SGD(rate))

    tuner = tuning.searched(
        tmp_path,
        build,
        "hyperband",
        max_epochs=EPOCHS,
        factor=2,
        seed=4,
        fit={"callbacks": [callback()], "batch_size": 4},
    )
    rounds = [
        trial.hyperparameters.values["tuner/round"]
        for trial in tuning.trials(tuner)
        if trial.hyperparameters.values["tuner/bracket"] == 2
    ]
    assert "FAILED" in tuning.statuses(tuner)
    assert rounds.count(0) == 4
    assert rounds.count(2) == 1
    for trial in tuning.trials(tuner):
        if trial.hyperparameters.values["tuner/round"]:
            assert trial.status == "COMPLETED"


def test_every_execution_goes_on_by_itself(tmp_path):
    tuner = tuning.searched(
        tmp_path,
        build,
        "hyperband",
        max_epochs=2,
        factor=2,
        executions_per_trial=2,
    )
    final = next(
        trial
        for trial in tuning.trials(tuner)
        if trial.hyperparameters.values["tuner/round"] == 1
    )
    before, after = (
        tuning.curve_of(tuner, trial) for trial in chain(tuner, final)
    )
    one, two = before[0]
    assert one != pytest.approx(two, rel=1e-3)
    # Half the way of an epoch is nearer to one's own past than to the other's.
    first, second = after[1]
    assert (one < two) == (first < second)
