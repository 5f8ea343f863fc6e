"""TLS for all connections of a process: one context for each set of files, and what its errors mean.

Certificates are renewed while a process runs, in some clusters every hour. So each new connection compares the files'
times, and reads them again if they have changed: a process that keeps its first certificate could not reconnect after
that has expired.
"""

from __future__ import annotations

import functools
import logging
import os
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from yadtq.errors import ConfigError
from yadtq.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import SecretStr

    from yadtq.settings import Settings

__all__ = ["Tls", "tls_context", "tls_of", "tls_problem", "without_checks"]

log = logging.getLogger("yadtq.tls")


class Tls(NamedTuple):
    """The settings of one server's TLS. server: `kafka` or `redis`, for messages."""

    server: str
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_password: SecretStr | None = None
    server_name: str | None = None
    check_hostname: bool = True


def tls_of(settings: Settings, server: str) -> Tls:
    """server: `kafka` or `redis`."""
    return Tls(server, *(getattr(settings, f"{server}_{name}") for name in Tls._fields[1:]))


@functools.lru_cache(maxsize=16)
def tls_context(tls: Tls) -> ssl.SSLContext:
    """For all connections with these settings. Raises `ConfigError`.

    Shared, since loading the CAs of the system takes 20 ms, in which the event loop would stand still.
    """
    return _Context(tls)


class _Context(ssl.SSLContext):
    """asyncio and uvloop call `wrap_bio` for each connection: the place to renew files, and to replace the name."""

    _tls: Tls
    _read_at: tuple[int, ...]

    def __new__(cls, tls: Tls) -> _Context:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context._tls = tls
        context.check_hostname = tls.check_hostname
        if tls.ca_file is None:
            context.load_default_certs()
        context._read()
        return context

    def wrap_bio(self, incoming: Any, outgoing: Any, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        self._read_again()
        if self._tls.server_name is not None:
            kwargs["server_hostname"] = self._tls.server_name
        return super().wrap_bio(incoming, outgoing, *args, **kwargs)

    def _read(self) -> None:
        tls = self._tls
        self._read_at = _times(tls)
        if tls.ca_file is not None:
            with _told(tls.server, "ca_file", tls.ca_file):
                self.load_verify_locations(tls.ca_file)
        if tls.cert_file is not None:
            where = f"{tls.cert_file}, {tls.key_file}" if tls.key_file else tls.cert_file
            with _told(tls.server, "cert_file", where):
                # Without a function OpenSSL would ask for the password on the terminal.
                self.load_cert_chain(tls.cert_file, tls.key_file, self._key_password)

    def _key_password(self) -> str:
        if self._tls.key_password is None:
            name = f"{self._tls.server}_key_password"
            raise ConfigError(f"the private key is encrypted: set {name} (YADTQ_{name.upper()}, or ..._FILE)")
        return self._tls.key_password.get_secret_value()

    def _read_again(self) -> None:
        if _times(self._tls) == self._read_at:
            return
        try:
            self._read()
        except ConfigError as error:  # half-written: the next connection tries again
            self._read_at = ()
            log.warning("renewed certificates are not used yet: %s", error)
        else:
            log.info("%s: renewed certificates are in use for new connections", self._tls.server)


def _times(tls: Tls) -> tuple[int, ...]:
    times = []
    for path in (tls.ca_file, tls.cert_file, tls.key_file):
        try:
            times.append(os.stat(path).st_mtime_ns if path is not None else 0)
        except OSError:
            times.append(-1)
    return tuple(times)


@contextmanager
def _told(server: str, setting: str, path: str) -> Iterator[None]:
    """Errors of reading a file become a `ConfigError` that names the setting."""
    try:
        yield
    except ssl.SSLError as error:
        said = _FILE_PROBLEMS.get(error.reason or "", _UNUSABLE.get(setting, ""))
    except OSError as error:
        said = f"can't be read: {error.strerror}"
    except ValueError as error:  # a null byte in the path, or a password that is too long
        said = f"can't be used: {shown(error)}"
    else:
        return
    name = f"{server}_{setting}"
    raise ConfigError(f"{name} (YADTQ_{name.upper()}): {shown(path)} {said}")


#: Where OpenSSL says nothing but "PEM lib".
_UNUSABLE = {
    "ca_file": "contains no certificate in PEM format",
    "cert_file": "contains no certificate and private key in PEM format, or the key's password is wrong",
}
_FILE_PROBLEMS = {
    "KEY_VALUES_MISMATCH": "don't belong together: the private key is of another certificate",
    "NO_START_LINE": "is not in PEM format, or contains no private key",
    "NO_CERTIFICATE_OR_CRL_FOUND": "contains no certificate in PEM format",
    "BAD_DECRYPT": "can't be decrypted: the key's password is wrong",
}


def without_checks() -> ssl.SSLContext:
    """Only to find out whether a port speaks TLS at all. Nothing is sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def tls_problem(error: BaseException, server: str) -> str | None:
    """What this error of a connection with TLS says about certificates, with the setting to look at; else None.

    server: `kafka` or `redis`.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        said = f"its certificate was refused: {shown(error.verify_message)}"
        if "expired" in error.verify_message or "not yet valid" in error.verify_message:
            return f"{said}; renew it on the server, or check the clock of this machine"
        if "ostname mismatch" in error.verify_message or "IP address mismatch" in error.verify_message:
            return f"{said}; {_named(server, 'server_name')} takes the name that is in it"
        return f"{said}; {_named(server, 'ca_file')} must contain the CA that has signed it"
    if isinstance(error, ssl.SSLError) and "ALERT" in (getattr(error, "reason", None) or ""):
        alert = str(error.reason).partition("ALERT_")[2].replace("_", " ").lower()
        return f"it refused our certificate or TLS: {shown(alert)}; see {_named(server, 'cert_file', 'key_file')}"
    return None


def _named(server: str, *settings: str) -> str:
    return ", ".join(f"{server}_{name} (YADTQ_{server.upper()}_{name.upper()})" for name in settings)
