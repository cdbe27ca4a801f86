"""Raw text of a reader → a name, or why it is none. A no-read text never becomes a name.

Rule 1: a symbology prefix (`]d2`), padding and control characters around the text are not part of
    it; group separators inside are left out only if the pattern does not match with them.
Rule 2: a pattern must match the whole text; its groups `material`, `issuer` and `revision` say more
    of the thing, and the group called like the scheme, `value`, `serial` or `lot` is the name.
"""

import re
from dataclasses import dataclass
from typing import Final

from protocols.events import NAME_BYTES_MAX, NameRef, Outcome
from protocols.samples import Value

PATTERN_CHARACTERS_MAX: Final = 1_000  # longer text is no code that a person could look for
NAME_GROUPS: Final = ("value", "serial", "lot")
_RAW_CHARACTERS_MAX: Final = 4_000
_SYMBOLOGY: Final = re.compile(r"\][A-Za-z][0-9A-Za-z]")
_SEPARATORS: Final = re.compile("[\x1c-\x1f]")
_CONTROLS: Final = "".join(map(chr, range(33)))  # NUL padding, line ends, separators, space


@dataclass(frozen=True, slots=True)
class Reader:
    """How text becomes a name. `pattern` None: the text is the name."""

    scheme: str
    pattern: re.Pattern[str] | None
    no_read: frozenset[str]


@dataclass(frozen=True, slots=True)
class Named:
    """What a text turned out to be; `ref` only with BOUND."""

    outcome: Outcome
    ref: NameRef | None = None
    material: str | None = None
    revision: str | None = None


def read_name(raw: Value, reader: Reader) -> Named:
    text = text_of(raw)
    if text is None:
        return Named(Outcome.BAD_FORMAT)
    if not text or text in reader.no_read:
        return Named(Outcome.NO_READ)
    if len(text) > PATTERN_CHARACTERS_MAX or "\x00" in text:
        return Named(Outcome.BAD_FORMAT)
    return _whole(text, reader) if reader.pattern is None else _matched(text, reader)


def text_of(raw: Value) -> str | None:
    """The text without prefix and padding. None: bytes that are no text."""
    if isinstance(raw, bytes):
        try:
            raw = raw.decode()
        except UnicodeDecodeError:
            return None
    text = _plain(raw).strip(_CONTROLS)
    return text[3:].strip(_CONTROLS) if _SYMBOLOGY.match(text) else text


def shown(raw: Value) -> str:
    """The raw value for a witness: NUL and undecodable bytes escaped, bounded."""
    text = raw.decode(errors="backslashreplace") if isinstance(raw, bytes) else _plain(raw)
    return storable(text.replace("\x00", "\\x00"))[:_RAW_CHARACTERS_MAX]


def name_group(pattern: re.Pattern[str], scheme: str) -> str | None:
    """The group that holds the name; None: the whole match does."""
    candidates = (scheme, *NAME_GROUPS)
    return next((group for group in candidates if group in pattern.groupindex), None)


def _matched(text: str, reader: Reader) -> Named:
    pattern = reader.pattern
    found = pattern and (pattern.fullmatch(text) or pattern.fullmatch(_SEPARATORS.sub("", text)))
    if not pattern or not found:
        return Named(Outcome.BAD_FORMAT)
    group = name_group(pattern, reader.scheme)
    parts = found.groupdict()
    ref = _ref(reader.scheme, found[group] if group else found[0], parts.get("issuer"))
    if ref is None:
        return Named(Outcome.BAD_FORMAT)
    return Named(Outcome.BOUND, ref, parts.get("material"), parts.get("revision"))


def _whole(text: str, reader: Reader) -> Named:
    ref = _ref(reader.scheme, text, None)
    return Named(Outcome.BOUND, ref) if ref else Named(Outcome.BAD_FORMAT)


def _ref(scheme: str, value: str | None, issuer: str | None) -> NameRef | None:
    """None: empty, too long, or with half a character pair, which no UTF-8 can hold."""
    name = value or ""
    if not name or name != storable(name) or len(name.encode()) > NAME_BYTES_MAX:
        return None
    return NameRef(scheme=scheme, value=name, issuer=storable(issuer or ""))


def _plain(raw: Value) -> str:
    if raw is None:
        return ""
    if isinstance(raw, bool):
        return str(raw).lower()
    return str(raw)


def storable(text: str) -> str:
    """Lone surrogates escaped."""
    return text.encode(errors="backslashreplace").decode()
