"""The private names that populations rest on still mean what they did."""

import keras
import numpy as np
import populations
import pytest

from kerascomp import _compat


@pytest.fixture
def model():
    model = populations.member(optimizer=keras.optimizers.SGD(0.5))
    x, y = map(keras.ops.convert_to_tensor, populations.data())
    _compat.build(model, (x, y, None))
    return model


def test_build_makes_the_variables_of_optimizer_and_metrics(model):
    assert model.optimizer.built
    # A total and a count of loss, accuracy and weighted error.
    assert len(model.metrics_variables) == 6
    assert _compat.optimizer_targets(model.optimizer) == list(
        model.trainable_variables
    )


def test_compile_arguments_are_the_objects_that_were_given(model):
    arguments = _compat.compile_arguments(model)
    assert arguments["loss"] is model.loss
    assert arguments["metrics"] == ["accuracy"]
    assert arguments.keys() >= {"loss_weights", "weighted_metrics"}


def test_loss_arguments_are_those_that_the_loss_computes_with():
    loss = keras.losses.Huber(delta=1.0)
    assert _compat.loss_arguments(loss) == {"delta": 1.0}
    _compat.loss_arguments(loss)["delta"] = 2.0
    # Linear beyond delta: delta * (distance - delta / 2).
    assert float(loss(np.zeros((1, 1)), np.full((1, 1), 5.0))) == 8.0
    assert _compat.loss_arguments(keras.losses.Loss()) is None


def test_schedules_are_found_and_constants_are_not():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    assert _compat.schedule_of(keras.optimizers.SGD(schedule)) is schedule
    assert _compat.schedule_of(keras.optimizers.SGD(0.1)) is None


def test_the_loss_tracker_weighs_by_samples(model):
    model.reset_metrics()
    _compat.track_loss(model, 1.0, 3)
    _compat.track_loss(model, 5.0, 1)
    assert float(model.metrics[0].result()) == 2.0  # (1 * 3 + 5 * 1) / 4


def test_the_loss_of_a_batch_includes_regularizers(model):
    y = keras.ops.ones((4, 2)) / 2
    found = _compat.compute_loss(model, None, y, y, None, False)
    # The entropy of a fair coin, and what the layers add.
    expected = np.log(2) + sum(float(loss) for loss in model.losses)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_layers_know_whether_they_take_training():
    assert _compat.takes_training(keras.layers.Dropout(0.5))
    assert not _compat.takes_training(keras.layers.Reshape((1,)))


def test_the_base_optimizer_has_what_backends_override():
    base = _compat.base_optimizer()
    assert issubclass(keras.optimizers.Optimizer, base)
    for name in ("stateless_apply", "assign", "_backend_update_step"):
        assert callable(getattr(base, name))


@pytest.mark.parametrize("name", _compat.RANDOM_FUNCTIONS)
def test_random_functions_are_those_of_the_backend(name):
    assert callable(getattr(_compat.random_functions(), name))


def test_a_drawn_seed_holds_the_seed_and_the_count():
    generator = keras.random.SeedGenerator(7)
    draws = [_compat.draw_seed(generator) for _ in range(2)]
    found = [keras.ops.convert_to_numpy(draw).tolist() for draw in draws]
    assert found == [[7, 0], [7, 1]]
    assert generator.state.name == "seed_generator_state"
