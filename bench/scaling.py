# SPDX-License-Identifier: LGPL-2.1-or-later
"""What things cost when there is more of something: extents of a file, names in a directory,
blocks of a volume, threads, open files.

Each series is a function that yields, for one amount `x`, rows: (title, what x counts, x, unit,
function that measures one contender).  It makes what is needed before it yields and removes it
afterwards; all contenders are asked in between, one after the other, on the same image.
"""
import functools
import os
import time

from contenders import MIB, Kernel, Library, Raw, run, unmount
from jobs import worker

EXTENT_BYTES = 128 * MIB  # most that one extent can have with blocks of 4 KiB
OPEN_BYTES = 32 * MIB     # of all open files together


def make_empty(setup, size, *options):
    image = os.path.join(setup.folder, "scaling")
    with open(image, "wb") as f:
        f.truncate(size)
    run("mke2fs", "-q", "-F", "-t", "ext4", *options, image)
    return image


def nanoseconds(setup, job, line, party, **params):
    with party.open() as target:
        amount, seconds = worker(setup, target, job, seconds=setup.runtime, **params)[line]
    return seconds / amount * 1e9


# ---- extents ----------------------------------------------------------------------------------

def layout(nr, most):
    """Bytes that are written, and of a piece, so that the file has so many extents: written and
    unwritten ones in turn, or the one."""
    if nr == 1:
        return most, 0
    pieces = nr // 2
    piece = max(4096, most // pieces // 4096 * 4096)
    return piece * pieces, piece


def read_of_extents(setup, size, piece, party):
    if isinstance(party, Raw):
        piece = 0
    return nanoseconds(setup, "io", "io", party, rw="randread", bs=4096, direct=1, size=size,
                       piece=piece)


def extents(setup):
    for nr in setup.extents:
        size, piece = layout(nr, min(EXTENT_BYTES, setup.size))
        image = make_empty(setup, 2 * size + 256 * MIB)
        run(setup.worker, "lib:" + image, "pieces", "size=%d" % size, "piece=%d" % piece)
        raw = image + "-raw"
        with open(raw, "wb") as f:
            for done in range(0, size, MIB):
                f.write(bytes(min(MIB, size - done)))
        yield [("4 KiB direct read of a file of many extents", "extents", nr, "ns",
                functools.partial(read_of_extents, setup, size, piece))], {
                    Raw: raw, Library: image, Kernel: image}
        os.unlink(image)
        os.unlink(raw)


# ---- names ------------------------------------------------------------------------------------

def names(setup):
    for nr in setup.names:
        image = make_empty(setup, nr * 1024 + 128 * MIB, "-N", str(nr + 1024))
        run(setup.worker, "lib:" + image, "fill", "files=%d" % nr)
        rows = [(title, "names", nr, "ns",
                 functools.partial(nanoseconds, setup, "lookup", line, files=nr))
                for line, title in [("present", "lookup and stat of a name, used before"),
                                    ("absent", "lookup of a name that is not there")]]
        yield rows, {Library: image, Kernel: image}
        os.unlink(image)


# ---- volumes ----------------------------------------------------------------------------------

def sectors_read(device):
    with open("/sys/block/%s/stat" % os.path.basename(device), encoding="ascii") as f:
        return int(f.read().split()[2])


def kernel_mount(party, how):
    """Milliseconds, with the program that mounts; bytes read."""
    party.folder = party.image + "-mnt"
    os.mkdir(party.folder)
    try:
        with party.loop(how) as device:
            before = sectors_read(device)
            start = time.monotonic()
            run("mount", "-t", "ext4", "-o", how, device, party.folder)
            took = time.monotonic() - start
            read = sectors_read(device) - before
            unmount("umount", party.folder)
    finally:
        os.rmdir(party.folder)
    return {"mount": took * 1e3, "bytes": read * 512 / 1024}


def library_mount(setup, party, how):
    found = worker(setup, ["lib:" + party.image], "mount", mount=how)
    return {line: amount / 1024 if line == "bytes" else seconds * 1e3
            for line, (amount, seconds) in found.items()}


def mount_figure(setup, how, line, party):
    if isinstance(party, Kernel):
        return kernel_mount(party, how).get(line)
    return library_mount(setup, party, how)[line]


def volumes(setup):
    for size in setup.volumes:
        image = make_empty(setup, size)
        library_mount(setup, Library().use(image), "rw")  # the first one puts things straight
        rows = [(title, "bytes", size, unit, functools.partial(mount_figure, setup, how, line))
                for how, line, unit, title in [
                    ("ro", "mount", "ms", "mounting, read-only"),
                    ("ro", "bytes", "KiB", "read while mounting, read-only"),
                    ("rw", "mount", "ms", "mounting"),
                    ("rw", "bytes", "KiB", "read while mounting"),
                    ("rw", "create", "ms", "the first file made after mounting, durable"),
                    ("rw", "statfs", "ms", "the first statfs after mounting"),
                    ("rw", "unmount", "ms", "unmounting")]]
        yield rows, {Library: image, Kernel: image}
        os.unlink(image)


# ---- threads, open files ----------------------------------------------------------------------

def threads(setup):
    for nr in (1, 2):
        size = min(EXTENT_BYTES, setup.size)
        image = make_empty(setup, size + 256 * MIB)
        run(setup.worker, "lib:" + image, "pieces", "size=%d" % size)
        yield [(title, "threads", nr, "ns",
                functools.partial(nanoseconds, setup, job, line, threads=nr, **params))
               for title, job, line, params in [
                   ("4 KiB direct read in a queue of 32", "io", "io",
                    {"rw": "randread", "bs": 4096, "direct": 1, "depth": 32, "size": size}),
                   ("4 KiB read in the cache", "io", "io",
                    {"rw": "randread", "bs": 4096, "warm": 1, "size": size}),
                   ("file made, a directory for each thread", "names", "create",
                    {"files": setup.files})]], {Library: image, Kernel: image}
        os.unlink(image)


def open_files(setup):
    for nr in (1, 1000):
        image = make_empty(setup, 256 * MIB, "-N", "4096")
        yield [("4 KiB direct read of one of many open files", "open files", nr, "ns",
                functools.partial(nanoseconds, setup, "open", "open", files=nr,
                                  size=OPEN_BYTES))], {Library: image, Kernel: image}
        os.unlink(image)


ALL = [extents, names, volumes, threads, open_files]
