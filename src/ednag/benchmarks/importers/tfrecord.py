"""TFRecord files and protobuf messages, read without TensorFlow or protobuf."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 2**20
"""Bytes that one record may have; those of NAS-Bench-101 have a few hundred."""

_BATCH = 4096


def read_tfrecord(path: Path) -> Iterator[bytes]:
    """Read the records of a TFRecord file, with every checksum verified.

    A record is its length (uint64), the masked CRC-32C of those 8 bytes, the data, and the masked CRC-32C of the data,
    all little-endian.

    Args:
        path: an uncompressed file.

    Yields:
        the data of each record.

    Raises:
        ValueError: if the file is truncated, or a length or a checksum is wrong, naming the record.
    """
    start, records = 0, _frames(path)
    while batch := list(islice(records, _BATCH)):
        lengths, stated_lengths, data, stated = zip(*batch, strict=True)
        wrong = (masked_crc(lengths) != np.array(stated_lengths)) | (masked_crc(data) != np.array(stated))
        if wrong.any():
            raise ValueError(f"record {start + int(wrong.argmax())} is damaged: its checksum is wrong")
        yield from data
        start += len(batch)


def _frames(path: Path) -> Iterator[tuple[bytes, int, bytes, int]]:
    """Split a file into length, its checksum, data, its checksum."""
    with path.open("rb") as stream:
        number = 0
        while head := stream.read(12):
            length, length_crc = struct.unpack("<QI", head) if len(head) == 12 else (0, 0)
            if len(head) == 12 and length > LARGEST:
                raise ValueError(f"record {number} claims {length} bytes: not a TFRecord file, or damaged")
            rest = stream.read(length + 4)
            if len(head) < 12 or len(rest) < length + 4:
                raise ValueError(f"record {number} is truncated; the file is incomplete")
            yield head[:8], length_crc, rest[:-4], int(struct.unpack("<I", rest[-4:])[0])
            number += 1


def masked_crc(data: Sequence[bytes]) -> NDArray[np.uint32]:
    """Compute the masked CRC-32C of each of many byte strings at once, uint32 ``(n,)``.

    CRC-32C (Castagnoli) with all bits set at the start and inverted at the end; the mask rotates right by 15 bits and
    adds 0xa282ead8 (the TFRecord format). Strings are padded with zeros in front, which leave a zero remainder as it
    is: the initial bits are the first four bytes inverted. Strings shorter than four bytes get the rest of those bits.
    """
    width = max((len(item) for item in data), default=0) + 4
    block = np.zeros((len(data), width), dtype=np.uint8)
    for row, item in zip(block, data, strict=True):
        begin = width - 4 - len(item)
        row[begin : width - 4] = np.frombuffer(item, np.uint8)
        row[begin : begin + 4] ^= 0xFF
    table, remainder = _crc_table(), np.zeros(len(data), dtype=np.uint32)
    tail = block[:, width - 4 :].copy().view("<u4")[:, 0]  # what of the initial bits goes past a short string
    for column in block[:, : width - 4].T:
        remainder = table[(remainder ^ column) & 0xFF] ^ (remainder >> np.uint32(8))
    crc = ~(remainder ^ tail)
    masked: NDArray[np.uint32] = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)
    return masked


@cache
def _crc_table() -> NDArray[np.uint32]:
    """Remainders of the 256 bytes, by the reversed Castagnoli polynomial."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ np.where(table & 1, np.uint32(0x82F63B78), np.uint32(0))
    return table


def read_fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Read the fields of one protobuf message, in order (the wire format of Protocol Buffers, versions 2 and 3).

    Yields:
        field number, and an ``int`` (varint) or ``bytes`` (length-delimited, or the 8 or 4 bytes of a fixed number).

    Raises:
        ValueError: if the message is truncated or has a wire type that protobuf doesn't know.
    """
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while place < len(message) and shift < 64:
            byte = message[place]
            place, value, shift = place + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value
        raise ValueError("truncated protobuf message")

    while place < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"unknown protobuf wire type {kind}")
        size = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        place += size
        if place > len(message):
            raise ValueError("truncated protobuf message")
        yield number, message[place - size : place]
