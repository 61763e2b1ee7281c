"""Shows where gradients vanish: a deep network, sigmoid against ReLU.

Eight hidden layers of sigmoids shrink the gradient a little each; on its way
back to the first layer hardly anything is left, and the network learns nothing.
`kc.callbacks.GradientNormMonitor` sees it in the first epoch, layer by layer,
without a second backward pass. The same network of ReLUs has no such slope.

    python examples/05_gradient_norms.py [--plot norms.png]
"""

import argparse

import keras
import numpy as np

import kerascomp as kc

DEPTH = 8


def build(data, activation):
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
        [keras.Input(data.input_shape), scale, *hidden, output], name="deep"
    )
    model.compile(
        keras.optimizers.SGD(0.02, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def train(data, activation, epochs):
    """Returns the monitor and the accuracy on the validation data."""
    monitor = kc.callbacks.GradientNormMonitor()
    history = (
        build(data, activation)
        .fit(
            data.train.x,
            data.train.y,
            epochs=epochs,
            validation_data=(data.validation.x, data.validation.y),
            callbacks=[monitor],
            verbose=0,
        )
        .history
    )
    print(
        f"{activation}: accuracy {history['val_accuracy'][-1]:.3f}, "
        f"gradient norm {history['grad_norm'][0]:.2g} in the first epoch "
        f"and {history['grad_norm'][-1]:.2g} in the last"
    )
    return monitor


def plot(monitors, path):
    """Draws the norm of every layer over the steps, one panel a network."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(monitors), sharey=True)
    for panel, (activation, monitor) in zip(
        panels, monitors.items(), strict=True
    ):
        history = monitor.history
        for layer, norms in history["layers"].items():
            panel.semilogy(history["step"], norms, label=layer, linewidth=0.8)
        panel.set(title=activation, xlabel="step")
    panels[0].set_ylabel("gradient norm")
    panels[-1].legend(fontsize="x-small")
    figure.savefig(path, dpi=150)


def main():
    """Compares the two networks, layer by layer."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    parser.add_argument("--plot", metavar="FILE", help="draw every step")
    arguments = parser.parse_args()

    data = kc.datasets.load("digits")
    epochs = 2 if arguments.smoke else 20
    monitors = {
        activation: train(data, activation, epochs)
        for activation in ("sigmoid", "relu")
    }
    layers = {
        activation: monitor.history["layers"]
        for activation, monitor in monitors.items()
    }
    steps = len(monitors["relu"].history["step"]) // epochs
    print("\nMedian gradient norm of the first epoch:")
    print(f"{'layer':16}" + "".join(f"{name:>12}" for name in layers))
    for name in layers["relu"]:
        norms = [np.median(layers[kind][name][:steps]) for kind in layers]
        print(f"{name:16}" + "".join(f"{norm:12.2g}" for norm in norms))
    if arguments.plot:
        plot(monitors, arguments.plot)


if __name__ == "__main__":
    main()
