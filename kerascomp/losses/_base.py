"""What all losses share."""

from typing import Any

from kerascomp._compat import keras


class Loss(keras.losses.Loss):
    """Keras' base class, with the dtype kept in the config."""

    def get_config(self) -> dict[str, Any]:
        # Keras leaves `dtype` out, and a reloaded loss would fall back to
        # the global default.
        return {**super().get_config(), "dtype": self.dtype}
