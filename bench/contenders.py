# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is measured beside uext4, and how they are mounted: shared by the programs of bench/."""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time

# Programs of this folder have no suffix and leave nothing behind.
sys.dont_write_bytecode = True

KERNEL = "kernel ext4 (loop)"
FUSE2FS = "fuse2fs"
MOUNT_SECONDS = 10  # to wait for fuse2fs


def run(*argv, **kwargs):
    return subprocess.run(argv, check=True, capture_output=True, text=True, **kwargs).stdout


def scratch_dir(size):
    """Memory where there is room for so many bytes: the device must not be what is measured."""
    shm = "/dev/shm"
    if os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > size:
        return shm
    print("the images are on disk: too little memory in %s" % shm)
    return None


@contextlib.contextmanager
def kernel_mount(image, folder, how):
    os.mkdir(folder)
    readonly = ["--read-only"] if how == "ro" else []
    loop = run("losetup", "--find", "--show", "--direct-io=on", *readonly, image).strip()
    try:
        run("mount", "-t", "ext4", "-o", how, loop, folder)
        try:
            yield folder
        finally:
            run("umount", folder)
    finally:
        run("losetup", "--detach", loop)


@contextlib.contextmanager
def fuse2fs_mount(image, folder, how):
    """In the foreground, so that the image is free when it has ended."""
    unmount = ["umount"] if os.geteuid() == 0 else ["fusermount", "-u"]
    os.mkdir(folder)
    # hard_remove: a file that was closed a moment ago is removed, not given a hidden name.
    with subprocess.Popen(["fuse2fs", "-f", "-o", how + ",hard_remove", image, folder],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True) as server:
        late = time.monotonic() + MOUNT_SECONDS
        while not os.path.ismount(folder) and server.poll() is None and time.monotonic() < late:
            time.sleep(0.01)
        if not os.path.ismount(folder):
            server.kill()
            raise subprocess.CalledProcessError(server.wait(), server.args,
                                                stderr=server.stderr.read())
        try:
            yield folder
        finally:
            run(*unmount, folder)


@contextlib.contextmanager
def uext4_mount(command, image, folder, *options):
    os.mkdir(folder)
    run(command, "mount", *options, image, folder)
    try:
        yield folder
    finally:
        run(command, "umount", folder)


def others():
    """Name, function that mounts, and why it cannot be had here, or None."""
    why_not_kernel = None if os.geteuid() == 0 else "not root"
    why_not_fuse2fs = None if shutil.which("fuse2fs") else "not installed"
    return [(KERNEL, kernel_mount, why_not_kernel), (FUSE2FS, fuse2fs_mount, why_not_fuse2fs)]


def left_out(name, why):
    print("left out: %s: %s" % (name, why))


def why_of(error):
    """What a program said that failed."""
    return (error.stderr or str(error)).strip()


def fio(path, rw, bs, depth, runtime, *options):
    """Requests a second of one direct job on a file."""
    side = "write" if "write" in rw else "read"
    out = run("fio", "--name=bench", "--filename=" + path, "--ioengine=io_uring", "--direct=1",
              "--rw=" + rw, "--bs=" + bs, "--iodepth=%d" % depth, "--runtime=%g" % runtime,
              "--output-format=json", *(["--readonly"] if side == "read" else []), *options)
    return json.loads(out)["jobs"][0][side]["iops"]
