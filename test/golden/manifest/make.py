#!/usr/bin/env python3
"""Makes the golden manifests of this folder from docs/on-disk.md alone, without the product's code.

Usage: python3 make.py            writes the files beside itself
The disk has 300,000 bytes: five cells, the last one of 37,856 bytes.
"""
import hashlib
import os
import struct
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
CELL = 65536
SIZE = 300_000


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def guid(n):
    return uuid.UUID("00000000-0000-4000-8000-%012x" % n).bytes_le


def header(flags=0, version=1, cell=CELL, size=SIZE, logical=512, physical=4096, magic=b"HVDRMFST", reserved=0,
           parent=None):
    out = magic + struct.pack("<II", version, flags)
    parent = (bytes(16) if flags == 1 else guid(0)) if parent is None else parent
    out += guid(1) + parent + guid(1000) + guid(1001)
    out += struct.pack("<IIIIQQ", 1, cell, logical, physical, size, 7)
    out += bytes([reserved]) + bytes(11)
    return out + struct.pack("<I", crc32c(out))


def head(cell, kind, reserved=0):
    return struct.pack("<Q", cell)[:6] + bytes([kind, reserved])


def data(cell, content):
    return head(cell, 1) + hashlib.sha256(content).digest()


def zero(cell, count):
    return head(cell, 2) + struct.pack("<Q", count) + bytes(24)


def pattern(length, seed):
    return bytes((seed + 7 * i) % 251 + 1 for i in range(length))


def manifest(records, cells, data_cells, head_bytes=None, count=None, root=None):
    head_bytes = header() if head_bytes is None else head_bytes
    count = len(records) if count is None else count
    counts = head(0, 255) + struct.pack("<QQQ", count, cells, data_cells)
    body = b"".join(records)
    root = hashlib.sha256(head_bytes[:124] + body + counts).digest() if root is None else root
    tail = counts + root + bytes(12)
    return head_bytes + body + tail + struct.pack("<I", crc32c(tail))


FULL = pattern(CELL, 1)
LAST = pattern(SIZE - 4 * CELL, 2)
RECORDS = [data(0, FULL), zero(1, 2), data(4, LAST)]
GOOD = manifest(RECORDS, 4, 2)

FILES = {
    "good-delta.manifest": GOOD,
    "good-empty.manifest": manifest([], 0, 0),
    "good-base.manifest": manifest([data(0, FULL), data(4, LAST)], 2, 2, header(flags=1)),
    "bad-magic.manifest": manifest(RECORDS, 4, 2, header(magic=b"HVDRMFSX")),
    "bad-version.manifest": manifest(RECORDS, 4, 2, header(version=2)),
    "bad-flags.manifest": manifest(RECORDS, 4, 2, header(flags=2)),
    "bad-cell-size.manifest": manifest(RECORDS, 4, 2, header(cell=4096)),
    "bad-sector-size.manifest": manifest(RECORDS, 4, 2, header(logical=1024)),
    "bad-disk-size.manifest": manifest(RECORDS, 4, 2, header(size=2**63)),
    "bad-header-reserved.manifest": manifest(RECORDS, 4, 2, header(reserved=1)),
    "bad-header-checksum.manifest": GOOD[:20] + b"\xff" + GOOD[21:],
    "bad-kind.manifest": manifest([head(0, 3) + bytes(32)], 1, 0),
    "bad-reserved.manifest": manifest([head(0, 1, 1) + bytes(32)], 1, 1),
    "bad-zero-reserved.manifest": manifest([zero(1, 2)[:-1] + b"\x01"], 2, 0),
    "bad-empty-run.manifest": manifest([zero(1, 0)], 0, 0),
    "bad-order.manifest": manifest([RECORDS[2], RECORDS[0]], 2, 2),
    "bad-twice.manifest": manifest([RECORDS[0], RECORDS[0]], 2, 2),
    "bad-beyond-disk.manifest": manifest([zero(3, 3)], 3, 0),
    "bad-split-run.manifest": manifest([zero(1, 1), zero(2, 1)], 2, 0),
    "bad-zeros-as-data.manifest": manifest([data(1, bytes(CELL))], 1, 1),
    "bad-base-with-parent.manifest": manifest([data(0, FULL)], 1, 1, header(flags=1, parent=guid(0))),
    "bad-base-with-zero.manifest": manifest(RECORDS, 4, 2, header(flags=1)),
    "bad-count.manifest": manifest(RECORDS, 4, 2, count=2),
    "bad-root.manifest": manifest(RECORDS, 4, 2, root=bytes(32)),
    "bad-torn-header.manifest": GOOD[:100],
    "bad-torn-record.manifest": GOOD[:150],
    "bad-torn-trailer.manifest": GOOD[:-1],
    "bad-no-trailer.manifest": GOOD[:-80],
    "bad-trailing.manifest": GOOD + b"\0",
}

for name, content in FILES.items():
    with open(os.path.join(HERE, name), "wb") as out:
        out.write(content)
