#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What programs do with a mount: names, attributes, contents, space, locks, each as the kernel's
ext4 answers it.  Permissions have a table of their own (tests/posix)."""

import ctypes
import errno
import fcntl
import mmap
import os
import signal
import stat
import struct
import threading
import time
from pathlib import Path

import mounting
from calls import (APPEND, AT_FDCWD, BLOCK, COLLAPSE, EXCHANGE, FITRIM, FSGETXATTR,
                   FSSETXATTR, GETVERSION, IMMUTABLE, INSERT, KEEP_SIZE, NOATIME, NODUMP, NOREPLACE,
                   PUNCH, ROOT, SHUTDOWN, SHUTDOWN_AS_TOLD, WHITEOUT, ZERO, Aio, Operations, acl,
                   aligned, as_user, call, fallocate, flags_of, opened, read_direct, rename, set_flags,
                   write_direct)
from mounting import LONG, run


class Names(Operations):
    def test_making_and_removing(self):
        a = self.path("a", b"text")
        os.mkdir(self.path("d"))
        os.link(a, self.path("d/b"))
        os.symlink("d/b", self.path("l"))
        os.symlink("x" * 4000, self.path("long"))
        os.mkfifo(self.path("fifo"))
        self.assertEqual(self.path("l").read_bytes(), b"text")
        self.assertEqual(os.readlink(self.path("long")), "x" * 4000)
        self.assertTrue(stat.S_ISFIFO(os.stat(self.path("fifo")).st_mode))
        self.assertEqual((os.stat(a).st_nlink, os.stat(self.path("d")).st_nlink), (2, 2))
        self.fails(errno.EEXIST, os.mkdir, a)
        self.fails(errno.ENOTEMPTY, os.rmdir, self.path("d"))
        self.fails(errno.EISDIR, os.unlink, self.path("d"))
        self.fails(errno.ENOTDIR, os.rmdir, a)
        self.fails(errno.ENOENT, os.unlink, self.path("none"))
        self.fails(errno.ENAMETOOLONG, os.stat, self.path("n" * 256))
        self.path("n" * 255, b"")
        os.unlink(a)
        self.assertEqual(os.stat(self.path("d/b")).st_nlink, 1)
        os.unlink(self.path("d/b"))
        os.rmdir(self.path("d"))
        self.assertFalse(self.path("d").exists())

    def test_renaming(self):
        a, b, d = self.path("a", b"a"), self.path("b", b"b"), self.path("d")
        os.mkdir(d)
        self.fails(errno.EEXIST, rename, a, b, NOREPLACE)
        rename(a, b, EXCHANGE)
        self.assertEqual((a.read_bytes(), b.read_bytes()), (b"b", b"a"))
        self.fails(errno.EINVAL, rename, d, d / "in")
        rename(a, d / "c")
        self.assertEqual(os.listdir(d), ["c"])
        with opened(b, os.O_RDONLY) as fd:
            rename(d / "c", b)
            # What was renamed over is still there for who has it open.
            self.assertEqual(os.fstat(fd).st_nlink, 0)
            self.assertEqual(os.pread(fd, 10, 0), b"a")
        self.assertEqual(b.read_bytes(), b"b")
        if ROOT:
            rename(b, d / "e", WHITEOUT)
            left = os.stat(b)
            self.assertTrue(stat.S_ISCHR(left.st_mode) and left.st_rdev == 0)

    def test_what_was_unlinked_lives_on(self):
        before = os.statvfs(self.at).f_bfree
        path = self.path("a", b"x" * 300000)
        with opened(path, os.O_RDWR) as fd:
            os.unlink(path)
            os.pwrite(fd, b"end", 300000)
            self.assertEqual(os.pread(fd, 10, 299999), b"xend")
            self.assertEqual(os.fstat(fd).st_size, 300003)
            os.ftruncate(fd, 5)
            os.fsync(fd)
            self.assertEqual(os.pread(fd, 10, 0), b"xxxxx")
        self.assertTrue(mounting.wait_until(lambda: os.statvfs(self.at).f_bfree == before))

    def test_without_a_name(self):
        with opened(self.at, os.O_TMPFILE | os.O_RDWR, 0o640) as fd:
            os.write(fd, b"nameless")
            self.assertEqual(os.listdir(self.at), [])
            self.assertEqual(os.fstat(fd).st_nlink, 0)
            call("linkat", AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD,
                 os.fsencode(self.path("named")), 0x400)
        self.assertEqual(self.path("named").read_bytes(), b"nameless")
        with opened(self.at, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o640) as fd:
            self.fails(errno.ENOENT, call, "linkat", AT_FDCWD, b"/proc/self/fd/%d" % fd,
                       AT_FDCWD, os.fsencode(self.path("never")), 0x400)

    def test_reading_a_directory(self):
        """While names come and go: what is there all the time comes once."""
        names = {f"name{i:05}" for i in range(2000)}
        for name in names:
            self.path(name, b"")
        seen = []
        with os.scandir(self.at) as entries:
            for i, entry in enumerate(entries):
                seen.append(entry.name)
                if i % 4 == 0:
                    self.path(f"other{i}", b"")
                if i % 8 == 4:
                    os.unlink(self.path(f"other{i - 4}"))
        kept = [name for name in seen if name in names]
        self.assertEqual(len(kept), len(names))
        self.assertEqual(set(kept), names)
        # With attributes.
        for entry in os.scandir(self.at):
            self.assertEqual(entry.stat(follow_symlinks=False).st_ino, entry.inode())

    def test_handles(self):
        """An NFS server's handle is good over a mount, and of no other file."""
        if not ROOT:
            self.skipTest("open_by_handle_at(2) is root's")
        os.mkdir(self.path("d"))
        path = self.path("d/a", b"by handle")
        handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 8 + 128)
        mount_id = ctypes.c_int()
        call("name_to_handle_at", AT_FDCWD, os.fsencode(path), handle, ctypes.byref(mount_id), 0)

        def found():
            with opened(self.at, os.O_RDONLY) as there:
                fd = call("open_by_handle_at", there, handle, os.O_RDONLY)
                data = os.read(fd, 100)
                os.close(fd)
            return data

        def forgotten():
            """One at a time, or several, as the kernel has them at hand."""
            requests = self.case.stats()["requests"]
            return sum(requests[kind]["requests"] for kind in ("forget", "forget_many")
                       if kind in requests)

        def forgets():
            Path("/proc/sys/vm/drop_caches").write_text("2")
            return forgotten() > before

        def is_stale():
            """The kernel keeps the inode until closing it has been answered."""
            try:
                found()
            except OSError as e:
                return e.errno == errno.ESTALE
            return False

        self.assertEqual(found(), b"by handle")
        before = forgotten()
        self.assertTrue(mounting.wait_until(forgets))
        self.assertEqual(found(), b"by handle")
        self.case.umount()
        self.mount()
        self.assertEqual(found(), b"by handle")
        os.unlink(path)
        self.assertTrue(mounting.wait_until(is_stale))
        self.path("d/a", b"another")
        self.fails(errno.ESTALE, found)


class Attributes(Operations):
    def test_attributes(self):
        path = self.path("a", b"12345678")
        os.chmod(path, 0o600)
        os.utime(path, ns=(1_000_000_001, 2_000_000_002))
        os.truncate(path, 4)
        os.truncate(path, 6)
        st = os.stat(path)
        self.assertEqual((stat.S_IMODE(st.st_mode), st.st_atime_ns, st.st_size),
                         (0o600, 1_000_000_001, 6))
        self.assertGreater(st.st_mtime_ns, 2_000_000_002)
        self.assertEqual(path.read_bytes(), b"1234\0\0")
        born = float(run("stat", "-c", "%.W", path).out)
        self.assertLess(abs(born - time.time()), 60)
        before = os.stat(path).st_ctime_ns
        time.sleep(0.02)
        os.link(path, self.path("b"))
        self.assertGreater(os.stat(path).st_ctime_ns, before)
        self.assertEqual(os.stat(path).st_nlink, 2)
        fs = os.statvfs(self.at)
        self.assertEqual((fs.f_frsize, fs.f_namemax), (BLOCK, 255))
        if ROOT:
            os.mknod(self.path("dev"), 0o600 | stat.S_IFBLK, os.makedev(259, 70000))
            self.assertEqual(os.stat(self.path("dev")).st_rdev, os.makedev(259, 70000))

    def test_access_times(self):
        """Relative: a read after a write counts, though the kernel has the page; then no more."""
        path = self.path("a", b"text")

        def read():
            time.sleep(0.02)
            path.read_bytes()
            return os.stat(path)

        first = read()
        self.assertGreater(first.st_atime_ns, first.st_mtime_ns)
        self.assertEqual(read().st_atime_ns, first.st_atime_ns)
        with open(path, "ab") as f:
            f.write(b"more")
        again = read()
        self.assertGreater(again.st_atime_ns, again.st_mtime_ns)
        with opened(path, os.O_RDONLY | os.O_NOATIME) as fd:
            os.utime(path, ns=(1, 2))
            os.read(fd, 10)
        self.assertEqual(os.stat(path).st_atime_ns, 1)

    def test_extended_attributes(self):
        path = self.path("a", b"")
        value = os.urandom(3000)
        os.setxattr(path, "user.a", value)
        os.setxattr(path, "user.b", b"")
        self.assertEqual(os.getxattr(path, "user.a"), value)
        self.assertEqual(sorted(os.listxattr(path)), ["user.a", "user.b"])
        self.fails(errno.EEXIST, os.setxattr, path, "user.b", b"", os.XATTR_CREATE)
        os.removexattr(path, "user.b")
        self.fails(errno.ENODATA, os.getxattr, path, "user.b")
        self.fails(errno.ENODATA, os.setxattr, path, "user.b", b"", os.XATTR_REPLACE)
        self.fails(errno.EOPNOTSUPP, os.setxattr, path, "nonsense.a", b"")
        if ROOT:
            os.setxattr(path, "trusted.t", b"t")
            self.assertIn("trusted.t", os.listxattr(path))
            self.assertEqual(as_user(1, lambda: len(os.listxattr(path))), 1)

    def test_default_acls_and_groups(self):
        """What a directory hands on to what is made in it."""
        d = self.path("d")
        os.mkdir(d)
        os.setxattr(d, "system.posix_acl_default",
                    acl((1, 7, 0xFFFFFFFF), (2, 6, 1234), (4, 5, 0xFFFFFFFF),
                        (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)))
        old = os.umask(0o077)
        try:
            with opened(d / "a", os.O_CREAT | os.O_WRONLY, 0o664):
                pass
            with opened(self.path("plain"), os.O_CREAT | os.O_WRONLY, 0o664):
                pass
        finally:
            os.umask(old)
        # The ACL stands for the umask.
        self.assertEqual(stat.S_IMODE(os.stat(d / "a").st_mode), 0o660)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("plain")).st_mode), 0o600)
        self.assertIn(struct.pack("<HHI", 2, 6, 1234),
                      os.getxattr(d / "a", "system.posix_acl_access"))
        os.chmod(d / "a", 0o640)
        self.assertIn(struct.pack("<HHI", 16, 4, 0xFFFFFFFF),
                      os.getxattr(d / "a", "system.posix_acl_access"))
        if ROOT:
            os.chown(d, 0, 77)
            os.chmod(d, 0o2777)
            os.mkdir(d / "sub")
            st = os.stat(d / "sub")
            self.assertEqual((st.st_gid, st.st_mode & stat.S_ISGID), (77, stat.S_ISGID))

    def test_flags(self):
        path = self.path("a", b"text")
        old = flags_of(path)
        before = os.stat(path).st_ctime_ns
        time.sleep(0.02)
        set_flags(path, old | NODUMP)
        self.assertEqual(flags_of(path), old | NODUMP)
        # The kernel is told that it does not know the time of change any more.
        self.assertGreater(os.stat(path).st_ctime_ns, before)
        with opened(path, os.O_RDONLY) as fd:
            fcntl.ioctl(fd, GETVERSION, b"\0" * 8)
            attr = bytearray(fcntl.ioctl(fd, FSGETXATTR, b"\0" * 28))
            self.assertEqual(struct.unpack_from("I", attr)[0] & 0x80, 0x80)
            struct.pack_into("I", attr, 0, 0x40)  # FS_XFLAG_NOATIME
            fcntl.ioctl(fd, FSSETXATTR, bytes(attr))
            self.assertEqual(flags_of(path) & (NODUMP | NOATIME), NOATIME)
            struct.pack_into("I", attr, 12, 77)
            self.fails(errno.EOPNOTSUPP, fcntl.ioctl, fd, FSSETXATTR, bytes(attr))
            self.fails(errno.ENOTTY, fcntl.ioctl, fd, 0x80047A7A, b"\0" * 4)
        self.assertEqual(flags_of(self.at) & 0x80000, 0x80000)
        if not ROOT:
            return
        set_flags(path, old | IMMUTABLE)
        self.fails(errno.EPERM, os.open, path, os.O_WRONLY)
        self.fails(errno.EPERM, os.unlink, path)
        set_flags(path, old | APPEND)
        self.fails(errno.EPERM, os.open, path, os.O_WRONLY)
        with open(path, "ab") as f:
            f.write(b"more")
        set_flags(path, old)
        self.assertEqual(path.read_bytes(), b"textmore")

    def test_trimming(self):
        """What was removed is no longer in the image's file, once that is durable."""
        path = self.path("a", os.urandom(16 << 20))
        with opened(path, os.O_RDONLY) as fd:
            os.fsync(fd)
        os.unlink(path)
        full = os.stat(self.case.image).st_blocks

        def trim(start=0, length=2**64 - 1, least=0):
            with opened(self.at, os.O_RDONLY) as fd:
                done = fcntl.ioctl(fd, FITRIM, struct.pack("QQQ", start, length, least))
            return struct.unpack("QQQ", done)[1]

        def is_smaller():
            with opened(self.path("b"), os.O_CREAT | os.O_WRONLY) as fd:
                os.write(fd, b"b")
                os.fsync(fd)
            trim()
            # The journal takes more, as long as it has not been used up once.
            return os.stat(self.case.image).st_blocks <= full - (8 << 20) // 512

        self.assertTrue(mounting.wait_until(is_smaller))
        self.assertLess(trim(length=32 << 20), trim())
        self.fails(errno.EINVAL, trim, 1 << 40)
        self.fails(errno.EINVAL, trim, 0, 100)
        if ROOT:
            self.assertEqual(as_user(1, trim), -errno.EPERM)
        done = run("fstrim", "-v", self.case.at)
        self.assertEqual((done.status, done.err), (0, ""))

    def test_shutting_down(self):
        path = self.path("a", b"text")
        with opened(self.at, os.O_RDONLY) as fd:
            if ROOT:
                self.assertEqual(as_user(1, lambda: fcntl.ioctl(fd, SHUTDOWN, b"\2\0\0\0") and 0),
                                 -errno.EPERM)
            fcntl.ioctl(fd, SHUTDOWN, b"\2\0\0\0")
        self.fails(errno.EIO, os.mkdir, self.path("d"))
        self.fails(errno.EIO, os.truncate, path, 0)
        self.case.umount()
        self.mount()
        self.assertEqual(path.read_bytes(), b"text")
        self.path("b", b"more")

    def test_shutting_down_at_once(self):
        """What was not made durable is lost, as by a power cut; unmounting ends well."""
        kept, lost = self.path("kept", b"kept"), self.path("lost")
        with opened(kept, os.O_RDWR) as fd:
            os.fsync(fd)
            lost.write_bytes(b"lost")
            if ROOT:
                self.assertEqual(as_user(1, lambda: fcntl.ioctl(fd, SHUTDOWN_AS_TOLD,
                                                                b"\2\0\0\0") and 0), -errno.EPERM)
            self.fails(errno.EINVAL, fcntl.ioctl, fd, SHUTDOWN_AS_TOLD, b"\3\0\0\0")
            fcntl.ioctl(fd, SHUTDOWN_AS_TOLD, b"\2\0\0\0")
            self.fails(errno.EIO, os.pwrite, fd, b"more", 0)
            self.fails(errno.EIO, os.fsync, fd)
        self.case.umount()
        self.assertIn("needs_recovery", run("dumpe2fs", "-h", self.case.image).out)
        self.case.fsck()
        self.mount()
        self.assertEqual(kept.read_bytes(), b"kept")
        self.assertFalse(lost.exists())

    def test_set_id_bits_go(self):
        """With a write of somebody's, and not of root's."""
        if not ROOT:
            self.skipTest("needs somebody else")
        path, other = self.path("a", b"text" * 2000), self.path("b", b"text")

        def left(what):
            os.chmod(path, 0o6777)
            self.assertEqual(as_user(1, what), 0)
            return stat.S_IMODE(os.stat(path).st_mode)

        def allocate():
            with opened(path, os.O_WRONLY) as fd:
                fallocate(fd, 0, 0, 1 << 20)

        def copy():
            with opened(other, os.O_RDONLY) as a, opened(path, os.O_WRONLY) as b:
                os.copy_file_range(a, b, 4, 0, 0)

        def write(flags, data=b"x"):
            with opened(path, os.O_WRONLY | flags) as fd:
                os.pwritev(fd, [data], 0)

        self.assertEqual(left(lambda: write(0)), 0o777)
        self.assertEqual(left(lambda: write(os.O_DIRECT, aligned(b"x" * BLOCK))), 0o777)
        self.assertEqual(left(lambda: write(os.O_TRUNC)), 0o777)
        self.assertEqual(left(lambda: os.truncate(path, 9)), 0o777)
        self.assertEqual(left(allocate), 0o777)
        self.assertEqual(left(copy), 0o777)
        os.chmod(path, 0o6777)
        write(0)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o6777)


class Contents(Operations):
    def test_reading_and_writing(self):
        path = self.path("a")
        data = os.urandom(3 << 20)
        with opened(path, os.O_RDWR | os.O_CREAT) as fd:
            for pos in range(0, len(data), 100001):
                os.pwrite(fd, data[pos:pos + 100001], pos)
            self.assertEqual(os.pread(fd, len(data) + 10, 0), data)
            os.fsync(fd)
        self.assertEqual(read_direct(path, 0, 4 << 20), data)
        with open(path, "ab") as f:
            f.write(b"end")
        self.assertEqual(path.read_bytes(), data + b"end")
        with opened(path, os.O_WRONLY | os.O_TRUNC):
            self.assertEqual(os.stat(path).st_size, 0)
        for flags in [os.O_SYNC, os.O_DSYNC, os.O_SYNC | os.O_DIRECT, os.O_APPEND | os.O_DIRECT]:
            with opened(path, os.O_WRONLY | flags) as fd:
                os.write(fd, aligned(b"s" * BLOCK))
        self.assertEqual(os.stat(path).st_size, 2 * BLOCK)
        with opened(self.at, os.O_RDONLY) as fd:
            os.fsync(fd)

    def test_direct(self):
        path = self.path("a")
        data = os.urandom(16 * BLOCK)
        self.assertEqual(write_direct(path, 0, data), len(data))
        self.assertEqual(path.read_bytes(), data)
        self.assertEqual(read_direct(path, 3 * BLOCK, BLOCK), data[3 * BLOCK:4 * BLOCK])
        self.assertEqual(read_direct(path, len(data), BLOCK), b"")
        self.fails(errno.EINVAL, write_direct, path, 100, data[:BLOCK])
        self.fails(errno.EINVAL, write_direct, path, 0, data[:100])
        self.fails(errno.EINVAL, read_direct, path, 0, 100)
        with opened(path, os.O_RDWR) as fd:
            # As fcntl(2) changes it while the file is open.
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT)
            self.fails(errno.EINVAL, os.pwritev, fd, [aligned(b"x")], 1)
            os.pwritev(fd, [aligned(b"y" * BLOCK)], 0)
            fcntl.fcntl(fd, fcntl.F_SETFL, 0)
            os.pwrite(fd, b"z", 1)
            self.assertEqual(os.pread(fd, 3, 0), b"yzy")

    def test_appending(self):
        path = self.path("a")
        for direct in [0, os.O_DIRECT]:
            path.write_bytes(b"o" * 2 * BLOCK)
            with opened(path, os.O_RDWR | os.O_APPEND | direct) as fd:
                os.pwritev(fd, [aligned(b"e" * BLOCK)], 0)
                fcntl.fcntl(fd, fcntl.F_SETFL, direct)
                os.pwritev(fd, [aligned(b"b" * BLOCK)], 0)
                fcntl.fcntl(fd, fcntl.F_SETFL, direct | os.O_APPEND)
                os.write(fd, aligned(b"f" * BLOCK))
            self.assertEqual(path.read_bytes()[::BLOCK], b"boef")

    def test_append_only(self):
        path = self.path("a")
        path.touch()
        set_flags(path, flags_of(path) | APPEND)
        self.fails(errno.EPERM, os.open, path, os.O_WRONLY)
        with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, b"begin, ")
            fcntl.fcntl(fd, fcntl.F_SETFL, 0)
            os.write(fd, b"end")
            os.fsync(fd)
        self.assertEqual(path.read_bytes(), b"begin, end")
        set_flags(path, flags_of(path) & ~APPEND)

    def test_direct_writes_and_cached_reads(self):
        """Whoever reads after a write is over reads what was written: also from a page
        that others had the kernel fill in the course of that write."""
        if os.uname().machine not in Aio.NUMBERS:
            self.skipTest("no asynchronous I/O here")
        path = self.path("a", bytes(BLOCK))
        aio = Aio()
        self.addCleanup(aio.close)
        for _ in range(2):
            self.read_all_the_time(path)
        memory = mmap.mmap(-1, BLOCK)
        stale = number = 0
        end = time.monotonic() + (20 if LONG else 0.7)
        with opened(path, os.O_RDONLY) as cached, \
                opened(path, os.O_WRONLY | os.O_DIRECT) as direct:
            while time.monotonic() < end or number < 100:
                number += 1
                struct.pack_into("<Q", memory, 0, number)
                aio.begin(direct, memory, 0)
                self.assertEqual(aio.wait(), [BLOCK])
                found, = struct.unpack("<Q", os.pread(cached, 8, 0))
                stale += found != number
        self.assertEqual(stale, 0, f"of {number}")

    def read_all_the_time(self, path):
        """In a process of its own, until the test is over."""
        pid = os.fork()
        if pid == 0:
            try:
                with opened(path, os.O_RDONLY) as fd:
                    while True:
                        os.pread(fd, 8, 0)
            finally:
                os._exit(1)
        self.addCleanup(os.waitpid, pid, 0)
        self.addCleanup(os.kill, pid, signal.SIGKILL)

    def test_truncation_beside_a_direct_write(self):
        """The kernel does not wait for the write.  What was behind the cut is gone all the same,
        from the kernel's pages too, when the write comes second and makes the file as long as
        it was."""
        if os.uname().machine not in Aio.NUMBERS:
            self.skipTest("no asynchronous I/O here")
        nr = 16
        path = self.path("a", b"")
        aio, memory = Aio(), mmap.mmap(-1, BLOCK)
        memory[:] = b"w" * BLOCK
        end = time.monotonic() + (20 if LONG else 0.5)
        with opened(path, os.O_RDWR) as cached, opened(path, os.O_WRONLY | os.O_DIRECT) as direct:
            while time.monotonic() < end:
                os.ftruncate(cached, 0)
                os.pwrite(cached, b"x" * nr * BLOCK, 0)
                os.pread(cached, nr * BLOCK, 0)
                aio.begin(direct, memory, (nr - 1) * BLOCK, 4)
                os.ftruncate(cached, BLOCK)
                self.assertEqual(aio.wait(), [BLOCK] * 4)
                if os.fstat(cached).st_size != BLOCK:
                    self.assertTrue(os.pread(cached, nr * BLOCK, BLOCK)
                                    == bytes((nr - 2) * BLOCK) + memory[:])
        aio.close()

    def test_mapped(self):
        path = self.path("a", b"a" * 10000)
        for flags in [0, os.O_DIRECT]:
            with opened(path, os.O_RDWR | flags) as fd:
                with mmap.mmap(fd, 10000) as memory:
                    self.assertEqual(memory[9980:9990], b"a" * 10)
                    memory[5000:5005] = b"mmap%d" % bool(flags)
                    memory[9999:10000] = b"e"
                    memory.flush()
                    self.assertEqual(read_direct(path, 0, 12288)[5000:5005],
                                     b"mmap%d" % bool(flags))
        self.assertEqual(path.read_bytes()[9990:], b"aaaaaaaaae")
        self.assertEqual(os.stat(path).st_size, 10000)

    def test_space(self):
        path = self.path("a")
        with opened(path, os.O_RDWR | os.O_CREAT) as fd:
            fallocate(fd, 0, 0, 1 << 20)
            fallocate(fd, KEEP_SIZE, 1 << 20, 1 << 20)
            st = os.fstat(fd)
            self.assertEqual((st.st_size, st.st_blocks), (1 << 20, 4096))
            os.pwrite(fd, b"d" * (1 << 20), 0)
            os.fsync(fd)
            fallocate(fd, PUNCH | KEEP_SIZE, 8192, 8192)
            fallocate(fd, ZERO, 100, 100)
            self.assertEqual(os.pread(fd, 300, 0), b"d" * 100 + bytes(100) + b"d" * 100)
            self.assertEqual(os.pread(fd, 8194, 8191), b"d" + bytes(8192) + b"d")
            self.assertEqual(os.lseek(fd, 0, os.SEEK_HOLE), 8192)
            self.assertEqual(os.lseek(fd, 8192, os.SEEK_DATA), 16384)
            self.assertEqual(os.lseek(fd, 16384, os.SEEK_HOLE), 1 << 20)
            self.fails(errno.ENXIO, os.lseek, fd, 1 << 20, os.SEEK_DATA)
            # The kernel does not pass these on.
            self.fails(errno.EOPNOTSUPP, fallocate, fd, COLLAPSE, 0, BLOCK)
            self.fails(errno.EOPNOTSUPP, fallocate, fd, INSERT, 0, BLOCK)

    def test_full(self):
        """No space is said by the write that has none, or at the latest by fsync where the kernel
        writes back; and preallocated space is kept."""
        path = self.path("full")
        with opened(self.path("kept"), os.O_RDWR | os.O_CREAT) as kept, \
                opened(path, os.O_WRONLY | os.O_CREAT) as fd:
            fallocate(kept, 0, 0, 1 << 20)
            with self.assertRaises(OSError) as raised:
                for _ in range(80):
                    os.write(fd, bytes(1 << 20))
                os.fsync(fd)
            self.assertEqual(raised.exception.errno, errno.ENOSPC)
            self.assertEqual(os.pwrite(kept, b"k" * (1 << 20), 0), 1 << 20)
            os.fsync(kept)
        os.unlink(path)
        self.path("again", b"there is space")

    def test_copying(self):
        data = os.urandom(1 << 20)
        path = self.path("a", data)
        with opened(path, os.O_RDONLY) as a, \
                opened(self.path("b"), os.O_RDWR | os.O_CREAT) as b:
            os.pread(b, 10, 0)
            self.assertEqual(os.copy_file_range(a, b, 1 << 20, 5, 7), (1 << 20) - 5)
            self.assertEqual(os.pread(b, 2 << 20, 0), bytes(7) + data[5:])
            self.assertEqual(os.copy_file_range(a, b, 100, 1 << 20, 0), 0)

    def test_locks(self):
        """Between processes, which are all of this machine."""
        path = self.path("a", b"text")

        def taken(how):
            with opened(path, os.O_RDWR) as fd:
                how(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

        with opened(path, os.O_RDWR) as fd:
            for how in [fcntl.lockf, fcntl.flock]:
                how(fd, fcntl.LOCK_EX)
                pid = os.fork()
                if pid == 0:
                    try:
                        taken(how)
                        os._exit(0)
                    except OSError as error:
                        os._exit(error.errno)
                self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), errno.EAGAIN)
                how(fd, fcntl.LOCK_UN)

    def test_threads(self):
        """Many requests at a time, and the counters that tell of them."""
        def work(i):
            for k in range(30):
                path = self.path(f"{i}-{k}", b"%d" % (i * k) * 5000)
                os.rename(path, self.path(f"n{i}-{k}"))
                self.assertEqual(self.path(f"n{i}-{k}").read_bytes(), b"%d" % (i * k) * 5000)
                if k % 2:
                    os.unlink(self.path(f"n{i}-{k}"))

        before = self.case.stats()["requests"]
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(os.listdir(self.at)), 8 * 15)
        after = self.case.stats()["requests"]
        more = {name: after[name]["requests"] - before.get(name, {"requests": 0})["requests"]
                for name in after}
        self.assertEqual((more["create"], more["unlink"]), (8 * 30, 8 * 15))
        self.assertGreaterEqual(more["write"], 8 * 15)


class WithoutCache(Contents):
    options = ["-o", "cache=none"]


class WriteBack(Contents):
    options = ["-o", "cache=writeback"]


if __name__ == "__main__":
    mounting.main()
