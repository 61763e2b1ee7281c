"""What layers change in training, and that they do not elsewhere."""

import importlib

import keras
import numpy as np
import pytest
from backend import NAME, gradient

from kerascomp.layers import RandomJitter, RandomScaling, SpecAugment

ops = keras.ops


def draw(layer, x):
    return ops.convert_to_numpy(layer(x, training=True))


def runs(hidden):
    """The lengths of the runs of True in a vector."""
    edges = np.flatnonzero(np.diff(np.r_[0, hidden.astype(int), 0]))
    return edges[1::2] - edges[::2]


def test_spec_augment_hides_bands_of_all_widths_and_places():
    x = np.ones((4000, 7, 6), "float32")
    output = draw(SpecAugment(1, 2, 1, 3, value=-1.0, seed=1), x)
    hidden = output == -1
    assert (output[~hidden] == 1).all()
    times, bands = hidden.all(axis=2), hidden.all(axis=1)
    np.testing.assert_array_equal(hidden, times[:, :, None] | bands[:, None, :])
    for found, widest, length in ((bands, 2, 6), (times, 3, 7)):
        widths = found.sum(axis=1)
        assert all(len(runs(each)) <= 1 for each in found)
        # Uniform from 0 to the widest; five standard deviations.
        share = 1 / (widest + 1)
        margin = 5 * (share * (1 - share) / 4000) ** 0.5
        shares = np.bincount(widths, minlength=widest + 1) / 4000
        np.testing.assert_allclose(shares, share, atol=margin)
        starts = found[widths == widest].argmax(axis=1)
        assert set(starts) == set(range(length - widest + 1))


def test_spec_augment_counts_and_limits_its_masks():
    x = np.ones((300, 20, 5, 2), "float32")
    output = draw(SpecAugment(0, 0, 3, 10, max_time_fraction=0.1, seed=1), x)
    hidden = (output == 0).all(axis=(2, 3))
    np.testing.assert_array_equal(
        output == 0, np.broadcast_to(hidden[:, :, None, None], x.shape)
    )
    assert max(hidden.sum(axis=1)) == 6  # Three times 0.1 of 20.
    # A tenth of 30 steps are 3, whatever 0.1 is in binary.
    wide = draw(SpecAugment(0, 0, 1, 10, 0.1, seed=1), np.ones((300, 30, 5)))
    assert max((wide == 0).all(axis=2).sum(axis=1)) == 3


def test_time_warp_moves_one_point_and_stretches_both_sides():
    steps, reach = 30, 4
    ramp = np.arange(steps, dtype="float32")
    x = np.tile(ramp[None, :, None], (500, 1, 3))
    output = draw(SpecAugment(0, 0, 0, 0, time_warp=reach, seed=1), x)
    assert (output == output[:, :, :1]).all()
    sources = output[:, :, 0].astype("float64")
    assert (sources[:, 0] == 0).all()
    np.testing.assert_allclose(sources[:, -1], steps - 1, atol=1e-4)
    slopes = np.diff(sources, axis=1)
    assert (slopes > 0).all()
    # One slope before the moved point, another one after it.
    first, last = slopes[:, 0], slopes[:, -1]
    kink = (last * (steps - 1) - (steps - 1)) / (last - first)
    center = first * kink
    clear = np.abs(last - first) > 0.05  # Else the point is anywhere.
    assert clear.sum() > 250
    shift = (kink - center)[clear]
    assert np.abs(shift).max() <= reach + 1e-2
    assert shift.min() < -2 < 2 < shift.max()
    assert center[clear].min() > reach
    assert center[clear].max() < steps - 1 - reach
    for sample in np.flatnonzero(clear)[:20]:
        expected = np.interp(
            ramp, [0, kink[sample], steps - 1], [0, center[sample], steps - 1]
        )
        np.testing.assert_allclose(sources[sample], expected, atol=1e-3)


def test_time_warp_interpolates_and_differentiates(rng):
    x = rng.normal(size=(2, 9, 3)).astype("float32")
    layer = SpecAugment(0, 0, 0, 0, time_warp=2, seed=1)
    ramp = np.tile(np.arange(9, dtype="float32")[None, :, None], (2, 1, 3))
    sources = draw(SpecAugment(0, 0, 0, 0, time_warp=2, seed=1), ramp)[:, :, 0]
    expected = [
        [np.interp(s, range(9), x[n, :, c]) for s in sources[n]]
        for n in range(2)
        for c in range(3)
    ]
    np.testing.assert_allclose(
        draw(layer, x).transpose(0, 2, 1).reshape(6, 9),
        expected,
        atol=1e-5,
    )
    received = gradient(
        lambda x: ops.sum(
            SpecAugment(0, 0, 0, 0, time_warp=2, seed=1)(x, training=True)
        ),
        x,
    )
    # What each step gives away, it gives in all channels alike.
    assert received.sum() == pytest.approx(x.size, rel=1e-5)


class Training(keras.Model):
    """Augments in a compiled program."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs, training=True)


def test_series_of_unknown_length_are_warped_if_they_are_long_enough():
    layer = SpecAugment(0, 0, 0, 0, time_warp=2, seed=1)
    layer.build((None, None, 3))
    model = Training(layer)
    for steps, warped in ((6, False), (9, True)):
        x = np.arange(steps * 6, dtype="float32").reshape(2, steps, 3)
        output = model.predict_on_batch(x)
        assert np.isfinite(output).all()
        assert np.array_equal(output, x) is not warped


def test_jitter_is_in_units_of_each_channel_and_sample(rng):
    scale = np.array([1.0, 100.0, 0.0])
    x = 5 + rng.normal(size=(2, 4000, 3)) * scale
    x[1] *= 10
    x = x.astype("float32")
    noise = (draw(RandomJitter(0.3, seed=1), x) - x).astype("float64")
    assert (noise[:, :, 2] == 0).all()
    relative = noise.std(axis=1)[:, :2] / x.std(axis=1)[:, :2]
    # The deviation of 4,000 numbers is known to 1 in sqrt(8,000).
    np.testing.assert_allclose(relative, 0.3, rtol=5 / 8000**0.5)
    np.testing.assert_allclose(
        noise.mean(axis=1)[:, :2] / x.std(axis=1)[:, :2],
        0,
        atol=5 * 0.3 / 4000**0.5,
    )


def test_scaling_draws_one_factor_for_each_channel_or_sample():
    x = np.ones((3000, 2, 4), "float32")
    for each in (True, False):
        output = draw(RandomScaling(0.2, per_channel=each, seed=1), x)
        factors = output[:, 0]
        np.testing.assert_array_equal(output, output[:, :1].repeat(2, 1))
        assert len(np.unique(factors[0])) == (4 if each else 1)
        assert factors[:, 0].mean() == pytest.approx(1, abs=1 / 3000**0.5)
        assert factors[:, 0].std() == pytest.approx(0.2, rel=5 / 6000**0.5)


LAYERS = (
    lambda: SpecAugment(1, 3, 1, 3, time_warp=1, seed=1),
    lambda: RandomJitter(0.3, seed=1),
    lambda: RandomScaling(0.3, seed=1),
)


def test_nothing_changes_in_inference_or_by_nothing(rng):
    x = rng.normal(size=(3, 8, 8)).astype("float32")
    for make in LAYERS:
        layer = make()
        for output in (layer(x), layer(x, training=False)):
            np.testing.assert_array_equal(ops.convert_to_numpy(output), x)
        assert not np.array_equal(draw(layer, x), x)
    for layer in (
        SpecAugment(0, 2, 0, 2),
        SpecAugment(2, 0, 2, 0),
        RandomJitter(0),
        RandomScaling(0),
    ):
        np.testing.assert_array_equal(draw(layer, x), x)


def test_a_network_trains_behind_them(rng):
    x = rng.normal(size=(40, 8, 8)).astype("float32")
    y = (x[:, :, 0].mean(axis=1) > 0).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            *(make() for make in LAYERS),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    history = model.fit(x, y, epochs=2, batch_size=20, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    twin = keras.Sequential(model.layers[-2:])
    np.testing.assert_allclose(
        model.predict(x, verbose=0), twin.predict(x, verbose=0), rtol=1e-5
    )


@pytest.mark.skipif(NAME != "tensorflow", reason="tf.data runs TensorFlow")
def test_they_run_in_a_pipeline_of_tf_data(rng):
    data = importlib.import_module("tensorflow").data.Dataset
    x = rng.normal(size=(6, 8, 8)).astype("float32")
    for make in LAYERS:
        layer = make()
        mapped = (
            data.from_tensor_slices((x, np.arange(6)))
            .batch(3)
            .map(lambda x, y, layer=layer: (layer(x, training=True), y))
        )
        passes = [
            np.concatenate([batch.numpy() for batch, _ in mapped])
            for _ in range(2)
        ]
        assert passes[0].shape == x.shape
        assert not np.array_equal(passes[0], x)
        assert not np.array_equal(*passes)  # Drawn anew in every epoch.


def test_they_refuse_what_does_not_fit():
    x = np.zeros((2, 6, 4), "float32")
    for call, message in (
        (lambda: SpecAugment(frequency_masks=-1), "`frequency_masks` must"),
        (lambda: SpecAugment(time_width=1.5), "`time_width` must"),
        (lambda: SpecAugment(max_time_fraction=2), "`max_time_fraction` must"),
        (lambda: SpecAugment(1, 5)(x), "must not exceed the frequencies"),
        (lambda: SpecAugment(0, 0, time_warp=2)(x), "series of 7 steps"),
        (lambda: SpecAugment(0, 0)(x[0]), "expected min_ndim=3"),
        (lambda: RandomJitter(-0.1), "`factor` must"),
        (lambda: RandomJitter()(x[0]), "expected min_ndim=3"),
        (lambda: RandomScaling(-0.1), "`stddev` must"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
