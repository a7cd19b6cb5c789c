#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Help, usage errors, how images and paths are named, mounting, writing to stdout."""

import subprocess

import harness
from harness import UEXT4, debugfs, uext4, write

COMMANDS = ["info", "ls", "stat", "cat", "get", "map", "bench", "verify", "journal", "recover",
            "put", "trim", "truncate", "fallocate", "rm", "exercise", "find", "du", "df", "tar", "cp", "mv",
            "ln", "mkdir", "chmod", "chown", "chattr", "touch", "attr", "sh", "mount", "umount", "stats"]


class Help(harness.Case):
    def test_help_lists_all_commands(self):
        out = self.ok("--help").out
        for command in COMMANDS:
            self.assertRegex(out, rf"(?m)^  {command} +\w")

    def test_each_command_has_help_that_names_its_options(self):
        for command in COMMANDS:
            out = self.ok(command, "--help").out
            self.assertTrue(out.startswith(f"Usage: uext4 {command} "), out)
            self.assertIn("--options LIST", out)
            self.assertIn("Exit status:", out)

    def test_version(self):
        self.assertRegex(self.ok("--version").out, r"^uext4 \d+\.\d+\.\d+\n$")


class UsageErrors(harness.Case):
    def usage(self, *args, saying):
        done = self.fails(*args, status=2, saying=saying)
        self.assertIn("--help' for more information.", done.err)
        self.assertEqual(done.out, "")

    def test_no_command(self):
        self.usage(saying="uext4: missing command")

    def test_unknown_command(self):
        self.usage("frobnicate", saying="uext4: unknown command 'frobnicate'")

    def test_missing_operand(self):
        for command in COMMANDS:
            self.usage(command, saying=f"uext4: {command}: missing operand")

    def test_extra_operand(self):
        for command in ["info", "map", "bench", "verify", "journal", "recover", "exercise", "sh",
                        "stats"]:
            self.usage(command, "a", "b", saying=f"uext4: {command}: extra operand")

    def test_unknown_option(self):
        for command in COMMANDS:
            self.usage(command, "--frobnicate", "x", saying="unrecognized option '--frobnicate'")

    def test_bad_values(self):
        for args, saying in [
                (["bench", "--rw=mixed", "x"], "invalid value of --rw: 'mixed'"),
                (["bench", "--sync=dsync", "x"], "--sync is for writing"),
                (["bench", "--prealloc", "x"], "--prealloc needs --rw=write"),
                (["exercise", "x"], "specify --log"),
                (["exercise", "--writes=0", "x"], "count out of range"),
                (["put", "-f", "-n", "x", "y"], "exclude each other"),
                (["bench", "--bs=big", "x"], "invalid block size: 'big'"),
                (["bench", "--bs=1", "x"], "block size out of range"),
                (["bench", "--iodepth=0", "x"], "I/O depth out of range"),
                (["bench", "--runtime=-1", "x"], "invalid runtime"),
                (["bench", "--direct=2", "x"], "--direct must be 0 or 1"),
                (["bench", "--direct=0", "--raw", "x"], "direct I/O only"),
                (["bench", "--compare", "--raw", "x"], "leave out --raw"),
                (["bench", "--bs=64M", "--iodepth=65536", "x"], "more than 4 GiB"),
                (["verify", "--bs=1k", "x"], "block size out of range"),
                (["get", "-f", "-n", "x", "y"], "exclude each other"),
                (["put", "--owner=nobody-here", "x", "y"], "invalid --owner"),
                (["put", "--mode=u+q", "x", "y"], "invalid --mode"),
                (["put", "--mtime=tomorrow", "x", "y"], "invalid --mtime"),
                (["cp", "-f", "-n", "x", "y"], "exclude each other"),
                (["mv", "--exchange", "-n", "x", "y"], "exclude each other"),
                (["mv", "-T", "x", "y", "z"], "extra operand"),
                (["tar", "x"], "specify one of -c and -x"),
                (["tar", "-c", "-x", "x"], "specify one of -c and -x"),
                (["chmod", "u+q", "x"], "invalid mode: 'u+q'"),
                (["chmod", "99", "x"], "invalid mode: '99'"),
                (["chown", "::", "x"], "invalid owner: '::'"),
                (["touch", "-d", "2020-13-01", "x"], "invalid date"),
                (["attr", "-g", "user.a", "-d", "x"], "exclude each other"),
                (["attr", "-V", "1", "x"], "-V needs -s"),
                (["attr", "-s", "user.a", "-V", "0x1", "x"], "invalid value: '0x1'"),
                (["find", "-type", "q", "x"], "invalid --type"),
                (["find", "-size", "1q", "x"], "invalid --size"),
                (["du", "-d", "many", "x"], "invalid --max-depth"),
        ]:
            self.usage(*args, saying=saying)


class Names(harness.Case):
    """IMAGE:/PATH."""

    def setUp(self):
        super().setUp()
        write(self.tree / "f", "hello\n")
        write(self.tree / "d:" / "g", "colon\n")
        self.make()

    def test_schemes(self):
        for scheme in ["", "file:", "mmap:"]:
            self.assertEqual(self.ok("cat", f"{scheme}{self.image}:/f").out, "hello\n")

    def test_image_alone_is_its_root(self):
        self.assertIn("f\n", self.ok("ls", self.image).out)

    def test_colon_in_the_path(self):
        self.assertEqual(self.ok("cat", self.at("/d:/g")).out, "colon\n")

    def test_colon_in_the_image(self):
        (self.dir / "a:").mkdir()
        self.image.rename(self.dir / "a:" / "img")
        self.assertEqual(self.ok("cat", f"{self.dir}/a:/img:/d:/g").out, "colon\n")

    def test_relative_image(self):
        self.assertEqual(self.ok("cat", "img:/f", cwd=self.dir).out, "hello\n")

    def test_missing_image(self):
        self.fails("ls", self.dir / "none:/x:/y",
                   saying=f"uext4: ls: {self.dir}/none:/x: No such file or directory\n")

    def test_missing_file(self):
        for command in ["ls", "stat", "cat", "map", "bench"]:
            done = self.fails(command, self.at("/none"))
            self.assertEqual(done.err, f"uext4: {command}: {self.at('/none')}: "
                                       "No such file or directory\n")

    def test_names_in_messages_are_escaped(self):
        done = self.fails("ls", self.at("/\x1b[31m\n"), saying="/\\033[31m\\n: No such file")
        self.assertNotIn("\x1b", done.err)


class Mounting(harness.Case):
    def setUp(self):
        super().setUp()
        write(self.tree / "f", "hello\n")

    def test_not_an_image(self):
        write(self.dir / "zeros", bytes(1 << 20))
        self.fails("info", self.dir / "zeros", saying="no ext4 file system")

    def test_unknown_option_is_an_error(self):
        self.make()
        self.fails("info", "-o", "frobnicate", self.image, saying="frobnicate")

    def test_journal_that_needs_recovery(self):
        self.make(size="64M")
        debugfs(self.image, "feature needs_recovery")
        before = self.image.read_bytes()
        for options in [[], ["-o", "noload"]]:
            done = uext4("cat", *options, self.at("/f"))
            self.assertEqual((done.status, done.out), (0, "hello\n"))
        self.assertIn("noload", done.err)
        self.assertEqual(self.image.read_bytes(), before)

    def test_offset(self):
        self.make()
        data = bytes(1 << 20) + self.image.read_bytes()
        self.image.write_bytes(data)
        for offset in ["1M", str(1 << 20)]:
            self.assertEqual(self.ok("cat", "-o", f"offset={offset}", self.at("/f")).out, "hello\n")

    def test_image_is_never_written(self):
        self.make()
        before = self.image.read_bytes()
        self.image.chmod(0o444)
        self.ok("verify", "--raw=0", self.image)
        self.assertEqual(self.image.read_bytes(), before)


class Stdout(harness.Case):
    def setUp(self):
        super().setUp()
        write(self.tree / "f", harness.pattern(1 << 20))
        self.make()

    def test_full_disk(self):
        for args in [["cat", self.at("/f")], ["ls", self.at()], ["info", "--json", self.image],
                     ["tar", "-c", self.at()]]:
            with open("/dev/full", "wb") as full:
                done = self.fails(*args, stdout=full, saying=": No space left on device")
                self.assertIn("write error: ", done.err.lower())

    def test_reader_that_goes_away_ends_it_quietly(self):
        cat = subprocess.Popen([UEXT4, "cat", self.at("/f")], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, restore_signals=True)
        cat.stdout.read(10)
        cat.stdout.close()
        err = cat.stderr.read()
        cat.stderr.close()
        self.assertEqual((cat.wait(), err), (-13, b""))  # SIGPIPE

    def test_closed_pipe_with_sigpipe_ignored(self):
        done = subprocess.run(["sh", "-c", 'trap "" PIPE; "$0" cat "$1" | true; exit 0', UEXT4,
                               self.at("/f")], stderr=subprocess.PIPE, check=True)
        self.assertIn(b"write error: Broken pipe", done.stderr)


if __name__ == "__main__":
    harness.main()
