# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the command share: running it, and making images with mke2fs and debugfs.

Each test case has a directory of its own; an image is made from a directory tree with
`mke2fs -d` and bent with debugfs or by changing bytes.  Without mke2fs a test file is skipped.
"""

import errno
import os
import pty
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

UEXT4 = os.environ.get("UEXT4", "uext4")
SKIPPED = 77
TIMEOUT = 180  # of one command: more is a hang, of which Meson would not say where it was

# For mke2fs -O: what ext3 does not have.
EXT3 = "^extent,^metadata_csum,^64bit,^flex_bg,^huge_file,^uninit_bg,^dir_nlink,^extra_isize"


class Done:
    """A finished run: exit status and output."""

    def __init__(self, completed):
        self.status = completed.returncode
        self.out_bytes = completed.stdout or b""
        self.out = self.out_bytes.decode(errors="replace")
        self.err = (completed.stderr or b"").decode(errors="replace")


def uext4(*args, **kwargs):
    kwargs.setdefault("stdout", subprocess.PIPE)
    kwargs.setdefault("stderr", subprocess.PIPE)
    kwargs.setdefault("timeout", TIMEOUT)
    return Done(subprocess.run([UEXT4, *map(str, args)], **kwargs))


def make_image(path, tree, size="16M", options=()):
    command = ["mke2fs", "-q", "-F", "-t", "ext4", *options, "-d", str(tree), str(path), size]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def debugfs(image, *requests):
    for request in requests:
        done = subprocess.run(["debugfs", "-w", "-R", request, str(image)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
        complaints = done.stderr.decode().splitlines()[1:]  # the first line is the version
        if complaints:
            raise RuntimeError(f"debugfs {request}: {complaints}")


def patch(image, old, new):
    """Replace bytes that occur once in the image."""
    assert len(old) == len(new)
    data = image.read_bytes()
    assert data.count(old) == 1, f"{old} occurs {data.count(old)} times"
    image.write_bytes(data.replace(old, new))


def write(path, data, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    path.chmod(mode)


def pattern(size, seed=1):
    """Bytes of which no two blocks are alike."""
    rng = random.Random(seed)
    parts = [rng.randbytes(min(1 << 20, size - at)) for at in range(0, size, 1 << 20)]
    return b"".join(parts)


def run_on_terminal(*args, pause=0):
    """Exit status and output of a run with a terminal, which waits so long before it reads on
    after the first piece."""
    master, slave = pty.openpty()
    child = subprocess.Popen([UEXT4, *map(str, args)], stdin=subprocess.DEVNULL, stdout=slave,
                             stderr=slave, env={**os.environ, "LC_ALL": "C.UTF-8"})
    os.close(slave)
    out = b""
    try:
        while part := os.read(master, 65536):
            out += part
            time.sleep(pause)
            pause = 0
    except OSError as e:  # Linux ends a terminal with EIO
        if e.errno != errno.EIO:
            raise
    os.close(master)
    return child.wait(), out.replace(b"\r\n", b"\n").decode()


def talk(args, lines, env=None):
    """What a run on a terminal says when it is given these lines, one after the other."""
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.execve(UEXT4, [UEXT4, *map(str, args)], {**os.environ, **(env or {})})
        finally:
            os._exit(127)
    out = b""
    lines = list(lines)
    while True:
        ready = select.select([master], [], [], 0.2 if lines else 20)[0]
        if ready:
            try:
                part = os.read(master, 65536)
            except OSError:
                part = b""
            if not part:
                break
            out += part
        elif lines:
            os.write(master, lines.pop(0))
        else:
            os.kill(pid, 9)
            break
    os.close(master)
    os.waitpid(pid, 0)
    return out.decode(errors="replace")


class Case(unittest.TestCase):
    folder = None  # of the case under way

    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="uext4-cli-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        Case.folder = self.dir
        self.tree = self.dir / "tree"
        self.tree.mkdir()
        self.image = self.dir / "img"

    def make(self, size="16M", options=()):
        return make_image(self.image, self.tree, size, options)

    def at(self, path="/"):
        return f"{self.image}:{path}"

    def clean(self):
        """e2fsck finds nothing to say about the image."""
        done = subprocess.run(["e2fsck", "-fn", str(self.image)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        self.assertEqual(done.returncode, 0, done.stdout.decode())

    def ok(self, *args, **kwargs):
        done = uext4(*args, **kwargs)
        self.assertEqual((done.status, done.err), (0, ""), done.out)
        return done

    def fails(self, *args, status=1, saying=None, **kwargs):
        done = uext4(*args, **kwargs)
        self.assertEqual(done.status, status, done.out + done.err)
        if saying is not None:
            self.assertIn(saying, done.err)
        return done


def end_by_signal(number, _):
    """Meson has waited long enough."""
    if Case.folder:
        shutil.rmtree(Case.folder, ignore_errors=True)
    os._exit(128 + number)


def main():
    signal.signal(signal.SIGTERM, end_by_signal)
    if not shutil.which("mke2fs") or not shutil.which("debugfs"):
        print("skipped: mke2fs or debugfs is missing")
        sys.exit(SKIPPED)
    unittest.main()
