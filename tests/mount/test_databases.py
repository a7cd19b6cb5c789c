#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Databases on a mount whose server is killed while they commit: after recovery every commit that
was acknowledged is there, and the database is whole.  SQLite, and PostgreSQL where it is
installed.  Ten rounds with UEXT4_LONG, else two."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import unittest
from pathlib import Path

import mounting
from mounting import is_gone, mounts, wait_until

ROUNDS = 10 if mounting.LONG else 2

# A process of its own: what it has open must be gone when the server is killed.  It prints the
# number of each row whose commit has returned.
SQLITE_WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA synchronous=EXTRA") # the directory, too: a journal that comes back undoes
nr = db.execute("SELECT coalesce(max(nr), 0) FROM t").fetchone()[0]
while True:
    nr += 1
    db.execute("BEGIN")
    db.execute("INSERT INTO t VALUES (?, ?)", (nr, str(nr) * 500))
    db.execute("UPDATE t SET text = text || 'x' WHERE nr = ?", (nr // 2,))
    db.execute("COMMIT")
    print(nr, flush=True)
"""


class Databases(mounting.Case):
    def kill_after(self, pid, seconds):
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        self.assertTrue(wait_until(lambda: is_gone(pid) and not mounts(self.at)))


class Sqlite(Databases):
    def test_rollback_journal(self):
        self.rounds("DELETE")

    def test_write_ahead_log(self):
        self.rounds("WAL")

    def rounds(self, mode):
        self.make("256M")
        path = self.at / "database"
        self.mount()
        db = sqlite3.connect(path)
        self.assertEqual(db.execute(f"PRAGMA journal_mode={mode}").fetchone()[0], mode.lower())
        db.execute("CREATE TABLE t (nr INTEGER PRIMARY KEY, text TEXT)")
        db.commit()
        db.close()
        self.umount()
        for nr in range(ROUNDS):
            last = self.killed_writer(path, 0.5 + 0.13 * nr)
            self.fsck()
            self.mount()
            self.check(path, last)
            self.umount()
            self.fsck_closed()

    def killed_writer(self, path, seconds):
        """The last row that was acknowledged."""
        server = self.mount()
        writer = subprocess.Popen([sys.executable, "-c", SQLITE_WRITER, str(path)], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        first = writer.stdout.readline()
        self.kill_after(server, seconds)
        lines = (first + writer.stdout.read()).split()
        writer.stdout.close()
        writer.wait()
        return int(lines[-1])

    def check(self, path, last):
        db = sqlite3.connect(path)
        self.assertEqual(db.execute("PRAGMA integrity_check").fetchone()[0], "ok")
        count, highest = db.execute("SELECT count(*), max(nr) FROM t").fetchone()
        self.assertEqual(count, highest)
        self.assertGreaterEqual(highest, last, "a commit is lost")
        db.close()


def postgres_folder():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@unittest.skipUnless(postgres_folder(), "PostgreSQL is not installed")
@unittest.skipUnless(os.geteuid() == 0 and shutil.which("setpriv"), "needs root and setpriv")
class Postgres(Databases):
    USER = 65534  # it refuses to run as root

    def postgres(self, program, *args, check=True, **kwargs):
        command = ["setpriv", f"--reuid={self.USER}", f"--regid={self.USER}", "--clear-groups",
                   str(postgres_folder() / program), *map(str, args)]
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self.dir), "USER": "nobody"}
        return subprocess.run(command, check=check, env=env, cwd="/", text=True, timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kwargs)

    def sql(self, text, check=True):
        done = self.postgres("psql", "-h", self.dir, "-d", "postgres", "-U", "nobody", "-qAt",
                             "-v", "ON_ERROR_STOP=1", "-c", text, check=check)
        return done.stdout.strip()

    def start(self):
        log = self.dir / "log"
        done = self.postgres("pg_ctl", "-D", self.data, "-w", "-l", log, "-o",
                             f"-k {self.dir} -c listen_addresses=", "start", check=False)
        said = log.read_text() if log.exists() else ""
        self.assertEqual(done.returncode, 0, done.stdout + said)

    def stop(self, how):
        self.postgres("pg_ctl", "-D", self.data, "-m", how, "stop", check=False)

    def test_killed(self):
        self.dir.chmod(0o777)
        self.make("512M")
        self.data = self.at / "data"
        self.mount("-o", "allow_other")
        self.data.mkdir(mode=0o700)
        os.chown(self.data, self.USER, self.USER)
        self.postgres("initdb", "-D", self.data, "-U", "nobody", "-A", "trust")
        self.addCleanup(self.stop, "immediate")  # it would outlive a test that fails
        self.start()
        self.sql("CREATE TABLE t (nr int PRIMARY KEY, text text)")
        self.stop("fast")
        self.umount()
        for nr in range(ROUNDS):
            acknowledged = self.killed_round(1 + 0.2 * nr)
            self.fsck()
            self.mount("-o", "allow_other")
            self.check(acknowledged)
            self.umount()
            self.fsck_closed()

    def killed_round(self, seconds):
        """The server dies under a database that is writing; how many rows were acknowledged."""
        pid = self.mount("-o", "allow_other")
        self.start()
        postmaster = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        before = int(self.sql("SELECT coalesce(max(nr), 0) FROM t"))
        script = self.dir / "script"
        script.write_text("".join(f"INSERT INTO t VALUES ({n}, repeat('text', 100));\n"
                                  f"\\echo {n}\n" for n in range(before + 1, before + 50001)))
        client = subprocess.Popen(
            [str(postgres_folder() / "psql"), "-h", str(self.dir), "-d", "postgres", "-U", "nobody",
             "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script)], text=True, cwd="/",
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        first = client.stdout.readline()
        self.kill_after(pid, seconds)
        self.end(postmaster)
        lines = (first + client.stdout.read()).split()
        client.stdout.close()
        client.wait()
        return int(lines[-1])

    def end(self, postmaster):
        """It cannot write any more; its processes are killed, as a power cut would."""
        subprocess.run(["pkill", "-KILL", "-P", str(postmaster)], check=False)
        if not is_gone(postmaster):
            os.kill(postmaster, signal.SIGKILL)
        self.assertTrue(wait_until(lambda: is_gone(postmaster)))

    def check(self, acknowledged):
        # Locks with the number of a process that perhaps nobody has collected yet.
        for path in [self.data / "postmaster.pid", *self.dir.glob(".s.PGSQL*")]:
            path.unlink(missing_ok=True)
        self.start()
        count, highest = map(int, self.sql("SELECT count(*), max(nr) FROM t").split("|"))
        self.assertEqual(count, highest)
        self.assertGreaterEqual(highest, acknowledged, "a commit is lost")
        self.sql("REINDEX TABLE t")
        self.stop("fast")


if __name__ == "__main__":
    mounting.main()
