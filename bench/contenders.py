# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is measured: each knows how to come by its image, and how bench-worker reaches it.

A contender is `open` for one job at a time, with an empty cache.  What cannot be had here has
`missing`, the reason; nobody asks it for anything then.
"""
import contextlib
import os
import shutil
import subprocess
import time

MIB = 1 << 20
MOUNT_SECONDS = 10  # to wait for a server, or for others who look into a mount


def run(*argv, **kwargs):
    return subprocess.run(argv, check=True, capture_output=True, text=True, **kwargs).stdout


def why_of(error):
    """What a program said that failed."""
    lines = (error.stderr or str(error)).strip().splitlines()
    return lines[-1] if lines else str(error)


def unmount(*argv):
    """Whoever has a look at all mounts makes them busy for a moment."""
    late = time.monotonic() + MOUNT_SECONDS
    while True:
        try:
            return run(*argv)
        except subprocess.CalledProcessError as e:
            if "busy" not in e.stderr or time.monotonic() > late:
                raise
        time.sleep(0.02)


def copy_in_turns(pairs):
    """Copy each source to its target, a piece of each in turn.

    Memory differs: what is asked for first after much has been freed is in small pieces, and a
    file in it is slower by a quarter or more.  So nobody's image may come first.
    """
    with contextlib.ExitStack() as stack:
        files = [(stack.enter_context(open(source, "rb")),
                  stack.enter_context(open(target, "wb"))) for source, target in pairs]
        for source, target in files:
            target.truncate(os.fstat(source.fileno()).st_size)
        size = max((os.fstat(t.fileno()).st_size for _, t in files), default=0)
        for pos in range(0, size, MIB):
            for source, target in files:
                piece = os.pread(source.fileno(), MIB, pos)
                if piece.count(0) < len(piece):
                    os.pwrite(target.fileno(), piece, pos)


class Contender:
    key = title = ""
    names = True    # there are directories
    mounted = True  # programs can use it

    def __init__(self):
        self.missing = self.why_not()

    def why_not(self):
        return None

    def source(self, image, _data):
        """What its own image is a copy of; the file `data` is in the usual image, too."""
        return image

    def use(self, image):
        """For what is not about the usual image."""
        self.image = image
        return self

    def forget(self):
        os.unlink(self.image)


class Raw(Contender):
    """A file of the same size, by the library's code for devices."""
    key, title = "raw", "raw device"
    names = mounted = False

    def source(self, _image, data):
        return data

    @contextlib.contextmanager
    def open(self, _cache=None):
        yield ["raw:" + self.image]


class Library(Contender):
    """The library, with a page cache of so many bytes; None: as large as it is by default."""
    key, title = "library", "uext4 library"
    mounted = False

    @contextlib.contextmanager
    def open(self, cache=None, how="rw"):
        yield ["lib:" + self.image,
               "mount=" + (how + ",page_cache=%d" % cache if cache else how)]


class Mounted(Contender):
    """By a program that mounts; `folder` while it is open."""

    @contextlib.contextmanager
    def open(self, _cache=None, how="rw"):
        self.folder = self.image + "-mnt"
        os.mkdir(self.folder)
        try:
            with self.mount(how):
                yield ["sys:" + self.folder]
        finally:
            os.rmdir(self.folder)


class Uext4Mount(Mounted):
    key, title = "mount", "uext4 mount"

    def __init__(self, command):
        self.command = command
        super().__init__()

    def why_not(self):
        return None if os.access("/dev/fuse", os.R_OK | os.W_OK) else "no /dev/fuse"

    @contextlib.contextmanager
    def mount(self, how):
        run(self.command, "mount", "-o", how, self.image, self.folder)
        try:
            yield
        finally:
            run(self.command, "umount", self.folder)


class Kernel(Mounted):
    key, title = "kernel", "kernel ext4 (loop)"

    def why_not(self):
        return None if os.geteuid() == 0 else "not root"

    @contextlib.contextmanager
    def loop(self, how):
        readonly = ["--read-only"] if how == "ro" else []
        device = run("losetup", "--find", "--show", "--direct-io=on", *readonly,
                     self.image).strip()
        try:
            yield device
        finally:
            run("losetup", "--detach", device)

    @contextlib.contextmanager
    def mount(self, how):
        with self.loop(how) as device:
            run("mount", "-t", "ext4", "-o", how, device, self.folder)
            try:
                yield
            finally:
                unmount("umount", self.folder)


class Fuse2fs(Mounted):
    key = title = "fuse2fs"

    def why_not(self):
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return "no /dev/fuse"
        return None if shutil.which("fuse2fs") else "not installed"

    @contextlib.contextmanager
    def mount(self, how):
        """In the foreground, so that the image is free when it has ended."""
        how_to_end = ["umount"] if os.geteuid() == 0 else ["fusermount", "-u"]
        # hard_remove: a file that was closed a moment ago is removed, not given a hidden name.
        with subprocess.Popen(["fuse2fs", "-f", "-o", how + ",hard_remove", self.image,
                               self.folder], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True) as server:
            late = time.monotonic() + MOUNT_SECONDS
            while (not os.path.ismount(self.folder) and server.poll() is None
                   and time.monotonic() < late):
                time.sleep(0.01)
            if not os.path.ismount(self.folder):
                server.kill()
                raise subprocess.CalledProcessError(server.wait(), server.args,
                                                    stderr=server.stderr.read())
            try:
                yield
            finally:
                unmount(*how_to_end, self.folder)


def all_of(command):
    """In the order of the table's columns."""
    return [Raw(), Library(), Uext4Mount(command), Kernel(), Fuse2fs()]


def prepare_all(contenders, image, data):
    """Their images; who cannot open his is missing from now on."""
    present = [party for party in contenders if not party.missing]
    for party in present:
        party.image = "%s-%s" % (image, party.key)
    copy_in_turns([(party.source(image, data), party.image) for party in present])
    for party in present:
        try:
            with party.open():
                pass
        except subprocess.CalledProcessError as e:
            party.missing = why_of(e)
