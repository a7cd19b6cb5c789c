# SPDX-License-Identifier: LGPL-2.1-or-later
"""uext4's view of an image beside an oracle's."""

import stat

from harness import name_bytes
from oracles import (FIEMAP_LAST, INO_FLAG_ENCRYPT, INO_FLAG_INLINE, INO_FLAG_VERITY,
                     merge_fiemap)

EXT4_VISIBLE_FLAGS = 0x725BDFFF  # what FS_IOC_GETFLAGS shows
PROJINHERIT_FLAG = 0x20000000
ENOKEY = 126


def compare(report, image, oracle, cfg):
    ours, theirs = image.inodes, oracle.inodes
    kernel = oracle.name == "kernel"
    missing = [i for i in theirs if i not in ours]
    report.check(not missing, "%s: inodes that uext4 did not reach: %s", oracle.name, missing[:10])
    if kernel:
        extra = [i for i in ours if i not in theirs]
        report.check(not extra, "%s: inodes that only uext4 reached: %s", oracle.name, extra[:10])
    for ino, fact in theirs.items():
        if ino in ours:
            InodeCompare(report, oracle, cfg, ino, ours[ino], fact).compare()


class InodeCompare:
    def __init__(self, report, oracle, cfg, ino, ours, fact):
        self.report, self.oracle, self.cfg = report, oracle, cfg
        self.ino, self.ours, self.fact = ino, ours, fact
        self.kernel = oracle.name == "kernel"
        path = getattr(oracle, "paths", {}).get(ino)
        self.where = "%s: inode %d%s" % (oracle.name, ino, " %r" % path if path else "")

    def equal(self, what, ours, theirs):
        self.report.equal("%s: %s" % (self.where, what), ours, theirs)

    def compare(self):
        if "mode" not in self.ours:
            self.report.fail("%s: uext4 gave %s", self.where, self.ours)
            return
        self.encrypted = bool(self.ours["flags"] & INO_FLAG_ENCRYPT)
        self.attributes()
        self.times()
        self.flags()
        self.xattrs()
        kind = stat.S_IFMT(self.ours["mode"])
        if self.encrypted:
            self.no_key(kind)
        elif kind == stat.S_IFDIR:
            self.entries()
        elif kind == stat.S_IFLNK:
            link = self.ours.get("link")
            self.equal("target", None if link is None else name_bytes(link), self.fact["link"])
        elif kind == stat.S_IFREG:
            self.contents()

    def attributes(self):
        keys = ["mode", "nlink", "uid", "gid", "gen", "size", "blocks"]
        if self.kernel:
            keys.append("blksize")
        for key in keys:
            theirs = self.fact.get(key)
            if theirs is None:
                continue
            ours = self.ours[key]
            inline = self.ours["flags"] & INO_FLAG_INLINE
            if key == "blocks" and inline and self.kernel:
                # the kernel adds what the inode holds itself, so that tar takes no hole for it
                self.report.check(ours in (theirs, 0), "%s: blocks %d, oracle %d", self.where,
                                  ours, theirs)
                continue
            if key == "blocks" and not self.kernel and (self.ours["flags"] & 0x40000 or inline):
                continue  # debugfs shows the raw field of a HUGE_FILE inode
            if key == "size" and self.encrypted and stat.S_ISLNK(self.ours["mode"]):
                continue  # the kernel shows the size of the name without its key
            self.equal(key, ours, theirs)
        # debugfs shows the bytes of the field, the kernel what they mean
        if self.fact.get("projid") is not None and (self.kernel or self.cfg.project):
            self.equal("projid", self.ours["projid"], self.fact["projid"])
        if self.fact.get("rdev") and stat.S_IFMT(self.ours["mode"]) in (stat.S_IFCHR, stat.S_IFBLK):
            self.equal("rdev", self.ours["rdev"], self.fact["rdev"])
        dio = self.fact.get("dio")
        if dio is not None and stat.S_ISREG(self.ours["mode"]):
            # a kernel without fs-verity does not know that such a file is special
            direct = dio[1] != 0 and not self.ours["flags"] & INO_FLAG_VERITY
            self.equal("direct I/O is to be had", self.ours["dio"][1] != 0, direct)

    def times(self):
        for key in ("atime", "mtime", "ctime", "btime"):
            theirs = self.fact.get(key)
            if theirs is None or (key == "btime" and self.cfg.inode_size == 128):
                continue
            self.equal(key, self.ours[key], theirs)

    def flags(self):
        theirs = self.fact.get("flags")
        if theirs is None:
            return
        ours = self.ours["flags"]
        if self.kernel:
            ours &= EXT4_VISIBLE_FLAGS
            if stat.S_ISREG(self.ours["mode"]):
                ours &= ~PROJINHERIT_FLAG
        self.equal("flags", "%#x" % ours, "%#x" % theirs)

    def xattrs(self):
        ours = {name: None if value is None else bytes.fromhex(value)
                for name, value in self.ours.get("xattrs", [])}
        theirs = self.fact.get("xattrs", {})
        if self.encrypted:
            theirs = {n: v for n, v in theirs.items() if not n.startswith("encryption")}
        self.report.check(len(ours) == len(self.ours.get("xattrs", [])),
                          "%s: an attribute is listed twice", self.where)
        self.equal("attributes", sorted(ours), sorted(n for n in theirs if self.listed(n)))
        for name, value in theirs.items():
            if value is not None and name in ours:
                self.equal("attribute " + name, ours[name], value)

    @staticmethod
    def listed(name):
        return name.split(".", 1)[0] in ("user", "trusted", "security", "system")

    def no_key(self, kind):
        """Of an encrypted inode: attributes, and that the rest says -ENOKEY."""
        errors = {what: code for what, code in self.ours["err"]}
        if kind == stat.S_IFLNK:
            self.equal("readlink without the key", errors.get("readlink"), -ENOKEY)
        elif kind == stat.S_IFREG:
            self.equal("open without the key", errors.get("open"), -ENOKEY)
        elif kind == stat.S_IFDIR:
            self.equal("readdir without the key", errors.get("readdir"), -ENOKEY)

    def entries(self):
        ours = sorted((name_bytes(n), ino, kind) for n, ino, kind in self.ours["entries"])
        theirs = sorted(self.fact["entries"])
        if ours == theirs:
            self.report.nr_checks += len(ours)
            return
        a, b = set(ours), set(theirs)
        self.report.fail("%s: entries: %d, oracle %d; only uext4 %s, only oracle %s", self.where,
                         len(ours), len(theirs), sorted(a - b)[:5], sorted(b - a)[:5])

    def contents(self):
        if "open" in self.fact:
            return
        for key in ("data", "crc"):
            if key in self.fact:
                ours, theirs = self.ours.get(key), self.fact[key]
                if key == "data" and ours is not None and ours != theirs:
                    diff = next((p for p in zip(ours, theirs) if p[0] != p[1]), None)
                    self.report.fail("%s: SEEK_DATA/HOLE: %d ranges, oracle %d; first difference "
                                     "%s", self.where, len(ours), len(theirs), diff)
                else:
                    self.equal(key, ours, theirs)
        if "fiemap" in self.fact:
            self.fiemap(self.ours.get("fiemap"), self.fact["fiemap"])
        if self.kernel and "seekat" in self.ours:
            self.questions()

    def fiemap(self, ours, theirs):
        if ours is None:
            self.report.fail("%s: no fiemap", self.where)
            return
        if self.ours["flags"] & INO_FLAG_INLINE and not self.kernel:
            return
        for i, extent in enumerate(ours):
            self.report.check(bool(extent[3] & FIEMAP_LAST) == (i == len(ours) - 1),
                              "%s: fiemap: LAST at extent %d of %d", self.where, i, len(ours))
        a, b = merge_fiemap(ours), merge_fiemap(theirs)
        if a != b:
            diff = next((p for p in zip(a, b) if p[0] != p[1]), None)
            self.report.fail("%s: fiemap: %d extents, oracle %d; first difference %s; tails %s %s",
                             self.where, len(a), len(b), diff, a[-1:], b[-1:])
        self.report.nr_checks += 1

    def questions(self):
        seeks, maps = self.oracle.questions(self.ino, self.ours["seekat"], self.ours["fiemapat"])
        for (pos, whence, ours), theirs in zip(self.ours["seekat"], seeks):
            self.equal("seek %s at %d" % ("DATA" if whence == 3 else "HOLE", pos), ours, theirs)
        for (pos, length, ours), theirs in zip(self.ours["fiemapat"], maps):
            if isinstance(theirs, int):
                # at and beyond the largest size the kernel gives an error; nothing is as true
                self.report.check(not ours, "%s: fiemap [%d, +%d): uext4 %s, oracle error %d",
                                  self.where, pos, length, ours, theirs)
                continue
            if ours is None:
                self.report.fail("%s: fiemap [%d, +%d) failed", self.where, pos, length)
                continue
            self.equal("fiemap [%d, +%d)" % (pos, length), self.clip(ours, pos, length),
                       self.clip(theirs, pos, length))

    @staticmethod
    def clip(extents, pos, length):
        """The part of each extent in the range; whole extents and cut ones are both right."""
        clipped = []
        for logical, physical, size, flags in extents:
            lo, hi = max(logical, pos), min(logical + size, pos + length)
            if lo < hi:
                clipped.append([lo, physical + lo - logical, hi - lo, flags])
        return merge_fiemap(clipped)


def compare_statfs(report, image, oracle):
    ours, theirs = image.statfs, oracle.statfs()
    for key in theirs:
        if key == "bavail":
            # The kernel holds back some clusters more for its own allocations.
            ratio = image.info["cluster_size"] // image.info["block_size"]
            held = min(image.info["nr_blocks"] // 50, 4096 * ratio) + ratio
            report.check(theirs[key] <= ours[key] <= theirs[key] + held,
                         "statfs bavail: uext4 %d, kernel %d", ours[key], theirs[key])
        else:
            report.equal("statfs " + key, ours[key], theirs[key])


def compare_superblock(report, image, fields):
    """info and statfs beside dumpe2fs."""
    info = image.info
    pairs = [("nr_blocks", "Block count"), ("nr_blocks_reserved", "Reserved block count"),
             ("nr_inodes", "Inode count"), ("block_size", "Block size"),
             ("inodes_per_group", "Inodes per group"), ("blocks_per_group", "Blocks per group"),
             ("nr_blocks_free", "Free blocks"), ("nr_inodes_free", "Free inodes"),
             ("inode_size", "Inode size"), ("first_inode", "First inode")]
    for ours, theirs in pairs:
        if theirs in fields:
            report.equal("info " + ours, info[ours], int(fields[theirs].split()[0]))
    if "Filesystem UUID" in fields and fields["Filesystem UUID"] != "<none>":
        report.equal("info uuid", info["uuid"], fields["Filesystem UUID"].replace("-", ""))
    if "Filesystem features" in fields:
        theirs = set(fields["Filesystem features"].split()) - {"(none)"}
        report.equal("info features", sorted(info["features"].split()), sorted(theirs))
