"""What a process does that knows a folder of saved models, and no more.

    python tests/fresh_process.py load FOLDER     with Keras and kerascomp
    python tests/fresh_process.py serve FOLDER    without kerascomp

For every model `name`, the folder holds `name.keras`, or a SavedModel in
`name`, and `name.inputs.npz`. What it gives is written to `name.outputs.npz`;
why it fails, to `name.error`.
"""

import pathlib
import sys

import numpy as np


def arrays(folder, name):
    """Returns a model's inputs, in order."""
    with np.load(folder / f"{name}.inputs.npz") as inputs:
        return [inputs[key] for key in inputs.files]


def load(folder, name):
    """Returns the outputs of a saved Keras model."""
    import keras

    import kerascomp  # noqa: F401  (registers what the file names)

    model = keras.saving.load_model(folder / f"{name}.keras")
    inputs = arrays(folder, name)
    structure = keras.tree.pack_sequence_as(model.input, inputs)
    return keras.tree.flatten(model.predict_on_batch(structure))


def serve(folder, name):
    """Returns the outputs of a SavedModel."""
    import tensorflow as tf

    loaded = tf.saved_model.load(folder / name)
    inputs = [tf.constant(array) for array in arrays(folder, name)]
    outputs = loaded.serve(inputs if len(inputs) > 1 else inputs[0])
    assert "kerascomp" not in sys.modules
    return tf.nest.flatten(outputs)


def main(run, folder):
    """Runs all models of a folder."""
    for path in sorted(folder.glob("*.inputs.npz")):
        name = path.name.removesuffix(".inputs.npz")
        try:
            outputs = [np.asarray(output) for output in run(folder, name)]
            np.savez(folder / f"{name}.outputs.npz", *outputs)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            (folder / f"{name}.error").write_text(text, "utf-8")


if __name__ == "__main__":
    main({"load": load, "serve": serve}[sys.argv[1]], pathlib.Path(sys.argv[2]))
