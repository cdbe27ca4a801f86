"""OPC UA with certificates, a user and a password, against asyncua's server."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from asyncua import Server, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import User, UserRole
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import SecretStr

from protocols import registry
from protocols.driver import Mode, TagSpec
from protocols.drivers.opcua.config import OpcuaConnection
from protocols.errors import ConfigError, Disconnected
from protocols.samples import DataType
from tests.support.devices import SystemClock, free_port

TAG = TagSpec("d.t", "nsu=urn:test:secure;s=a", DataType.INT32)


@dataclass
class Secured:
    url: str
    folder: Path

    def connection(self, **changes: Any) -> OpcuaConnection:
        options: dict[str, Any] = {
            "url": self.url,
            "timeout_s": 5,
            "security_policy": "Basic256Sha256",
            "certificate": self.folder / "client.der",
            "key": self.folder / "client.pem",
            "server_certificate": self.folder / "server.der",
            "user": "line",
            "password": SecretStr("s3cret"),
        }
        return OpcuaConnection(**{**options, **changes})


class OneUser:
    def get_user(
        self, _: Any, username: str | None = None, password: str | None = None, **__: Any
    ) -> User | None:
        return User(role=UserRole.User) if (username, password) == ("line", "s3cret") else None


async def certificate(folder: Path, name: str, uri: str) -> None:
    usage = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    await setup_self_signed_certificate(
        folder / f"{name}.pem", folder / f"{name}.der", uri, "localhost", usage, {}
    )


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Secured]:
    await certificate(tmp_path, "server", "urn:test:server")
    await certificate(tmp_path, "client", "urn:threadline:edge")
    await certificate(tmp_path, "other", "urn:test:other")
    server = Server(user_manager=OneUser())  # type: ignore[arg-type]  # its protocol is a class
    await server.init()
    await server.set_application_uri("urn:test:server")
    url = f"opc.tcp://127.0.0.1:{free_port()}/"
    server.set_endpoint(url)
    server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    await server.load_certificate(str(tmp_path / "server.der"))
    await server.load_private_key(str(tmp_path / "server.pem"))
    index = await server.register_namespace("urn:test:secure")
    node_id: Any = ua.NodeId("a", index)  # type: ignore[arg-type]  # plain text
    await server.nodes.objects.add_variable(node_id, "a", 5, ua.VariantType.Int32)
    async with server:
        yield Secured(url, tmp_path)


@pytest.mark.slow
async def test_an_encrypted_session_with_a_user(secured: Secured) -> None:
    connection = secured.connection()
    device = registry.open_device(connection, SystemClock())
    plan = registry.make_plan(connection, [TAG], Mode.CYCLIC)
    for _ in range(2):
        await device.open()
        assert (await device.read(plan)).value(0) == 5
        await device.close()
    wrong_user = secured.connection(password=SecretStr("wrong"))
    with pytest.raises(Disconnected, match=r"BadUserAccessDenied|BadIdentityTokenRejected"):
        await registry.open_device(wrong_user, SystemClock()).open()
    other_server = secured.connection(server_certificate=secured.folder / "other.der")
    with pytest.raises(Disconnected):
        await registry.open_device(other_server, SystemClock()).open()
    no_certificate = secured.connection(certificate=secured.folder / "client.pem")
    with pytest.raises(ConfigError, match="not our certificate"):
        await registry.open_device(no_certificate, SystemClock()).open()
    unsecured = OpcuaConnection(url=secured.url)
    with pytest.raises(Disconnected):
        await registry.open_device(unsecured, SystemClock()).open()
