"""The modules of a manager by the names that `--module` takes, in the order in which they are added.

Each is the file of its name, loaded only if it is wanted: what one is made of, as gRPC, is no burden to the others.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from isthmus.modules.parts import Parts
from isthmus.options import OptionsError

Add = Callable[[Parts], Awaitable[None]]
"""Builds a module's controllers and hands their tasks to the supervisor. Raises `OptionsError`."""

MODULES: Final = ("tenants", "provider", "peers", "consumer", "network")
DEFAULT: Final = ("consumer",)


def chosen(names: Sequence[str]) -> list[Add]:
    """The modules of these names. Raises `OptionsError`."""
    wanted = list(names) or list(DEFAULT)
    for name in wanted:
        if name not in MODULES:
            raise OptionsError(f"--module {name!r}: expected one of {', '.join(MODULES)}")
    return [_load(name) for name in MODULES if name in wanted]


def _load(name: str) -> Add:
    add: Add = importlib.import_module(f"isthmus.modules.{name}").add
    return add
