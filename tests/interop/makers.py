# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is put into the images.

Three ways, because each reaches what the others cannot:

  host_tree()    a directory of this machine that `mke2fs -d` copies in: works without root;
  debugfs_fill() commands of debugfs: unwritten extents, holes, odd inode fields, sizes that no
                 write reaches, attributes: works without root and on block sizes that the
                 kernel does not mount;
  kernel_fill()  a mounted image, written by the kernel: deep and fragmented trees, hashed
                 directories, inline data, EA inodes, everything as it is in the field.

All contents come from the seed.  An item that a configuration cannot hold (a long symlink in
1k blocks, user attributes without room) is left out: the kernel's error decides, not a table
here.
"""

import errno
import os
import socket
import stat
import struct

import harness
import kabi
from kabi import try_unsupported

ACL_TAG = {"user_obj": 1, "user": 2, "group_obj": 4, "group": 8, "mask": 16, "other": 32}

FLAG_SYNC, FLAG_IMMUTABLE, FLAG_APPEND, FLAG_NODUMP, FLAG_NOATIME = 0x8, 0x10, 0x20, 0x40, 0x80
FLAG_VERITY, FLAG_CASEFOLD = 0x100000, 0x40000000
FLAG_JOURNAL_DATA, FLAG_DIRSYNC, FLAG_TOPDIR, FLAG_EXTENTS = 0x4000, 0x10000, 0x20000, 0x80000

TIMES_NS = [
    -2**31 * 10**9, -10**9, -1, 0, 1, 999999999, (2**31 - 1) * 10**9 + 999999999,
    2**31 * 10**9, (2**32 + 7) * 10**9 + 123456789, (2**33 + 5) * 10**9 + 1,
    (2**34 - 2**31 - 1) * 10**9 + 999999999,
]


def content(*key, size):
    return harness.rng("content", *key).randbytes(size)


def posix_acl(entries):
    """[(tag, permissions, id)] in the form of getxattr("system.posix_acl_access")."""
    none = 0xFFFFFFFF
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", ACL_TAG[tag], perm, none if who is None else who)
        for tag, perm, who in entries)


ACL = posix_acl([("user_obj", 7, None), ("user", 5, 1234), ("user", 4, 70000),
                 ("group_obj", 5, None), ("group", 6, 77), ("mask", 7, None), ("other", 1, None)])


def odd_names():
    return [b"x" * 255, b"y" * 254 + b"\xff", b"hi\xff\xfe\x80", "gr\u00fc\u00df dich".encode(),
            b" lead and trail ", b"quote\"back\\slash", b"\x01\x7f", b"-dash", b"...", b"tab\tname"]


# ---- a host directory for mke2fs -d -----------------------------------------


def host_tree(root, block_size, nr_many=600):
    """A tree that needs no privileges: files, holes, links, odd names, a big directory."""
    os.makedirs(root)
    sizes = [0, 1, 59, 60, 61, 100, 160, 511, 512, 513, block_size - 1, block_size, block_size + 1,
             5 * block_size + 7, 12 * block_size, 12 * block_size + 1, 13 * block_size + 3]
    for size in sizes:
        write(os.path.join(root, "size-%d" % size), content("size", size, size=size))
    write(os.path.join(root, "big"), content("big", size=2 << 20))
    host_sparse(os.path.join(root, "sparse"), block_size)
    deep = root
    for i in range(12):
        deep = os.path.join(deep, "deep%d" % i)
        os.mkdir(deep)
        write(os.path.join(deep, "leaf"), b"leaf %d\n" % i)
    os.symlink("size-1", os.path.join(root, "link"))
    for n in (1, 59, 60, 61, 300, min(block_size - 1, 4000)):
        os.symlink("t" * n, os.path.join(root, "link-%d" % n))
    os.link(os.path.join(root, "size-100"), os.path.join(root, "hard-link"))
    os.mkdir(os.path.join(root, "names"))
    for name in odd_names():
        write(os.path.join(root, "names").encode() + b"/" + name, name)
    os.mkdir(os.path.join(root, "empty-dir"))
    many = os.path.join(root, "many")
    os.mkdir(many)
    for i in range(nr_many):
        write(os.path.join(many, many_name(i)), b"")
    os.chmod(os.path.join(root, "size-60"), 0o6751)
    os.chmod(os.path.join(root, "empty-dir"), 0o1777)
    os.utime(os.path.join(root, "size-61"), ns=(1234567890123456789, 987654321987654321))


def many_name(i):
    r = harness.rng("many", i)
    # Bytes over 127 matter: the signed and the unsigned hash differ by them.
    tail = r.choice(["", "\u00e9", "\u20ac\u00e4", "z" * r.randrange(1, 40)])
    return "entry-%06d-%s" % (i, tail)


def host_sparse(path, block_size):
    block_size = max(block_size, 4096)  # holes of the host's file system
    with open(path, "wb") as f:
        for blk in (3, 4, 9, 40):
            f.seek(blk * block_size)
            f.write(content("sparse", blk, size=block_size))
        f.truncate(100 * block_size + 17)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


# ---- debugfs ------------------------------------------------------------------


def debugfs_fill(ws, image, cfg):
    """Odd things by debugfs, under /dbg.  Its refusals are left to themselves; checksums and counts
    that it leaves wrong are put right by e2fsck, which also gives mke2fs's directories an index."""
    blob = ws.path("blob")
    bs = cfg.block_size
    write(blob, content("blob", size=40 * bs + 123))
    small, medium = ws.path("small"), ws.path("medium")
    write(small, b"inline?")
    write(medium, content("medium", size=130))
    value = ws.path("value")
    write(value, content("value", size=300))
    cmds = ["mkdir /dbg", "cd /dbg", "mkdir sub", "mkdir sub/sub2"]
    for name in ("plain", "punched", "fields", "attrs", "times0", "times1", "times2", "grown"):
        cmds.append("write %s %s" % (blob, name))
    cmds += ["write %s small" % small, "write %s medium" % medium, "write /dev/null empty"]
    cmds += ["punch punched 3 5", "punch punched 11 11", "punch punched 39 50"]
    if cfg.extents:
        # fallocate rounds to what is free: the oracle reads back what it did
        cmds += ["write %s unwritten" % blob, "punch unwritten 0", "fallocate unwritten 2 30",
                 "sif unwritten size %d" % (20 * bs + 5), "fallocate punched 8 60",
                 "fallocate grown 100 140"]
    cmds += ["mknod chr c 5 1", "mknod blk b 200 255", "mknod pipe p", "symlink fast target",
             "symlink slow %s" % ("s" * min(200, bs - 1)), "ln plain /dbg/sub/plain-again"]
    cmds += ["sif plain links_count 2", "sif grown size %d" % cfg.large_size]
    cmds += ["sif fields mode 0104755", "sif fields uid 65535", "sif fields gid 1234567",
             "sif fields generation 0xdeadbeef", "sif fields flags 0x%x" %
             ((FLAG_EXTENTS if cfg.extents else 0) | FLAG_NODUMP | FLAG_NOATIME | FLAG_IMMUTABLE),
             "sif sub generation 77"]
    if cfg.inode_size > 128:
        cmds += ["sif fields projid 4242", "sif times0 mtime 0x80000000",
                 "sif times0 mtime_extra 0xee6b27fd", "sif times1 mtime 0xffffffff",
                 "sif times1 mtime_extra 0x3", "sif times1 ctime_extra 0xee6b27fc",
                 "sif times1 atime_extra 1", "sif times1 crtime 0x7fffffff",
                 "sif times1 crtime_extra 2"]
    cmds += ["sif times2 mtime 0xfffffffe", "sif times2 atime 0x80000001"]
    cmds += ['ea_set attrs user.one "first"', 'ea_set attrs user.two "second value"',
             'ea_set attrs trusted.three "3"', 'ea_set attrs security.four "44"',
             "ea_set -f %s attrs user.three-hundred" % value, 'ea_set sub user.dir "on a dir"',
             'ea_set fields user.empty ""']
    if cfg.verity:
        cmds += ["write %s verity" % blob, "sif verity flags 0x%x" % (FLAG_EXTENTS | FLAG_VERITY)]
    if cfg.casefold:
        cmds += ["mkdir folded", "sif folded flags 0x%x" % (FLAG_EXTENTS | FLAG_CASEFOLD),
                 "write %s folded/Name" % small, "write %s folded/other" % small]
    harness.debugfs(image, cmds, write=True)
    harness.run(["e2fsck", "-fyD", image], check=False)


# ---- the kernel -----------------------------------------------------------------


class Filler:
    """Writes into a mounted image."""

    def __init__(self, point, cfg, long_run):
        self.point = point
        self.cfg = cfg
        self.bs = cfg.block_size
        self.long = long_run
        self.later = []  # flags that forbid changes, set at the end

    def p(self, *names):
        path = os.fsencode(self.point)
        for n in names:
            path = os.path.join(path, os.fsencode(n))
        return path

    def file(self, *names, flags=os.O_RDWR | os.O_CREAT):
        return os.open(self.p(*names), flags, 0o644)

    def fill(self):
        os.mkdir(self.p("k"))
        self.tree()
        self.links()
        self.specials()
        self.times_and_owners()
        self.attributes()
        self.sparse()
        self.fragments()
        self.unwritten()
        self.huge()
        self.directories()
        self.inode_flags()
        self.encrypted()
        for path, flags in self.later:
            fd = os.open(path, os.O_RDONLY)
            try_unsupported(lambda f=fd, v=flags: kabi.set_flags(f, kabi.get_flags(f) | v))
            os.close(fd)

    def tree(self):
        r = harness.rng("tree")
        os.mkdir(self.p("k", "tree"))
        for d in range(6):
            os.mkdir(self.p("k", "tree", "d%d" % d))
            for i in range(20):
                size = r.choice([0, 1, 30, 60, 61, 100, 155, 160, 300, self.bs - 1, self.bs,
                                 self.bs + 1, r.randrange(20 * self.bs)])
                write(self.p("k", "tree", "d%d" % d, "f%d" % i), content("t", d, i, size=size))
        # removed names leave gaps in the blocks of a directory
        for i in range(0, 20, 3):
            os.unlink(self.p("k", "tree", "d1", "f%d" % i))
        os.rename(self.p("k", "tree", "d2"), self.p("k", "tree", "d3", "moved"))
        os.mkdir(self.p("k", "names"))
        for name in odd_names() + [b"new\nline"]:
            try_unsupported(write, self.p("k", "names", name), name)

    def links(self):
        os.mkdir(self.p("k", "links"))
        for n in (1, 2, 58, 59, 60, 61, 150, 200, 1000, 1023, 1024, 2047, 4000, 4095):
            try_unsupported(os.symlink, b"l" * n, self.p("k", "links", "to-%d" % n))
        os.symlink("/k/tree/d0/f1", self.p("k", "links", "absolute"))
        os.symlink("../tree", self.p("k", "links", "relative"))
        os.symlink("loop", self.p("k", "links", "loop"))
        write(self.p("k", "links", "one"), b"many names")
        for i in range(30):
            os.link(self.p("k", "links", "one"), self.p("k", "links", "one-%d" % i))

    def specials(self):
        os.mkdir(self.p("k", "special"))
        devices = [(stat.S_IFCHR, 1, 3), (stat.S_IFCHR, 255, 255), (stat.S_IFCHR, 256, 0),
                   (stat.S_IFBLK, 8, 257), (stat.S_IFBLK, 4095, 1048575), (stat.S_IFCHR, 0, 0)]
        for i, (kind, major, minor) in enumerate(devices):
            os.mknod(self.p("k", "special", "dev%d" % i), kind | 0o640, os.makedev(major, minor))
        os.mkfifo(self.p("k", "special", "fifo"))
        s = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(self.p("k", "special"))  # the path of a socket must be short
        s.bind("socket")
        os.chdir(here)
        s.close()

    def times_and_owners(self):
        os.mkdir(self.p("k", "times"))
        for i, ns in enumerate(TIMES_NS):
            path = self.p("k", "times", "t%d" % i)
            write(path, b"")
            os.utime(path, ns=(TIMES_NS[-1 - i], ns))
        os.mkdir(self.p("k", "owners"))
        for i, (uid, gid) in enumerate([(0, 0), (1000, 100), (65534, 65535), (65536, 70000),
                                        (2**31, 2**32 - 2), (2**32 - 2, 2**31 + 5)]):
            path = self.p("k", "owners", "o%d" % i)
            write(path, b"")
            os.chown(path, uid, gid)
            os.chmod(path, [0o644, 0o7777, 0, 0o4111, 0o2755, 0o1600][i])

    def attributes(self):
        os.mkdir(self.p("k", "xattr"))

        def put(name, attr, value, follow=True):
            try_unsupported(lambda: os.setxattr(self.p("k", "xattr", name), attr, value,
                                                follow_symlinks=follow))

        for name in ("small", "block", "many", "acl", "large", "large2", "shared", "holes",
                     "empty"):
            write(self.p("k", "xattr", name), b"")
        put("small", "user.a", b"1")
        put("small", "user.b", b"")
        put("small", "security.uext4", b"\0\1\2\xff")
        put("small", "trusted.t", b"root only")
        put("block", "user.block", content("x", "block", size=min(700, self.bs // 2)))
        put("block", "user.in", b"inode")
        for i in range(60):
            put("many", "user.n%02d%s" % (i, "long" * (i % 4)), b"v" * (i % 19))
        for i in range(0, 60, 3):
            try_unsupported(os.removexattr, self.p("k", "xattr", "many"),
                            "user.n%02d%s" % (i, "long" * (i % 4)))
        put("acl", "system.posix_acl_access", ACL)
        os.mkdir(self.p("k", "xattr", "dir"))
        put("dir", "system.posix_acl_access", ACL)
        put("dir", "system.posix_acl_default", ACL)
        put("dir", "user.on-dir", b"d" * 40)
        write(self.p("k", "xattr", "dir", "heir"), b"")
        for i in range(10):
            write(self.p("k", "xattr", "dir", "heir%d" % i), b"")  # share one block
        # larger than a block: an inode of its own with ea_inode, an error without
        for i, size in enumerate((5000, 20000, 65536)):
            put("large", "user.large%d" % i, content("x", "large", i, size=size))
            put("large2", "user.large%d" % i, content("x", "large", i, size=size))
        put("large", "user.end", b"after the large ones")
        os.symlink("nowhere", self.p("k", "xattr", "symlink"))
        put("symlink", "trusted.link", b"l" * 30, follow=False)
        put("symlink", "security.link", b"m" * 100, follow=False)
        put("holes", "user." + "n" * 250, b"longest name")

    def sparse(self):
        os.mkdir(self.p("k", "sparse"))
        bs = self.bs
        per = bs // 4
        # the edges of the indirect levels, which are as good places as any for extents
        edges = [0, 11, 12, 12 + per - 1, 12 + per, 12 + 2 * per, 12 + per + per * per - 1,
                 12 + per + per * per, 12 + per + per * per + 3 * per + 5]
        fd = self.file("k", "sparse", "levels")
        for i, blk in enumerate(edges):
            for b in (blk, blk + 1) if i % 2 else (blk,):
                try_unsupported(os.pwrite, fd, content("lv", b, size=bs), b * bs)
        os.close(fd)
        for name, at, tail in (("tail", 3, 1000), ("head", 1000, 0), ("middle", 50, 77)):
            fd = self.file("k", "sparse", name)
            os.pwrite(fd, content("sp", name, size=2 * bs + 9), at * bs + 5)
            if tail:
                os.ftruncate(fd, (at + tail) * bs + 3)
            os.close(fd)
        fd = self.file("k", "sparse", "all-hole")
        os.ftruncate(fd, 123 * bs + 1)
        os.close(fd)
        r = harness.rng("sparse")
        fd = self.file("k", "sparse", "random")
        for _ in range(60):
            blk = r.randrange(0, 4000)
            os.pwrite(fd, content("spr", blk, size=bs * r.randrange(1, 4)), blk * bs)
        os.close(fd)

    def fragments(self):
        """Deep trees.  Punching every other block splits a few extents into thousands."""
        os.mkdir(self.p("k", "frag"))
        bs = self.bs
        nr = self.cfg.nr_fragments * (4 if self.long else 1)
        unit = self.cfg.cluster_size
        fd = self.file("k", "frag", "punched")
        os.pwrite(fd, content("punched", size=min(2 * nr * unit, 24 << 20)), 0)
        size = os.fstat(fd).st_size
        for i in range(size // (2 * unit)):
            if not try_unsupported(kabi.fallocate, fd, kabi.FALLOC_PUNCH | kabi.FALLOC_KEEP_SIZE,
                                   (2 * i + 1) * unit, unit):
                break
        os.close(fd)

        # neighbours in the file that are none on the disk
        r = harness.rng("scrambled")
        order = list(range(300))
        r.shuffle(order)
        fd = self.file("k", "frag", "scrambled")
        for blk in order:
            os.pwrite(fd, content("scr", blk, size=bs), blk * bs)
        os.close(fd)

        fds = [self.file("k", "frag", "turn%d" % i) for i in range(2)]
        for blk in range(120):
            for i, fd in enumerate(fds):
                os.pwrite(fd, content("turn", i, blk, size=bs), blk * bs)
                if blk % 4 == 0:
                    os.fsync(fd)
        for fd in fds:
            os.close(fd)

        fd = self.file("k", "frag", "collapsed")
        os.pwrite(fd, content("coll", size=64 * unit), 0)
        for at in (4, 9, 20):
            try_unsupported(kabi.fallocate, fd, kabi.FALLOC_COLLAPSE, at * unit, 2 * unit)
        for at in (3, 30):
            try_unsupported(kabi.fallocate, fd, kabi.FALLOC_INSERT, at * unit, 5 * unit)
        os.close(fd)

    def unwritten(self):
        os.mkdir(self.p("k", "unwritten"))
        bs = self.bs

        def start(name):
            return self.file("k", "unwritten", name)

        fd = start("all")
        try_unsupported(kabi.fallocate, fd, 0, 0, 100 * bs)
        os.close(fd)
        fd = start("part")
        if try_unsupported(kabi.fallocate, fd, 0, 0, 200 * bs + 5):
            for blk in (0, 7, 8, 50, 199):
                os.pwrite(fd, content("unw", blk, size=bs), blk * bs)
            os.pwrite(fd, b"x", 100 * bs + bs // 2)
        os.close(fd)
        fd = start("beyond")
        os.pwrite(fd, content("bey", size=3 * bs + 1), 0)
        try_unsupported(kabi.fallocate, fd, kabi.FALLOC_KEEP_SIZE, 2 * bs, 60 * bs)
        os.close(fd)
        fd = start("zeroed")
        os.pwrite(fd, content("zer", size=60 * bs), 0)
        try_unsupported(kabi.fallocate, fd, kabi.FALLOC_ZERO, 10 * bs + 3, 20 * bs)
        os.close(fd)
        fd = start("striped")
        if try_unsupported(kabi.fallocate, fd, 0, 0, 800 * bs):
            for blk in range(0, 800, 3):
                os.pwrite(fd, content("str", blk, size=bs), blk * bs)
        os.close(fd)
        fd = start("tail")
        os.pwrite(fd, content("tail", size=bs), 0)
        try_unsupported(kabi.fallocate, fd, 0, 20 * bs, 10 * bs)
        os.ftruncate(fd, 25 * bs + 100)
        os.close(fd)

    def huge(self):
        os.mkdir(self.p("k", "huge"))
        bs = self.bs
        fd = self.file("k", "huge", "terabytes")
        step = 4 << 40
        for at in (0, 1 << 31, 1 << 32, (1 << 40) + 12345, (4 << 40) - bs, step - 1):
            try_unsupported(os.pwrite, fd, content("hug", at, size=bs + 10), at)
        try_unsupported(os.ftruncate, fd, 4 << 40)
        os.close(fd)
        fd = self.file("k", "huge", "largest")
        limit = largest_size(fd)
        if limit > bs:
            try_unsupported(os.pwrite, fd, content("max", size=100), limit - 100)
            try_unsupported(os.pwrite, fd, content("max2", size=3 * bs), limit // 2)
        os.close(fd)

    def directories(self):
        bs = self.bs
        os.mkdir(self.p("k", "dirs"))
        many = self.p("k", "dirs", "many")
        os.mkdir(many)
        nr = 100000 if self.long else self.cfg.nr_entries
        target = None
        for i in range(nr):
            name = os.path.join(many, os.fsencode(many_name(i)))
            if i % 60000 == 0:
                target = self.p("k", "dirs", "target%d" % (i // 60000))
                write(target, b"")
            if i % 10 == 9 and i < 30000:
                os.mknod(name, stat.S_IFREG | 0o600)
            else:
                os.link(target, name)
        r = harness.rng("unlink")
        for i in r.sample(range(nr), nr // 10):
            os.unlink(os.path.join(many, os.fsencode(many_name(i))))
        # few to a block: with 1k blocks the long run needs a third level of the index, which
        # only large_dir has; elsewhere the kernel says ENOSPC and it stays at two full ones
        long_names = self.p("k", "dirs", "long-names")
        os.mkdir(long_names)
        target = self.p("k", "dirs", "target-long")
        write(target, b"")
        for i in range(25000 if self.long else 300):
            name = (b"%06d-" % i) + b"n" * (240 + i % 8)
            if not try_unsupported(os.link, target, os.path.join(long_names, name)):
                break
        # sizes around what fits into an inode and into a block
        for n in (0, 1, 2, 3, 4, 5, 8, 20, bs // 24, bs // 16):
            os.mkdir(self.p("k", "dirs", "with-%d" % n))
            for i in range(n):
                os.mknod(self.p("k", "dirs", "with-%d" % n, "e%d" % i), stat.S_IFREG | 0o600)
        for i in range(40):
            os.mkdir(self.p("k", "dirs", "with-8", "sub%d" % i))
        emptied = self.p("k", "dirs", "emptied")
        os.mkdir(emptied)
        for i in range(bs // 8):
            os.mknod(os.path.join(emptied, b"gone%d" % i), stat.S_IFREG | 0o600)
        for i in range(bs // 8):
            os.unlink(os.path.join(emptied, b"gone%d" % i))
        if self.long and self.cfg.many_subdirs:
            # more than a link count holds: it becomes 1
            os.mkdir(self.p("k", "dirs", "subdirs"))
            for i in range(65100):
                os.mkdir(self.p("k", "dirs", "subdirs", "s%d" % i))

    def inode_flags(self):
        os.mkdir(self.p("k", "flags"))
        for name, value in (("immutable", FLAG_IMMUTABLE), ("append", FLAG_APPEND),
                            ("nodump", FLAG_NODUMP), ("sync", FLAG_SYNC | FLAG_NOATIME),
                            ("journal", FLAG_JOURNAL_DATA)):
            write(self.p("k", "flags", name), content("flag", name, size=2 * self.bs + 5))
            self.later.append((self.p("k", "flags", name), value))
        os.mkdir(self.p("k", "flags", "dir"))
        self.later.append((self.p("k", "flags", "dir"), FLAG_DIRSYNC | FLAG_TOPDIR | FLAG_NODUMP))
        # from extents to an indirect map in a file system that has both
        fd = self.file("k", "flags", "no-extents")
        os.pwrite(fd, content("noext", size=10 * self.bs), 0)
        os.fsync(fd)
        try_unsupported(lambda: kabi.set_flags(fd, kabi.get_flags(fd) & ~FLAG_EXTENTS))
        os.close(fd)

    def encrypted(self):
        """A directory that is really encrypted: no key, no names, no contents."""
        if not self.cfg.encrypt:
            return
        os.mkdir(self.p("k", "secret"))
        fd = os.open(self.p("k", "secret"), os.O_RDONLY)
        try:
            key = kabi.add_encryption_key(fd, b"0123456789abcdef" * 4)
            kabi.set_encryption_policy(fd, key)
        except OSError as e:
            print("note: no encrypted directory: %s" % e)
            return
        finally:
            os.close(fd)
        try:
            for i in range(5):
                write(self.p("k", "secret", "file%d" % i), content("enc", i, size=3000 * i))
            os.mkdir(self.p("k", "secret", "dir"))
            os.symlink("somewhere", self.p("k", "secret", "symlink"))
        except OSError as e:
            if e.errno not in (errno.ENOPKG, errno.EOPNOTSUPP, errno.ENOENT):
                raise
            print("note: encrypted files: %s" % e)


def largest_size(fd):
    """The size that a file may have, found by asking."""
    low, high = 0, 1 << 63
    while low + 1 < high:
        mid = (low + high) // 2
        try:
            os.ftruncate(fd, mid)
            low = mid
        except OSError as e:
            if e.errno not in (errno.EFBIG, errno.EINVAL):
                raise
            high = mid
    os.ftruncate(fd, low)
    return low


def kernel_fill(ws, image, cfg, long_run):
    """Fill through the kernel; the reason when that cannot be done here."""
    reason = harness.kernel_reason()
    if reason:
        return reason
    # without delayed allocation each write gets its blocks at once: real fragments
    point, why = ws.mount(image, "fill", "nodelalloc")
    if not point:
        return "the kernel does not mount it for writing: " + why
    try:
        try:
            Filler(point, cfg, long_run).fill()
        except OSError as e:
            raise harness.ToolError("filling %s: %s" % (cfg.name, e)) from e
    finally:
        ws.umount(point)
    return None
