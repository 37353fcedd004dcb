"""Whether a Ray listens at an address, found out in seconds."""

from __future__ import annotations

import os
import socket

PATIENCE = 5.0
"""Seconds that an address may take to answer."""


def refuse_silent(address: str) -> None:
    """Refuse an address where no Ray listens: Ray itself would wait for minutes.

    A Ray speaks gRPC, thus HTTP/2, whose servers answer the client's first words by their settings (RFC 9113, section 3.4).

    Raises:
        ValueError: in that case, or if it is no address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"the address of a Ray cluster is HOST:PORT or auto, got {address!r}")
    try:
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            with connection.makefile("rb") as stream:
                said = stream.read(9)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"no Ray answers at {address} ({error}); start one there with `ray start --head`, or leave --executor.address out"
        ) from None
    if said[3:4] != b"\x04":
        raise ValueError(
            f"what answers at {address} is no Ray; its head's port is 6379 unless it was started with --port"
        )
