"""Bearer tokens of the API: shown once, kept as a hash, with scopes, sites and an end.

A token is 256 random bits, so one SHA-256 keeps it: there is nothing to guess and no dictionary.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cloud.db import AsyncConnection, Connection
from protocols.errors import ConfigError, Problem

PREFIX: Final = "tl_"  # recognised by secret scanners and by people
TOKEN_BYTES: Final = 32
TOKEN_CHARACTERS_MAX: Final = 128


class Scope(StrEnum):
    """What a token may do."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks: the token's name, what it may do, and where (None: every site)."""

    name: str
    scopes: frozenset[Scope]
    sites: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token as it is listed; the secret is not there to list."""

    name: str
    scopes: tuple[str, ...]
    sites: tuple[str, ...] | None
    made_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def read_scopes(words: Sequence[str]) -> list[Scope]:
    """ConfigError: a word is no scope, or there is none."""
    known = " and ".join(Scope)
    problems = [
        Problem("--scope", word, "is no scope", f"There are {known}.")
        for word in words
        if word not in set(Scope)
    ]
    if not words:
        problems = [Problem("--scope", "", "is not given", f"Name one or both of {known}.")]
    if problems:
        raise ConfigError(problems)
    return [Scope(word) for word in words]


def create_token(
    connection: Connection,
    name: str,
    scopes: Sequence[Scope],
    *,
    sites: Sequence[str] | None,
    lifetime: timedelta | None,
) -> str | None:
    """The secret, this once; None: the name is taken by a token that still works."""
    secret = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    row = connection.execute(
        """
        insert into token (name, hash, scopes, sites, expires_at)
        select %(name)s, %(hash)s, %(scopes)s, %(sites)s, now() + %(lifetime)s
        where not exists (
            select from token where name = %(name)s and revoked_at is null
            and (expires_at is null or expires_at > now()))
        returning token_id
        """,
        {
            "name": name,
            "hash": _hash(secret),
            "scopes": [str(scope) for scope in scopes],
            "sites": None if sites is None else list(sites),
            "lifetime": lifetime,
        },
    ).fetchone()
    return None if row is None else secret


def list_tokens(connection: Connection) -> list[TokenRow]:
    rows = connection.execute(
        "select name, scopes, sites, made_at, expires_at, revoked_at from token order by token_id"
    ).fetchall()
    return [
        TokenRow(name, tuple(scopes), None if sites is None else tuple(sites), *times)
        for name, scopes, sites, *times in rows
    ]


def revoke_token(connection: Connection, name: str) -> bool:
    """Takes effect with the next request. False: no such token works."""
    done = connection.execute(
        "update token set revoked_at = now() where name = %s and revoked_at is null", (name,)
    )
    return done.rowcount > 0


async def find_holder(connection: AsyncConnection, secret: str) -> Holder | None:
    """None: unknown, revoked or expired."""
    if not secret.startswith(PREFIX) or len(secret) > TOKEN_CHARACTERS_MAX:
        return None
    found = await connection.execute(
        """
        select name, scopes, sites from token
        where hash = %s and revoked_at is null and (expires_at is null or expires_at > now())
        """,
        (_hash(secret),),
    )
    row = await found.fetchone()
    if row is None:
        return None
    name, scopes, sites = row
    known = frozenset(Scope(scope) for scope in scopes if scope in set(Scope))
    return Holder(name, known, None if sites is None else tuple(sites))


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
