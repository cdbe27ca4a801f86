"""Identities that are computed, never drawn: keys of names and slots, ids of items, links, alarms.

Rule 1: parts are joined as JSON, so that no text can pretend to be two parts.
"""

import json
from decimal import Decimal, InvalidOperation
from typing import Final
from uuid import UUID, uuid5

from protocols.events import NameRef, Quantity

NAMESPACE: Final = UUID("0d6c7a52-52c4-5b5e-8a0e-3f1d7f6c2b11")
EXPONENT_MAX: Final = 60  # beyond it a quantity is a slip, and no database number


def key_of(what: str, *parts: str) -> UUID:
    return uuid5(NAMESPACE, json.dumps((what, *parts), ensure_ascii=True, separators=(",", ":")))


def name_key(name: NameRef) -> UUID:
    return key_of("name", name.scheme, name.issuer, name.value)


def slot_key(pass_id: UUID, place: str) -> UUID:
    """The thing worked at a place of a pass. Also the id of an item that nothing else names."""
    return key_of("slot", str(pass_id), place)


def member_id(event: UUID, path: str) -> UUID:
    """The id that a mention gives its item, should it be the first."""
    return key_of("mention", str(event), path)


def line_key(site: str, station: str, nest: str, series: str) -> UUID:
    """One counter of one nest."""
    return key_of("line", site, station, nest, series)


def amount(quantity: Quantity | None) -> Decimal | None:
    """The quantity as a number, None where none was said or no database could hold it."""
    if quantity is None:
        return None
    try:
        number = Decimal(quantity.value)
    except InvalidOperation:
        return None
    return number if abs(number.adjusted()) <= EXPONENT_MAX else None
