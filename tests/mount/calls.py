# SPDX-License-Identifier: LGPL-2.1-or-later
"""System calls that Python has no function for, short forms of those that it has, and the mount
on which they are tried."""

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import unittest
from contextlib import contextmanager

import mounting

LIBC = ctypes.CDLL(None, use_errno=True)
ROOT = os.geteuid() == 0
AT_FDCWD = -100
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32
GETFLAGS, SETFLAGS, GETVERSION = 0x80086601, 0x40086602, 0x80087601
FSGETXATTR, FSSETXATTR = 0x801C581F, 0x401C5820
SHUTDOWN, SHUTDOWN_AS_TOLD, FITRIM = 0x8004587D, 0x4004587D, 0xC0185879
IMMUTABLE, APPEND, NODUMP, NOATIME = 0x10, 0x20, 0x40, 0x80
BLOCK = 4096


def call(function, *args):
    """A function of the C library: its result, or an OSError."""
    result = getattr(LIBC, function)(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), function)
    return result


def rename(old, new, flags=0):
    call("renameat2", AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new),
         ctypes.c_uint(flags))


def fallocate(fd, mode, pos, length):
    call("fallocate", fd, mode, ctypes.c_int64(pos), ctypes.c_int64(length))


def flags_of(path):
    with opened(path, os.O_RDONLY) as fd:
        return struct.unpack("i", fcntl.ioctl(fd, GETFLAGS, b"\0" * 4))[0]


def set_flags(path, flags):
    with opened(path, os.O_RDONLY) as fd:
        fcntl.ioctl(fd, SETFLAGS, struct.pack("i", flags))


@contextmanager
def opened(path, flags, mode=0o644):
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def aligned(data):
    """Memory with these bytes for O_DIRECT."""
    memory = mmap.mmap(-1, max(len(data), 1))
    memory[:len(data)] = data
    return memory


def read_direct(path, pos, length):
    with opened(path, os.O_RDONLY | os.O_DIRECT) as fd:
        memory = mmap.mmap(-1, length)
        n = os.preadv(fd, [memory], pos)
        return memory[:n]


def write_direct(path, pos, data):
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT) as fd:
        return os.pwritev(fd, [aligned(data)], pos)


class Aio:
    """Asynchronous writes, as libaio does them: some of the same bytes at a time are all that is
    needed."""

    NUMBERS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
    MOST = 8

    def __init__(self):
        self.setup, self.destroy, self.getevents, self.submit = self.NUMBERS[os.uname().machine]
        self.context = ctypes.c_ulong(0)
        call("syscall", self.setup, self.MOST, ctypes.byref(self.context))

    def begin(self, fd, memory, pos, nr=1):
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        request = struct.pack("<QIIHhIQQqQII", 0, 0, 0, 1, 0, fd, address, len(memory), pos, 0, 0, 0)
        self.requests = [ctypes.create_string_buffer(request, 64) for _ in range(nr)]
        pointers = (ctypes.c_void_p * nr)(*map(ctypes.addressof, self.requests))
        call("syscall", self.submit, self.context, ctypes.c_long(nr), pointers)

    def wait(self):
        """Until all are over; their results."""
        nr = len(self.requests)
        events = ctypes.create_string_buffer(32 * nr)
        call("syscall", self.getevents, self.context, ctypes.c_long(nr), ctypes.c_long(nr), events,
             None)
        return [struct.unpack_from("<q", events, 32 * i + 16)[0] for i in range(nr)]

    def close(self):
        call("syscall", self.destroy, self.context)


def acl(*entries):
    """Bytes of a POSIX ACL: (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


def as_user(uid, what):
    """Run it as somebody else, in a child; what it returns, or minus an errno."""
    back, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            result = what() or 0
        except OSError as error:
            result = -error.errno
        except BaseException:
            result = -1000
        os.write(there, struct.pack("i", result))
        os._exit(0)
    os.close(there)
    with open(back, "rb") as pipe:
        result, = struct.unpack("i", pipe.read(4))
    os.waitpid(pid, 0)
    return result


class Operations(unittest.TestCase):
    """Each has a directory to itself; the mount, which costs more than most of them, is shared."""

    options = []
    allow = ["-o", "allow_other"] if ROOT else []

    @classmethod
    def setUpClass(cls):
        cls.case = mounting.Case()
        cls.case.setUp()
        cls.addClassCleanup(cls.case.doCleanups)
        os.chmod(cls.case.dir, 0o755)
        # Inodes of 256 bytes, for fine times.
        cls.case.make("64M", "-I", "256")
        cls.mount()

    @classmethod
    def tearDownClass(cls):
        cls.case.umount()
        cls.case.fsck_closed()

    @classmethod
    def mount(cls):
        cls.case.mount(*cls.allow, *cls.options)

    def setUp(self):
        self.at = self.case.at / self._testMethodName
        self.at.mkdir()
        os.chmod(self.at, 0o777)

    def fails(self, error, what, *args):
        with self.assertRaises(OSError) as raised:
            what(*args)
        self.assertEqual(errno.errorcode[raised.exception.errno], errno.errorcode[error])

    def path(self, name, data=None):
        path = self.at / name
        if data is not None:
            path.write_bytes(data)
        return path
