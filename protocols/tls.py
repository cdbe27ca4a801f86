"""TLS of a client, from PEM files: whom it trusts, who it is, and what is said of a bad file."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from protocols.errors import ConfigError, Problem

Context = TypeVar("Context", bound=ssl.SSLContext)


@dataclass(frozen=True, slots=True)
class Pem:
    """`ca` None: whom the system trusts. `certificate` and `key` belong together."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __str__(self) -> str:
        return f"{self.ca}, {self.certificate}, {self.key}"


class Peer(Enum):
    """Whose files they are: the name of that setting, and how people are told."""

    BROKER = ("mqtt tls", "the broker's")
    KAFKA = ("kafka tls", "Kafka's")


class RememberingContext(ssl.SSLContext):
    """Remembers its socket: paho forgets the one whose handshake failed, and leaves it open."""

    last: ssl.SSLSocket | None = None

    def wrap_socket(self, *args: Any, **more: Any) -> ssl.SSLSocket:
        self.last = super().wrap_socket(*args, **more)
        return self.last

    def close_last(self) -> None:
        if self.last is not None:
            self.last.close()


def plain_context(pem: Pem) -> ssl.SSLContext:
    """OSError: a file is missing or no certificate."""
    return _identified(ssl.create_default_context(cafile=pem.ca), pem)


def remembering_context(pem: Pem) -> RememberingContext:
    """OSError: a file is missing or no certificate."""
    context = RememberingContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and host's name
    if pem.ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(pem.ca)
    return _identified(context, pem)


def configured(make: Callable[[Pem], Context], pem: Pem, peer: Peer) -> Context:
    """What `make` makes of files that a user named. ConfigError: one is missing or no PEM."""
    try:
        return make(pem)
    except OSError as error:  # an error of ssl is one too
        where, whose = peer.value
        remedy = f"Give readable PEM files of {whose} CA and of our certificate and key."
        raise ConfigError([Problem(where, str(pem), str(error), remedy)]) from error


def _identified(context: Context, pem: Pem) -> Context:
    if pem.certificate is not None:
        context.load_cert_chain(pem.certificate, pem.key)
    return context
