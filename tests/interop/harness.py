# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every interop test needs: a private directory, tools, loop mounts, a verdict.

Everything a test makes lies in one directory that goes away when the test ends, also by an
exception or a SIGTERM of the test runner; mounts in it are undone first.  The result is the
exit code: 0 passed, 1 failed, 77 skipped (with the reason printed).

Environment:
  UEXT4            the command (default: build/uext4 beside the project)
  UREADER          the helper that reads an image through the library
  UEXT4_SEED       seed of everything random (default 1)
  UEXT4_NO_KERNEL  set: do not use the kernel's ext4 even where it is to be had
  TMPDIR           where the private directory is made (default: /dev/shm, /tmp)
"""

import atexit
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(os.path.dirname(HERE))
SEED = int(os.environ.get("UEXT4_SEED", "1"), 0)
UEXT4 = os.environ.get("UEXT4", os.path.join(PROJECT, "build", "uext4"))
UREADER = os.environ.get("UREADER", os.path.join(PROJECT, "build", "tests", "interop", "ureader"))

# e2fsprogs asks nothing, speaks English, and takes its own defaults, not the machine's.
TOOL_ENV = dict(os.environ, LC_ALL="C", MKE2FS_CONFIG="/dev/null", DEBUGFS_PAGER="cat",
                PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

SANITIZER_ENV = {
    "ASAN_OPTIONS": "exitcode=99:abort_on_error=0:detect_leaks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=99",
    "TSAN_OPTIONS": "exitcode=99",
}


class Skip(Exception):
    """The test cannot run here; the text says why."""


class ToolError(Exception):
    """A tool that makes images failed."""


def rng(*key):
    """A random source of its own for each purpose, so that one more use moves no other."""
    return random.Random("%d/%s" % (SEED, "/".join(str(k) for k in key)))


def choose_tmp():
    wanted = os.environ.get("TMPDIR")
    if wanted:
        return wanted
    try:
        st = os.statvfs("/dev/shm")
        if st.f_bavail * st.f_frsize > 2 << 30 and os.access("/dev/shm", os.W_OK):
            return "/dev/shm"
    except OSError:
        pass
    return tempfile.gettempdir()


def run(argv, check=True, stdin=None, timeout=300, env=None):
    """Run a tool; its result with bytes in stdout and stderr."""
    done = subprocess.run(argv, input=stdin, stdin=None if stdin is not None else
                          subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=env or TOOL_ENV, timeout=timeout)
    if check and done.returncode != 0:
        raise ToolError("%s: exit %d\n%s%s" % (" ".join(map(str, argv)), done.returncode,
                                               done.stdout.decode(errors="replace")[-2000:],
                                               done.stderr.decode(errors="replace")[-2000:]))
    return done


def need_tools(*names):
    for name in names:
        if not shutil.which(name, path=TOOL_ENV["PATH"]):
            raise Skip("%s is not installed" % name)


class Workspace:
    """The private directory of one test, and the mounts in it."""

    def __init__(self, name):
        self.dir = tempfile.mkdtemp(prefix="uext4-%s-" % name, dir=choose_tmp())
        self.mounts = []
        atexit.register(self.close)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def mount(self, image, where, options, fstype="ext4"):
        """Mount an image by a loop device; None and a reason when that does not work here."""
        point = self.path(where)
        os.makedirs(point, exist_ok=True)
        for _ in range(5):
            done = run(["mount", "-t", fstype, "-o", "loop," + options, image, point], check=False)
            if b"loop device" not in done.stderr:
                break
            time.sleep(0.2)  # another test took the device that was free
        if done.returncode != 0:
            text = done.stderr.decode(errors="replace").strip().split("\n")
            return None, text[0] if text else "mount failed"
        self.mounts.append(point)
        return point, None

    def umount(self, point):
        loop = run(["findmnt", "-n", "-o", "SOURCE", point], check=False).stdout.decode().strip()
        done = run(["umount", point], check=False)
        if done.returncode != 0:
            run(["umount", "-l", point], check=False)
            raise ToolError("umount %s: %s" % (point, done.stderr.decode(errors="replace")))
        self.mounts.remove(point)
        # Whoever has made a mount namespace meanwhile has a copy of the mount: as long as that
        # is there the file system goes on, and the image is not complete.
        busy = "/sys/fs/ext4/%s" % os.path.basename(loop)
        for _ in range(1200):
            if not loop or not os.path.exists(busy):
                return
            time.sleep(0.05)
        raise ToolError("umount %s: %s stays in use" % (point, loop))

    def close(self):
        for point in reversed(self.mounts):
            if run(["umount", point], check=False).returncode != 0:
                run(["umount", "-l", point], check=False)
        self.mounts = []
        shutil.rmtree(self.dir, ignore_errors=True)


_kernel = None


def kernel_reason():
    """None when this process may mount ext4 images by loop devices, else why not."""
    global _kernel
    if _kernel is None:
        _kernel = _find_kernel_reason()
    return _kernel or None


def _find_kernel_reason():
    if os.environ.get("UEXT4_NO_KERNEL"):
        return "UEXT4_NO_KERNEL is set"
    if os.geteuid() != 0:
        return "not root"
    ws = Workspace("probe")
    try:
        image = ws.path("probe.img")
        mke2fs(image, ["-t", "ext4"], 8 << 20)
        point, reason = ws.mount(image, "mnt", "ro")
        if not point:
            return "no loop mounts of ext4: " + reason
        ws.umount(point)
        return ""
    finally:
        ws.close()


def sparse_file(path, size):
    with open(path, "wb") as f:
        f.truncate(size)


def mke2fs(image, args, size, tree=None):
    sparse_file(image, size)
    argv = ["mke2fs", "-q", "-F", "-U", "5eed0000-1111-2222-3333-444444444444",
            "-E", "hash_seed=0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"]
    # -E may be given once only: join what the configuration brings.
    args = list(args)
    while "-E" in args:
        at = args.index("-E")
        argv[-1] += "," + args[at + 1]
        del args[at:at + 2]
    if tree:
        argv += ["-d", tree]
    run(argv + args + [image])


def debugfs(image, commands, write=False):
    """Run commands in one debugfs; [(command, output bytes)], stderr goes into the last."""
    script = b"".join(c if isinstance(c, bytes) else c.encode() for c in
                      (line + (b"\n" if isinstance(line, bytes) else "\n") for line in commands))
    done = run(["debugfs", "-f", "/dev/stdin"] + (["-w"] if write else []) + [image],
               stdin=script, check=False)
    parts = done.stdout.split(b"debugfs: ")[1:]
    # An output that holds the marker itself would split wrongly: join by the known commands.
    result = []
    wanted = iter(commands)
    expect = next(wanted, None)
    for part in parts:
        head, _, body = part.partition(b"\n")
        text = expect if isinstance(expect, bytes) else (expect or "").encode()
        if expect is not None and head == text:
            result.append((expect, body))
            expect = next(wanted, None)
        elif result:
            result[-1] = (result[-1][0], result[-1][1] + b"debugfs: " + part)
    return result, done.stderr.decode(errors="replace")


class Report:
    """Collects what disagrees; prints the first of each kind."""

    MAX_LINES = 60

    def __init__(self):
        self.nr_failed = 0
        self.nr_checks = 0

    def check(self, ok, text, *args):
        self.nr_checks += 1
        if not ok:
            self.fail(text, *args)
        return ok

    def equal(self, what, ours, theirs):
        self.nr_checks += 1
        if ours != theirs:
            self.fail("%s: uext4 %s, oracle %s", what, brief(ours), brief(theirs))

    def fail(self, text, *args):
        self.nr_failed += 1
        if self.nr_failed <= self.MAX_LINES:
            print("FAIL " + (text % args if args else text), flush=True)
        elif self.nr_failed == self.MAX_LINES + 1:
            print("(more failures are counted, not printed)", flush=True)


def check_clean(report, what, image):
    done = run(["e2fsck", "-fn", image], check=False)
    report.check(done.returncode == 0, "%s: e2fsck -fn: %s", what,
                 done.stdout.decode(errors="replace")[-1500:])


def brief(value, limit=300):
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "... (%d characters)" % len(text)


class Image:
    """One image as uext4 reads it: the lines of ureader."""

    def __init__(self, path, options="ro", args=(), timeout=120):
        env = dict(os.environ, **{k: v for k, v in SANITIZER_ENV.items() if k not in os.environ})
        argv = [UREADER, "-o", options, "-s", str(SEED)] + list(args) + [path]
        self.command = " ".join(argv)
        self.timed_out = False
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, env=env, timeout=timeout)
            out, err, self.code = done.stdout, done.stderr, done.returncode
        except subprocess.TimeoutExpired as e:
            self.timed_out = True
            out, err, self.code = e.stdout or b"", e.stderr or b"", -1
        self.log, self.noise = [], []
        for line in err.decode(errors="replace").split("\n"):
            if line.startswith('{"log"'):
                level, text = json.loads(line)["log"]
                self.log.append((level, text.encode("latin-1").decode(errors="replace")))
            elif line:
                self.noise.append(line)
        self.inodes = {}
        self.mount = self.statfs = self.info = self.stats = self.done = None
        self.bad_json = None
        for line in out.split(b"\n"):
            if line:
                self._take(line)

    def _take(self, line):
        try:
            d = json.loads(line)
        except ValueError as e:
            self.bad_json = "%s: %r" % (e, line[:200])
            return
        if "ino" in d:
            self.inodes[d["ino"]] = d
        elif "mount" in d:
            self.mount = d["mount"]
        elif "done" in d:
            self.done = d
        else:
            for key in ("statfs", "info", "stats"):
                if key in d:
                    setattr(self, key, d[key])

    def crash_text(self):
        """What shows that the reader crashed, hung or was stopped by a sanitizer; or None."""
        if self.timed_out:
            return "it did not end in time"
        if self.code < 0:
            return "killed by signal %d" % -self.code
        for line in self.noise:
            if "Sanitizer" in line or "runtime error:" in line or "ssertion" in line:
                return line
        if self.code == 99 or self.code > 2:
            return "exit code %d: %s" % (self.code, "; ".join(self.noise[:3]))
        return self.bad_json


def name_bytes(text):
    """A name of ureader's output as bytes."""
    return text.encode("latin-1")


def choose(names, what="CASE"):
    """The one argument of a program that does one of `names`; --list prints them."""
    if sys.argv[1:] == ["--list"]:
        print("\n".join(names))
        sys.exit(0)
    if len(sys.argv) != 2 or sys.argv[1] not in names:
        sys.exit("usage: %s %s; one of: %s" % (os.path.basename(sys.argv[0]), what,
                                               " ".join(names)))
    return sys.argv[1]


def main(title, repeat, body):
    """Run `body(report)`; print the verdict and, when it failed, the command to repeat it."""
    signal.signal(signal.SIGTERM, lambda *a: sys.exit(1))
    report = Report()
    try:
        body(report)
    except Skip as e:
        print("SKIP %s: %s" % (title, e))
        sys.exit(77)
    except (ToolError, subprocess.TimeoutExpired) as e:
        report.fail("%s", e)
    if report.nr_failed:
        print("FAILED %s: %d of %d checks; repeat with:" % (title, report.nr_failed,
                                                           report.nr_checks))
        print("  UEXT4_SEED=%d UEXT4=%s UREADER=%s %s" % (SEED, UEXT4, UREADER, repeat))
        sys.exit(1)
    print("ok %s: %d checks" % (title, report.nr_checks))


def main_of_cases(cases, prefix=""):
    """A program whose argument is one of `cases`: functions of a workspace and a report."""
    name = choose(cases)

    def body(report):
        need_tools("mke2fs", "debugfs", "dumpe2fs", "e2fsck")
        ws = Workspace(prefix + name)
        try:
            cases[name](ws, report)
        finally:
            ws.close()

    main(name, "%s %s" % (os.path.abspath(sys.argv[0]), name), body)
