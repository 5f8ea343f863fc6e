"""Certificates for servers and clients of tests, signed by an authority of the test's own."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, NamedTuple

import trustme
from cryptography.hazmat.primitives import serialization

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Certificate", "Certificates"]

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


class Certificate(NamedTuple):
    """Paths of PEM files. both: key and chain in one, the key as PKCS8, which Java needs."""

    cert: str
    key: str
    both: str


class Certificates:
    """An authority, and what it signs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._ca = trustme.CA()
        self.ca_file = str(directory / "ca.pem")
        self._ca.cert_pem.write_to_path(self.ca_file)

    def issue(self, name: str, *hosts: str, expired: bool = False) -> Certificate:
        """For a server at `hosts`, or without hosts for a client that is called `name`."""
        until = LONG_AGO if expired else None
        issued = self._ca.issue_cert(*(hosts or (name,)), common_name=name, not_after=until)
        cert, key, both = (self._directory / f"{name}.{kind}.pem" for kind in ("cert", "key", "both"))
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        private = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        cert.write_bytes(chain)
        key.write_bytes(private)
        both.write_bytes(private + chain)
        return Certificate(str(cert), str(key), str(both))
