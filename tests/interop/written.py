#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Journals that uext4 writes, replayed by others.

    written.py FORMAT        FORMAT is one of FORMATS below
    written.py --list

journal_writer leaves an image with transactions in its journal: blocks that begin with the
journal's magic, revocations, blocks written again.  debugfs lists the log without complaint;
uext4, e2fsck, debugfs and the kernel replay it, and give the same bytes: those that were written.
"""

import collections
import os
import struct

import cases
import configs
import harness
import journal
import makers

WRITER = os.environ.get("JOURNAL_WRITER")
FREE = journal.FREE

Format = collections.namedtuple("Format", "features bs csum ask external")
NO_64BIT = configs.EXT4.replace("64bit,", "")
NO_CSUM = configs.EXT4.replace(",metadata_csum", "")

# csum: what is in the journal's superblock before; ask: what the writer asks for.
FORMATS = {
    "none": Format(NO_CSUM, 4096, None, "-", False),
    "none-1k": Format(configs.EXT3, 1024, None, "-", False),
    "v1": Format(NO_CSUM, 4096, 1, "-", False),
    "v1-1k-64bit": Format(NO_CSUM, 1024, 1, "64bit", False),
    "v2-1k": Format(NO_64BIT, 1024, 2, "-", False),
    "v2-64bit": Format(configs.EXT4, 4096, 2, "64bit", False),
    "v3": Format(NO_64BIT, 4096, None, "v3", False),
    "v3-1k-64bit": Format(configs.EXT4, 1024, None, "v3,64bit", False),
    "v3-64bit": Format(configs.EXT4, 4096, None, "v3,64bit", False),
    "external": Format(configs.EXT4, 4096, None, "v3,64bit", True),
    "external-1k": Format(configs.EXT4, 1024, None, "v3,64bit", True),
}


def crc32c(data, crc=0xFFFFFFFF):
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


# ---- images --------------------------------------------------------------------


class Target:
    """An image, and its journal's device if it has one of its own."""

    def __init__(self, ws, name, fmt):
        self.ws, self.fmt = ws, fmt
        self.image, self.log = ws.path(name), None

    def make(self, loops):
        fmt = self.fmt
        args = ["-b", str(fmt.bs), "-N", "64", "-O", "none," + fmt.features]
        if not fmt.external:
            harness.mke2fs(self.image, args + ["-J", "size=%d" % (1024 * fmt.bs >> 20)], 32 << 20)
            return
        self.log = self.ws.path("log")
        harness.sparse_file(self.log, 1100 * fmt.bs)
        harness.sparse_file(self.image, 32 << 20)
        log_dev, dev = loops.attach(self.log), loops.attach(self.image)
        harness.run(["mke2fs", "-q", "-F", "-b", str(fmt.bs), "-O", "journal_dev", log_dev])
        harness.run(["mke2fs", "-q", "-F", "-t", "ext4"] + args + ["-J", "device=" + log_dev, dev])
        loops.close()

    def copy(self, name):
        other = Target(self.ws, name, self.fmt)
        journal.copy_of(self.ws, self.image, name)
        if self.log:
            other.log = journal.copy_of(self.ws, self.log, name + "-log")
        return other

    def journal_at(self):
        """File and byte of the journal's superblock."""
        if self.log:
            return self.log, (2 if self.fmt.bs == 1024 else 1) * self.fmt.bs
        return self.image, journal.journal_start(self.image) * self.fmt.bs

    def options(self):
        return "journal_path=" + self.log if self.log else None


def set_old_csum(target):
    """Checksums of a generation that no tool makes any more."""
    path, at = target.journal_at()
    if target.fmt.csum == 1:
        cases.put_bytes(path, at + 0x24, struct.pack(">I", 1))
    elif target.fmt.csum == 2:
        with open(path, "rb") as f:
            f.seek(at)
            sb = bytearray(f.read(1024))
        incompat = struct.unpack(">I", sb[0x28:0x2C])[0]
        sb[0x28:0x2C] = struct.pack(">I", incompat | 8)
        sb[0x50] = 4
        sb[0xFC:0x100] = bytes(4)
        sb[0xFC:0x100] = struct.pack(">I", crc32c(sb))
        cases.put_bytes(path, at, bytes(sb))


# ---- what is written ---------------------------------------------------------------


class Script:
    """Steps for the writer, and what the blocks hold afterwards."""

    def __init__(self, ws, fmt):
        self.ws, self.bs = ws, fmt.bs
        self.random = harness.rng("written", fmt.bs, fmt.csum, fmt.ask)
        self.steps, self.want = [], {}
        self.nr_commits = 0

    def write(self, block, magic=False):
        data = self.random.randbytes(self.bs)
        if magic:
            data = journal.MAGIC + struct.pack(">II", 2, self.nr_commits + 1) + data[12:]
        path = self.ws.path("data-%d" % len(self.steps))
        makers.write(path, data)
        self.steps += ["w", str(block), path]
        self.want[block] = data

    def revoke(self, block):
        self.steps += ["r", str(block)]
        self.want.pop(block, None)

    def commit(self, how="c"):
        self.steps.append(how)
        self.nr_commits += 1


def make_script(ws, fmt):
    s = Script(ws, fmt)
    for i in range(40):  # the log goes on from somewhere in the middle
        s.write(FREE + 500 + i)
    s.commit("f")
    s.nr_commits = 0
    for i in range(5):
        s.write(FREE + i)
    s.commit()
    s.write(FREE + 10, magic=True)
    s.write(FREE + 11)
    s.write(FREE + 12, magic=True)
    s.write(FREE + 20)
    s.write(FREE + 21)
    s.commit()
    s.revoke(FREE + 20)  # its copy is void
    s.revoke(FREE + 21)
    s.revoke(FREE + 400)
    s.commit()
    s.write(FREE + 21)  # it lives again
    s.write(FREE)
    s.commit()
    for i in range(150):  # more than one descriptor has tags for, in blocks of 1 KiB
        s.write(FREE + 50 + i, magic=i == 70)
    s.commit()
    return s


def check_contents(report, what, image, script):
    with open(image, "rb") as f:
        for block, data in script.want.items():
            f.seek(block * script.bs)
            report.check(f.read(script.bs) == data, "%s: block %d is not what was written", what,
                         block)
        f.seek((FREE + 20) * script.bs)
        report.check(f.read(script.bs) == bytes(script.bs), "%s: the revoked block came back", what)


# ---- the others --------------------------------------------------------------------


def check_logdump(report, target):
    command = "logdump -a" if not target.log else "logdump -a -f " + target.log
    done = harness.run(["debugfs", "-R", command, target.image], check=False)
    text = (done.stdout + done.stderr).decode(errors="replace")
    for word in ("bad", "orrupt", "unexpected", "fail", "nvalid"):
        report.check(word not in text, "logdump says: %s",
                     [line for line in text.split("\n") if word in line][:5])
    report.check("FS block %d" % (FREE + 12) in text, "logdump does not list block %d: %s",
                 FREE + 12, text[:2000])
    report.check("evoke" in text, "logdump lists no revocation: %s", text[:2000])


def check_listing(report, target, script):
    args = ["journal", "--json"] + (["-o", target.options()] if target.log else [])
    d = cases.run_json(report, *args, target.image)
    if d is None:
        return
    kinds = [e["kind"] for e in d["entries"]]
    report.equal("commits listed", kinds.count("commit"), script.nr_commits)
    report.check(all(e["complete"] for e in d["entries"]), "incomplete entries")
    report.check(all(e["checksum_ok"] in (True, None) for e in d["entries"]), "wrong checksums")
    report.equal("escaped", [e["block"] for e in d["entries"] if e.get("escaped")],
                 [FREE + 10, FREE + 12, FREE + 120])


def replay_with_e2fsck(report, target):
    more = ["-j", target.log] if target.log else []
    code, text = journal.e2fsck_recover(target.image, *more)
    report.check(code in (0, 1), "e2fsck ended with %d: %s", code, text)


def replay_with_kernel(ws, target, loops):
    options = ""
    if target.log:
        options = ",journal_path=" + loops.attach(target.log)
    journal.kernel_recover(ws, target.image, options)


def check_format(ws, report, fmt, loops):
    target = Target(ws, "image", fmt)
    target.make(loops)
    set_old_csum(target)
    script = make_script(ws, fmt)
    harness.run([WRITER, target.image, target.log or "-", fmt.ask] + script.steps,
                env=dict(harness.TOOL_ENV, **harness.SANITIZER_ENV))
    report.check(cases.get_le(target.image, journal.SB + cases.INCOMPAT, 4) & journal.RECOVER,
                 "the image does not ask for recovery")
    check_listing(report, target, script)
    check_logdump(report, target)

    ours = target.copy("ours")
    told = journal.recover(report, "uext4", ours.image, options=ours.options())
    check_contents(report, "uext4", ours.image, script)
    report.equal("transactions", told and told["transactions"], script.nr_commits)
    theirs = target.copy("e2fsck")
    replay_with_e2fsck(report, theirs)
    check_contents(report, "e2fsck", theirs.image, script)
    journal.compare_images(report, "e2fsck", ours.image, theirs.image)
    if harness.kernel_reason() is None:
        theirs = target.copy("kernel")
        replay_with_kernel(ws, theirs, loops)
        check_contents(report, "the kernel", theirs.image, script)


def main():
    name = harness.choose(FORMATS, "FORMAT")
    fmt = FORMATS[name]

    def body(report):
        harness.need_tools("mke2fs", "debugfs", "e2fsck")
        if fmt.external:
            journal.need_kernel()
            harness.need_tools("losetup")
        ws = harness.Workspace("written-" + name)
        loops = journal.Loops()
        try:
            check_format(ws, report, fmt, loops)
        finally:
            for point in list(ws.mounts):
                ws.umount(point)
            loops.close()
            ws.close()

    harness.main("written " + name, "%s %s" % (os.path.abspath(__file__), name), body)


if __name__ == "__main__":
    main()
