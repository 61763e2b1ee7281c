"""Shows where gradients vanish: 20 layers deep, sigmoid against ReLU.

On its way back through a sigmoid, the gradient shrinks by the factor 4 at
least, since the derivative is at most 1/4; unless the weights make up for it,
which orthogonal kernels do not. After 20 of them nothing is left for the first
layer. `kc.callbacks.GradientFlowMonitor` says so in words in the first epoch,
and `kc.callbacks.GradientNormMonitor` in numbers, layer by layer, without a
second backward pass. The same network of ReLUs with He initialization has no
such slope.

    python examples/05_gradient_norms.py [--plot norms]
"""

import argparse
import warnings

import keras
import numpy as np

import kerascomp as kc

DEPTH = 20
INITIALIZERS = {"sigmoid": "orthogonal", "relu": "he_normal"}


def build(data, activation):
    """Returns a deep, compiled network."""
    keras.utils.set_random_seed(0)
    scale = keras.layers.Normalization()
    scale.adapt(data.train.x)
    hidden = [
        keras.layers.Dense(
            32,
            activation,
            kernel_initializer=INITIALIZERS[activation],
            name=f"hidden_{number}",
        )
        for number in range(1, DEPTH + 1)
    ]
    output = keras.layers.Dense(data.num_classes, name="output")
    model = keras.Sequential(
        [keras.Input(data.input_shape), scale, *hidden, output], name="deep"
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def train(data, activation, epochs):
    """Returns the monitor of norms, and prints what both found."""
    norms = kc.callbacks.GradientNormMonitor()
    flow = kc.callbacks.GradientFlowMonitor()
    history = (
        build(data, activation)
        .fit(
            data.train.x,
            data.train.y,
            epochs=epochs,
            validation_data=(data.validation.x, data.validation.y),
            callbacks=[norms, flow],
            verbose=0,
        )
        .history
    )
    print(
        f"{activation}: accuracy {history['val_accuracy'][-1]:.3f}, "
        f"gradient norm {history['grad_norm'][0]:.2g} in the first epoch "
        f"and {history['grad_norm'][-1]:.2g} in the last\n  {flow.verdict}"
    )
    return norms


def main():
    """Compares the two networks, layer by layer."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    parser.add_argument("--plot", metavar="NAME", help="draw NAME-relu.png, ..")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "The gradient vanishes")  # It is printed.

    data = kc.datasets.load("digits")
    epochs = 1 if arguments.smoke else 20
    monitors = {kind: train(data, kind, epochs) for kind in INITIALIZERS}
    layers = {kind: own.history["layers"] for kind, own in monitors.items()}
    steps = len(monitors["relu"].history["step"]) // epochs
    print("\nMedian gradient norm of the first epoch:")
    print(f"{'layer':16}" + "".join(f"{name:>12}" for name in layers))
    for name in layers["relu"]:
        norms = [np.median(layers[kind][name][:steps]) for kind in layers]
        print(f"{name:16}" + "".join(f"{norm:12.2g}" for norm in norms))
    if arguments.plot:
        for kind, monitor in monitors.items():
            monitor.plot().savefig(f"{arguments.plot}-{kind}.png", dpi=120)


if __name__ == "__main__":
    main()
