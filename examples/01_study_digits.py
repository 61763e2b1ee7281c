"""Searches batch size, learning rate and dropout for a network of your own.

    python examples/01_study_digits.py
    python examples/01_study_digits.py --smoke    # a few seconds

Run it twice: the second time it finds the finished study and trains nothing.
"""

import argparse

import keras

import kerascomp as kc


def build(hp):
    """Returns a compiled classifier of 8 x 8 digits, given as 64 numbers."""
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Rescaling(1 / 16),
            keras.layers.Dense(hp.Choice("units", [32, 128]), "relu"),
            keras.layers.Dropout(hp.get("dropout")),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(hp.get("learning_rate")),
        loss=kc.losses.SmoothedSparseCategoricalCrossentropy(0.05),
        metrics=["accuracy"],
    )
    return model


def main():
    """Runs the study and uses its best model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="end in seconds")
    parser.add_argument("--directory", default="runs/example")
    arguments = parser.parse_args()

    data = kc.datasets.load("digits")
    print(data)
    study = kc.studies.Study(
        build,
        data,
        space={
            "batch_size": [16, 32, 64, 128],
            "learning_rate": (1e-4, 1e-1, "log"),
            "dropout": (0.0, 0.6),
        },
        max_trials=2 if arguments.smoke else 20,
        epochs=2 if arguments.smoke else 20,
        seeds=1 if arguments.smoke else 2,
        directory=arguments.directory,
    )
    result = study.run()
    print(result.table())

    model = result.best_model()
    digits = model.predict(data.test.x[:10], verbose=0).argmax(-1)
    print(f"first ten digits: {digits}, in truth {data.test.y[:10]}")
    print(f"report: {result.directory / 'report.html'}")


if __name__ == "__main__":
    main()
