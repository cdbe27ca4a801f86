"""A Kafka with guards at its doors: passwords at one, certificates at another, rights behind both.

The plain door is the test's own: whoever comes by it may do everything.
"""

from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
)
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from tests.support.certificates import Authority
from threadline.children import Children
from threadline.kafka import Kafka, SideDoor
from threadline.ports import free_port

USER = "gateway"
PASSWORD = "open sesame"  # noqa: S105 - it guards nothing
ANSWER_S = 30.0
_PLAIN_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"


class GuardedKafka(Kafka):
    """`passwords`: address of the door for those; `certificates`: of the one with TLS."""

    def __init__(self, children: Children, authority: Authority) -> None:
        doors = [SideDoor(name, port := free_port(), port) for name in ("PASS", "TLS")]
        self.passwords, self.certificates = (f"{self.host}:{door.port}" for door in doors)
        settings = {
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,PASS:SASL_PLAINTEXT,TLS:SSL,CONTROLLER:PLAINTEXT"
            ),
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.pass.plain.sasl.jaas.config": (
                f'{_PLAIN_LOGIN} required user_{USER}="{PASSWORD}";'
            ),
            "authorizer.class.name": _AUTHORIZER,
            "super.users": "User:ANONYMOUS",
            **_tls(children.directory, authority),
        }
        super().__init__(children, side_doors=doors, settings=settings)

    def _admin(self) -> AdminClient:
        """To be held until its answers are there: they end with it."""
        return AdminClient({"bootstrap.servers": self.bootstrap})

    def allow(self, principal: str, kind: ResourceType, name: str, what: AclOperation) -> None:
        """`name`: the beginning of what it is allowed on."""
        rights, admin = [_right(principal, kind, name, what)], self._admin()
        for done in admin.create_acls(rights).values():
            done.result(ANSWER_S)

    def allow_a_gateway(self, principal: str) -> None:
        """What docs/gateway.md says that it needs."""
        for what in (
            AclOperation.DESCRIBE,
            AclOperation.DESCRIBE_CONFIGS,
            AclOperation.WRITE,
        ):
            self.allow(principal, ResourceType.TOPIC, "tl.", what)
        self.allow(principal, ResourceType.TOPIC, "tl.receipts", AclOperation.READ)
        self.allow(principal, ResourceType.GROUP, "tests", AclOperation.READ)

    def forbid_all(self) -> None:
        admin = self._admin()
        for done in admin.delete_acls([_anything()]).values():
            done.result(ANSWER_S)

    def alter_topic(self, name: str, **settings: str) -> None:
        """`settings`: with underscores for dots."""
        entries = [
            ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for key, value in settings.items()
        ]
        wanted = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
        admin = self._admin()
        for done in admin.incremental_alter_configs([wanted]).values():
            done.result(ANSWER_S)


def _tls(folder: Path, authority: Authority) -> dict[str, str]:
    own = authority.issue("kafka")
    both = folder / "kafka.both.pem"
    both.write_bytes(own.key.read_bytes() + own.certificate.read_bytes())
    prefix = "listener.name.tls.ssl"
    return {
        f"{prefix}.keystore.type": "PEM",
        f"{prefix}.keystore.location": str(both),
        f"{prefix}.truststore.type": "PEM",
        f"{prefix}.truststore.location": str(authority.certificate),
        f"{prefix}.client.auth": "required",
    }


def _right(principal: str, kind: ResourceType, name: str, what: AclOperation) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED
    permitted = AclPermissionType.ALLOW
    return AclBinding(kind, name, pattern, f"User:{principal}", "*", what, permitted)


def _anything() -> AclBindingFilter:
    nobody: Any = None  # the library takes it and does not say so
    kind, pattern, what = ResourceType.ANY, ResourcePatternType.ANY, AclOperation.ANY
    return AclBindingFilter(kind, nobody, pattern, nobody, nobody, what, AclPermissionType.ANY)
