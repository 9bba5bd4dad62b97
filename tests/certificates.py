"""Certificates of an authority of the tests' own: good ones, and all kinds of bad ones."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

PAST, FUTURE = datetime.now(UTC) - timedelta(days=2), datetime.now(UTC) + timedelta(days=2)


class Authority:
    """An authority that keeps its files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.file)

    def issue(
        self, name: str = "localhost", begin: datetime | None = None, end: datetime | None = None
    ) -> tuple[Path, Path]:
        """Issue a certificate for localhost: its file, the chain in it, and its key's."""
        issued = self.ca.issue_cert("localhost", "127.0.0.1", common_name=name, not_before=begin, not_after=end)
        number = len(list(self.folder.iterdir()))
        certificate, key = self.folder / f"{name}-{number}.pem", self.folder / f"{name}-{number}.key"
        for blob in issued.cert_chain_pems:
            blob.write_to_path(certificate, append=True)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def encrypt(self, key: Path) -> Path:
        """Write a key once more, with a password."""
        loaded = load_pem_private_key(key.read_bytes(), None)
        encrypted = key.with_suffix(".encrypted")
        secret = BestAvailableEncryption(b"secret")
        encrypted.write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
        return encrypted

    def client(self, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Make a client that trusts this authority, with a certificate of its own if there is one."""
        context = ssl.create_default_context(cafile=self.file)
        if pair is not None:
            context.load_cert_chain(*pair)
        return context
