"""A delivery that refuses every move that is not in the table of its life: for tests and the simulation."""

from __future__ import annotations

from yadtq.delivery.delivery import Delivery
from yadtq.delivery.place import MOVES, Place

__all__ = ["CheckedDelivery"]

_place = Delivery.__dict__["place"]


class CheckedDelivery(Delivery):
    """Used in place of `Delivery`; raises AssertionError at the wrong move."""

    __slots__ = ()

    @property
    def place(self) -> Place:
        found: Place = _place.__get__(self)
        return found

    @place.setter
    def place(self, then: Place) -> None:
        try:
            now = _place.__get__(self)
        except AttributeError:  # its first place
            assert then is Place.RECEIVED, then
        else:
            assert (now, then) in MOVES, f"{self!r}: {now.value} to {then.value} is not in the table"
        _place.__set__(self, then)
