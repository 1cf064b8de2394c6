"""Kubernetes resource quantities: exact parsing, arithmetic and canonical text.

The rules are those of k8s.io/apimachinery/pkg/api/resource: three notations (`12Mi`, `12M`, `12e6`), no more
precision than nano (finer values are rounded away from zero), magnitude capped at 2^63-1, and a canonical form
without fraction digits whose suffix is as large as possible. Values are held as integers of nano-units, so arithmetic
is exact.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Self

_NANO = 10**9
_MAX = (2**63 - 1) * _NANO
_PATTERN = re.compile(
    r"(?P<sign>[+-]?)(?P<int>[0-9]*)(?:\.(?P<frac>[0-9]*))?(?P<suffix>[eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?"
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX = {0: "", **{exponent: suffix for suffix, exponent in _BINARY.items()}}
_EXPONENT_LIMIT = 40  # 10^19 is over the cap and 10^-9 the least unit: beyond this only the sign and zero matter


class QuantityError(ValueError):
    """The text is not a quantity."""


class Notation(Enum):
    """How a quantity was written, and will be written again."""

    DECIMAL = "DecimalSI"
    BINARY = "BinarySI"
    EXPONENT = "DecimalExponent"


@dataclass(frozen=True, slots=True, order=False)
class Quantity:
    """An amount of a resource. Equality and order look at the amount, not at the notation."""

    nanos: int
    notation: Notation = Notation.DECIMAL

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a quantity; QuantityError if it is none."""
        match = _PATTERN.fullmatch(text)
        if match is None or not (match["int"] or match["frac"]):
            message = f"not a resource quantity: {text[:64]!r}"
            raise QuantityError(message)
        fraction = match["frac"] or ""
        digits = int((match["int"] or "0") + fraction)
        notation, numerator, denominator = _scale(match["suffix"] or "")
        nanos = -(-digits * numerator * _NANO // (denominator * 10 ** len(fraction)))  # rounded up, of the magnitude
        nanos = min(nanos, _MAX)
        return cls(-nanos if match["sign"] == "-" else nanos, notation)

    @classmethod
    def of(cls, amount: int) -> Self:
        """A whole number of units."""
        return cls(amount * _NANO)

    def __add__(self, other: "Quantity") -> "Quantity":
        return Quantity(_capped(self.nanos + other.nanos), self._common(other))

    def __sub__(self, other: "Quantity") -> "Quantity":
        return Quantity(_capped(self.nanos - other.nanos), self._common(other))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __lt__(self, other: "Quantity") -> bool:
        return self.nanos < other.nanos

    def __le__(self, other: "Quantity") -> bool:
        return self.nanos <= other.nanos

    def __str__(self) -> str:
        """The canonical form, as an API server would write it."""
        whole, rest = divmod(abs(self.nanos), _NANO)
        sign = "-" if self.nanos < 0 else ""
        if self.notation is Notation.BINARY and not rest and whole >= 1024:
            return sign + _binary(whole)
        return sign + _decimal(abs(self.nanos), exponential=self.notation is Notation.EXPONENT)

    @property
    def whole(self) -> bool:
        """Whether it is a whole number of units (extended resources must be)."""
        return self.nanos % _NANO == 0

    def floor(self) -> "Quantity":
        """The greatest whole number of units that is not more."""
        return Quantity(self.nanos // _NANO * _NANO, self.notation)

    def _common(self, other: "Quantity") -> Notation:
        return self.notation if self.nanos else other.notation


ZERO = Quantity(0)


def _scale(suffix: str) -> tuple[Notation, int, int]:
    """What a suffix multiplies by, as a fraction."""
    if suffix in _BINARY:
        return Notation.BINARY, 2 ** _BINARY[suffix], 1
    notation = Notation.DECIMAL if suffix in _DECIMAL else Notation.EXPONENT
    exponent = _DECIMAL[suffix] if suffix in _DECIMAL else _clamped(suffix[1:])
    return notation, 10 ** max(exponent, 0), 10 ** max(-exponent, 0)


def _clamped(exponent: str) -> int:
    """An exponent from outside, kept small enough to compute with."""
    if len(exponent) > 10:
        message = "exponent of a resource quantity is too large"
        raise QuantityError(message)
    return max(-_EXPONENT_LIMIT, min(_EXPONENT_LIMIT, int(exponent)))


def _capped(nanos: int) -> int:
    return max(-_MAX, min(_MAX, nanos))


def _binary(whole: int) -> str:
    exponent = 0
    while whole % 1024 == 0 and exponent < 60:
        whole //= 1024
        exponent += 10
    return f"{whole}{_BINARY_SUFFIX[exponent]}"


def _decimal(nanos: int, *, exponential: bool) -> str:
    if nanos == 0:
        return "0"
    exponent = -9
    while nanos % 1000 == 0 and exponent < 18:
        nanos //= 1000
        exponent += 3
    if exponential:
        return f"{nanos}e{exponent}" if exponent else str(nanos)
    return f"{nanos}{_DECIMAL_SUFFIX[exponent]}"
