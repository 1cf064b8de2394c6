"""The kinds of all groups: what CustomResourceDefinitions and the pages about objects are made of."""

from __future__ import annotations

from api.authentication import definitions as authentication
from api.networking import definitions as networking
from api.offloading import definitions as offloading

DEFINITIONS = (*offloading.DEFINITIONS, *authentication.DEFINITIONS, *networking.DEFINITIONS)
