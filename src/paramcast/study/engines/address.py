"""Ray addresses: parse them, and try them first, because Ray itself waits for minutes."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

from ...errors import StudyError
from ..reading import shown

CLIENT = "ray://"
CLIENT_PORT, HEAD_PORT = 10001, 6379
"""Ray's own, where an address names none."""
CONNECT_SECONDS, ANSWER_SECONDS = 4.0, 6.0


class Address(NamedTuple):
    """Either "auto", "local", or the host and port of a Ray client server or a head node."""

    text: str
    host: str = ""
    port: int = 0


def read_address(text: str) -> Address:
    """Read an --address.

    Raises:
        StudyError: it is not an address.

    Example:
        >>> read_address("ray://head")
        Address(text='ray://head:10001', host='head', port=10001)
    """
    if text in ("auto", "local"):
        return Address(text)
    client = text.startswith(CLIENT)
    host, colon, port = text.removeprefix(CLIENT).rpartition(":")
    if not colon:
        host, port = port, str(CLIENT_PORT if client else HEAD_PORT)
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not host or not 0 < number < 65536 or any(c in host for c in "/@ "):
        raise StudyError(
            "--address must be auto, local, ray://HOST:10001 (from outside the cluster) or "
            f"HOST:6379 (on a node of it), got {shown(text)}"
        )
    return Address(f"{CLIENT if client else ''}{host}:{number}", host, number)


def check_reachable(address: Address) -> None:
    """Refuse an address at which no Ray answers, within about ten seconds.

    Raises:
        StudyError: nothing listens there, or what listens does not speak gRPC as Ray does.
    """
    if not address.host:
        return
    try:
        with socket.create_connection((address.host.strip("[]"), address.port), CONNECT_SECONDS):
            pass
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
        reason = getattr(error, "strerror", None) or error
        raise StudyError(
            f"no Ray cluster can be reached at {address.text[:80]} ({reason}); start "
            "one with `ray start --head`, or check host, port and firewall"
        ) from None
    if os.environ.get("RAY_USE_TLS", "0") == "0" and not _answers(address):
        raise StudyError(
            f"what listens at {address.text} is not a Ray cluster; give the port of `ray start` "
            f"({HEAD_PORT}) or of its clients (ray://HOST:{CLIENT_PORT})"
        )


def _answers(address: Address) -> bool:
    import grpc

    with grpc.insecure_channel(f"{address.host}:{address.port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_SECONDS)
        except grpc.FutureTimeoutError:
            return False
    return True
