"""Labels and annotations by which users steer reflection, and by which the engine knows its own."""

from __future__ import annotations

from typing import Final

from reflection import ownership
from reflection.forge.names import PREFIX

REFLECT: Final = PREFIX + "reflect"
"""Label or annotation on a consumer's object: "true" opts in, "false" opts out."""

STATUS_FROM: Final = PREFIX + "status-from"
"""Annotation: the provider whose status this object shall have, "any", or "none"."""

KEEP_NODE_PORT: Final = PREFIX + "keep-node-port"
"""Annotation on a Service: "true" asks for the same node ports at the provider."""

MADE: Final = ownership.used_by("Namespace")
"""Annotation of a copy that the engine wants. It counts as one more user to those who copy what pods name
(`reflection.references`), so neither removes what the other needs; no node can have this name (upper case)."""
