"""CRC-32C, the checksum of TFRecord files, for many bytes at once.

A cyclic redundancy check is linear: the remainder of a block is the exclusive or of what each byte contributes, which
depends on the byte and on how many bytes follow it. One table look-up per byte, with no byte waiting for the one
before, is work for numpy.
"""

import functools

import numpy as np
from jaxtyping import UInt32

POLYNOMIAL = 0x82F63B78
"""Castagnoli's polynomial, bits reversed (RFC 3720, appendix B.4)."""
BLOCK = 1024


def masked_crc32c(content: bytes) -> int:
    """The checksum of bytes as TFRecord stores it, rotated and shifted by a constant."""
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(content: bytes) -> int:
    """The CRC-32C of bytes; of b"123456789" it is 0xE3069283."""
    tables = _contributions()
    crc = 0xFFFFFFFF
    for start in range(0, len(content), BLOCK):
        block = np.frombuffer(content, np.uint8, min(BLOCK, len(content) - start), start).copy()
        head = min(4, len(block))
        block[:head] ^= np.array([crc], "<u4").view(np.uint8)[:head]
        contributions = tables[len(block) - 1 - np.arange(len(block)), block]
        crc = int(np.bitwise_xor.reduce(contributions)) ^ crc >> 8 * head
    return crc ^ 0xFFFFFFFF


@functools.cache
def _contributions() -> UInt32[np.ndarray, "following 256"]:
    """The contribution of a byte to the remainder when so many bytes follow it."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(POLYNOMIAL), table >> 1)
    tables = np.empty((BLOCK, 256), np.uint32)
    tables[0] = table
    for following in range(1, BLOCK):
        before = tables[following - 1]
        tables[following] = table[before & 0xFF] ^ before >> 8
    return tables
