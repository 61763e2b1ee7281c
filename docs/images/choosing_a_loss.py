"""Draws the figure of docs/guides/choosing-a-loss.md, beside this file.

python docs/images/choosing_a_loss.py
"""

import pathlib

import keras
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import kerascomp as kc

# Told apart in gray and by readers who cannot tell red from green.
STYLES = (
    {"color": "black", "linestyle": "-"},
    {"color": "#0072b2", "linestyle": "--"},
    {"color": "#d55e00", "linestyle": "-."},
    {"color": "#009e73", "linestyle": ":"},
)


def curves(axes, x, losses, y_true, y_pred):
    """Draws the value of each loss over `x`."""
    for (name, loss), style in zip(losses.items(), STYLES, strict=True):
        loss.reduction = None
        values = keras.ops.convert_to_numpy(loss(y_true, y_pred))
        axes.plot(x, values, label=name, linewidth=1.8, **style)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def main():
    """Writes choosing-a-loss.svg."""
    # The same bytes at every run.
    mpl.rcParams.update({"svg.hashsalt": "kerascomp", "font.size": 10})
    figure, (left, right) = plt.subplots(
        ncols=2, figsize=(9, 3.6), layout="constrained"
    )
    error = np.linspace(-3, 3, 301).astype("float32")[:, None]
    losses = {
        "MeanSquaredError": keras.losses.MeanSquaredError(),
        "MeanAbsoluteError": keras.losses.MeanAbsoluteError(),
        "SmoothL1(beta=1)": kc.losses.SmoothL1(beta=1.0),
        "Pinball(quantile=0.9)": kc.losses.Pinball(quantile=0.9),
    }
    curves(left, error[:, 0], losses, np.zeros_like(error), error)
    left.set(xlabel="prediction less target", ylabel="loss", ylim=(0, 4))
    p = np.linspace(0.001, 0.999, 500).astype("float32")
    losses = {
        "crossentropy": keras.losses.SparseCategoricalCrossentropy(),
        "PolyLoss(epsilon=1)": kc.losses.PolyLoss(epsilon=1.0),
        "focal, gamma=2": kc.losses.SparseCategoricalFocalCrossentropy(
            alpha=1.0, gamma=2.0
        ),
        "SymmetricCrossentropy": kc.losses.SymmetricCrossentropy(),
    }
    both = np.stack([1 - p, p], axis=-1)
    curves(right, p, losses, np.ones(len(p), "int32"), both)
    right.set(xlabel="probability of the true class", ylim=(0, 5))
    path = pathlib.Path(__file__).with_name("choosing-a-loss.svg")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
