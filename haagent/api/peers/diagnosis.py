"""A look at a peer's port when gRPC only says that the connection was closed, or when it is the peer that dials.

A TLS handshake of our own, with Python's `ssl`, which tells what gRPC keeps to itself: whose certificate was refused,
by whom, and why. Nothing is said on it.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from haagent.api.credentials import Credentials, names_in
from haagent.api.peers.endpoint import Endpoint
from haagent.api.peers.reasons import Reason, Refused

PATIENCE: Final = 2.0
_REFUSES_US: Final = 0.5
"""Seconds after the handshake in which the other end would break off, if it does not like our certificate."""
# OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED (openssl/x509_vfy.h).
_HAS_EXPIRED: Final = 10


async def diagnose(endpoint: Endpoint, credentials: Credentials | None, name: str) -> Refused | None:
    """What keeps us from talking to the peer `name` there, as far as it shows; None: nothing that shows."""
    try:
        async with asyncio.timeout(PATIENCE):
            if credentials is None:
                return await _wants_tls(endpoint)
            return await _handshake(endpoint, credentials, name)
    except TimeoutError:
        return Refused(Reason.UNREACHABLE, "it does not answer")
    except OSError as error:
        return Refused(Reason.UNREACHABLE, (error.strerror or str(error)).lower())
    except UnicodeError:
        return Refused(Reason.ENDPOINT, f"{endpoint.host} is no name of a host")


async def _handshake(endpoint: Endpoint, credentials: Credentials, name: str) -> Refused | None:
    if credentials.expired:
        return Refused(Reason.OURS, "our own certificate has expired")
    try:
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=credentials.context)
    except ssl.SSLCertVerificationError as error:
        expired = error.verify_code == _HAS_EXPIRED
        return Refused(Reason.EXPIRED if expired else Reason.AUTHORITY, f"its certificate: {error.verify_message}")
    except ssl.SSLError as error:
        if _is_alert(error):
            return Refused(Reason.OURS, _alert(error))
        return Refused(Reason.PLAIN, "it does not speak TLS, we do")
    except ConnectionResetError:
        return Refused(Reason.PLAIN, "it broke off the handshake; does it speak TLS?")
    try:
        if name not in (shown := names_in(writer.get_extra_info("peercert") or {})):
            return Refused(Reason.NAME, f"its certificate is for {', '.join(sorted(shown)[:4]) or 'nobody'}")
        return await _takes_ours(reader)
    finally:
        writer.transport.abort()


async def _takes_ours(reader: asyncio.StreamReader) -> Refused | None:
    """Who takes our certificate begins to speak HTTP/2; who does not, breaks off, with an alert or without."""
    try:
        async with asyncio.timeout(_REFUSES_US):
            if await reader.read(1):
                return None
    except TimeoutError:
        return None
    except ssl.SSLError as error:
        return Refused(Reason.OURS, _alert(error))
    except ConnectionResetError:
        pass
    return Refused(Reason.OURS, "it does not take our certificate: signed by another ca, or expired")


async def _wants_tls(endpoint: Endpoint) -> Refused | None:
    """Whether it speaks TLS, while we speak plain text."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    wanted = Refused(Reason.TLS, "it speaks TLS, we speak plain text")
    try:
        _, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
    except ssl.SSLError as error:
        return wanted if _is_alert(error) else None
    except ConnectionResetError:
        return None
    writer.transport.abort()
    return wanted


def _is_alert(error: ssl.SSLError) -> bool:
    return "ALERT" in (error.reason or "")


def _alert(error: ssl.SSLError) -> str:
    """`it does not take our certificate: tlsv1 alert unknown ca`."""
    return f"it does not take our certificate: {(error.reason or str(error)).lower().replace('_', ' ')}"
