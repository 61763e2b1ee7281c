"""Hyperparameter studies: search, repeat over seeds, report, ship the best."""

try:
    import jinja2  # noqa: F401
    import matplotlib  # noqa: F401
    import sklearn  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        f"Studies need {error.name!r}, which is not installed. Install what "
        'they need with: pip install "kerascomp[studies]"'
    ) from error

from kerascomp.studies._errors import StudyError
from kerascomp.studies._report import write_report
from kerascomp.studies._result import StudyResult
from kerascomp.studies._space import default_space
from kerascomp.studies._study import Study

__all__ = [
    "Study",
    "StudyResult",
    "StudyError",
    "default_space",
    "write_report",
]
