"""The lab's one error: a message for a person, no traceback needed to understand it."""

from __future__ import annotations


class LabError(Exception):
    """Something the lab needs is missing or did not come up; the text says what and where its log is."""
