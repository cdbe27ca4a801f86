"""Whose a client certificate is. Whether it is to be trusted is for the broker to say."""

from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID


def common_names(file: Path) -> list[str]:
    """The subject's, of the file's first certificate: what follows it are its authorities.

    ValueError: the file holds none.
    """
    subject = x509.load_pem_x509_certificate(file.read_bytes()).subject
    return [str(one.value) for one in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
