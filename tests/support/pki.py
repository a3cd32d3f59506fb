"""Certificates for servers and clients, made for one run of the tests."""

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.support.services import HOST


@dataclass(frozen=True)
class Pki:
    """Certificates: of the server's authority and another one, of the server by its address, and of
    a client.
    """

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Pki":
        authority, other = trustme.CA(), trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        other.cert_pem.write_to_path(folder / "wrong-ca.pem")
        locked = BestAvailableEncryption(b"password")
        key = load_pem_private_key(
            authority.issue_cert("client.example").private_key_pem.bytes(), None
        )
        (folder / "locked.key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
        )
        for name, certificate in {
            "server": authority.issue_cert(HOST),
            "client": authority.issue_cert("client.example"),
            "elsewhere": authority.issue_cert("elsewhere.example"),
        }.items():
            certificate.private_key_pem.write_to_path(folder / f"{name}.key")
            certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        (folder / "nonsense.pem").write_text("no certificate\n")
        return cls(folder)

    def serve(self, name: str) -> list[str]:
        """The options of a server with that certificate."""
        files = {"ca": "ca.pem", "cert": f"{name}.pem", "key": f"{name}.key"}
        return [f"--ssl-{option}={self.folder / file}" for option, file in files.items()]
