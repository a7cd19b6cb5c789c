#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Images that are special: needing recovery, with unknown features, with a broken superblock,
huge, at an offset, no ext4 at all, other people's; and the command on an ordinary one.

    cases.py CASE        CASE is one of the functions case_* below
    cases.py --list
"""

import bz2
import errno
import glob
import gzip
import hashlib
import json
import os
import re
import stat
import subprocess
import time

import compare
import configs
import harness
import makers
import oracles

SB = 1024  # where the superblock lies
COMPAT, INCOMPAT, RO_COMPAT = 0x5C, 0x60, 0x64

# With sanitizers time and memory say nothing.
SANITIZED = os.environ.get("UEXT4_SANITIZED", "none") not in ("none", "")


def command(*args, timeout=60):
    env = dict(os.environ, **{k: v for k, v in harness.SANITIZER_ENV.items()
                              if k not in os.environ})
    done = subprocess.run([harness.UEXT4] + list(args), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                          timeout=timeout)
    done.text = done.stderr.decode(errors="replace")
    return done


def log_text(image):
    return " | ".join(text for _, text in image.log)


def file_hash(path):
    """Of a file with holes: what it holds and where."""
    h = hashlib.sha256()
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        h.update(b"%d" % size)
        pos = done = 0  # where holes are may change, so each piece counts once
        while pos < size:
            try:
                start = os.lseek(f.fileno(), pos, os.SEEK_DATA)
            except OSError:
                break
            pos = os.lseek(f.fileno(), start, os.SEEK_HOLE)
            for at in range(max(start // 65536 * 65536, done), pos, 65536):
                done = at + 65536
                piece = os.pread(f.fileno(), 65536, at)
                if piece.count(0) != len(piece):
                    h.update(b"%d" % at)
                    h.update(piece)
    return h.hexdigest()


def get_le(path, pos, size):
    with open(path, "rb") as f:
        f.seek(pos)
        return int.from_bytes(f.read(size), "little")


def put_bytes(path, pos, data):
    with open(path, "r+b") as f:
        f.seek(pos)
        f.write(data)


def small_image(ws, name="image", features=configs.EXT4, block_size=4096, size=64 << 20, args=()):
    """An image with the host tree in it, made without root."""
    tree = ws.path("host")
    if not os.path.exists(tree):
        makers.host_tree(tree, 1024, nr_many=40)
    image = ws.path(name)
    harness.mke2fs(image, ["-b", str(block_size), "-N", "2000", "-O", "none," + features,
                           "-J", "size=4"] + list(args) if "has_journal" in features else
                   ["-b", str(block_size), "-N", "2000", "-O", "none," + features] + list(args),
                   size, tree)
    return image


def expect_mount(report, what, image, code, *words, options="ro"):
    """Mount; expect this result (0 or an errno) and these words in what is said."""
    got = harness.Image(image, options=options, timeout=30)
    text = got.crash_text()
    report.check(text is None, "%s: %s", what, text)
    report.check(got.mount == -code, "%s: mount gave %s, expected %d; log: %s", what, got.mount,
                 -code, log_text(got))
    for word in words:
        report.check(re.search(word, log_text(got)), "%s: the log does not say %r: %s", what,
                     word, log_text(got))
    if code == 0:
        report.check(got.done is not None, "%s: the walk did not end", what)
    return got


def expect_command_fails(report, what, args, *words):
    done = command(*args)
    report.check(done.returncode == 1, "%s: `uext4 %s` ended with %d: %s", what, " ".join(args),
                 done.returncode, done.text)
    for word in words:
        report.check(re.search(word, done.text), "%s: `uext4 %s` does not say %r: %s", what,
                     " ".join(args), word, done.text)


# ---- the journal must be replayed first --------------------------------------


def case_recovery(ws, report):
    """An image that needs recovery is read as it will be afterwards, with nothing written to it;
    noload reads it as it is."""
    image = small_image(ws, block_size=1024)
    block = ws.path("block")
    makers.write(block, b"replayed" * 128)
    harness.debugfs(image, ["jo", "jw -b 40000 %s" % block, "jc"], write=True)
    check_recovery(report, "a journal written by debugfs", image)
    got = expect_mount(report, "noload", image, 0, "noload", options="ro,noload")
    # what debugfs shows is also the image as it is
    cfg = configs.Config("recovery", block_size=1024)
    compare.compare(report, got, oracles.Debugfs(ws, image, cfg), cfg)

    reason = harness.kernel_reason()
    if reason:
        print("note: no crash copy: %s" % reason)
        return
    copy = crash_copy(ws)
    before = expect_mount(report, "a crash copy with noload", copy, 0, options="ro,noload")
    compare_with_kernel(ws, report, before, copy, "ro,noload")
    got = check_recovery(report, "a crash copy", copy)
    report.check(len(got.inodes) > len(before.inodes), "the journal's contents are not seen")
    recovered = ws.path("recovered")
    harness.run(["cp", "--sparse=always", copy, recovered])
    harness.run(["e2fsck", "-y", "-E", "journal_only", recovered], check=False)
    compare_with_kernel(ws, report, got, recovered, "ro")


def compare_with_kernel(ws, report, got, image, options):
    point, why = ws.mount(image, "oracle", options)
    if not point:
        print("note: no kernel oracle: %s" % why)
        return
    kernel = oracles.Kernel(point)
    compare.compare(report, got, kernel, configs.BY_NAME["ext4-4k"])
    compare.compare_statfs(report, got, kernel)
    ws.umount(point)


def check_recovery(report, what, image):
    before = file_hash(image)
    report.check(get_le(image, SB + INCOMPAT, 4) & 4, "%s: needs no recovery", what)
    got = expect_mount(report, what, image, 0, "replayed in memory")
    for args in (["ls", image + ":/"], ["ls", "-o", "noload", image + ":/"]):
        report.check(command(*args).returncode == 0, "%s: `uext4 %s` failed", what, " ".join(args))
    report.check(file_hash(image) == before, "%s: the image was changed", what)
    return got


def crash_copy(ws):
    """A copy taken while the kernel has the image mounted, with commits in the journal."""
    image, copy = ws.path("live"), ws.path("copy")
    harness.mke2fs(image, ["-b", "4096", "-N", "2000", "-O", "none," + configs.EXT4], 64 << 20)
    point, why = ws.mount(image, "live-mount", "rw")
    if not point:
        raise harness.ToolError(why)
    try:
        for i in range(50):
            path = os.path.join(point, "f%d" % i)
            makers.write(path, makers.content("crash", i, size=i * 777))
        fd = os.open(point, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        # no sync of the file system, which would write all that is in the journal to its place
        harness.run(["cp", "--sparse=always", image, copy])
    finally:
        ws.umount(point)
    return copy


# ---- features ----------------------------------------------------------------


def with_bits(ws, source, name, field, bits, clear=0):
    """A copy with feature bits changed and the superblock's checksum right."""
    image = ws.path(name)
    harness.run(["cp", "--sparse=always", source, image])
    word = {COMPAT: "feature_compat", INCOMPAT: "feature_incompat",
            RO_COMPAT: "feature_ro_compat"}[field]
    value = (get_le(image, SB + field, 4) | bits) & ~clear
    harness.debugfs(image, ["ssv %s 0x%x" % (word, value)], write=True)
    if get_le(image, SB + field, 4) != value:
        raise harness.ToolError("debugfs did not set %s" % word)
    return image


def case_features(ws, report):
    """Unknown incompatible: refused by name.  Known and only in the way of writing: read."""
    image = small_image(ws)
    for bits, words in ((1 << 31, "I31|0x80000000"), (1 << 29, "I29|0x20000000"),
                        (1, "compression|I0"), (0x1000, "dirdata|I12")):
        bad = with_bits(ws, image, "bad", INCOMPAT, bits)
        before = file_hash(bad)
        expect_mount(report, "incompat %#x" % bits, bad, errno.EOPNOTSUPP, words)
        expect_command_fails(report, "incompat %#x" % bits, ["info", bad], words)
        report.check(file_hash(bad) == before, "incompat %#x: the image was changed", bits)
    for field, bits, what in ((COMPAT, 1 << 31, "compat"), (RO_COMPAT, 1 << 31, "ro_compat"),
                              (RO_COMPAT, 0x4000, "shared_blocks"), (COMPAT, 0x2, "imagic")):
        odd = with_bits(ws, image, "odd", field, bits)
        got = expect_mount(report, what, odd, 0)
        if got.info:
            report.check(got.info["readonly_reason"], "%s: no readonly_reason", what)
        report.check(got.done and got.done["bad"] == 0, "%s: %s", what, got.done)
    journal = ws.path("journal")
    harness.mke2fs(journal, ["-b", "4096", "-O", "journal_dev"], 16 << 20)
    got = harness.Image(journal, timeout=30)
    report.check(got.crash_text() is None and got.mount < 0, "an external journal: mount gave %s",
                 got.mount)
    report.check("journal" in log_text(got), "an external journal: the log says %s", log_text(got))
    # a mount for writing that must not write becomes one for reading, and says so
    odd = with_bits(ws, image, "odd", RO_COMPAT, 0x4000)
    expect_mount(report, "rw with shared_blocks", odd, 0, "read-only.*shared_blocks", options="rw")
    expect_mount(report, "unknown option", image, errno.EINVAL, "frobnicate",
                 options="ro,frobnicate")
    expect_mount(report, "noload with rw", image, errno.EINVAL, options="rw,noload")


def case_statfs(ws, report):
    """Free space and overhead when the superblock does not know them."""
    if harness.kernel_reason():
        raise harness.Skip("the kernel is the oracle: " + harness.kernel_reason())
    for name, features, block_size in (("ext4", configs.EXT4, 4096), ("ext2", configs.EXT2, 1024),
                                       ("bigalloc", configs.EXT4 + ",bigalloc", 4096),
                                       ("1k", configs.EXT4, 1024),
                                       ("meta_bg", configs.minus(configs.EXT4, "resize_inode") +
                                        ",meta_bg", 1024)):
        image = small_image(ws, name, features, block_size, size=200 << 20)
        for changes in ([], ["ssv overhead_blocks 0"],
                        ["ssv free_blocks_count 77", "ssv free_inodes_count 7", "ssv state 0"]):
            harness.debugfs(image, changes, write=True)
            ours = harness.Image(image, timeout=30)
            point, why = ws.mount(image, "oracle", "ro,noload")
            if not report.check(point and ours.statfs, "%s: %s %s", name, why, log_text(ours)):
                continue
            theirs = os.statvfs(point)
            for key, value in (("blocks", theirs.f_blocks), ("bfree", theirs.f_bfree),
                               ("files", theirs.f_files), ("ffree", theirs.f_ffree)):
                report.equal("%s %s: statfs %s" % (name, changes, key), ours.statfs[key], value)
            ws.umount(point)


# ---- inode fields -------------------------------------------------------------


def case_fields(ws, report):
    """Fields as no tool writes them in the ordinary course, by what the kernel makes of them."""
    if harness.kernel_reason():
        raise harness.Skip("the kernel is the oracle: " + harness.kernel_reason())
    image = small_image(ws, args=["-I", "256"])
    cmds = ["cd /many"]
    cmds += ["write /dev/null isize-%d" % n for n in range(4, 36, 4)]
    for n in range(4, 36, 4):
        name = "isize-%d" % n
        cmds += ["sif %s %s 0x%x" % (name, field, value) for field, value in (
            ("ctime", 0x90000001), ("mtime", 0x90000002), ("atime", 0x90000003),
            ("crtime", 0x90000004), ("ctime_extra", 0x11111111), ("mtime_extra", 0x22222222),
            ("atime_extra", 0x33333333), ("crtime_extra", 0x44444445), ("projid", 5555),
            ("version_hi", 6), ("extra_isize", n))]
    huge = 0x40000 | makers.FLAG_EXTENTS
    cmds += ["cd /", "sif size-1 blocks_hi 3", "sif size-59 flags 0x%x" % huge,
             "sif size-60 flags 0x%x" % huge, "sif size-60 blocks_hi 2", "sif size-61 blocks 77",
             "sif size-100 links_count 65000", "sif size-160 uid 4294967294",
             "sif size-511 gid 2147483648", "sif size-512 generation 4294967295",
             "sif size-513 mode 0107777", "sif empty-dir links_count 1",
             "sif size-1023 mtime 0x80000000", "sif size-1024 mtime_extra 0xee6b27ff"]
    harness.debugfs(image, cmds, write=True)
    got = harness.Image(image, timeout=30)
    if not report.check(got.mount == 0, "mount: %s", log_text(got)):
        return
    point, why = ws.mount(image, "oracle", "ro")
    if not point:
        raise harness.ToolError(why)
    compare.compare(report, got, oracles.Kernel(point), configs.BY_NAME["ext4-4k"])
    ws.umount(point)


# ---- superblocks --------------------------------------------------------------


def case_superblock(ws, report):
    """A damaged first superblock, and its backups by sb=N."""
    for block_size in (1024, 4096):
        image = small_image(ws, "image-%d" % block_size, block_size=block_size, size=160 << 20)
        good = expect_mount(report, "undamaged", image, 0)
        before = file_hash(image)
        # in units of 1 KiB: the first block of the second group
        backup = 8193 if block_size == 1024 else 32768 * 4
        by_backup = expect_mount(report, "backup of a sound image", image, 0,
                                 options="ro,sb=%d" % backup)
        check_same(report, "backup of a sound image", good, by_backup)
        report.check(file_hash(image) == before, "the image was changed")
        whole = ws.path("whole")
        harness.run(["cp", "--sparse=always", image, whole])

        put_bytes(image, SB, b"\0" * 1024)
        expect_mount(report, "no superblock", image, errno.EINVAL)
        expect_command_fails(report, "no superblock", ["ls", image + ":/"])
        got = expect_mount(report, "backup", image, 0, options="ro,sb=%d" % backup)
        check_same(report, "backup", good, got)
        report.check(command("ls", "-o", "sb=%d" % backup, image + ":/").returncode == 0,
                     "`uext4 ls -o sb=` failed")
        for wrong in (backup + 1, 7, 10**12):
            got = harness.Image(image, options="ro,sb=%d" % wrong, timeout=30)
            report.check(got.mount is not None and got.mount < 0 and got.crash_text() is None,
                         "sb=%d: mount gave %s %s", wrong, got.mount, got.crash_text())

        # one bit of the label: only the checksum can tell
        put_bytes(whole, SB + 0x78, b"x")
        expect_mount(report, "superblock checksum", whole, errno.EBADMSG)
        got = expect_mount(report, "nocsum", whole, 0, options="ro,nocsum")
        check_same(report, "nocsum", good, got)


def check_same(report, what, one, two):
    """Two readings of one image agree in everything but the log."""
    report.equal(what + ": inodes", sorted(two.inodes), sorted(one.inodes))
    for ino, d in one.inodes.items():
        if two.inodes.get(ino) != d:
            report.fail("%s: inode %d differs: %s, %s", what, ino, harness.brief(d),
                        harness.brief(two.inodes.get(ino)))


# ---- size ----------------------------------------------------------------------


def case_tebibyte(ws, report):
    """A sparse 1 TiB image mounts in less than 100 ms of CPU time and 32 MiB."""
    image = ws.path("image")
    try:
        harness.mke2fs(image, ["-b", "4096", "-O", "none," + configs.EXT4, "-J", "size=16", "-E",
                               "lazy_itable_init=1,lazy_journal_init=1,nodiscard"], 1 << 40)
    except OSError as e:
        raise harness.Skip("no sparse file of 1 TiB here: %s" % e) from e
    done = subprocess.run([harness.UREADER, "-r", harness.UEXT4, "info", image],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    cost = json.loads(done.stderr.decode().strip().split("\n")[-1])
    report.check(cost["status"] == 0, "uext4 info: %s", done.stderr)
    print("1 TiB: uext4 info takes %.1f ms, %d KiB" % (cost["cpu_seconds"] * 1000,
                                                       cost["maxrss_kib"]))
    if not SANITIZED:
        report.check(cost["cpu_seconds"] < 0.1, "uext4 info takes %.3f s", cost["cpu_seconds"])
        report.check(cost["maxrss_kib"] < 32 << 10, "uext4 info takes %d KiB", cost["maxrss_kib"])
    got = expect_mount(report, "1 TiB", image, 0)
    fields = oracles.superblock(image)
    if got.info:
        compare.compare_superblock(report, got, fields)


def case_offset(ws, report):
    """offset=BYTES: the file system inside a bigger file."""
    image = small_image(ws, size=32 << 20)
    plain = expect_mount(report, "at 0", image, 0)
    for offset, spelling in ((1 << 20, "1M"), (63 * 512, str(63 * 512))):
        disk = ws.path("disk")
        with open(disk, "wb") as out, open(image, "rb") as source:
            out.write(b"\xee" * offset)
            out.write(source.read())
            out.write(b"\xee" * 12345)
        got = expect_mount(report, "offset=" + spelling, disk, 0, options="ro,offset=" + spelling)
        check_same(report, "offset=" + spelling, plain, got)
    expect_mount(report, "without offset=", disk, errno.EINVAL)


def case_garbage(ws, report):
    """What is no ext4: an error each, of the right kind."""
    r = harness.rng("garbage")
    for name, data in (("empty", b""), ("one-byte", b"x"), ("sector", b"\0" * 512),
                       ("short", b"\xff" * 2047), ("zeros", b"\0" * (1 << 20)),
                       ("random", r.randbytes(1 << 20)),
                       ("magic-only", b"\0" * 1080 + b"\x53\xef" + b"\0" * 100000),
                       ("magic-ff", b"\xff" * 1080 + b"\x53\xef" + b"\xff" * 100000)):
        path = ws.path(name)
        makers.write(path, data)
        got = harness.Image(path, timeout=20)
        report.check(got.crash_text() is None, "%s: %s", name, got.crash_text())
        report.check(got.mount in (-errno.EINVAL, -errno.EOPNOTSUPP, -errno.EUCLEAN,
                                   -errno.EBADMSG), "%s: mount gave %s", name, got.mount)
        expect_command_fails(report, name, ["info", path])
    for name, code in (("nothing-there", errno.ENOENT), ("", errno.EISDIR)):
        got = harness.Image(ws.path(name), timeout=20)
        report.check(got.mount is not None and got.mount < 0, "%r: mount gave %s", name, got.mount)
        if name:
            report.equal("a path that is not there", got.mount, -code)
    # a sound image cut short anywhere
    image = small_image(ws, size=16 << 20, block_size=1024)
    for size in (1536, 2048, 3000, 5000, 70000, 1 << 20, (16 << 20) - 1024):
        cut = ws.path("cut")
        harness.run(["cp", "--sparse=always", image, cut])
        os.truncate(cut, size)
        got = harness.Image(cut, timeout=20)
        report.check(got.crash_text() is None, "cut to %d: %s", size, got.crash_text())
        report.check(got.mount is not None, "cut to %d: no answer", size)


# ---- images of other people ------------------------------------------------------


def unpack(source, target):
    """Decompress with holes for zeros; some of these images are huge."""
    opener = gzip.open if source.endswith(".gz") else bz2.open
    with opener(source, "rb") as f, open(target, "wb") as out:
        while piece := f.read(1 << 20):
            if piece.count(0) == len(piece):
                out.seek(len(piece), os.SEEK_CUR)
            else:
                out.write(piece)
        out.truncate(out.tell())


def case_foreign(ws, report):
    """Every image of somebody else: a result or a clear error in 20 seconds, nothing written."""
    where = os.environ.get("UEXT4_FOREIGN_IMAGES") or os.path.join(
        os.path.dirname(harness.PROJECT), "shared", "images")
    sources = sorted(glob.glob(os.path.join(where, "**", "*.img.*"), recursive=True))
    if not sources:
        raise harness.Skip("no images in %s (UEXT4_FOREIGN_IMAGES names the directory)" % where)
    only = os.environ.get("UEXT4_FOREIGN_ONLY")
    mounted = refused = 0
    slowest = (0, "")
    for source in sources:
        name = os.path.basename(source).split(".img")[0]
        if only and only != name:
            continue
        image = ws.path("image")
        unpack(source, image)
        before = file_hash(image)
        started = time.monotonic()
        got = foreign_read(report, name, image, "ro")
        if got.mount != 0 and get_le(image, SB + INCOMPAT, 4) & 4:  # a damaged journal
            got = foreign_read(report, name, image, "ro,noload")
        slowest = max(slowest, (time.monotonic() - started, name))
        if got.mount == 0:
            mounted += 1
            report.check(got.done is not None, "%s: the walk did not end", name)
        else:
            refused += 1
            report.check(got.mount is not None and got.log, "%s: mount gave %s and no message",
                         name, got.mount)
            print("refused: %-32s %s" % (name, log_text(got)[:150]))
        report.check(file_hash(image) == before, "%s: the image was changed", name)
        os.unlink(image)
    print("%d mounted and read, %d refused; slowest %s, %.1f s" % (mounted, refused, slowest[1],
                                                                   slowest[0]))


def foreign_read(report, name, image, options):
    got = harness.Image(image, options=options, args=["-m", str(64 << 20), "-n", "20000"],
                        timeout=20)
    report.check(got.crash_text() is None, "%s (%s): %s", name, options, got.crash_text())
    report.check(got.mount is None or got.mount <= 0, "%s: mount gave %s", name, got.mount)
    if os.environ.get("UEXT4_FOREIGN_ONLY"):
        for ino, d in got.inodes.items():
            if d.get("bad") or d.get("err"):
                print(ino, d.get("bad"), d.get("err"))
        print(log_text(got))
    return got


# ---- the command -------------------------------------------------------------------


def case_command(ws, report):
    """ls, stat, cat, map, info and get on an image whose tree we have beside us."""
    image = small_image(ws, block_size=1024)
    tree = ws.path("host")
    cfg = configs.Config("command", block_size=1024)
    makers.debugfs_fill(ws, image, cfg)
    facts = oracles.Debugfs(ws, image, cfg)
    inos = {}
    walk_paths(facts, 2, b"", inos)
    for path, ino in inos.items():
        f = facts.inodes[ino]
        if b"names/" in path:
            continue
        check_stat_json(report, image, path, ino, f)
        if stat.S_ISREG(f["mode"]) and f["size"] < 1 << 24:
            check_cat(report, image, path, f)
            check_map_json(report, image, path, f)
    check_ls(report, image, facts)
    check_info(report, image)
    check_get(report, ws, image, tree)
    for args in (["cat", image + ":/no such file"], ["cat", image + ":/names"],
                 ["ls", image + ":/size-1/x"], ["stat", image + ":/deep0/none"],
                 ["ls", ws.path("no image") + ":/"]):
        expect_command_fails(report, "error", args, "uext4: ")


def walk_paths(facts, ino, path, found):
    """{path: inode} of all that is not a directory, and of directories."""
    for name, child, _ in facts.inodes[ino].get("entries", []):
        if name in (b".", b".."):
            continue
        sub = path + b"/" + name
        found[sub] = child
        if stat.S_ISDIR(facts.inodes[child]["mode"]):
            walk_paths(facts, child, sub, found)


def run_json(report, *args):
    done = command(*args)
    if not report.check(done.returncode == 0, "`uext4 %s`: %d %s", " ".join(args),
                        done.returncode, done.text):
        return None
    try:
        return json.loads(done.stdout)
    except ValueError as e:
        report.fail("`uext4 %s`: no JSON: %s", " ".join(args), e)
        return None


def check_stat_json(report, image, path, ino, f):
    d = run_json(report, "stat", "--json", image + ":" + os.fsdecode(path))
    if d is None:
        return
    report.equal("stat --json of one file, objects", len(d), 1)
    d = d[0]
    what = "stat --json %r " % path
    report.equal(what + "ino", d["ino"], ino)
    for ours, theirs in (("mode", "mode"), ("nlink", "nlink"), ("uid", "uid"), ("gid", "gid"),
                         ("size", "size"), ("generation", "gen"), ("flags", "flags"),
                         ("blocks", "blocks")):
        report.equal(what + ours, d[ours], f[theirs])
    for name in ("atime", "mtime", "ctime"):
        report.equal(what + name, [d[name]["sec"], d[name]["nsec"]], f[name])
    report.equal(what + "xattrs", sorted(d["xattrs"]), sorted(f["xattrs"]))
    if stat.S_ISLNK(f["mode"]):
        report.equal(what + "target", d["target"], os.fsdecode(f["link"]))


def check_cat(report, image, path, f):
    done = command("cat", image + ":" + os.fsdecode(path))
    report.check(done.returncode == 0, "cat %r: %s", path, done.text)
    report.equal("cat %r length" % path, len(done.stdout), f["size"])
    report.equal("cat %r contents" % path, oracles.piece_crc(0, 0, done.stdout), f["crc"])


def check_map_json(report, image, path, f):
    d = run_json(report, "map", "--json", image + ":" + os.fsdecode(path))
    if d is None:
        return
    mapped = [[s["logical"], s["physical"], s["length"],
               oracles.FIEMAP_UNWRITTEN if s["type"] == "unwritten" else 0]
              for s in d["segments"] if "physical" in s]
    report.equal("map --json %r" % path, oracles.merge_fiemap(mapped),
                 oracles.merge_fiemap(f["fiemap"]))


def check_ls(report, image, facts):
    names = sorted(n for n, _, _ in facts.inodes[2]["entries"])
    done = command("ls", "-a", image + ":/")
    report.equal("ls -a /", sorted(done.stdout.split(b"\n")[:-1]), names)
    done = command("ls", "-laR", image + ":/")
    report.check(done.returncode == 0, "ls -laR: %s", done.text)
    nr_lines = sum(1 for line in done.stdout.split(b"\n") if re.match(rb"[-dlcbps][-rwxsStT]{9}",
                                                                     line))
    nr_entries = sum(len(f["entries"]) for f in facts.inodes.values() if "entries" in f)
    report.equal("lines of ls -laR", nr_lines, nr_entries)


def check_info(report, image):
    d = run_json(report, "info", "--json", image)
    fields = oracles.superblock(image)
    if d is None:
        return
    for ours, theirs in (("blocks", "Block count"), ("inodes", "Inode count"),
                         ("block_size", "Block size"), ("inode_size", "Inode size"),
                         ("blocks_free", "Free blocks"), ("inodes_free", "Free inodes")):
        report.equal("info " + ours, d[ours], int(fields[theirs].split()[0]))
    report.equal("info uuid", d["uuid"], fields["Filesystem UUID"])
    report.equal("info features", sorted(d["features"]),
                 sorted(fields["Filesystem features"].split()))


def check_get(report, ws, image, tree):
    """get -r brings the tree back: names, contents, modes, times, links, holes."""
    target = ws.path("got")
    done = command("get", "-r", image + ":/", target)
    # Only root may make the device nodes; get says so and goes on.
    report.check(done.returncode == 0 or (done.returncode == 1 and os.geteuid() != 0),
                 "get -r: %s", done.text)
    root = target
    if not os.path.exists(os.path.join(root, "size-1")):
        report.fail("get -r: %s is not there; there is %s", os.path.join(root, "size-1"),
                    os.listdir(target) if os.path.isdir(target) else None)
        return
    nr = 0
    for here, dirs, files in os.walk(os.fsencode(tree)):
        rel = os.path.relpath(here, os.fsencode(tree))
        for name in dirs + files:
            nr += 1
            one = os.path.join(here, name)
            two = os.path.normpath(os.path.join(os.fsencode(root), rel, name))
            check_same_file(report, one, two)
    report.check(nr > 80, "the tree has %d entries only", nr)
    with open(os.path.join(root, "sparse"), "rb") as f:
        report.check(os.fstat(f.fileno()).st_blocks * 512 < 80 * 4096, "get: holes are not kept")


def check_same_file(report, one, two):
    what = "get %r: " % one
    if not report.check(os.path.lexists(two), what + "is not there"):
        return
    a, b = os.lstat(one), os.lstat(two)
    report.equal(what + "mode", oct(b.st_mode), oct(a.st_mode))
    if stat.S_ISLNK(a.st_mode):
        report.equal(what + "target", os.readlink(two), os.readlink(one))
    elif stat.S_ISREG(a.st_mode):
        with open(one, "rb") as f, open(two, "rb") as g:
            report.check(f.read() == g.read(), what + "contents differ")
        report.equal(what + "mtime", b.st_mtime_ns // 10**9, a.st_mtime_ns // 10**9)


CASES = {name[5:]: f for name, f in sorted(globals().items()) if name.startswith("case_")}


if __name__ == "__main__":
    harness.main_of_cases(CASES)
