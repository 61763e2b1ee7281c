"""KerasTuner's tuners, with many trials open at once."""

__all__: list[str] = []
