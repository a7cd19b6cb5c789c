#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The life of a mount: it is there when the command ends, it ends cleanly however it is told to,
and what was fsynced is in the image whatever dies."""

import os
import shutil
import signal
import subprocess
import threading
import time
import unittest

import mounting
from mounting import UEXT4, is_gone, mounts, parent_of, process_status, run, uext4, wait_until


class Life(mounting.Case):
    def test_mounted_used_unmounted(self):
        self.make()
        self.mount()
        (_, options, kind, source), = mounts(self.at)
        self.assertEqual((kind, source), ("fuse.uext4", str(self.image)))
        self.assertLessEqual({"rw", "nosuid", "nodev", "default_permissions"}, set(options))
        (self.at / "folder").mkdir()
        (self.at / "folder" / "file").write_bytes(b"contents" * 10000)
        self.umount()
        # At once: nothing of the server is left, and the image is closed.
        self.assertEqual(mounts(self.at), [])
        self.fsck_closed()
        done = subprocess.run([UEXT4, "cat", f"{self.image}:/folder/file"], check=True,
                              stdout=subprocess.PIPE)
        self.assertEqual(done.stdout, b"contents" * 10000)

    def test_the_server_is_gone_when_umount_comes_back(self):
        self.make()
        for _ in range(5):
            pid = self.mount()
            with open(self.at / "file", "wb") as f:
                f.write(os.urandom(1 << 20))
            self.umount()
            self.assertTrue(is_gone(pid))
            self.fsck_closed()

    def test_relative_names(self):
        self.make()
        done = uext4("mount", "img", "at/", cwd=self.dir)
        self.assertEqual((done.status, done.err), (0, ""))
        self.assertEqual(mounts(self.at)[0][3], str(self.image))
        (self.dir / "link").symlink_to("at")
        for name in ["at", "./at/.", "link"]:
            self.assertEqual(uext4("stats", name, cwd=self.dir).status, 0)
        done = uext4("umount", "link/", cwd=self.dir)
        self.assertEqual((done.status, done.err), (0, ""))

    def test_nothing_of_the_caller_is_kept(self):
        """Neither its directory, nor what it has open, nor its terminal."""
        self.make()
        with open(self.dir / "lock", "w") as lock:
            done = uext4("mount", self.image, self.at, cwd=self.dir, pass_fds=[lock.fileno()])
        self.assertEqual(done.status, 0, done.err)
        server = self.server()
        for pid in [server, parent_of(server)]:
            self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
            self.assertNotEqual(os.getsid(pid), os.getsid(0))
            links = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
            self.assertEqual([links["0"], links["1"], links["2"]], ["/dev/null"] * 3)
            self.assertNotIn(str(self.dir / "lock"), links.values())
        self.umount()

    def test_device(self):
        """A loop device instead of its image."""
        if os.geteuid() != 0:
            self.skipTest("needs root")
        self.make("16M")
        done = run("losetup", "--find", "--show", self.image)
        if done.status != 0:
            self.skipTest(done.err)
        device = done.out.strip()
        self.addCleanup(run, "losetup", "-d", device)
        self.assertEqual(uext4("mount", device, self.at).status, 0)
        self.assertEqual(mounts(self.at)[0][2:], ("fuse.uext4", device))
        (self.at / "file").write_text("text")
        self.umount()
        self.assertEqual(run("e2fsck", "-fn", device).status, 0)


class Signals(mounting.Case):
    def foreground(self, *options):
        child = subprocess.Popen([UEXT4, "mount", "-f", *options, self.image, self.at],
                                 stderr=subprocess.PIPE, text=True)
        self.addCleanup(child.stderr.close)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        self.assertTrue(wait_until(lambda: uext4("stats", self.at).status == 0))
        return child

    def test_foreground_ends_cleanly(self):
        self.make()
        for sign in [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]:
            child = self.foreground()
            self.assertTrue(os.path.ismount(self.at))
            (self.at / sign.name).write_text("text")
            child.send_signal(sign)
            self.assertEqual((child.wait(20), child.stderr.read()), (0, ""))
            self.assertEqual(mounts(self.at), [])
            self.fsck_closed()
        self.assertEqual(uext4("cat", f"{self.image}:/SIGHUP").out, "text")

    def test_requests_are_said(self):
        """With one worker they come in the order of the calls."""
        self.make()
        for option in [["-d"], ["-o", "debug"]]:
            child = self.foreground(*option, "-o", "threads=1")
            (self.at / "a" / "b").mkdir(parents=True)
            with self.assertRaises(OSError):
                (self.at / "a").rmdir()
            (self.at / "a" / "b").rmdir()
            (self.at / "a").rmdir()
            self.umount()
            self.assertEqual(child.wait(20), 0)
            self.assertRegex(child.stderr.read(),
                             r"(?s)^init node 0.*: ok\n.*\nmkdir node 1, \d+ bytes, uid \d+, pid "
                             r"\d+: ok\n.*\nrmdir node 1, .*: Directory not empty\n.*\nrmdir node 1, ")

    def test_foreground_ends_when_it_is_unmounted(self):
        self.make()
        child = self.foreground()
        self.umount()
        self.assertEqual(child.wait(20), 0)

    def test_sigterm_to_server_or_monitor_unmounts(self):
        self.make()
        for whom in [lambda pid: pid, parent_of]:
            pid = self.mount("-o", "cache=writeback")
            (self.at / "file").write_text("text")
            os.kill(whom(pid), signal.SIGTERM)
            self.assertTrue(wait_until(lambda: is_gone(pid)))
            self.assertTrue(wait_until(lambda: not mounts(self.at)))
            self.fsck_closed()
            self.assertEqual(uext4("cat", f"{self.image}:/file").out, "text")

    def test_sigterm_while_somebody_has_files_open(self):
        """What is written is kept; who has it open has lost it."""
        self.make()
        pid = self.mount("-o", "cache=writeback")
        fd = os.open(self.at / "file", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"not synced")
        os.kill(parent_of(pid), signal.SIGTERM)
        self.assertTrue(wait_until(lambda: is_gone(pid) and not mounts(self.at)))
        with self.assertRaises(OSError):
            os.close(fd)
        self.fsck_closed()
        self.assertEqual(uext4("cat", f"{self.image}:/file").out, "not synced")


class Writer(threading.Thread):
    """Appends numbered lines to files, and knows which of them were fsynced."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder = folder
        self.acknowledged = {}

    def run(self):
        nr = 0
        try:
            while True:
                name = f"f{nr % 7}"
                fd = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                try:
                    os.write(fd, b"%06d\n" % nr * 300)
                    (self.folder / f"junk{nr % 13}").write_bytes(b"junk")
                    os.fsync(fd)
                    self.acknowledged.setdefault(name, []).append(nr)
                finally:
                    os.close(fd)
                nr += 1
        except OSError:
            pass  # the server is gone


class Killed(mounting.Case):
    def check(self, acknowledged):
        """Every line of a write whose fsync has returned."""
        self.assertTrue(acknowledged)
        for name, numbers in acknowledged.items():
            data = (self.at / "in" / name).read_bytes()
            for nr in numbers:
                self.assertIn(b"%06d\n" % nr * 300, data, f"{name} lost {nr}")

    def kill_while_writing(self):
        pid = self.mount()
        (self.at / "in").mkdir(exist_ok=True)
        writer = Writer(self.at / "in")  # which is not there any more when it is unmounted
        writer.start()
        self.assertTrue(wait_until(lambda: sum(map(len, writer.acknowledged.values())) > 50))
        os.kill(pid, signal.SIGKILL)
        writer.join(20)
        self.assertFalse(writer.is_alive())
        self.assertTrue(wait_until(lambda: not mounts(self.at)), "the monitor unmounts")
        return writer.acknowledged

    def test_killed_while_writing(self):
        self.make()
        for _ in range(10 if mounting.LONG else 2):
            acknowledged = self.kill_while_writing()
            self.fsck()
            self.mount()
            self.check(acknowledged)
            for path in self.at.glob("in/f*"):
                path.unlink()
            self.umount()
            self.fsck_closed()

    def test_dead_directory(self):
        """Both processes are killed: the directory stays, and can be unmounted."""
        self.make()
        pid = self.mount()
        os.kill(parent_of(pid), signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        self.assertTrue(wait_until(lambda: is_gone(pid)))
        with self.assertRaises(OSError):
            os.listdir(self.at)
        self.assertIn("no server", uext4("stats", self.at).err)
        self.umount()
        self.assertEqual(mounts(self.at), [])
        self.mount()
        self.umount()
        self.fsck_closed()

    def test_without_its_monitor(self):
        """The server goes on, and ends with the mount."""
        self.make()
        pid = self.mount()
        os.kill(parent_of(pid), signal.SIGKILL)
        (self.at / "file").write_text("text")
        self.umount()
        self.assertTrue(is_gone(pid))
        self.fsck_closed()


class AgainAtOnce(mounting.Case):
    """The kernel gives the number of a mount to the next one as soon as it can."""

    def test_again_and_again(self):
        self.make()
        for _ in range(200 if mounting.LONG else 8):
            self.mount()
            self.umount()
        self.fsck_closed()

    def test_a_monitor_that_is_late_leaves_the_next_mount_alone(self):
        self.make()
        monitor = parent_of(self.mount())
        device = mounts(self.at)[0][0]
        self.servers.append(monitor)  # for the case that it stays stopped
        os.kill(monitor, signal.SIGSTOP)
        self.umount()
        self.mount()
        same = mounts(self.at)[0][0] == device
        os.kill(monitor, signal.SIGCONT)
        if not same:
            self.skipTest("somebody else has got the number")
        self.assertTrue(wait_until(lambda: is_gone(monitor)))
        self.assertEqual(len(mounts(self.at)), 1)
        self.umount()

    def test_a_server_that_is_late_leaves_the_next_one_its_name(self):
        self.make()
        pid = self.mount()
        other = self.dir / "other"
        other.mkdir()
        os.kill(pid, signal.SIGSTOP)
        self.umount("-l")
        threading.Timer(0.5, os.kill, [pid, signal.SIGCONT]).start()
        mounting.make_image(self.dir / "second", "16M")
        done = uext4("mount", self.dir / "second", other)
        self.assertEqual((done.status, done.err), (0, ""))
        self.assertNotEqual(self.server(other), pid)
        self.umount(directory=other)
        self.assertTrue(wait_until(lambda: is_gone(pid)))


class Busy(mounting.Case):
    def test_busy_then_lazy(self):
        self.make()
        pid = self.mount()
        fd = os.open(self.at / "file", os.O_RDWR | os.O_CREAT)
        done = uext4("umount", self.at)
        self.assertEqual(done.status, 1)
        self.assertRegex(done.err, rf"busy: used by .*\b{os.getpid()} \(")
        self.umount("--lazy")
        self.assertEqual(mounts(self.at), [])
        os.write(fd, b"still there")  # who has it open goes on
        self.assertFalse(is_gone(pid))
        os.close(fd)
        self.assertTrue(wait_until(lambda: is_gone(pid)))
        self.fsck_closed()
        self.assertEqual(uext4("cat", f"{self.image}:/file").out, "still there")

    def test_under_load(self):
        """Files are made and written all the time; busy or not, nothing is lost or damaged."""
        self.make()
        pid = self.mount()
        (self.at / "in").mkdir()
        writer = Writer(self.at / "in")
        writer.start()
        self.assertTrue(wait_until(lambda: sum(map(len, writer.acknowledged.values())) > 10))
        end = time.monotonic() + 1
        while time.monotonic() < end and uext4("umount", self.at).status != 0:
            pass
        if mounts(self.at):
            self.umount("-l")
        writer.join(20)
        self.assertTrue(wait_until(lambda: is_gone(pid)))
        self.fsck_closed()

    def test_what_is_not_ours(self):
        for name, saying in [(self.at, "not mounted"), ("/proc", "not by uext4"),
                             (self.dir / "none", "No such file"), (self.dir / "no/ne", "No such")]:
            for command in ["umount", "stats"]:
                done = uext4(command, name)
                self.assertEqual(done.status, 1)
                self.assertIn("no server of uext4" if (command, str(name)) == ("stats", "/proc")
                              else saying, done.err)


class TwoServers(mounting.Case):
    def test_the_second_is_refused(self):
        self.make()
        self.mount()
        other = self.dir / "other"
        other.mkdir()
        for options in [[], ["-o", "ro"]]:
            done = uext4("mount", *options, self.image, other)
            self.assertEqual((done.status, mounts(other)), (1, []))
            self.assertIn("in use: somebody else has it open or mounted", done.err)
        # At the same directory, too, and the first one goes on.
        self.assertEqual(uext4("mount", self.image, self.at).status, 1)
        self.assertEqual(len(mounts(self.at)), 1)
        (self.at / "file").write_text("text")
        self.assertIn("in use", uext4("recover", self.image).err)
        self.umount()
        self.fsck_closed()

    def test_two_that_only_read(self):
        self.make()
        other = self.dir / "other"
        other.mkdir()
        self.mount("-o", "ro")
        self.mount("-o", "ro", directory=other)
        self.umount()
        self.assertEqual(os.listdir(other), ["lost+found"])
        self.umount(directory=other)


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("unshare"), "needs root and unshare")
class Namespaces(mounting.Case):
    def test_mounted_in_a_namespace(self):
        self.make()
        script = '"$0" mount "$1" "$2" && echo text > "$2/file" && "$0" umount "$2"'
        done = run("unshare", "-m", "sh", "-c", script, UEXT4, self.image, self.at)
        self.assertEqual((done.status, done.err, mounts(self.at)), (0, "", []))
        self.fsck_closed()
        self.assertEqual(uext4("cat", f"{self.image}:/file").out, "text\n")

    def test_a_namespace_that_ends_unmounts(self):
        """The monitor and the server have it for themselves then, and nobody can reach it: so
        the mount is asked to end."""
        self.make()
        script = '"$0" mount "$1" "$2" && echo text > "$2/file" && "$0" stats --json "$2"'
        done = run("unshare", "-m", "sh", "-c", script, UEXT4, self.image, self.at)
        pid = int(done.out.partition('"pid"')[2].split(",")[0].strip(": "))
        self.servers.append(pid)
        os.kill(pid, signal.SIGTERM)
        self.assertTrue(wait_until(lambda: is_gone(pid)))
        self.fsck_closed()

    @unittest.skipUnless(mounting.LONG, "waits for ten seconds")
    def test_mounted_elsewhere_too(self):
        """Who unmounts is told that the image is open still."""
        self.make()
        pid = self.mount()
        holder = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sleep", "1000"])
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)
        self.assertTrue(wait_until(lambda: process_status(holder.pid)["Name"] == "sleep"))
        done = uext4("umount", self.at)
        self.assertEqual(done.status, 1)
        self.assertIn("its server goes on", done.err)
        self.assertEqual(mounts(self.at), [])
        holder.kill()
        holder.wait()
        self.assertTrue(wait_until(lambda: is_gone(pid)))
        self.fsck_closed()


if __name__ == "__main__":
    mounting.main()
