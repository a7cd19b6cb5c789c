# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of mounts share: an image, a directory, and taking both down whatever happens.

Skipped where a process cannot mount by FUSE.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

UEXT4 = os.environ.get("UEXT4", "uext4")
LONG = os.environ.get("UEXT4_LONG") == "1"
SKIPPED = 77

FEATURES = "has_journal,extent,flex_bg,64bit,dir_index,filetype,metadata_csum,extra_isize,dir_nlink"

os.environ["MKE2FS_CONFIG"] = "/dev/null"


class Done:
    """A finished run: exit status and output."""

    def __init__(self, completed):
        self.status = completed.returncode
        self.out = completed.stdout
        self.err = completed.stderr


def run(*args, timeout=30, **kwargs):
    """Returns when the run is over and nobody has its pipes open any more."""
    return Done(subprocess.run([str(a) for a in args], stdin=subprocess.DEVNULL, timeout=timeout,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs))


def uext4(*args, **kwargs):
    return run(UEXT4, *args, **kwargs)


def make_image(path, size="64M", *options):
    subprocess.run(["mke2fs", "-q", "-F", "-O", FEATURES, *options, str(path), size], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def mounts(directory):
    """What mountinfo has for the directory: (device, options, type, source), the top one last."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        device, _, where, options = left.split()[2:6]
        if where == str(directory):
            kind, source, super_options = right.split()
            found.append((device, options.split(",") + super_options.split(","), kind, source))
    return found


def process_status(pid):
    """/proc/PID/status as a dictionary."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def parent_of(pid):
    return int(process_status(pid)["PPid"])


def wait_until(what, seconds=20):
    """Whether it came true."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def is_gone(pid):
    try:
        return process_status(pid)["State"].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


class Case(unittest.TestCase):
    under_way = []

    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="uext4-mount-"))
        Case.under_way.append(self)
        self.image = self.dir / "img"
        self.at = self.dir / "at"
        self.at.mkdir()
        self.servers = []
        self.addCleanup(self.clean_up)

    def clean_up(self):
        Case.under_way.remove(self)
        for directory in [self.at, self.dir / "other"]:
            while mounts(directory):
                if uext4("umount", "-l", directory).status != 0:
                    break
        for pid in self.servers:
            with contextlib.suppress(ProcessLookupError):
                if not is_gone(pid) and "uext4" in process_status(pid)["Name"]:
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def make(self, size="64M", *options):
        make_image(self.image, size, *options)

    def mount(self, *options, directory=None):
        """Mount, and return the server's process."""
        done = uext4("mount", *options, self.image, directory or self.at)
        self.assertEqual(done.status, 0, done.err)
        return self.server(directory)

    def server(self, directory=None):
        pid = self.stats(directory)["pid"]
        self.servers.append(pid)
        return pid

    def stats(self, directory=None):
        done = uext4("stats", "--json", directory or self.at)
        self.assertEqual((done.status, done.err), (0, ""))
        return json.loads(done.out)

    def umount(self, *options, directory=None):
        done = uext4("umount", *options, directory or self.at)
        self.assertEqual((done.status, done.err), (0, ""))

    def refused(self, *args, status=1, saying):
        """It fails, says so, and leaves nothing mounted."""
        done = uext4("mount", *args)
        self.assertEqual(done.status, status, done.err)
        self.assertIn(saying, done.err)
        self.assertEqual(mounts(self.at), [])

    def fsck(self):
        """e2fsck finds nothing wrong with the image as it is; with a journal to replay, after
        that, in a copy."""
        copy = self.dir / "copy"
        shutil.copyfile(self.image, copy)
        self.assertEqual(uext4("recover", copy).status, 0)
        done = run("e2fsck", "-fn", copy)
        self.assertEqual(done.status, 0, done.out)
        copy.unlink()

    def fsck_closed(self):
        """The image is complete: e2fsck is content with it, and has no journal to replay."""
        done = run("e2fsck", "-fn", self.image)
        self.assertEqual(done.status, 0, done.out)
        self.assertNotIn("needs_recovery", run("dumpe2fs", "-h", self.image).out)


def has_sandbox():
    """False for builds with sanitizers."""
    with tempfile.TemporaryDirectory() as name:
        image = Path(name) / "img"
        make_image(image, "8M")
        done = uext4("mount", "--sandbox", image, name)
        if done.status == 0:
            uext4("umount", name)
    return "no sandbox (this build)" not in done.err


def why_not():
    """Why nothing can be mounted here, or None."""
    for tool in ["mke2fs", "e2fsck"]:
        if not shutil.which(tool):
            return f"{tool} is missing"
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if os.geteuid() != 0 and not shutil.which("fusermount3"):
        return "neither root nor fusermount3"
    if os.geteuid() != 0 and not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no permission for /dev/fuse"
    # A container may refuse.
    with tempfile.TemporaryDirectory() as name:
        image = Path(name) / "img"
        make_image(image, "8M")
        (Path(name) / "at").mkdir()
        done = uext4("mount", image, Path(name) / "at")
        if done.status != 0 and re.search("not permitted|denied", done.err):
            return done.err.strip()
        uext4("umount", Path(name) / "at")
    return None


def end_by_signal(process, number):
    """As it would be at its end: a server does not go with this process."""
    if os.getpid() == process:
        for case in list(Case.under_way):
            case.clean_up()
    os._exit(128 + number)


def main():
    reason = why_not()
    if reason:
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    signal.signal(signal.SIGTERM, lambda number, _, process=os.getpid():
                  end_by_signal(process, number))
    unittest.main()
