"""Trains a sick and a sound network, and writes a page about each.

Eight layers of sigmoids learn nothing: the page says that the gradient
vanishes, and where. The second network has rectifiers, clips its gradients by
`AutoClip` and ends with the mean of its last weights; its page shows what it
looks like when all is well. Open the pages in a browser while it runs.

    python examples/10_dashboard.py [--directory pages] [--seconds 60]
"""

import argparse
import pathlib
import tempfile
import warnings

import keras

import kerascomp as kc

DEPTH = 8


def build(data, activation, optimizer):
    """Returns a deep, compiled network."""
    keras.utils.set_random_seed(0)
    scale = keras.layers.Normalization()
    scale.adapt(data.train.x)
    hidden = [
        keras.layers.Dense(32, activation, name=f"hidden_{number}")
        for number in range(1, DEPTH + 1)
    ]
    output = keras.layers.Dense(data.num_classes, name="output")
    model = keras.Sequential(
        [keras.Input(data.input_shape), scale, *hidden, output],
        name=f"digits_{activation}",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def observed(data, path, title):
    """Returns monitors, their dashboard, and the monitor of the verdict."""
    flow = kc.callbacks.GradientFlowMonitor()
    confusion = kc.callbacks.ConfusionMatrix(
        (data.validation.x, data.validation.y)
    )
    return flow, [
        flow,
        kc.callbacks.GradientNormMonitor(),
        kc.callbacks.UpdateRatioMonitor(),
        kc.callbacks.ActivationMonitor(data.validation.x),
        confusion,
        kc.callbacks.Dashboard(path, title=title),
    ]


def train(model, data, epochs, flow, callbacks):
    """Trains, and says what was seen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The verdict is printed below.
        model.fit(
            data.train.x,
            data.train.y,
            epochs=epochs,
            validation_data=(data.validation.x, data.validation.y),
            callbacks=callbacks,
            verbose=0,
        )
    x, y = data.validation.x, data.validation.y
    _, accuracy = model.evaluate(x, y, verbose=0)
    print(f"{model.name}: accuracy {accuracy:.3f}\n  {flow.verdict}")


def main():
    """Writes both pages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    parser.add_argument("--directory", help="where the pages go")
    parser.add_argument("--seconds", type=float, default=600, help="for each")
    arguments = parser.parse_args()

    data = kc.datasets.load("digits")
    epochs = 2 if arguments.smoke else 15
    folder = pathlib.Path(arguments.directory or tempfile.mkdtemp())
    in_time = kc.callbacks.TimeStopping(arguments.seconds, verbose=1)

    sgd = keras.optimizers.SGD(0.02, momentum=0.9)
    flow, callbacks = observed(
        data, folder / "sick.html", "Digits, eight layers of sigmoids"
    )
    model = build(data, "sigmoid", sgd)
    train(model, data, epochs, flow, [*callbacks, in_time])

    clipped = kc.optimizers.AutoClip(
        keras.optimizers.SGD(0.02, momentum=0.9), percentile=50
    )
    flow, callbacks = observed(
        data, folder / "sound.html", "Digits, eight layers of rectifiers"
    )
    average = kc.callbacks.StochasticWeightAveraging(start_epoch=epochs // 2)
    model = build(data, "relu", clipped)
    train(model, data, epochs, flow, [*callbacks, average, in_time])
    print(f"The pages are in {folder}")


if __name__ == "__main__":
    main()
