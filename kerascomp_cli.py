"""The command line's front door.

It stands outside the package because importing the package imports Keras, and
`kerascomp --help` must answer at once.
"""


def main() -> None:
    """Runs the `kerascomp` command."""
