"""The files of the section [tls], made into what encrypts connections.

    load(tls) -> SSLContext, which serves with them; None where none are configured
              -> ConfigError, if one of them cannot be used: a line that names the option, the file and the remedy

TLS 1.2 and 1.3, and with 1.2 only ciphers with forward secrecy that authenticate what they encrypt. Nothing here keeps
a state: to take new files into use, load them and put the new context in the place of the old one.
"""

import re
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.config import ConfigError
from gateway.config.server import TLSSection

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_REMEDIES = {9: "wait, or set this machine's clock", 10: "renew it, or set this machine's clock"}  # X509_V_ERR_*


def load(tls: TLSSection) -> ssl.SSLContext | None:
    """Read the files.

    Raises:
        ConfigError: one of them is missing, not what it should be, or not valid now.

    """
    if not tls.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    _load_pair(context, tls)
    if tls.client_ca:
        _load_authorities(context, tls.client_ca)
    return context


def _load_pair(context: ssl.SSLContext, tls: TLSSection) -> None:
    trusting = _trusting(tls.certificate)
    if "PRIVATE KEY-----" not in _read("tls.key", tls.key):
        raise _problem("tls.key", tls.key, "there is no private key in PEM in it: name the certificate's key")
    try:
        context.load_cert_chain(tls.certificate, tls.key, _no_password(tls.key))
    except ssl.SSLError as error:
        raise _pair_problem(tls, error) from error
    try:
        _shake_hands(trusting, context)
    except ssl.SSLCertVerificationError as error:
        remedy = _REMEDIES.get(error.verify_code, "get one that is made for servers")
        raise _problem("tls.certificate", tls.certificate, f"{error.verify_message}: {remedy}") from error
    except ssl.SSLError as error:
        raise _problem("tls.certificate", tls.certificate, f"no client could use it: {_reason(error)}") from error


def _load_authorities(context: ssl.SSLContext, file: str) -> None:
    try:
        context.load_verify_locations(cadata="\n".join(_certificates("tls.client_ca", file)))
    except ssl.SSLError as error:
        raise _problem("tls.client_ca", file, f"its certificates cannot be read: {_reason(error)}") from error
    context.verify_mode = ssl.CERT_REQUIRED
    now = time.time()
    spans = [
        (ssl.cert_time_to_seconds(str(ca["notBefore"])), ssl.cert_time_to_seconds(str(ca["notAfter"])))
        for ca in context.get_ca_certs()
    ]
    if not spans:
        raise _problem("tls.client_ca", file, "there is no authority in it: name the one that signs your clients'")
    if not any(begin <= now <= end for begin, end in spans):
        begun = any(begin <= now for begin, _ in spans)
        found = "has expired: renew it" if begun else "is not yet valid: wait"
        raise _problem("tls.client_ca", file, f"the authority {found}, or set this machine's clock")


def _trusting(file: str) -> ssl.SSLContext:
    """Make a client that trusts the first certificate of a file, and nothing else: OpenSSL then judges it alone."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cadata=_certificates("tls.certificate", file)[0])
    except ssl.SSLError as error:
        raise _problem("tls.certificate", file, f"its first certificate cannot be read: {_reason(error)}") from error
    return client


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Let the two meet in memory.

    Raises:
        SSLCertVerificationError: the client finds the server's certificate to be not valid.
        SSLError: they cannot agree.

    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True))
    while not all([_goes_on(side) for side in sides]):  # noqa: C419 - each of them has its turn
        pass


def _goes_on(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _pair_problem(tls: TLSSection, error: ssl.SSLError) -> ConfigError:
    if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        found = f"it is not the key of the certificate in {tls.certificate}: name two files that belong together, with"
        return _problem("tls.key", tls.key, f"{found} the server's own certificate as the first one")
    if error.reason and ("TOO_SMALL" in error.reason or "TOO_WEAK" in error.reason):
        return _problem("tls.certificate", tls.certificate, f"{_reason(error)}: get one with a stronger key")
    return _problem("tls.key", tls.key, f"it cannot be used: {_reason(error)}")


def _no_password(file: str) -> Callable[[], str]:
    def refuse() -> str:
        raise _problem(
            "tls.key",
            file,
            f"it is encrypted, and no password can be asked for: decrypt it with openssl pkey -in {file} -out FILE",
        )

    return refuse


def _certificates(option: str, file: str) -> Sequence[str]:
    found: list[str] = _CERTIFICATE.findall(_read(option, file))
    if not found:
        raise _problem(option, file, "there is no certificate in PEM in it: openssl x509 -outform PEM makes one of DER")
    return found


def _read(option: str, file: str) -> str:
    try:
        return Path(file).read_text("latin-1")
    except (OSError, ValueError) as error:  # a name can have a NUL in it
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise _problem(option, file, f"it cannot be read: {reason}; name a file that the gateway may read") from error


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "it is damaged").replace("_", " ").lower()


def _problem(option: str, file: str, found: str) -> ConfigError:
    return ConfigError([f"{option}: {file}: {found}"])
