# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a mount that writes leaves of an image, beside what the kernel's leaves of another copy."""

import os

import cases
import harness

SB = cases.SB
NR_COMPARED = 1024

# What may differ: offset, size, why.
FREEDOM = [
    (0x2C, 4, "time of the mount"),
    (0x30, 4, "time of the last write"),
    (0x88, 64, "where it was mounted"),
    (0x178, 8, "KiB ever written, which the kernel counts"),
    (0x274, 2, "upper bytes of the times"),
    (0x3FC, 4, "checksum of all this"),
]

# Features with which uext4 does not write: field, bit, name.
UNWRITABLE = [(cases.INCOMPAT, 0x100, "mmp"), (cases.RO_COMPAT, 0x100, "quota")]


def copy_of(ws, image, name):
    target = ws.path(name)
    harness.run(["cp", "--sparse=always", image, target])
    return target


def superblock(image):
    with open(image, "rb") as f:
        f.seek(SB)
        data = bytearray(f.read(NR_COMPARED))
    for at, size, _ in FREEDOM:
        data[at:at + size] = bytes(size)
    return data


def differing_fields(one, two):
    return [hex(i) for i in range(NR_COMPARED) if one[i] != two[i]]


def mount_and_unmount(report, image, what):
    """A short walk, for the tree must be there; the rest is compared elsewhere."""
    got = harness.Image(image, options="rw", args=["-q", "-n", "200", "-m", "65536"])
    text = got.crash_text()
    report.check(text is None, "%s: ureader: %s", what, text)
    report.check(got.mount == 0, "%s: mount gave %s; log %s", what, got.mount, got.log)
    report.check(got.done is not None and got.done["unmount"] == 0, "%s: unmount: %s; log %s", what,
                 got.done, got.log)
    errors = [text for level, text in got.log if level <= 3]
    report.check(not errors, "%s: the log has errors on a sound image: %s", what, errors[:5])
    return got


def kernel_mount(ws, image):
    """False when the kernel does not mount it for writing."""
    point, why = ws.mount(image, "kernel-rw", "rw")
    if not point:
        print("note: the kernel does not mount it for writing: %s" % why)
        return False
    ws.umount(point)
    return True


def check(ws, report, image, cfg):
    """Mount for writing, unmount, twice; then e2fsck, the superblock, and the kernel."""
    ours = copy_of(ws, image, "written")
    unwritable = [name for field, bit, name in UNWRITABLE
                  if cases.get_le(image, SB + field, 4) & bit]
    for nr in range(2):
        got = mount_and_unmount(report, ours, "rw mount %d" % nr)
        reason = got.info["readonly_reason"] if got.info else None
        report.check(bool(reason) == bool(unwritable), "mounted read-only: %r, features %s", reason,
                     unwritable)
        harness.check_clean(report, "rw mount %d" % nr, ours)
    if unwritable:
        report.check(superblock(ours) == superblock(image), "a read-only mount wrote")
    elif not harness.kernel_reason() and cfg.kernel:
        compare_with_kernel(ws, report, image, ours)
    os.unlink(ours)


def compare_with_kernel(ws, report, image, ours):
    theirs = copy_of(ws, image, "kernel-written")
    if kernel_mount(ws, theirs) and kernel_mount(ws, theirs):
        fields = differing_fields(superblock(ours), superblock(theirs))
        report.check(not fields, "the superblock beside the kernel's, fields that differ: %s",
                     fields)
        report.check(kernel_mount(ws, ours), "the kernel does not mount what uext4 has written")
        harness.check_clean(report, "mounted by the kernel", ours)
    os.unlink(theirs)
