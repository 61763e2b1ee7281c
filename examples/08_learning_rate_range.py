"""Finds a learning rate in one short run, and trains with it.

`kc.callbacks.LearningRateRangeTest` raises the rate from 0.000001 to 10 while
it notes the loss, and leaves the model as it was. Its suggestion is the peak
of a `kc.schedules.OneCycle`, whose lengths
`kc.callbacks.ScheduleLearningRate` reads from `fit`; for comparison, rates on
both sides of it. In the shell: `kerascomp lr-range digits`.

    python examples/08_learning_rate_range.py [--plot range.png]
"""

import argparse

import keras

import kerascomp as kc

BATCH_SIZE = 32


def build(data):
    """Returns a compiled network."""
    keras.utils.set_random_seed(0)
    scale = keras.layers.Normalization()
    scale.adapt(data.train.x)
    hidden = [keras.layers.Dense(64, activation="relu") for _ in range(4)]
    model = keras.Sequential(
        [
            keras.Input(data.input_shape),
            scale,
            *hidden,
            keras.layers.Dense(data.num_classes),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def find(data, steps):
    """Returns the test, run on a new model."""
    test = kc.callbacks.LearningRateRangeTest(steps=steps)
    x, y = data.train.x, data.train.y
    test.run(build(data), x, y, batch_size=BATCH_SIZE)
    print(f"{len(test.history['step'])} steps, ended: {test.ended}")
    for name, rate in test.suggestions.items():
        print(f"  {name:14} {rate:.2g}")
    return test


def train(data, peak, epochs):
    """Trains with one cycle and prints what comes of it."""
    logger = kc.callbacks.LearningRateLogger()
    rates = kc.callbacks.ScheduleLearningRate(
        kc.schedules.OneCycle, peak=peak, warmup_fraction=0.3
    )
    history = (
        build(data)
        .fit(
            data.train.x,
            data.train.y,
            batch_size=BATCH_SIZE,
            epochs=epochs,
            validation_data=(data.validation.x, data.validation.y),
            callbacks=[rates, logger],
            verbose=0,
        )
        .history
    )
    used = logger.history["learning_rate"]
    print(
        f"peak {peak:<7.2g} rates from {used[0]:.2g} over {used.max():.2g} to "
        f"{used[-1]:.2g}: validation loss {history['val_loss'][-1]:.3f}, "
        f"accuracy {history['val_accuracy'][-1]:.1%}"
    )


def main():
    """Tests and trains on scikit-learn's digits."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    parser.add_argument("--plot", help="file for the curve of the test")
    arguments = parser.parse_args()
    data = kc.datasets.load("digits")
    print(data)
    test = find(data, steps=60 if arguments.smoke else 200)
    if arguments.plot:
        test.plot().savefig(arguments.plot, dpi=150)
    factors = (1,) if arguments.smoke else (0.03, 0.3, 1, 3, 30)
    for factor in factors:
        train(
            data, factor * test.suggestion, epochs=2 if arguments.smoke else 15
        )


if __name__ == "__main__":
    main()
