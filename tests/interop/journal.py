#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Recovery of the journal by uext4 beside e2fsck's, debugfs's and the kernel's.

    journal.py CASE        CASE is one of the functions case_* below
    journal.py --list

Each recovers a copy of its own.  Then the copies must be the same, byte by byte, the journal's
blocks included, but for what OUR_FREEDOM lists.  An image that needs recovery is also read
through a read-only mount, which replays in memory: it shows the same tree as the recovered
copy, and the image stays as it was.
"""

import errno
import glob
import json
import os
import re
import struct

import cases
import configs
import harness
import makers

SB = cases.SB
RECOVER = 4
MAGIC = b"\xc0\x3b\x39\x98"

# Fields of the superblock that may differ: offset, size, why.
OUR_FREEDOM = [
    (0x30, 4, "time of the last write: recovery by uext4 does not touch it"),
    (0x274, 1, "its upper byte"),
    (0x178, 8, "KiB ever written: a count of the kernel that e2fsprogs keeps, too"),
    (0x40, 4, "time of the last check: a tool that opens an image without one sets it"),
    (0x279, 1, "its upper byte"),
    (0x0C, 4, "free blocks: uext4 counts them, replay elsewhere leaves those of the log"),
    (0x158, 4, "their upper half"),
    (0x10, 4, "free inodes, too"),
    (0x3FC, 4, "checksum of all this"),
]
STATE = (0x3A, 2, "e2fsck marks an error that ends the log quietly")
# What the kernel does by mounting and unmounting.
KERNEL_FREEDOM = [
    (0x2C, 4, "time of the mount"),
    (0x34, 2, "number of mounts"),
    (0x88, 64, "where it was mounted"),
]


def copy_of(ws, image, name):
    target = ws.path(name)
    harness.run(["cp", "--sparse=always", image, target])
    return target


def read_all(path):
    with open(path, "rb") as f:
        return f.read()


def block_size(image):
    return 1024 << cases.get_le(image, SB + 0x18, 4)


def journal_blocks(image):
    """The blocks of the device that the journal's inode has."""
    done = harness.run(["debugfs", "-c", "-R", "blocks <8>", image], check=False)
    return {int(word) for word in done.stdout.split() if word.isdigit()}


def journal_start(image):
    """The block of the journal's superblock.  -c: bitmaps may be good only after recovery."""
    return int(harness.run(["debugfs", "-c", "-R", "bmap <8> 0", image]).stdout.split()[-1])


# ---- loop devices ----------------------------------------------------------------


class Loops:
    """Loop devices, detached at the end."""

    def __init__(self):
        self.devices = []

    def attach(self, path):
        done = harness.run(["losetup", "-f", "--show", path], check=False)
        if done.returncode != 0:
            raise harness.Skip("no loop device: " + done.stderr.decode(errors="replace").strip())
        self.devices.append(done.stdout.decode().strip())
        return self.devices[-1]

    def close(self):
        for device in self.devices:
            harness.run(["losetup", "-d", device], check=False)
        self.devices = []


def mount_device(ws, device, where, options):
    point = ws.path(where)
    os.makedirs(point, exist_ok=True)
    harness.run(["mount", "-t", "ext4", "-o", options, device, point])
    ws.mounts.append(point)
    return point


# ---- recovery by everybody --------------------------------------------------------


def recover(report, what, image, code=0, options=None):
    """`uext4 recover --json`; what it tells, None when it failed (as expected or not)."""
    args = ["recover", "--json"] + (["-o", options] if options else []) + [image]
    done = cases.command(*args)
    report.check(done.returncode == code, "%s: `uext4 recover` ended with %d: %s", what,
                 done.returncode, done.text)
    report.check("Sanitizer" not in done.text and "runtime error" not in done.text, "%s: %s", what,
                 done.text)
    if done.returncode != 0:
        report.check(done.text, "%s: `uext4 recover` failed without a word", what)
        return None
    return json.loads(done.stdout)


def e2fsck_recover(image, *more):
    done = harness.run(["e2fsck", "-y", "-E", "journal_only", *more, image], check=False)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def debugfs_recover(image):
    _, err = harness.debugfs(image, ["jr"], write=True)
    return "\n".join(err.split("\n")[1:]).strip()  # the first line is the version


def compare_images(report, what, ours, theirs, freedom=(), skip_blocks=()):
    """Equal, but for OUR_FREEDOM and `freedom` in the superblock, and these blocks."""
    one, two = bytearray(read_all(ours)), bytearray(read_all(theirs))
    for at, size, _ in list(OUR_FREEDOM) + list(freedom):
        for data in (one, two):
            data[SB + at:SB + at + size] = bytes(size)
    report.equal(what + ": size", len(one), len(two))
    bs = block_size(ours)
    if one == two:
        report.nr_checks += 1
        return
    differ = [i for i in range(len(one) // bs)
              if one[i * bs:(i + 1) * bs] != two[i * bs:(i + 1) * bs] and i not in skip_blocks]
    fields = [hex(i) for i in range(1024) if one[SB + i] != two[SB + i]]
    if SB // bs not in differ:
        fields = []
    report.check(not differ, "%s: blocks that differ: %s; in the superblock: %s", what,
                 differ[:20], fields[:20])


def check_overlay(report, what, image, recovered, options=""):
    """A read-only mount replays in memory: same tree, and nothing is written."""
    before = cases.file_hash(image)
    got = harness.Image(image, options="ro" + options)
    text = got.crash_text()
    report.check(text is None, "%s: ureader: %s", what, text)
    report.check(got.mount == 0, "%s: mount gave %s: %s", what, got.mount, cases.log_text(got))
    report.check("replayed in memory" in cases.log_text(got), "%s: nothing was replayed: %s", what,
                 cases.log_text(got))
    cases.check_same(report, what + ": the overlay beside the recovered image",
                     harness.Image(recovered), got)
    report.check(got.inodes, "%s: nothing was read", what)
    report.check(cases.file_hash(image) == before, "%s: the image was changed", what)


def check_recovered(report, what, image):
    """It needs no recovery now, and another one changes nothing."""
    report.check(not cases.get_le(image, SB + cases.INCOMPAT, 4) & RECOVER,
                 "%s: it still asks for recovery", what)
    before = read_all(image)
    told = recover(report, what + ", again", image)
    report.check(told and not told["was_needed"], "%s: recovered twice: %s", what, told)
    report.check(read_all(image) == before, "%s: the second recovery wrote", what)


def check_everybody(report, ws, what, image, freedom=(), e2fsck=True):
    """uext4, debugfs and e2fsck agree; what uext4 tells, and its image."""
    ours = copy_of(ws, image, "ours")
    told = recover(report, what, ours)
    if not told:
        return None, ours
    report.check(told["was_needed"], "%s: no recovery was needed", what)
    theirs = copy_of(ws, image, "theirs")
    trouble = debugfs_recover(theirs)
    if "not open" in trouble:
        # a checksum of a bitmap that is good only after recovery
        report.check(e2fsck, "%s: there is no oracle: debugfs %s", what, trouble)
    else:
        compare_images(report, "%s: debugfs %s" % (what, trouble), ours, theirs, freedom)
    if e2fsck:
        theirs = copy_of(ws, image, "theirs")
        code, text = e2fsck_recover(theirs)
        report.check(code in (0, 1), "%s: e2fsck ended with %d: %s", what, code, text)
        compare_images(report, what + ": e2fsck", ours, theirs, freedom)
    check_recovered(report, what, ours)
    check_overlay(report, what, image, ours)
    return told, ours


# ---- the journals of e2fsprogs's own tests -------------------------------------------

# Where uext4 does not do as e2fsck does, the name says what it must say, and here is why.
REFUSED = {
    # The others' copies are written, the log stays, so that e2fsck can say what was lost;
    # e2fsck empties it and marks the error (J29).
    "j_corrupt_journal_block": "copy of block .* is damaged",
    # A record count that lies.  e2fsck empties the log and marks the error (J12).
    "j_corrupt_revoke_rcount": "revoke block .* is damaged",
    # e2fsck makes a new journal.
    "j_corrupt_sb_magic": "magic is wrong",
    # The superblock names an inode that is free.  e2fsck makes a new journal.
    "f_journal": "inode is free",
    # The journal is somewhere else, and e2fsck does not have it either.
    "f_ext_journal": "journal_path",
}
# Orphans: e2fsck handles those, too, and debugfs replays only.
HAS_ORPHANS = {"f_clear_orphan_file"}
# A commit block with a wrong checksum ends the log (J27); e2fsck marks an error on top.
MARKED = {"j_corrupt_commit_csum"}


def case_foreign(ws, report):
    sources = foreign_images()
    nr = 0
    for source in sources:
        name = os.path.basename(source).split(".img")[0]
        image = ws.path("image")
        cases.unpack(source, image)
        if cases.get_le(image, SB + 0x38, 2) == 0xEF53 and \
                cases.get_le(image, SB + cases.INCOMPAT, 4) & RECOVER:
            nr += 1
            if name in REFUSED:
                check_refused(report, ws, name, image, REFUSED[name])
                if name == "j_corrupt_journal_block":
                    check_other_copies(report, ws, name, image)
            else:
                check_everybody(report, ws, name, image, [STATE] if name in MARKED else [],
                                e2fsck=name not in HAS_ORPHANS)
        os.unlink(image)
    report.check(nr >= 14, "only %d images need recovery", nr)


def check_other_copies(report, ws, what, image):
    """The copies that are good come to their places, as e2fsck does it."""
    ours, theirs = copy_of(ws, image, "ours"), copy_of(ws, image, "theirs")
    recover(report, what, ours, code=1)
    e2fsck_recover(theirs)
    compare_images(report, what + ": the other copies", ours, theirs,
                   [STATE, (cases.INCOMPAT, 4, "it still asks for recovery")],
                   {journal_start(image)})


def foreign_images():
    where = os.environ.get("UEXT4_FOREIGN_IMAGES") or os.path.join(
        os.path.dirname(harness.PROJECT), "shared", "images")
    sources = [s for pattern in ("*.img.gz", "*.img.bz2")
               for s in glob.glob(os.path.join(where, "**", pattern), recursive=True)]
    if not sources:
        raise harness.Skip("no images in %s (UEXT4_FOREIGN_IMAGES names the directory)" % where)
    return sorted(sources)


def check_refused(report, ws, what, image, words, options=None):
    """Neither recover nor mount takes it, both say why; noload does."""
    ours = copy_of(ws, image, "ours")
    args = ["-o", options] if options else []
    cases.expect_command_fails(report, what, ["recover"] + args + [ours], words)
    report.check(cases.get_le(ours, SB + cases.INCOMPAT, 4) & RECOVER,
                 "%s: it no longer asks for recovery", what)
    before = cases.file_hash(image)
    got = harness.Image(image, options="ro" + ("," + options if options else ""))
    report.check(got.crash_text() is None, "%s: %s", what, got.crash_text())
    report.check(got.mount is not None and got.mount < 0, "%s: it was mounted", what)
    report.check(re.search(words, cases.log_text(got)), "%s: the log does not say %r: %s",
                 what, words, cases.log_text(got))
    got = harness.Image(image, options="ro,noload")
    report.check(got.crash_text() is None, "%s, noload: %s", what, got.crash_text())
    report.check(got.mount == 0 or what == "f_journal" and got.mount == -errno.EUCLEAN,
                 "%s, noload: mount gave %s: %s", what, got.mount, cases.log_text(got))
    report.check(cases.file_hash(image) == before, "%s: the image was changed", what)


# ---- journals that debugfs writes --------------------------------------------------


class Written:
    """An image whose journal is written transaction by transaction."""

    def __init__(self, ws, features, bs, open_args, sequence=None, size=16 << 20):
        self.ws = ws
        self.bs = bs
        self.image = ws.path("written")
        harness.mke2fs(self.image, ["-b", str(bs), "-N", "64", "-O", "none," + features, "-J",
                                    "size=%d" % (1024 * bs >> 20)], size)
        if sequence is not None:
            self.set_sequence(sequence)
        self.commands = ["jo " + open_args]
        self.random = harness.rng("written", features, bs, open_args)
        self.nr = 0

    def set_sequence(self, sequence):
        """The next tid, in the superblock of a journal that has no checksums yet."""
        at = journal_start(self.image) * self.bs
        cases.put_bytes(self.image, at + 0x18, struct.pack(">I", sequence))

    def write(self, blocks, escaped=(), commit=True, data=None):
        """One transaction with copies of these blocks, random ones unless given."""
        path = self.ws.path("blocks-%d" % self.nr)
        self.nr += 1
        if data is None:
            data = b""
            for b in blocks:
                one = self.random.randbytes(self.bs)
                data += (MAGIC + one[4:]) if b in escaped else one
        makers.write(path, data)
        self.commands.append("jw %s -b %s %s" % ("" if commit else "-c",
                                                 ",".join(map(str, blocks)), path))

    def revoke(self, blocks):
        self.commands.append("jw -r %s" % ",".join(map(str, blocks)))

    def done(self, report, what):
        _, err = harness.debugfs(self.image, self.commands + ["jc"], write=True)
        text = "\n".join(err.split("\n")[1:]).strip()
        report.check(not text, "%s: debugfs says: %s", what, text)
        return self.image


FORMATS = [
    # name, features, block size, arguments of journal_open
    ("v3-64bit", configs.EXT4, 1024, "-c -v 3"),
    ("v3-64bit-4k", configs.EXT4, 4096, "-c -v 3"),
    ("v3-32bit", configs.EXT4.replace("64bit,", ""), 1024, "-c -v 3"),
    ("v2-64bit", configs.EXT4, 1024, "-c -v 2"),
    ("v2-32bit", configs.EXT4.replace("64bit,", ""), 4096, "-c -v 2"),
    ("none-64bit", configs.EXT4, 1024, ""),
    ("none-32bit", configs.EXT3, 1024, ""),
    ("none-32bit-4k", configs.EXT3, 4096, ""),
]

FREE = 3000  # blocks from here on belong to nobody in these images


def case_debugfs(ws, report):
    """All formats: revokes in every order, escapes, many blocks, a transaction that did not end."""
    for name, features, bs, open_args in FORMATS:
        for sequence in (None, 0xFFFFFFFE, 0x7FFFFFFE):
            what = "%s, tid %s" % (name, sequence)
            w = Written(ws, features, bs, open_args, sequence)
            w.write(range(FREE, FREE + 5))
            w.write([FREE + 10, FREE + 11, FREE + 12], escaped=[FREE + 10, FREE + 12])
            w.write([FREE + 20])  # then revoked
            w.write([FREE + 21])  # then revoked, then written again
            w.revoke([FREE + 20, FREE + 21, FREE + 400])
            w.write([FREE + 21, FREE])
            w.write(range(FREE + 50, FREE + 250))  # more than one descriptor has tags for
            image = w.done(report, what)
            told, ours = check_everybody(report, ws, what, image)
            if told:
                report.equal(what + ": transactions", told["transactions"], 7)
                report.equal(what + ": blocks", told["blocks"], 5 + 3 + 2 + 200)
                report.equal(what + ": revokes", told["revokes"], 3)
                report.equal(what + ": void copies", told["copies_revoked"], 2)
                check_listing(report, what, image, bs, features)
                check_unescaped(report, what, ours, bs)


def check_listing(report, what, image, bs, features):
    d = cases.run_json(report, "journal", "--json", image)
    if d is None:
        return
    kinds = [e["kind"] for e in d["entries"]]
    report.equal(what + ": commits listed", kinds.count("commit"), 7)
    report.equal(what + ": blocks listed", kinds.count("block"), 212)
    report.equal(what + ": revokes listed", kinds.count("revoke"), 3)
    report.equal(what + ": escaped", [e["block"] for e in d["entries"] if e.get("escaped")],
                 [FREE + 10, FREE + 12])
    report.check(all(e["complete"] for e in d["entries"]), "%s: incomplete entries", what)
    report.check(all(e["checksum_ok"] in (True, None) for e in d["entries"]),
                 "%s: wrong checksums", what)
    report.equal(what + ": block size", d["block_size"], bs)
    report.equal(what + ": 64 bits", "journal_64bit" in d["features"], "64bit" in features)
    table = cases.command("journal", image).stdout.decode().split("\n")
    report.equal(what + ": lines of the table",
                 sum(1 for line in table if line[:11].strip().isdigit()), len(kinds))


def check_unescaped(report, what, image, bs):
    with open(image, "rb") as f:
        for block in (FREE + 10, FREE + 12):
            f.seek(block * bs)
            report.equal("%s: block %d begins with" % (what, block), f.read(4), MAGIC)


def case_ends(ws, report):
    """Where the log ends: a transaction without its commit, a torn or a damaged one (J26, J27)."""
    w = Written(ws, configs.EXT4, 1024, "-c -v 3")
    w.write([FREE])
    w.write([FREE + 1])
    w.write([FREE + 2], commit=False)
    image = w.done(report, "no commit")
    told, _ = check_everybody(report, ws, "no commit", image)
    report.equal("no commit: transactions", told and told["transactions"], 2)
    d = cases.run_json(report, "journal", "--json", image)
    report.equal("no commit: incomplete", [e["block"] for e in d["entries"] if not e["complete"]],
                 [FREE + 2])

    w = Written(ws, configs.EXT4, 1024, "-c -v 3")
    for i in range(3):
        w.write([FREE + i])
    image = w.done(report, "three")
    first = journal_start(image) * 1024
    entries = cases.run_json(report, "journal", "--json", image)["entries"]
    commits = [e["log_block"] for e in entries if e["kind"] == "commit"]
    last = first + commits[2] * 1024

    torn = copy_of(ws, image, "torn")
    cases.put_bytes(torn, last + 60, b"torn")
    told, _ = check_everybody(report, ws, "a torn commit", torn, [STATE])
    report.equal("a torn commit: transactions", told and told["transactions"], 2)

    # Torn behind its first sector, the commit is good (J27); e2fsprogs has no such rule.
    tail = copy_of(ws, image, "tail")
    cases.put_bytes(tail, last + 512, b"junk of an earlier life")
    told = recover(report, "torn behind the header", tail)
    report.equal("torn behind the header: transactions", told and told["transactions"], 3)

    damaged = copy_of(ws, image, "damaged")
    cases.put_bytes(damaged, first + (commits[0] + 1) * 1024 + 100, b"damage")
    before = read_all(damaged)
    recover(report, "a damaged descriptor", damaged, code=1)
    report.check(read_all(damaged) == before, "a damaged descriptor: the image was changed")
    check_refused(report, ws, "a damaged descriptor", damaged, "damaged")


def case_errors(ws, report):
    """The log brings an old superblock back, and errors that only the newer one knew stay (J33)."""
    error = {0x3A: (2, 3), 0x194: (4, 3), 0x198: (4, 77), 0x19C: (4, 12), 0x1C8: (4, 99),
             0x1CC: (4, 78), 0x1D0: (4, 13), 0x27A: (1, 5), 0x27B: (1, 6)}
    for newer in ("device", "log"):
        w = Written(ws, configs.EXT3, 1024, "")
        old = bytearray(read_all(w.image)[SB:SB + 1024])
        logged = bytearray(old)
        if newer == "log":
            for at, (size, value) in error.items():
                logged[at:at + size] = value.to_bytes(size, "little")
        w.write([SB // 1024], data=bytes(logged))
        image = w.done(report, newer)
        for at, (size, value) in error.items():
            if newer == "device":
                cases.put_bytes(image, SB + at, value.to_bytes(size, "little"))
        told = recover(report, newer, image)
        report.equal(newer + ": blocks", told and told["blocks"], 1)
        for at, (size, value) in error.items():
            report.equal("%s: field %#x" % (newer, at), cases.get_le(image, SB + at, size), value)


# ---- crash copies of what the kernel writes -----------------------------------------


def no(feature, features=configs.EXT4):
    return ",".join(name for name in features.split(",") if name != feature)


LIVE = [
    # name, features, block size, mount options, orphans at the crash
    ("default", configs.EXT4, 4096, "", False),
    ("1k", configs.EXT4, 1024, "", False),
    ("32bit", no("64bit"), 4096, "", False),
    ("no-csum", no("metadata_csum"), 1024, "", False),
    ("csum-v1", no("metadata_csum"), 4096, ",journal_checksum", False),
    ("async-commit", configs.EXT4, 4096, ",journal_async_commit,data=writeback", False),
    ("data-journal", configs.EXT4, 4096, ",data=journal", False),
    ("data-journal-1k-32bit", no("64bit"), 1024, ",data=journal", False),
    ("ext3", configs.EXT3, 1024, "", False),
    ("orphan-list", configs.EXT4, 4096, "", True),
    ("orphan-file", configs.EXT4 + ",orphan_file", 4096, "", True),
]


class Work:
    """Changes of all kinds in a mounted file system, from a seed."""

    def __init__(self, point, *key):
        self.point = point
        self.random = harness.rng("work", *key)
        self.files, self.held = [], []
        self.nr = 0

    def round(self):
        here = os.path.join(self.point, "round-%d" % self.nr)
        os.mkdir(here)
        self.nr += 1
        for i in range(40):
            path = os.path.join(here, "file-%d" % i)
            makers.write(path, self.contents())
            self.files.append(path)
            if i % 9 == 0:
                self.fsync(path)
        for i in range(self.random.randrange(20)):
            self.change(here, i)
        self.remove_some()

    def contents(self):
        data = self.random.randbytes(self.random.randrange(30000))
        # data=journal has to escape such blocks
        return MAGIC + data if self.random.randrange(4) == 0 else data

    def change(self, here, i):
        path = self.random.choice(self.files)
        what = self.random.randrange(6)
        if what == 0:
            os.truncate(path, self.random.randrange(50000))
        elif what == 1:
            os.symlink("t" * self.random.randrange(1, 200), os.path.join(here, "link-%d" % i))
        elif what == 2:
            os.link(path, os.path.join(here, "hard-%d" % i))
        elif what == 3:
            self.set_attribute(path, "user.x%d" % i)
        elif what == 4:
            os.rename(path, path + "-r")
            self.files[self.files.index(path)] = path + "-r"
        else:
            os.mkdir(os.path.join(here, "dir-%d" % i))

    def set_attribute(self, path, name):
        try:
            os.setxattr(path, name, self.random.randbytes(self.random.randrange(900)))
        except OSError as e:
            if e.errno != errno.ENOSPC:  # one block holds those of a file
                raise

    def remove_some(self):
        """Blocks of directories and indirect blocks that are freed give revoke records."""
        self.random.shuffle(self.files)
        for path in self.files[60:]:
            os.unlink(path)
        del self.files[60:]

    def hold(self, nr):
        """Files that are open and have no name any more."""
        for i in range(nr):
            path = os.path.join(self.point, "held-%d" % i)
            makers.write(path, self.contents())
            self.held.append(os.open(path, os.O_RDWR))
            os.unlink(path)

    def done(self):
        for fd in self.held:
            os.close(fd)
        self.held = []

    @staticmethod
    def fsync(path):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def commit(self):
        """A commit; sync(1) would also write to its place what is in the journal."""
        path = os.path.join(self.point, "mark-%d" % self.nr)
        makers.write(path, b"mark")
        self.fsync(path)

    def full_commit(self):
        """Also where fsync makes fast ones: they cannot have attributes (J53)."""
        self.set_attribute(self.files[-1], "user.full")
        self.fsync(self.files[-1])

    def sync(self):
        """A full commit, and all is written to its place."""
        harness.run(["sync", "-f", self.point])


def need_kernel():
    reason = harness.kernel_reason()
    if reason:
        raise harness.Skip(reason)


def live_copies(ws, name, features, bs, options, orphans):
    """Crash copies of one life: after one commit, after many, and in the midst of a transaction."""
    image = ws.path("live")
    harness.mke2fs(image, ["-b", str(bs), "-N", "4096", "-O", "none," + features, "-J",
                           "size=%d" % (1024 * bs >> 20)], 48 << 20)
    # no commit by timer: it could come while the copy is taken
    point, why = ws.mount(image, "live-mount", "rw,commit=300" + options)
    if not point:
        raise harness.Skip("the kernel does not mount it: " + why)
    copies = []
    try:
        work = Work(point, name)
        try:
            for nr in range(12):
                work.round()
                if orphans and nr == 2:
                    work.hold(5)
                if nr in (1, 5):
                    work.commit()
                    copies.append(copy_of(ws, image, "crash-%d" % nr))
            work.commit()
            work.round()  # some of it is fsynced, the rest stays in memory
            copies.append(copy_of(ws, image, "crash-last"))
        finally:
            work.done()
    finally:
        ws.umount(point)
    return copies


def has_wrapped(log):
    at = [e["log_block"] for e in log["entries"]]
    return at != sorted(at)


def live(config):
    name = config[0]

    def case(ws, report):
        need_kernel()
        features, bs, options, orphans = config[1:]
        told, escaped, wrapped = [], 0, 0
        for image in live_copies(ws, name, features, bs, options, orphans):
            what = "%s, %s" % (name, os.path.basename(image))
            told.append(check_live(report, ws, what, image, orphans, options))
            log = cases.run_json(report, "journal", "--json", image) or {"entries": []}
            escaped += sum(1 for e in log["entries"] if e.get("escaped"))
            wrapped += has_wrapped(log)
        report.check(escaped > 0 or "data=journal" not in options,
                     "%s: no block of data had to be escaped", name)
        report.check(wrapped > 0 or "data=journal" not in options, "%s: no log wrapped", name)
        print("replayed: %s" % ["%(transactions)d transactions, %(blocks)d blocks, %(revokes)d "
                                "revokes" % t for t in told if t])
    return case


def check_live(report, ws, what, image, orphans, options):
    told, ours = check_everybody(report, ws, what, image, e2fsck=not orphans)
    if not told:
        return None
    report.check(told["transactions"] > 0, "%s: nothing was replayed", what)
    before, after, bs = read_all(image), read_all(ours), block_size(image)
    nr = sum(1 for at in range(0, len(after), bs) if before[at:at + bs] != after[at:at + bs])
    report.check(nr > 10, "%s: recovery changed %d blocks only", what, nr)
    kernel = copy_of(ws, image, "kernel")
    kernel_recover(ws, kernel, options)
    if not orphans:
        # the kernel's journal has its own mark in its superblock, where the next log begins
        compare_images(report, what + ": the kernel", ours, kernel, KERNEL_FREEDOM,
                       {journal_start(image)})
    cases.check_same(report, what + ": the tree beside the kernel's", harness.Image(kernel),
                     harness.Image(ours))
    check_counts(report, what, ours)
    if orphans:
        harness.run(["e2fsck", "-fy", ours], check=False)
    harness.check_clean(report, what, ours)
    kernel_recover(ws, ours, options, "rw")
    harness.check_clean(report, what + ", mounted by the kernel", ours)
    return told


def kernel_recover(ws, image, options, how="ro"):
    """The loop device is read-write in any case: the kernel has to write to replay."""
    loops = Loops()
    try:
        device = loops.attach(image)
        point = mount_device(ws, device, "kernel-mount", how + options)
        ws.umount(point)
    finally:
        loops.close()


def check_counts(report, what, image):
    """The superblock has the free blocks and inodes that its groups add up to."""
    text = harness.run(["dumpe2fs", image]).stdout.decode(errors="replace")
    groups = re.findall(r"(\d+) free (?:blocks|clusters), (\d+) free inodes", text)
    free = [int(re.search(name + r":\s+(\d+)", text).group(1))
            for name in ("Free blocks", "Free inodes")]
    report.check(groups, "%s: dumpe2fs shows no group", what)
    report.equal(what + ": free blocks", free[0], sum(int(n) for n, _ in groups))
    report.equal(what + ": free inodes", free[1], sum(int(n) for _, n in groups))


for _config in LIVE:
    globals()["case_live_" + _config[0]] = live(_config)


# ---- recovery that was cut --------------------------------------------------------


def case_cut(ws, report):
    """Whatever of the copies came to its place before the cut, the next recovery ends at the same
    bytes (J35): sectors chosen at random, then all of it with the log emptied or not."""
    for name, features, bs, open_args in FORMATS[:3]:
        w = Written(ws, features, bs, open_args)
        w.write(range(FREE, FREE + 30))
        w.write(range(FREE + 20, FREE + 40), escaped=[FREE + 25])
        w.revoke([FREE, FREE + 21])
        w.write(range(FREE + 35, FREE + 60))
        image = w.done(report, name)
        ours = copy_of(ws, image, "ours")
        if not recover(report, name, ours):
            continue
        before, after = read_all(image), read_all(ours)
        homes = [b for b in range(FREE, FREE + 60)
                 if before[b * bs:(b + 1) * bs] != after[b * bs:(b + 1) * bs]]
        report.check(len(homes) > 50, "%s: only %d blocks change", name, len(homes))
        rest = [b for b in range(len(before) // bs) if b not in homes and
                before[b * bs:(b + 1) * bs] != after[b * bs:(b + 1) * bs] and b != SB // bs]
        report.equal(name + ": blocks that change beside those: the journal's superblock",
                     [b in journal_blocks(image) for b in rest], [True])
        for i in range(12):
            cut = bytearray(before)
            r = harness.rng("cut", name, i)
            for b in homes:
                for at in range(b * bs, (b + 1) * bs, 512):
                    if r.randrange(11) < i:
                        cut[at:at + 512] = after[at:at + 512]
            if i == 11:  # only the superblock's mark is missing
                for b in rest:
                    cut[b * bs:(b + 1) * bs] = after[b * bs:(b + 1) * bs]
            path = ws.path("cut")
            makers.write(path, cut)
            what = "%s, cut %d" % (name, i)
            recover(report, what, path)
            report.check(read_all(path) == after, "%s: another result", what)


# ---- an external journal ----------------------------------------------------------


def case_external(ws, report):
    need_kernel()
    harness.need_tools("losetup")
    for bs in (1024, 4096):
        loops = Loops()
        try:
            check_external(ws, report, loops, bs)
        finally:
            for point in list(ws.mounts):
                ws.umount(point)
            loops.close()


def check_external(ws, report, loops, bs):
    what = "external, %d" % bs
    log, image = ws.path("log"), ws.path("image")
    harness.sparse_file(log, 2048 * bs)
    harness.sparse_file(image, 48 << 20)
    log_dev, dev = loops.attach(log), loops.attach(image)
    harness.run(["mke2fs", "-q", "-F", "-b", str(bs), "-O", "journal_dev", log_dev])
    harness.run(["mke2fs", "-q", "-F", "-b", str(bs), "-N", "2048", "-O", "none," + configs.EXT4,
                 "-J", "device=" + log_dev, dev])
    point = mount_device(ws, dev, "live", "rw")
    work = Work(point, what)
    for _ in range(3):
        work.round()
    work.commit()
    crash, crash_log = copy_of(ws, image, "crash"), copy_of(ws, log, "crash-log")
    cases.expect_command_fails(report, what + ", mounted", ["recover", dev], "in use")
    ws.umount(point)

    log_before = copy_of(ws, crash_log, "log-before")
    check_refused(report, ws, what, crash, "journal_path")
    other = ws.path("other")
    harness.sparse_file(other, 2048 * bs)
    harness.run(["mke2fs", "-q", "-F", "-b", str(bs), "-O", "journal_dev", other])
    check_refused(report, ws, what, crash, "another file system's", "journal_path=" + other)
    check_refused(report, ws, what, crash, "no journal", "journal_path=" + crash)

    ours, our_log = copy_of(ws, crash, "ours"), copy_of(ws, crash_log, "our-log")
    told = recover(report, what, ours, options="journal_path=" + our_log)
    report.check(told and told["transactions"] > 0, "%s: nothing was replayed", what)
    theirs, their_log = copy_of(ws, crash, "theirs"), copy_of(ws, crash_log, "their-log")
    code, text = e2fsck_recover(theirs, "-j", their_log)
    report.check(code in (0, 1), "%s: e2fsck ended with %d: %s", what, code, text)
    compare_images(report, what + ": e2fsck", ours, theirs)
    report.check(read_all(our_log) == read_all(their_log), "%s: e2fsck: other journal", what)
    check_overlay(report, what, crash, ours, ",journal_path=" + crash_log)
    report.check(read_all(crash_log) == read_all(log_before), "%s: the journal was changed", what)
    told = recover(report, what + ", again", ours, options="journal_path=" + our_log)
    report.check(told and not told["was_needed"], "%s: recovered twice: %s", what, told)
    kernel_log = loops.attach(copy_of(ws, crash_log, "kernel-log"))
    kernel = copy_of(ws, crash, "kernel")
    kernel_recover(ws, kernel, ",journal_path=" + kernel_log)
    compare_images(report, what + ": the kernel", ours, kernel, KERNEL_FREEDOM +
                   [(0xE4, 4, "device number of the journal, which is another now")])


# ---- fast commits -----------------------------------------------------------------


def case_fast_commit(ws, report):
    """Changes that are only in the fast-commit area: refused until they can be replayed (J30, J50).
    A full commit behind them makes them void, and all is well."""
    need_kernel()
    loops = Loops()
    try:
        fast, full = fast_commit_copies(ws, report, loops)
    finally:
        for point in list(ws.mounts):
            ws.umount(point)
        loops.close()
    check_refused(report, ws, "fast commits", fast, "fast.commit")
    d = cases.run_json(report, "journal", "--json", fast)
    if d:
        report.check(d["fast_commit_blocks"] > 0, "journal: no fast-commit area")
        report.check("fast_commit" in " ".join(d["features"]), "journal: %s", d["features"])
    check_full_commit(report, ws, "a full commit behind", full)


def check_full_commit(report, ws, what, full):
    """e2fsck 1.47 and debugfs take what is left in the fast-commit area for damage, say EINVAL, and
    do not empty the log.  So of theirs the journal's superblock is left out; the kernel has the
    last word."""
    ours, theirs = copy_of(ws, full, "ours"), copy_of(ws, full, "theirs")
    recover(report, what, ours)
    debugfs_recover(theirs)
    compare_images(report, what + ": debugfs", ours, theirs, skip_blocks={journal_start(full)})
    check_by_kernel(report, ws, what, full)


def case_fast_commit_wrap(ws, report):
    """A log wraps before the fast-commit area.  e2fsck goes on into that and loses what follows
    (J30), so the kernel alone is the oracle."""
    need_kernel()
    image = ws.path("live")
    harness.mke2fs(image, ["-b", "1024", "-N", "4096", "-O", "none,%s,fast_commit" % configs.EXT4,
                           "-J", "size=1"], 48 << 20)
    point, why = ws.mount(image, "live-mount", "rw,commit=300")
    if not point:
        raise harness.Skip("the kernel does not mount it: " + why)
    try:
        work = Work(point, "fast-wrap")
        for _ in range(100):
            work.round()
            work.full_commit()
            crash = copy_of(ws, image, "crash")
            log = cases.run_json(report, "journal", "--json", crash)
            if log is None or has_wrapped(log):
                break
    finally:
        ws.umount(point)
    report.check(log and has_wrapped(log), "the log did not wrap")
    if log:
        report.check(log["fast_commit_blocks"] > 0, "there is no fast-commit area")
        report.check(log["last"] < log["blocks"], "the log goes to the end of the journal")
        check_by_kernel(report, ws, "wrapped before fast commits", crash)


def check_by_kernel(report, ws, what, image):
    ours, kernel = copy_of(ws, image, "ours"), copy_of(ws, image, "kernel")
    told = recover(report, what, ours)
    if not told:
        return
    report.check(told["transactions"] > 0, "%s: nothing was replayed", what)
    kernel_recover(ws, kernel, "")
    compare_images(report, what + ": the kernel", ours, kernel, KERNEL_FREEDOM,
                   {journal_start(image)})
    check_recovered(report, what, ours)
    check_overlay(report, what, image, ours)
    harness.check_clean(report, what, ours)


def fast_commit_copies(ws, report, loops):
    image = ws.path("live")
    harness.mke2fs(image, ["-b", "4096", "-N", "2048", "-O",
                           "none,%s,fast_commit" % configs.EXT4, "-J", "size=16"], 64 << 20)
    device = loops.attach(image)
    point = mount_device(ws, device, "live-mount", "rw")
    work = Work(point, "fast")
    work.sync()
    for i in range(8):
        path = os.path.join(point, "fast-%d" % i)
        makers.write(path, work.contents())
        Work.fsync(path)
    try:
        with open("/proc/fs/ext4/%s/fc_info" % os.path.basename(device)) as f:
            text = f.read()
    except OSError as e:
        raise harness.Skip("this kernel has no fast commits: %s" % e) from e
    nr = re.search(r"(\d+) commits", text)
    if not nr or nr[1] == "0":
        raise harness.Skip("the kernel made no fast commits: " + text)
    fast = copy_of(ws, image, "fast")
    work.round()
    work.sync()
    return fast, copy_of(ws, image, "full")


CASES = {name[5:]: f for name, f in sorted(globals().items()) if name.startswith("case_")}


if __name__ == "__main__":
    harness.main_of_cases(CASES, "journal-")
