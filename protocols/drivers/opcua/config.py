"""What a user writes to reach an OPC UA server. Addresses: `address.py`."""

from typing import Annotated, Literal, Self

from pydantic import Field, FilePath, SecretStr, model_validator

from protocols.driver import Connection, TimeSource

SecurityPolicy = Literal["none", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"]
MessageMode = Literal["Sign", "SignAndEncrypt"]


class OpcuaConnection(Connection):
    """One session. With a security policy the server must show `server_certificate`."""

    protocol: Literal["opcua"] = "opcua"
    url: Annotated[str, Field(pattern=r"^opc\.tcp://[^\s@/:]+(:\d{1,5})?(/\S*)?$")]
    security_policy: SecurityPolicy = "none"
    security_mode: MessageMode = "SignAndEncrypt"  # unused without a policy
    certificate: FilePath | None = None  # ours; PEM or DER
    key: FilePath | None = None
    key_password: SecretStr | None = None
    server_certificate: FilePath | None = None
    application_uri: str = "urn:threadline:edge"  # as in our certificate
    user: str | None = None
    password: SecretStr | None = None
    session_timeout_s: Annotated[float, Field(ge=10, le=3_600)] = 120.0
    nodes_per_read_max: Annotated[int, Field(ge=1, le=10_000)] = 1_000  # the server may say less
    time_source: TimeSource = TimeSource.ARRIVAL
    keep_source_time: bool = False  # as device time of every row

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.security_policy != "none":
            names = ("certificate", "key", "server_certificate")
            missing = [name for name in names if getattr(self, name) is None]
            if missing:
                raise ValueError(f"security policy {self.security_policy} needs {missing}")
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password come together")
        return self
