"""Draws the figure of docs/guides/which-schedule.md.

python docs/images/which_schedule.py             # from which-schedule.csv
python docs/images/which_schedule.py --measure   # which it writes anew
"""

import argparse
import csv
import pathlib

import keras
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import kerascomp as kc

TABLE = pathlib.Path(__file__).with_name("which-schedule.csv")
COLUMNS = (
    "schedule",
    "peak",
    "loss",
    "loss error",
    "accuracy",
    "accuracy error",
    "diverged",
)
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
    """Yields a row for each schedule and peak: means, standard errors."""
    models = [build(data, seed) for seed in range(SEEDS)]
    population = kc.population.Population(models)
    variables = [
        v for m in models for v in (*m.variables, *m.optimizer.variables)
    ]
    found = [keras.ops.convert_to_numpy(v).copy() for v in variables]
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
            yield name, peak, *summary(history)


def summary(history):
    """Returns means and standard errors of the last epoch over seeds."""
    runs = np.array(
        [
            [own["val_loss"][-1], own["val_accuracy"][-1]]
            for own, step in zip(history, history.diverged, strict=True)
            if step is None
        ]
    )
    mean = runs.mean(axis=0)
    error = runs.std(axis=0, ddof=1) / len(runs) ** 0.5
    numbers = [mean[0], error[0], mean[1], error[1]]
    return *(f"{number:.3f}" for number in numbers), SEEDS - len(runs)


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


def draw_results(axes, rows):
    """Draws the mean validation loss over the peak, with its error."""
    for number, (name, style) in enumerate(zip(SCHEDULES, STYLES, strict=True)):
        own = [row for row in rows if row["schedule"] == name]
        peaks, losses, errors = (
            np.array([float(row[column]) for row in own])
            for column in COLUMNS[1:4]
        )
        axes.errorbar(
            # Side by side, so that the bars can be told apart.
            peaks * 1.05 ** (number - 2.5),
            losses,
            errors,
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
        ylim=(0.1, 4),  # Guessing is 2.3; what diverges knows no bound.
    )
    axes.set_xticks(PEAKS, [str(peak) for peak in PEAKS])
    axes.minorticks_off()


def main():
    """Writes which-schedule.svg."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--measure", action="store_true")
    data = kc.datasets.load("digits")
    if parser.parse_args().measure:
        with TABLE.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in measure(data):
                print(*row, flush=True)
                writer.writerow(row)
    with TABLE.open() as file:
        rows = list(csv.DictReader(file))
    # The same bytes at every run.
    mpl.rcParams.update({"svg.hashsalt": "kerascomp", "font.size": 10})
    figure, (left, right) = plt.subplots(
        ncols=2, figsize=(9, 3.8), layout="constrained"
    )
    draw_schedules(left, EPOCHS * -(-len(data.train) // BATCH_SIZE))
    draw_results(right, rows)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=6,
        frameon=False,
        fontsize=8.5,
    )
    path = TABLE.with_suffix(".svg")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
