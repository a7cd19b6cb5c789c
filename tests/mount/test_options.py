#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Options of mounts, what is refused and how it is said, hostile images, the sandbox, statistics,
the helpers of mount(8) and umount(8), and users that are not root."""

import os
import random
import re
import resource
import shutil
import stat
import unittest
from pathlib import Path

import mounting
from mounting import UEXT4, is_gone, mounts, process_status, run, uext4, wait_until

SOURCE_ROOT = Path(os.environ.get("UEXT4_SOURCE_ROOT", Path(__file__).resolve().parents[2]))


class Options(mounting.Case):
    def options(self):
        return set(mounts(self.at)[0][1])

    def test_read_only(self):
        self.make()
        before = self.image.read_bytes()
        self.mount("-o", "ro")
        self.assertIn("ro", self.options())
        with self.assertRaisesRegex(OSError, "Read-only file system"):
            (self.at / "file").write_text("text")
        self.umount()
        self.assertEqual(self.image.read_bytes(), before)

    def test_the_last_word_counts_in_lists_and_repeated(self):
        self.make()
        self.mount("-o", "ro,noatime,suid", "-o", "noexec,rw", "-o", "relatime,nosuid,dev")
        options = self.options()
        self.assertLessEqual({"rw", "noexec", "relatime", "nosuid"}, options)
        self.assertFalse({"ro", "noatime", "nodev"} & options)

    def test_names(self):
        self.make()
        self.mount("-o", "fsname=a name\\, with all,subtype=other".replace("\\,", ""))
        self.assertEqual(mounts(self.at)[0][2:], ("fuse.other", "a\\040name\\040with\\040all"))
        self.umount()

    def test_what_is_for_others_is_passed_over(self):
        self.make()
        self.mount("-o", "defaults,auto,noauto,nofail,_netdev,x-systemd.automount,X-mount.mkdir,"
                         "comment=any,loop")
        self.assertNotIn("noexec", self.options())
        self.umount()
        self.mount("-o", "user")
        self.assertLessEqual({"nosuid", "nodev", "noexec"}, self.options())

    def test_who_is_let_in(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        self.make()
        self.dir.chmod(0o755)
        for words, lets_in in [("ro", False), ("ro,allow_other", True), ("ro,allow_root", False)]:
            self.mount("-o", words)
            done = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ls", self.at)
            self.assertEqual(done.status == 0, lets_in, words + done.err)
            self.assertEqual(os.listdir(self.at), ["lost+found"])
            self.umount()

    def test_offset(self):
        self.make("16M")
        data = self.image.read_bytes()
        self.image.write_bytes(bytes(1 << 20) + data)
        self.mount("-o", "offset=1M")
        (self.at / "file").write_text("text")
        self.umount()
        self.assertEqual(self.image.read_bytes()[:1 << 20], bytes(1 << 20))
        self.image.write_bytes(self.image.read_bytes()[1 << 20:])
        self.fsck_closed()

    def test_more_threads_than_files_at_first(self):
        self.make()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        done = uext4("mount", "-o", "threads=64", self.image, self.at,
                     preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)))
        self.assertEqual(done.status, 0, done.err)
        self.server()
        self.umount()

    def test_options_of_the_library(self):
        self.make()
        self.mount("-o", "data=journal,commit=1,errors=remount-ro,nodelalloc,discard,barrier=1,"
                         "meta_cache=4M,page_cache=2M,dax=never,nocsum,ro")
        self.umount()

    def test_every_option_of_the_library_is_known(self):
        """The table of the library, against the one that tells whose an option is."""
        table = re.compile(r'^ *\{"(\w+)", (?:NO|WITH|MAYBE)_VALUE', re.M)
        theirs = table.findall((SOURCE_ROOT / "src/lib/options.c").read_text())
        ours = re.findall(r'\{"(\w+)",|LIBRARY\("(\w+)"',
                          (SOURCE_ROOT / "src/cli/mount_options.c").read_text())
        self.assertGreater(len(theirs), 20)
        self.assertEqual(set(theirs) - {word for pair in ours for word in pair}, set())

    def test_refused(self):
        self.make()
        for words, saying in [
                ("frobnicate", "unknown mount option: 'frobnicate'"),
                ("ro,frob=1,rw", "unknown mount option: 'frob=1'"),
                ("noload=1", "takes no value: 'noload=1'"),
                ("commit", "needs a value: 'commit'"),
                ("cache=much", "with a bad value: 'cache=much'"),
                ("threads=0", "with a bad value: 'threads=0'"),
                ("offset=-1", "with a bad value: 'offset=-1'"),
                ("subtype=a/b", "with a bad value: 'subtype=a/b'")]:
            self.refused("-o", words, self.image, self.at, status=2, saying=saying)
        self.refused("-o", "commit=soon", self.image, self.at, saying="commit: bad value 'soon'")
        self.refused("-o", "noload", self.image, self.at, saying="noload needs ro")
        self.refused("-o", "offset=1G", self.image, self.at, saying="No such device or address")
        self.refused(self.image, status=2, saying="missing operand")
        self.refused(self.image, self.at, self.at, status=2, saying="extra operand")
        for command in ["umount", "stats"]:
            self.assertEqual(uext4(command, "-o", "ro", self.at).status, 2)
        self.fsck_closed()


class Refused(mounting.Case):
    def test_names(self):
        self.make()
        self.refused(self.dir / "none", self.at, saying="none: No such file or directory")
        self.refused(self.image, self.dir / "none", saying="none: No such file or directory")
        self.refused(self.image, self.image, saying="img: Not a directory")
        self.refused(self.dir, self.at, saying="Is a directory")
        self.refused("/dev/null", self.at, saying="Block device required")

    def refuses_image(self, saying):
        self.refused(self.image, self.at, saying=saying)
        self.assertFalse(is_served(self.image))
        self.assertEqual(os.listdir(self.at), [])

    def test_hostile_images(self):
        """Refused, or mounted and served with errors; the server never dies of it."""
        self.image.write_bytes(b"")
        self.refuses_image("no ext4 superblock")
        self.image.write_bytes(bytes(1 << 20))
        self.refuses_image("no ext4 file system")
        rng = random.Random(int(os.environ.get("UEXT4_SEED", 1)))
        self.image.write_bytes(rng.randbytes(1 << 20))
        self.refuses_image("no ext4 file system")
        self.make("8M", "-b", "1024")
        whole = self.image.read_bytes()
        for _ in range(100 if mounting.LONG else 12):
            self.damage(whole, rng)

    def damage(self, whole, rng):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 40)):
            at = rng.randrange(1024, 400 << 10)
            data[at:at + 4] = rng.randbytes(4)
        self.image.write_bytes(data)
        done = uext4("mount", "-o", "nocsum,ro", self.image, self.at)
        self.assertIn(done.status, [0, 1], done.err)
        self.assertNotIn("died", done.err)
        if done.status == 0:
            run("find", self.at, "-ls")
            self.assertIn("pid", self.stats())
            self.umount()
        else:
            self.assertEqual(mounts(self.at), [])

    def test_feature_that_is_only_read(self):
        """It is said why, and the kernel knows that it is read-only."""
        self.make("64M", "-O", "mmp")
        done = uext4("mount", self.image, self.at)
        self.assertEqual(done.status, 0)
        self.assertIn("mounted read-only", done.err)
        self.assertIn("ro", mounts(self.at)[0][1])
        self.umount()

    def test_device_that_cannot_be_written(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        self.make("16M")
        done = run("losetup", "--read-only", "--find", "--show", self.image)
        if done.status != 0:
            self.skipTest(done.err)
        device = done.out.strip()
        self.addCleanup(run, "losetup", "-d", device)
        done = uext4("mount", device, self.at)
        self.assertEqual(done.status, 0, done.err)
        self.assertIn("cannot be written, mounting read-only", done.err)
        self.assertIn("ro", mounts(self.at)[0][1])
        self.umount()


def is_served(image):
    """Some process has the image open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) == str(image):
                return True
        except OSError:
            pass
    return False


class Sandbox(mounting.Case):
    def setUp(self):
        super().setUp()
        if not mounting.has_sandbox():
            self.skipTest("a build without sandbox")

    def test_default(self):
        self.make()
        pid = self.mount()
        self.assertTrue(self.stats()["sandbox"])
        self.check_inside(pid)
        self.umount()

    def check_inside(self, pid):
        for task in Path(f"/proc/{pid}/task").iterdir():
            status = process_status(f"{pid}/task/{task.name}")
            self.assertEqual((status["Seccomp"], status["NoNewPrivs"]), ("2", "1"))
            for which in ["CapEff", "CapPrm", "CapInh", "CapAmb"]:
                self.assertEqual(int(status[which], 16), 0)
        self.assertGreater(int(process_status(pid)["Threads"]), 2)
        self.assertEqual(process_status(pid)["Uid"].split()[0], str(os.getuid()))

    def test_with_all_that_a_mount_can_do(self):
        """The filter is wide enough: nothing that is done here fails, or has the kernel say that
        it has refused a call."""
        self.make()
        before = set(run("dmesg").out.splitlines())
        pid = self.mount("--sandbox", "-o", "cache=writeback,discard,commit=1")
        for script in ["mkdir d && cd d && for i in 1 2 3 4 5; do echo $i > f$i; done",
                       "truncate -s 10M big && fallocate -p -o 1M -l 1M big && sync -f big",
                       "dd if=/dev/zero of=direct bs=4k count=100 oflag=direct,sync status=none",
                       "cp direct copy && mv copy d && ln -s x link && ln direct hard && df .",
                       "rm -r d big direct link hard"]:
            done = run("sh", "-c", script, cwd=self.at)
            self.assertEqual((done.status, done.err), (0, ""), script)
        self.stats()
        self.umount()
        self.fsck_closed()
        said = set(run("dmesg").out.splitlines()) - before
        self.assertEqual([line for line in said if f' pid={pid} comm="' in line], [])

    def test_external_journal(self):
        """What an option names is opened later, and may be."""
        self.check_external_journal(sector=512, block=4096)

    def test_external_journal_on_large_sectors(self):
        """As the image's own device would be, it is used through the host's cache."""
        self.check_external_journal(sector=4096, block=1024)

    def check_external_journal(self, sector, block):
        journal = self.dir / "journal"
        done = run("mke2fs", "-q", "-F", "-b", block, "-O", "journal_dev", journal, "16M")
        self.assertEqual(done.status, 0, done.err)
        if os.geteuid() != 0:
            self.skipTest("needs root for a loop device")
        done = run("losetup", "--sector-size", sector, "--find", "--show", journal)
        if done.status != 0:
            self.skipTest(done.err)
        device = done.out.strip()
        self.addCleanup(run, "losetup", "-d", device)
        self.make("64M", "-b", str(block), "-J", f"device={device}")
        self.mount("--sandbox", "-o", f"journal_path={device}")
        (self.at / "file").write_text("text")
        self.umount()
        done = run("e2fsck", "-fn", "-j", device, self.image)
        self.assertEqual(done.status, 0, done.out)

    def test_server_asks_itself(self):
        self.make()
        pid = self.mount("--sandbox", "-o", "nodefault_permissions")
        self.check_inside(pid)
        (self.at / "file").write_text("text")
        self.assertNotIn("default_permissions", mounts(self.at)[0][1])
        self.umount()

    def test_without(self):
        self.make()
        for option in [["--no-sandbox"], ["-o", "nosandbox"]]:
            pid = self.mount(*option)
            self.assertEqual(process_status(pid)["Seccomp"], "0")
            self.assertFalse(self.stats()["sandbox"])
            (self.at / "file").write_text("text")
            self.umount()
        self.fsck_closed()


class Stats(mounting.Case):
    def test_counts(self):
        self.make()
        pid = self.mount("-o", "cache=none")
        (self.at / "file").write_bytes(bytes(100000))
        self.assertEqual((self.at / "file").read_bytes(), bytes(100000))
        (self.at / "a" / "b").mkdir(parents=True)
        with self.assertRaises(OSError):
            (self.at / "a").rmdir()
        stats = self.stats()
        self.assertEqual((stats["directory"], stats["source"], stats["pid"]),
                         (str(self.at), str(self.image), pid))
        requests = stats["requests"]
        self.assertEqual(requests["write"]["bytes"], 100000)
        self.assertEqual(requests["read"]["bytes"], 100000)
        self.assertEqual((requests["rmdir"]["requests"], requests["rmdir"]["errors"]), (1, 1))
        self.assertGreater(stats["library"]["buffered_writes"], 0)
        text = uext4("stats", self.at).out
        self.assertRegex(text, r"(?m)^write +[\d,]+ +0 +97\.7 KiB$")
        where = "in its" if stats["sandbox"] else "no"
        self.assertRegex(text, rf"(?m)^Server: +process {pid}, {where} sandbox, since \d+ s$")

    def test_others_are_not_told(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        self.make()
        self.mount("-o", "allow_other")
        done = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                   *reachable(self), "stats", self.at)
        self.assertEqual(done.status, 1)
        self.assertIn("no server", done.err)


def reachable(case):
    """The command where everybody may run it."""
    case.dir.chmod(0o755)
    copy = case.dir / "uext4"
    if not copy.exists():
        shutil.copyfile(UEXT4, copy)
        copy.chmod(0o755)
    return [copy]


class Helper(mounting.Case):
    def helper(self, name):
        link = self.dir / name
        if not link.exists():
            link.symlink_to(UEXT4)
        return link

    def test_called_as_mount_calls_it(self):
        self.make()
        for name in ["mount.uext4", "mount.fuse.uext4"]:
            done = run(self.helper(name), self.image, self.at, "-o", "rw,noatime", "-v", "-o", "user=me")
            self.assertEqual(done.status, 0, done.err)
            self.server()
            options = set(mounts(self.at)[0][1])
            self.assertLessEqual({"rw", "noatime", "noexec", "nosuid"}, options)
            self.assertEqual("allow_other" in options, os.geteuid() == 0)
            done = run(self.helper("u" + name), self.at, "-v")
            self.assertEqual((done.status, done.err, mounts(self.at)), (0, "", []))
            self.fsck_closed()

    def test_statuses_are_those_of_mount(self):
        self.make()
        mount, umount = self.helper("mount.uext4"), self.helper("umount.uext4")
        self.assertEqual(run(mount, self.image).status, 1)
        self.assertEqual(run(mount, self.image, self.at, "-o", "frob").status, 1)
        self.assertEqual(run(mount, self.dir / "none", self.at).status, 32)
        self.assertEqual(run(mount, self.image, self.at, "-f").status, 0)
        self.assertEqual(mounts(self.at), [])
        self.assertEqual(run(umount, self.at).status, 32)
        self.assertEqual(run(umount).status, 1)
        done = run(mount, self.image, self.at, "-s", "-o", "frob,nosuid")
        self.assertEqual(done.status, 0, done.err)
        self.assertIn("nosuid", mounts(self.at)[0][1])
        self.assertEqual(run(umount, self.at, "-l", "-n").status, 0)

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("unshare"), "needs root and unshare")
    def test_by_mount_and_umount(self):
        """mount(8) itself, by type and by a line of fstab, with the helpers put into /sbin by an
        overlay in a namespace of its own."""
        self.make()
        (self.dir / "fstab").write_text(
            f"{self.image} {self.at} fuse.uext4 ro,noauto,x-any.thing,nofail 0 0\n")
        done = run("unshare", "-m", "sh", "-c", BY_MOUNT, UEXT4, self.dir, timeout=60)
        if done.status == 77:
            self.skipTest("no overlay over /sbin: " + done.err)
        self.assertEqual((done.status, done.err), (0, ""), done.out)
        kinds = re.findall(r" (rw|ro),\S*\S* .*- (fuse\.\w+) (\S+) ", done.out)
        self.assertEqual(kinds, [("rw", "fuse.uext4", str(self.image))] * 2 +
                         [("ro", "fuse.uext4", str(self.image))])
        self.assertFalse(is_served(self.image))
        self.fsck_closed()


BY_MOUNT = r"""
cd "$1" && mkdir upper && sbin=$(readlink -f /sbin) || exit 77
mount -t tmpfs none upper && mkdir upper/u upper/w &&
mount -t overlay none -o "lowerdir=$sbin,upperdir=upper/u,workdir=upper/w" "$sbin" || exit 77
for name in mount.uext4 mount.fuse.uext4 umount.uext4 umount.fuse.uext4; do
        ln -s "$0" "$sbin/$name"
done
set -e
for type in uext4 fuse.uext4; do
        mount -t $type img at
        grep " $1/at " /proc/self/mountinfo
        echo text > at/file
        umount at
        e2fsck -fn img > /dev/null 2>&1
done
mount --fstab fstab at
grep " $1/at " /proc/self/mountinfo
umount at
"""


class NotRoot(mounting.Case):
    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("unshare"), "needs root and unshare")
    @unittest.skipUnless(shutil.which("fusermount3"), "needs fusermount3")
    def test_user_with_an_image_of_its_own(self):
        """In a namespace where /dev/fuse is for everybody, as it is on most machines."""
        self.make()
        for path in [self.dir, self.image, self.at]:
            os.chown(path, 65534, 65534)
        reachable(self)
        done = run("unshare", "-m", "sh", "-c", AS_USER, self.dir)
        if done.status == 77:
            self.skipTest(done.err)
        self.assertEqual((done.status, done.err), (0, ""))
        self.assertIn("user_id=65534", done.out)
        self.assertEqual("in its sandbox" in done.out, mounting.has_sandbox())
        self.assertIn("busy: used by ", done.out)
        self.assertEqual(uext4("cat", f"{self.image}:/mine/file").out, "text\n")
        st = os.stat(self.image)
        self.assertEqual((st.st_uid, stat.S_ISREG(st.st_mode)), (65534, True))
        self.fsck_closed()
        self.assertTrue(wait_until(lambda: not is_served(self.image)))


    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("unshare"), "needs root and unshare")
    def test_root_of_a_user_namespace(self):
        """Mounts by mount(2), without fusermount3."""
        self.make()
        for path in [self.dir, self.image, self.at]:
            os.chown(path, 65534, 65534)
        reachable(self)
        done = run("unshare", "-m", "sh", "-c", IN_USER_NAMESPACE, self.dir)
        if done.status == 77:
            self.skipTest(done.err)
        self.assertEqual((done.status, done.err), (0, ""))
        self.assertIn("fuse.uext4", done.out)
        self.fsck_closed()


IN_USER_NAMESPACE = r"""
cd "$0" && mknod -m 666 fuse c 10 229 && mount --bind fuse /dev/fuse || exit 77
: 2> /dev/null 3<> /dev/fuse || exit 77
user="setpriv --reuid=65534 --regid=65534 --clear-groups unshare -Urm"
$user true || exit 77
$user sh -ec './uext4 mount img at; grep " $PWD/at " /proc/self/mountinfo; ls at; ./uext4 umount at'
"""

AS_USER = r"""
cd "$0" && mknod -m 666 fuse c 10 229 && mount --bind fuse /dev/fuse || exit 77
: 2> /dev/null 3<> /dev/fuse || exit 77
./uext4 mkdir -m 777 img:/mine || exit 1
setpriv --reuid=65534 --regid=65534 --clear-groups sh -ec '
        ./uext4 mount img at
        grep " $PWD/at " /proc/self/mountinfo
        ./uext4 stats at
        echo text > at/mine/file
        (cd at && ! ../uext4 umount .. 2>&1 && ! ../uext4 umount ../at 2>&1)
        ./uext4 umount at
'
"""

if __name__ == "__main__":
    mounting.main()
