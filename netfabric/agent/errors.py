"""What can be wrong with a desired state or with carrying it out.

FabricError
├── InvalidStateError      a field of it is wrong: says which
├── StaleStateError        older than what is applied, or meant for another agent
├── UnsupportedError       needs a feature that this agent lacks
└── KernelError            the kernel, or a program that speaks to it, refused
"""

from __future__ import annotations


class FabricError(Exception):
    """Base of all errors of the agent."""


class InvalidStateError(FabricError):
    """A field of the desired state can't be used; `path` is where, as `peers[0].prefixes[1].seen`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class StaleStateError(FabricError):
    """The state is not for this agent, or not for now."""


class UnsupportedError(FabricError):
    """The state needs what this agent can't do."""


class KernelError(FabricError):
    """An operation failed; `reason` is one CamelCase word for programs."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
