# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel calls that Python has no function for: statx, getdents64, fallocate, the ioctls
of linux/fs.h and linux/fiemap.h, fscrypt keys.  x86-64 and arm64 numbers are the same except
where taken from a table."""

import ctypes
import errno
import fcntl
import os
import platform
import struct

_libc = ctypes.CDLL(None, use_errno=True)

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_IOC_GETVERSION = 0x80087601
FS_IOC_FSGETXATTR = 0x801C581F
FS_IOC_FIEMAP = 0xC020660B
FS_IOC_SET_ENCRYPTION_POLICY = 0x800C6613
FS_IOC_ADD_ENCRYPTION_KEY = 0xC0506617

FALLOC_KEEP_SIZE, FALLOC_PUNCH, FALLOC_COLLAPSE, FALLOC_ZERO, FALLOC_INSERT = 1, 2, 8, 16, 32

_SYS_GETDENTS64 = {"x86_64": 217}.get(platform.machine(), 61)


def _check(ret, what):
    if ret < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e), what)
    return ret


def fallocate(fd, mode, pos, length):
    _check(_libc.fallocate(fd, ctypes.c_int(mode), ctypes.c_long(pos), ctypes.c_long(length)),
           "fallocate")


def statx(path):
    """The times of a path, not followed, and its direct I/O alignments; None where unknown."""
    buf = ctypes.create_string_buffer(256)
    _check(_libc.statx(ctypes.c_int(-100), ctypes.c_char_p(path), ctypes.c_int(0x100),
                       ctypes.c_uint(0x2fff), buf), "statx")
    mask = struct.unpack_from("<I", buf, 0)[0]
    result = {name: list(struct.unpack_from("<qI", buf, at)) for name, at in
              (("atime", 0x40), ("btime", 0x50), ("ctime", 0x60), ("mtime", 0x70))}
    if not mask & 0x800:
        result["btime"] = None
    result["dio"] = list(struct.unpack_from("<II", buf, 0x98)) if mask & 0x2000 else None
    return result


def getdents(fd):
    """[(name, inode, type)] of an open directory, "." and ".." included."""
    result = []
    buf = ctypes.create_string_buffer(1 << 18)
    while True:
        n = _check(_libc.syscall(_SYS_GETDENTS64, fd, buf, len(buf)), "getdents64")
        if n == 0:
            return result
        raw = buf.raw[:n]
        at = 0
        while at < n:
            ino, _, reclen, kind = struct.unpack_from("<QqHB", raw, at)
            name = raw[at + 19:at + reclen].split(b"\0", 1)[0]
            result.append((name, ino, kind))
            at += reclen


def get_flags(fd):
    return struct.unpack("<i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, b"\0" * 4))[0] & 0xFFFFFFFF


def set_flags(fd, flags):
    fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("<I", flags))


def get_generation(fd):
    return struct.unpack("<i", fcntl.ioctl(fd, FS_IOC_GETVERSION, b"\0" * 4))[0] & 0xFFFFFFFF


def get_projid(fd):
    return struct.unpack("<IIIII8x", fcntl.ioctl(fd, FS_IOC_FSGETXATTR, b"\0" * 28))[3]


def fiemap(fd, pos, length):
    """[[logical, physical, length, flags]] of the extents that touch a range."""
    result = []
    end = pos + length
    room = 2000
    while pos < end:
        head = struct.pack("<QQIIII", pos, min(end - pos, 2**64 - 1 - pos), 0, 0, room, 0)
        buf = bytearray(head + b"\0" * (56 * room))
        fcntl.ioctl(fd, FS_IOC_FIEMAP, buf)
        nr = struct.unpack_from("<I", buf, 20)[0]
        for i in range(nr):
            logical, physical, size = struct.unpack_from("<QQQ", buf, 32 + 56 * i)
            flags = struct.unpack_from("<I", buf, 32 + 56 * i + 40)[0]
            result.append([logical, physical, size, flags])
        if nr < room:
            break
        pos = result[-1][0] + result[-1][2]
    return result


def add_encryption_key(fd, raw_key):
    """Hand a fscrypt v2 key to a file system; its identifier."""
    spec = struct.pack("<II32s", 2, 0, b"")
    arg = bytearray(spec + struct.pack("<II8I", len(raw_key), 0, *([0] * 8)) + raw_key)
    _ioctl_buffer(fd, FS_IOC_ADD_ENCRYPTION_KEY, arg)
    return bytes(arg[8:24])


def set_encryption_policy(fd, identifier):
    """AES-256-XTS contents, AES-256-CTS names, names padded to 32 bytes."""
    arg = bytearray(struct.pack("<BBBBB3s16s", 2, 1, 4, 3, 0, b"", identifier))
    _ioctl_buffer(fd, FS_IOC_SET_ENCRYPTION_POLICY, arg)


def _ioctl_buffer(fd, request, arg):
    raw = (ctypes.c_char * len(arg)).from_buffer(arg)
    _check(_libc.ioctl(fd, ctypes.c_ulong(request), raw), "ioctl %x" % request)


def try_unsupported(call, *args):
    """Call; False when the file system says that it cannot do that."""
    try:
        call(*args)
        return True
    except OSError as e:
        if e.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EFBIG, errno.ENOSPC,
                       errno.ERANGE, errno.E2BIG, errno.ENAMETOOLONG, errno.EPERM,
                       errno.EOVERFLOW, errno.ENOSYS, errno.ENOPKG, errno.EMLINK,
                       errno.ENODATA):
            return False
        raise
