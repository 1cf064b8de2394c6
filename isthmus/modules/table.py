"""The modules of a manager by the names that `--module` takes, in the order in which they are added."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from isthmus.modules import consumer, network, peers, provider, tenants
from isthmus.modules.parts import Parts
from isthmus.options import OptionsError

Add = Callable[[Parts], Awaitable[None]]
"""Builds a module's controllers and hands their tasks to the supervisor. Raises `OptionsError`."""

MODULES: Final[dict[str, Add]] = {
    "tenants": tenants.add,
    "provider": provider.add,
    "peers": peers.add,
    "consumer": consumer.add,
    "network": network.add,
}
DEFAULT: Final = ("consumer",)


def chosen(names: Sequence[str]) -> list[Add]:
    """The modules of these names. Raises `OptionsError`."""
    wanted = list(names) or list(DEFAULT)
    for name in wanted:
        if name not in MODULES:
            raise OptionsError(f"--module {name!r}: expected one of {', '.join(MODULES)}")
    return [add for name, add in MODULES.items() if name in wanted]
