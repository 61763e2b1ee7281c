"""Draws the figure of docs/guides/which-schedule.md, and prints its table.

python docs/images/which_schedule.py
"""

import pathlib
import time

import keras
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import kerascomp as kc

SEEDS, EPOCHS, BATCH_SIZE = 8, 15, 32
PEAKS = (0.01, 0.03, 0.1, 0.3)
# Told apart in gray and by readers who cannot tell red from green.
STYLES = (
    {"color": "#7f7f7f", "linestyle": "-"},
    {"color": "#0072b2", "linestyle": "-"},
    {"color": "#d55e00", "linestyle": "--"},
    {"color": "#009e73", "linestyle": "-."},
    {"color": "#cc79a7", "linestyle": ":"},
    {"color": "#e69f00", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
)


def constant(peak):
    """A schedule that is none."""
    return kc.schedules.Join([peak], [])


SCHEDULES = {
    "constant": (constant, {}),
    "WarmupCosine": (kc.schedules.WarmupCosine, {"warmup_fraction": 0.1}),
    "WarmupStableDecay": (
        kc.schedules.WarmupStableDecay,
        {"warmup_fraction": 0.1, "decay_fraction": 0.2},
    ),
    "OneCycle": (kc.schedules.OneCycle, {"warmup_fraction": 0.3}),
    "InverseSquareRoot": (
        kc.schedules.InverseSquareRoot,
        {"warmup_fraction": 0.1},
    ),
    "Cyclical": (kc.schedules.Cyclical, {"half_cycle_epochs": 2.5}),
}


def build(data, seed):
    """Returns a compiled network without normalization of activations."""
    keras.utils.set_random_seed(seed)
    scale = keras.layers.Normalization()
    scale.adapt(data.train.x)
    hidden = [keras.layers.Dense(64, activation="relu") for _ in range(4)]
    model = keras.Sequential(
        [keras.Input(data.input_shape), scale, *hidden, keras.layers.Dense(10)]
    )
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def measure(data):
    """Returns the last validation losses and accuracies of all seeds."""
    models = [build(data, seed) for seed in range(SEEDS)]
    population = kc.population.Population(models)
    variables = [
        v for m in models for v in (*m.variables, *m.optimizer.variables)
    ]
    found = [keras.ops.convert_to_numpy(v).copy() for v in variables]
    results = {}
    for name, (schedule, lengths) in SCHEDULES.items():
        for peak in PEAKS:
            for variable, value in zip(variables, found, strict=True):
                variable.assign(value)
            history = population.fit(
                data.train.x,
                data.train.y,
                batch_size=BATCH_SIZE,
                epochs=EPOCHS,
                seeds=range(SEEDS),
                validation_data=(data.validation.x, data.validation.y),
                callbacks=[
                    kc.callbacks.ScheduleLearningRate(
                        schedule, peak=peak, **lengths
                    )
                ],
            )
            results[name, peak] = np.array(
                [
                    [own["val_loss"][-1], own["val_accuracy"][-1]]
                    if history.diverged[lane] is None
                    else [np.nan, np.nan]
                    for lane, own in enumerate(history)
                ]
            )
            report(name, peak, results[name, peak])
    return results


def report(name, peak, runs):
    """Prints a row: mean, standard error, and how many diverged."""
    trained = runs[~np.isnan(runs[:, 0])]
    error = trained.std(axis=0, ddof=1) / len(trained) ** 0.5
    (loss, accuracy), diverged = trained.mean(axis=0), SEEDS - len(trained)
    print(
        f"| {name} | {peak} | {loss:.3f} ± {error[0]:.3f} | {accuracy:.1%} ± "
        f"{error[1]:.1%} | {diverged} |",
        flush=True,
    )


def draw_schedules(axes, steps):
    """Draws what the schedules of a run are."""
    for (name, (schedule, lengths)), style in zip(
        SCHEDULES.items(), STYLES, strict=True
    ):
        settings = {
            length.rpartition("_")[0] + "_steps": round(
                value * steps * (1 / EPOCHS if "epochs" in length else 1)
            )
            for length, value in lengths.items()
        }
        if schedule in {
            kc.schedules.WarmupCosine,
            kc.schedules.WarmupStableDecay,
            kc.schedules.OneCycle,
        }:
            settings["total_steps"] = steps
        figure = kc.schedules.plot(schedule(peak=1.0, **settings), steps)
        x, y = figure.axes[0].lines[0].get_data()
        axes.plot(x, y, label=name, linewidth=1.6, **style)
    axes.set(xlabel="step", ylabel="learning rate / peak", ylim=(0, 1.05))


def draw_results(axes, results):
    """Draws the mean validation loss over the peak, with its error."""
    for number, (name, style) in enumerate(zip(SCHEDULES, STYLES, strict=True)):
        runs = np.stack([results[name, peak][:, 0] for peak in PEAKS])
        count = np.maximum((~np.isnan(runs)).sum(axis=1), 2)
        axes.errorbar(
            # Side by side, so that the bars can be told apart.
            np.array(PEAKS) * 1.05 ** (number - 2.5),
            np.nanmean(runs, axis=1),
            np.nanstd(runs, axis=1, ddof=1) / count**0.5,
            linewidth=1.6,
            capsize=2,
            label=name,
            **style,
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="peak",
        ylabel=f"validation loss, mean of {SEEDS} seeds",
    )
    axes.set_xticks(PEAKS, [str(peak) for peak in PEAKS])
    axes.minorticks_off()


def main():
    """Writes which-schedule.svg."""
    started = time.monotonic()
    data = kc.datasets.load("digits")
    results = measure(data)
    print(f"{time.monotonic() - started:.0f} s")
    # The same bytes at every run.
    mpl.rcParams.update({"svg.hashsalt": "kerascomp", "font.size": 10})
    figure, (left, right) = plt.subplots(
        ncols=2, figsize=(9, 3.8), layout="constrained"
    )
    draw_schedules(left, EPOCHS * -(-len(data.train) // BATCH_SIZE))
    draw_results(right, results)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=6,
        frameon=False,
        fontsize=8.5,
    )
    path = pathlib.Path(__file__).with_name("which-schedule.svg")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
