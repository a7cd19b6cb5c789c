# SPDX-License-Identifier: LGPL-2.1-or-later
"""The oracles: what the kernel's ext4 and what debugfs say about an image.

Both give, for each inode number, a dictionary with those of these keys that they know:

  mode nlink uid gid projid rdev gen flags size blocks atime mtime ctime btime
  xattrs {name: bytes or None for "there, value unknown"}   link   entries {(name, ino, type)}
  crc (content checksum of ureader.c)   data [[start, end]]
  fiemap [[logical, physical, length, flags]], merged by merge_fiemap()

None for a value means: this oracle cannot tell.
"""

import errno
import os
import re
import stat
import struct
import zlib

import harness
import kabi

PIECE = 4096
WHOLE_BYTES = 16 << 20  # as ureader.c

FIEMAP_LAST, FIEMAP_UNWRITTEN, FIEMAP_MERGED = 0x1, 0x800, 0x1000

INO_FLAG_EXTENTS, INO_FLAG_INLINE, INO_FLAG_ENCRYPT = 0x80000, 0x10000000, 0x800
INO_FLAG_VERITY = 0x100000

KIND = {stat.S_IFIFO: 1, stat.S_IFCHR: 2, stat.S_IFDIR: 4, stat.S_IFBLK: 6, stat.S_IFREG: 8,
        stat.S_IFLNK: 10, stat.S_IFSOCK: 12}


def piece_crc(crc, pos, data):
    """The checksum of ureader.c over data at a position that is a multiple of PIECE."""
    for at in range(0, len(data), PIECE):
        piece = data[at:at + PIECE]
        if piece.count(0) != len(piece):
            crc = zlib.crc32(piece, zlib.crc32(struct.pack("<Q", pos + at), crc))
    return crc


def crc_ranges(size, data):
    """Which ranges the checksum reads: all of a small file, else the pieces that hold data."""
    if size <= WHOLE_BYTES:
        return [[0, size]]
    ranges = []
    done = 0
    for start, end in data:
        start = max(start // PIECE * PIECE, done)
        end = min(-(-end // PIECE) * PIECE, size)
        if start < end:
            ranges.append([start, end])
            done = end
    return ranges


def merge_fiemap(extents):
    """Neighbours that continue each other become one: a mapping may come in any pieces."""
    merged = []
    for logical, physical, length, flags in extents:
        flags &= ~FIEMAP_LAST
        last = merged[-1] if merged else None
        if last and last[0] + last[2] == logical and last[1] + last[2] == physical and \
                last[3] == flags:
            last[2] += length
        else:
            merged.append([logical, physical, length, flags])
    return merged


class Kernel:
    """An image that the kernel has mounted read-only."""

    name = "kernel"

    def __init__(self, point):
        self.point = os.fsencode(point)
        self.inodes = {}
        self.paths = {}
        self._walk()

    def statfs(self):
        st = os.statvfs(self.point)
        return {"bsize": st.f_bsize, "frsize": st.f_frsize, "blocks": st.f_blocks,
                "bfree": st.f_bfree, "bavail": st.f_bavail, "files": st.f_files,
                "ffree": st.f_ffree, "namemax": st.f_namemax}

    def _walk(self):
        todo = [self.point]
        while todo:
            path = todo.pop()
            st = os.lstat(path)
            if st.st_ino in self.inodes:
                continue
            facts = self._facts(path, st)
            self.inodes[st.st_ino] = facts
            self.paths[st.st_ino] = path
            if stat.S_ISDIR(st.st_mode):
                todo += [os.path.join(path, name) for name, _, _ in facts["entries"]
                         if name not in (b".", b"..")]

    def _facts(self, path, st):
        x = kabi.statx(path)
        f = {"mode": st.st_mode, "nlink": st.st_nlink, "uid": st.st_uid, "gid": st.st_gid,
             "rdev": [os.major(st.st_rdev), os.minor(st.st_rdev)], "size": st.st_size,
             "blocks": st.st_blocks, "blksize": st.st_blksize}
        f.update(x)
        f["xattrs"] = self._xattrs(path)
        if stat.S_ISLNK(st.st_mode):
            f["link"] = self._or_error(os.readlink, path)
        elif stat.S_ISDIR(st.st_mode) or stat.S_ISREG(st.st_mode):
            self._open_facts(path, st, f)
        return f

    @staticmethod
    def _or_error(call, *args):
        try:
            return call(*args)
        except OSError as e:
            return e.errno

    @staticmethod
    def _xattrs(path):
        try:
            return {n: os.getxattr(path, n, follow_symlinks=False)
                    for n in os.listxattr(path, follow_symlinks=False)}
        except OSError as e:
            if e.errno == errno.EOPNOTSUPP:
                return {}
            raise

    def _open_facts(self, path, st, f):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
        except OSError as e:
            f["open"] = e.errno
            return
        try:
            f["flags"] = kabi.get_flags(fd)
            f["gen"] = kabi.get_generation(fd)
            f["projid"] = kabi.get_projid(fd)
            if stat.S_ISDIR(st.st_mode):
                f["entries"] = kabi.getdents(fd)
            else:
                f["data"] = self._segments(fd, st.st_size)
                f["fiemap"] = kabi.fiemap(fd, 0, 2**64 - 1)
                f["crc"] = self._crc(fd, st.st_size, f["data"])
        finally:
            os.close(fd)

    @staticmethod
    def _segments(fd, size):
        segments = []
        pos = 0
        while pos < size:
            try:
                start = os.lseek(fd, pos, os.SEEK_DATA)
            except OSError as e:
                if e.errno != errno.ENXIO:
                    raise
                break
            pos = os.lseek(fd, start, os.SEEK_HOLE)
            segments.append([start, pos])
        return segments

    @staticmethod
    def _crc(fd, size, data):
        crc = 0
        for start, end in crc_ranges(size, data):
            while start < end:
                got = os.pread(fd, min(end - start, 1 << 20), start)
                crc = piece_crc(crc, start, got)
                start += len(got)
                if not got:
                    break
        return crc

    def questions(self, ino, seekat, fiemapat):
        """The kernel's answers to what ureader asked at random."""
        fd = os.open(self.paths[ino], os.O_RDONLY)
        try:
            # cached pages of unwritten ranges count as data: forget them (B22)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            seeks = []
            for pos, whence, _ in seekat:
                try:
                    seeks.append(os.lseek(fd, pos, whence))
                except OSError as e:
                    seeks.append(-e.errno)
            maps = []
            for pos, length, _ in fiemapat:
                try:
                    maps.append(kabi.fiemap(fd, pos, length))
                except OSError as e:
                    maps.append(-e.errno)
            return seeks, maps
        finally:
            os.close(fd)


_HEAD = re.compile(rb"Inode: (\d+)\s+Type: (.*?)\s+Mode:\s+0?([0-7]+)\s+Flags: 0x([0-9a-f]+)")
_NUMBERS = {
    "gen": re.compile(rb"^Generation: (\d+)", re.M),
    "uid": re.compile(rb"^User:\s*(\d+)", re.M),
    "gid": re.compile(rb"Group:\s*(\d+)"),
    "projid": re.compile(rb"Project:\s*(\d+)"),
    "size": re.compile(rb"Size: (\d+)"),
    "nlink": re.compile(rb"^Links: (\d+)", re.M),
    "blocks": re.compile(rb"Blockcount: (\d+)"),
}
_TIME = re.compile(rb"^\s*(c|a|m|cr)time: 0x([0-9a-f]+)(?::([0-9a-f]+))? ", re.M)
_RUN = re.compile(rb"\((\d+)(?:-(\d+))?(\[u\])?\):(\d+)(?:-(\d+))?")
_ENTRY = re.compile(rb"/(\d+)/([0-7]{6})/(-?\d+)/(-?\d+)/([^/]*)/(\d*)/\n")
_ATTR = re.compile(rb"^  (\S+) \((\d+)\)", re.M)
_DEVICE = re.compile(rb"Device major/minor number: (\d+):(\d+)")
_TYPES = {b"regular": stat.S_IFREG, b"directory": stat.S_IFDIR, b"symlink": stat.S_IFLNK,
          b"character special": stat.S_IFCHR, b"block special": stat.S_IFBLK,
          b"FIFO": stat.S_IFIFO, b"socket": stat.S_IFSOCK}


class Debugfs:
    """An image through debugfs.  Contents come from the image itself, by debugfs's extents."""

    name = "debugfs"

    def __init__(self, ws, image, cfg, max_inodes=1000):
        self.ws = ws
        self.image = image
        self.bs = cfg.block_size
        self.has_types = cfg.filetype
        self.inodes = {}
        self.stderr = ""
        with open(image, "rb") as self.raw:
            self._walk(max_inodes)

    def _commands(self, commands):
        result, err = harness.debugfs(self.image, commands)
        self.stderr += err
        if len(result) != len(commands):
            raise harness.ToolError("debugfs answered %d of %d commands: %s" % (
                len(result), len(commands), err[-500:]))
        return [body for _, body in result]

    def _walk(self, max_inodes):
        """Level by level.  Of directories with very many entries the first inodes only."""
        level = [2]
        while level:
            for ino, text in zip(level, self._commands(["stat <%d>" % i for i in level])):
                self.inodes[ino] = self._facts(ino, text)
            dirs = [i for i in level if stat.S_ISDIR(self.inodes[i]["mode"])
                    and not self.inodes[i]["flags"] & INO_FLAG_ENCRYPT]
            found = []
            for ino, text in zip(dirs, self._commands(["ls -p <%d>" % i for i in dirs])):
                entries = self._entries(text)
                self.inodes[ino]["entries"] = entries
                found += [e[1] for e in entries]
            level = [i for i in dict.fromkeys(found) if i not in self.inodes][:max_inodes]
        self._attributes()
        self._inline()

    @staticmethod
    def _time(sec, extra):
        sec = sec - (1 << 32) if sec & 1 << 31 else sec
        return [sec, 0] if extra is None else [sec + ((extra & 3) << 32), extra >> 2]

    def _facts(self, ino, text):
        head = _HEAD.search(text)
        if not head:
            raise harness.ToolError("debugfs stat <%d>: %r" % (ino, text[:200]))
        f = {"mode": _TYPES.get(head[2], 0) | int(head[3], 8), "flags": int(head[4], 16)}
        for key, pattern in _NUMBERS.items():
            m = pattern.search(text)
            f[key] = int(m[1]) if m else None
        for which, sec, extra in _TIME.findall(text):
            name = {b"c": "ctime", b"a": "atime", b"m": "mtime", b"cr": "btime"}[which]
            f[name] = self._time(int(sec, 16), int(extra, 16) if extra else None)
        f["rdev"] = None
        m = _DEVICE.search(text)
        if m:
            f["rdev"] = [int(m[1]), int(m[2])]
        kind = stat.S_IFMT(f["mode"])
        fast = re.search(rb'^Fast link dest: "(.*)"$', text, re.M | re.S)
        if kind == stat.S_IFLNK and fast:
            f["link"] = fast[1]
        f["inline"] = bool(f["flags"] & INO_FLAG_INLINE)
        if kind in (stat.S_IFREG, stat.S_IFLNK) and not f["inline"] and "link" not in f \
                and not f["flags"] & INO_FLAG_ENCRYPT:
            self._map_facts(f, text, kind)
        return f

    def _map_facts(self, f, text, kind):
        at = max(text.find(b"\nEXTENTS:\n"), text.find(b"\nBLOCKS:\n"))
        runs = []
        if at >= 0:
            for first, last, unwritten, pblk, _ in _RUN.findall(text[at:]):
                first = int(first)
                nr = (int(last) if last else first) - first + 1
                runs.append([first, int(pblk), nr, bool(unwritten)])
        extents = INO_FLAG_EXTENTS & f["flags"]
        # debugfs shows a hole that an indirect map spells as block 0 not at all
        f["fiemap"] = merge_fiemap(
            [lblk * self.bs, pblk * self.bs, nr * self.bs,
             (FIEMAP_UNWRITTEN if unwritten else 0) | (0 if extents else FIEMAP_MERGED)]
            for lblk, pblk, nr, unwritten in sorted(runs))
        size = f["size"]
        data = []
        for logical, _, length, flags in f["fiemap"]:
            end = min(logical + length, size)
            if flags & FIEMAP_UNWRITTEN or logical >= end:
                continue
            if data and data[-1][1] == logical:
                data[-1][1] = end
            else:
                data.append([logical, end])
        f["data"] = data
        if kind == stat.S_IFLNK:
            f["link"] = self._read(f, 0, size)
        else:
            crc = 0
            for start, end in crc_ranges(size, data):
                for pos in range(start, end, 1 << 20):
                    crc = piece_crc(crc, pos, self._read(f, pos, min(end, pos + (1 << 20))))
            f["crc"] = crc

    def _read(self, f, start, end):
        out = bytearray(end - start)
        for logical, physical, length, flags in f["fiemap"]:
            lo, hi = max(logical, start), min(logical + length, end)
            if lo < hi and not flags & FIEMAP_UNWRITTEN:
                self.raw.seek(physical + lo - logical)
                out[lo - start:hi - start] = self.raw.read(hi - lo)
        return bytes(out)

    def _entries(self, text):
        entries = []
        for ino, mode, _, _, name, _ in _ENTRY.findall(text):
            if int(ino) == 0:
                continue
            kind = KIND.get(stat.S_IFMT(int(mode, 8)), 0) if self.has_types else 0
            entries.append((name, int(ino), kind))
        return entries

    def _attributes(self):
        inos = list(self.inodes)
        wanted = []
        for ino, text in zip(inos, self._commands(["ea_list <%d>" % i for i in inos])):
            attrs = {}
            for name, size in _ATTR.findall(text):
                name = name.decode(errors="surrogateescape")
                if name == "system.data":
                    continue
                attrs[name] = None
                if not name.startswith("system."):
                    wanted.append((ino, name, int(size)))
            self.inodes[ino]["xattrs"] = attrs
        wanted = wanted[:300]
        self._commands(["ea_get -f %s <%d> %s" % (self.ws.path("ea-%d" % i), ino, name)
                        for i, (ino, name, _) in enumerate(wanted)])
        for i, (ino, name, size) in enumerate(wanted):
            path = self.ws.path("ea-%d" % i)
            if os.path.exists(path):
                with open(path, "rb") as f:
                    self.inodes[ino]["xattrs"][name] = f.read()
                os.unlink(path)

    def _inline(self):
        inos = [i for i, f in self.inodes.items() if f["inline"]
                and stat.S_IFMT(f["mode"]) in (stat.S_IFREG, stat.S_IFLNK)
                and not f["flags"] & INO_FLAG_ENCRYPT]
        paths = [self.ws.path("inline-%d" % i) for i in inos]
        self._commands(["dump <%d> %s" % (i, p) for i, p in zip(inos, paths)])
        for ino, path in zip(inos, paths):
            f = self.inodes[ino]
            with open(path, "rb") as source:
                data = source.read()
            os.unlink(path)
            data = data[:f["size"]]  # dump gives all the room there is
            if stat.S_ISLNK(f["mode"]):
                f["link"] = data
            else:
                f["crc"] = piece_crc(0, 0, data)
                f["data"] = [[0, f["size"]]] if f["size"] else []


def superblock(image):
    """dumpe2fs -h as {label: text}."""
    out = harness.run(["dumpe2fs", "-h", image]).stdout.decode(errors="replace")
    fields = {}
    for line in out.split("\n"):
        name, colon, value = line.partition(":")
        if colon and name not in fields:
            fields[name.strip()] = value.strip()
    return fields
