#!/usr/bin/env python3
"""Makes the golden deltas of this folder from product.md section 4 alone, without the product's code.

Usage: python3 make.py            writes the files beside itself
The disk that they belong to has 200,000 bytes (no multiple of 512, 4096 or 65,536).
"""
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))


def block(offset, data, length=None):
    return struct.pack("<QQ", offset, len(data) if length is None else length) + data


def delta(blocks, magic=b"PCBT", version=1, count=None, reserved=0):
    count = len(blocks) if count is None else count
    return magic + struct.pack("<III", version, count, reserved) + b"".join(blocks)


def pattern(length, seed):
    return bytes((seed + 7 * i) % 251 + 1 for i in range(length))


GOOD = [block(0, pattern(512, 1)), block(65536, bytes(1024)), block(199_000, pattern(1000, 3))]

FILES = {
    "good-empty.cbt": delta([]),
    "good-three-blocks.cbt": delta(GOOD),
    "good-adjacent.cbt": delta([block(100, pattern(50, 1)), block(150, pattern(51, 2)), block(201, pattern(1, 3))]),
    "good-unaligned.cbt": delta([block(65_535, pattern(2, 1)), block(131_071, pattern(700, 5))]),
    "bad-magic.cbt": delta(GOOD, magic=b"PCBX"),
    "bad-version.cbt": delta(GOOD, version=2),
    "bad-reserved.cbt": delta(GOOD, reserved=1),
    "bad-empty-block.cbt": delta([GOOD[0], block(1000, b"")]),
    "bad-beyond-disk.cbt": delta([GOOD[0], block(199_000, pattern(1001, 3))]),
    "bad-offset-huge.cbt": delta([block(2**64 - 1, pattern(16, 3))]),
    "bad-length-huge.cbt": delta([block(0, pattern(16, 3), length=2**64 - 1)]),
    "bad-order.cbt": delta([block(2000, pattern(10, 1)), block(1000, pattern(10, 2))]),
    "bad-overlap.cbt": delta([block(1000, pattern(10, 1)), block(1009, pattern(10, 2))]),
    "bad-truncated-header.cbt": delta(GOOD)[:15],
    "bad-truncated-entry.cbt": delta(GOOD)[: 16 + 16 + 512 + 15],
    "bad-truncated-data.cbt": delta(GOOD)[:-1],
    "bad-count-huge.cbt": delta(GOOD, count=2**32 - 1),
    "bad-trailing.cbt": delta(GOOD) + b"\0",
}

for name, content in FILES.items():
    with open(os.path.join(HERE, name), "wb") as out:
        out.write(content)
