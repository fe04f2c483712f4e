"""A data folder on a disk that fills and fails: steers diskfault.c, which the server has preloaded.

    d = Disk(server)          before the server starts
    d.set(space=0)            the next operation meets a full disk; names as in diskfault.c
    d.get("syncs_failed")     what it counted

An operation that began before `set` may still end as it would have before.
"""
import errno
import mmap
import os
import struct

import harness

# Name and struct code, in the order of diskfault.c's `control`.
FIELDS = [("space", "q"), *((n, "i") for n in (
    "space_on", "write_n", "write_errno", "sync_n", "sync_errno", "lose", "chunk", "hold",
    "make_n", "make_errno")),
    ("write_part", "q"), *((n, "q") for n in (
        "writes", "writes_failed", "syncs", "syncs_failed", "syncs_held", "makes_failed")),
    ("match", "32s"), ("hold_reads", "i"), ("reads_held", "i")]
ENDLESS = -1
LIBRARY = os.path.join(os.path.dirname(harness.BIN), "tests", "e2e", "diskfault.so")


class Disk:
    def __init__(self, server):
        assert os.path.exists(LIBRARY), f"{LIBRARY} is missing: build it beside {harness.BIN}"
        self.server = server
        self.at, at = {}, 0
        for name, code in FIELDS:
            self.at[name] = (at, code)
            at += struct.calcsize(code)
        self.path = os.path.join(server.dir, "diskfault.ctl")
        with open(self.path, "wb") as f:
            f.write(bytes(at))
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), at)
        self.set(write_errno=errno.EIO, sync_errno=errno.EIO)
        server.extra_env.update(LD_PRELOAD=LIBRARY, LV_DISKFAULT_CTL=self.path,
                                LV_DISKFAULT_DIR=os.path.realpath(server.data))

    def set(self, **fields):
        for name, value in fields.items():
            at, code = self.at[name]
            struct.pack_into(code, self.map, at, value)

    def get(self, name):
        at, code = self.at[name]
        return struct.unpack_from(code, self.map, at)[0]

    def fill(self, left=0):
        """From now on the file system has `left` bytes."""
        self.set(space=left, space_on=1)

    def free(self, left=1 << 40):
        self.set(space=left)

    def heal(self):
        """All is well again: no faults, plenty of space."""
        self.free()
        self.set(write_n=0, sync_n=0, make_n=0, lose=0, chunk=0, hold=0, match=b"", write_part=0)
