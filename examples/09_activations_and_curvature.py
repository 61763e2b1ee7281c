"""Looks into networks: dead units, sharpness, memory, and where a NaN is from.

Four questions that a loss does not answer, each with the callback that does:

- Do units die? `ActivationMonitor`, at a modest and at a large learning rate.
- How large may the learning rate be? `CurvatureMonitor`: full-batch gradient
  descent turns unstable where the sharpness is above 2 / learning rate.
- How far back does a recurrent layer learn? `GradientThroughTime`, on the task
  to remember the first number of a sequence.
- Which layer gave the first NaN? `NaNDetective`.

    python examples/09_activations_and_curvature.py [--plot memory.png]
"""

import argparse
import tempfile

import keras
import numpy as np

import kerascomp as kc


def classifier(data, rate):
    """Returns a compiled network of rectified units."""
    keras.utils.set_random_seed(0)
    scale = keras.layers.Rescaling(1 / 16, name="scale")
    hidden = [
        keras.layers.Dense(32, "relu", name=f"hidden_{number}")
        for number in (1, 2)
    ]
    model = keras.Sequential(
        [
            keras.Input(data.input_shape),
            scale,
            *hidden,
            keras.layers.Dense(data.num_classes, name="output"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def dead_units(data, epochs):
    """Compares the shares of dead units at two learning rates."""
    print("Dead units of a network with 64 rectified ones:")
    for rate in (0.1, 1.5):
        monitor = kc.callbacks.ActivationMonitor(data.validation.x)
        log = classifier(data, rate).fit(
            data.train.x,
            data.train.y,
            epochs=epochs,
            callbacks=[monitor],
            verbose=0,
        )
        dead = {
            path.rpartition("/")[2]: int(units.sum())
            for path, units in monitor.dead_units.items()
        }
        print(
            f"  learning rate {rate}: {dead}, "
            f"accuracy {log.history['accuracy'][-1]:.2f}"
        )


def sharpness(data, epochs):
    """Follows the sharpness of full-batch gradient descent."""
    x, y = data.train.x[:300], data.train.y[:300]
    monitor = kc.callbacks.CurvatureMonitor(
        (x, y), iterations=20, trace_products=0, every=max(1, epochs // 8)
    )
    rate = 0.4
    classifier(data, rate).fit(
        x, y, batch_size=len(x), epochs=epochs, callbacks=[monitor], verbose=0
    )
    print(f"\nSharpness at learning rate {rate}, unstable above {2 / rate:g}:")
    for epoch, value in zip(
        monitor.history["epoch"], monitor.history["sharpness"], strict=True
    ):
        print(f"  epoch {epoch:3d}  {value:6.2f}  " + "#" * int(4 * value))


def memory(epochs, plot=None, steps=40):
    """Compares how far back three recurrent layers learn."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, steps, 1)).astype("float32")
    y = x[:, 0]
    print(f"\nThe gradient, one step further back (over {steps} steps):")
    for kind in (
        keras.layers.SimpleRNN,
        keras.layers.GRU,
        keras.layers.LSTM,
    ):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((steps, 1)), kind(16), keras.layers.Dense(1)]
        )
        model.compile("adam", "mse")
        monitor = kc.callbacks.GradientThroughTime((x[:64], y[:64]))
        log = model.fit(x, y, epochs=epochs, callbacks=[monitor], verbose=0)
        (verdict,) = monitor.verdicts.values()
        decays = log.history["time_decay"]
        print(
            f"  {kind.__name__:9}  times {decays[0]:.2f} in the first epoch, "
            f"{decays[-1]:.2f} in the last: {verdict}"
        )
    if plot:
        monitor.plot().savefig(plot)


def nan_hunt():
    """Lets a network take the logarithm of a number below 0."""
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(8, name="hidden")(inputs)
    hidden = keras.layers.Lambda(keras.ops.log, name="logarithm")(hidden + 9)
    model = keras.Model(inputs, keras.layers.Dense(1, name="output")(hidden))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    x = np.random.default_rng(0).normal(size=(160, 4))
    x[100] *= 50
    detective = kc.callbacks.NaNDetective(tempfile.mkdtemp())
    try:
        model.fit(x, x[:, :1], callbacks=[detective], shuffle=False, verbose=0)
    except FloatingPointError as error:
        print(f"\n{error}")


def main():
    """Answers the four questions."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    parser.add_argument("--plot", metavar="FILE", help="draw the LSTM's record")
    arguments = parser.parse_args()
    smoke = arguments.smoke
    data = kc.datasets.load("digits")
    dead_units(data, epochs=1 if smoke else 10)
    sharpness(data, epochs=2 if smoke else 160)
    memory(1 if smoke else 30, arguments.plot, steps=10 if smoke else 40)
    nan_hunt()


if __name__ == "__main__":
    main()
