"""The error of a study that cannot start or go on as asked."""

from kerascomp._validation import UserError


class StudyError(UserError):
    """A study that cannot start or go on as asked; the message says why."""
