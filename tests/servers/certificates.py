"""Certificates of an authority that nobody else knows, and servers that have them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.servers.programs import find
from tests.servers.server import Server, free_port

#: What Python 3.13 asks of certificates (VERIFY_X509_STRICT; RFC 5280, section 4.2.1).
_KINDS: Final = """\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1
"""


class Certificates:
    """Files in `directory`: an authority, and a server's certificate for 127.0.0.1 with its key."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        #: The authority's certificate.
        self.authority = directory / "ca.pem"
        self.server = directory / "server.pem"
        self.key = directory / "server.key"

    def make(self) -> None:
        """Make them anew."""
        (self._directory / "openssl.cnf").write_text(_KINDS)
        authority_key = self._directory / "ca.key"
        self._certify("authority", "-keyout", authority_key, "-out", self.authority)
        by_authority = ("-CA", self.authority, "-CAkey", authority_key)
        self._certify("server", "-keyout", self.key, "-out", self.server, *by_authority)

    def _certify(self, kind: str, *arguments: str | Path) -> None:
        subprocess.run(
            [
                *(find("openssl", package="openssl"), "req", "-x509", "-newkey", "ec", "-days", "2", "-noenc"),
                *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-config", self._directory / "openssl.cnf"),
                *("-extensions", kind, "-subj", f"/CN={kind}", *arguments),
            ],
            capture_output=True,
            check=True,
        )


class TLSServer(Server):
    """The part of a server that listens with TLS, too; its class comes before that of the server."""

    def __init__(self, *, durable: bool = True) -> None:
        super().__init__(durable=durable)
        self.tls_port = 0
        self._certificates = Certificates(self.directory)

    @property
    def authority(self) -> Path:
        """The authority's certificate."""
        return self._certificates.authority

    def _choose_ports(self) -> None:
        super()._choose_ports()
        self.tls_port = free_port()

    def _certify(self) -> None:
        self._certificates.make()
        self._own(self._certificates.key)
