#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""`uext4 journal` and `uext4 recover`: what they print, what they refuse.

Journals are written by debugfs.  That recovery is right is the matter of tests/interop.
"""

import fcntl
import json
import re
import subprocess

import harness
from harness import debugfs, pattern, write

BLOCK = 12000  # belongs to nobody in these images, the journal included
MAGIC = b"\xc0\x3b\x39\x98"


class Journal(harness.Case):
    def setUp(self):
        super().setUp()
        write(self.tree / "f", "hello\n")
        self.make(size="16M", options=["-b", "1024", "-J", "size=1"])

    def write_log(self, *requests, options=""):
        """Transactions in the journal; the requests are those of debugfs."""
        blocks = self.dir / "blocks"
        write(blocks, pattern(1024) + MAGIC + pattern(1020, seed=2))
        script = "".join(f"{r}\n" for r in [f"jo {options}", *requests, "jc"])
        done = subprocess.run(["debugfs", "-w", "-f", "-", str(self.image)], text=True,
                              input=script.replace("BLOCKS", str(blocks)), capture_output=True,
                              check=True)
        self.assertEqual(done.stderr.splitlines()[1:], [])

    def write_some(self, options="-c -v 3"):
        self.write_log(f"jw -b {BLOCK},{BLOCK + 1} BLOCKS", f"jw -r {BLOCK}",
                       f"jw -c -b {BLOCK + 2} BLOCKS", options=options)


class Show(Journal):
    def test_empty(self):
        out = self.ok("journal", self.image).out
        self.assertRegex(out, r"(?m)^Block size: +1,024$")
        self.assertRegex(out, r"(?m)^UUID: +[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
        self.assertNotIn("TRANSACTION", out)
        self.assertTrue(out.endswith("\nThe log ends here: the log is empty.\n"), out)

    def test_error(self):
        """What an aborted journal says: the kernel stores -errno."""
        data = bytearray(self.image.read_bytes())
        at = data.index(MAGIC + (4).to_bytes(4, "big")) + 0x20
        for stored in [-5, 5]:
            data[at:at + 4] = stored.to_bytes(4, "big", signed=True)
            self.image.write_bytes(data)
            self.assertRegex(self.ok("journal", self.image).out, r"(?m)^Error: +Input/output error$")
            self.assertEqual(json.loads(self.ok("journal", "--json", self.image).out)["error"], 5)

    def test_table(self):
        self.write_some()
        before = self.image.read_bytes()
        lines = self.ok("journal", self.image).out.splitlines()
        at = next(i for i, line in enumerate(lines) if "TRANSACTION" in line)
        rows = [line.split() for line in lines[at + 1:lines.index("", at)]]
        tid = int(rows[0][0])
        self.assertEqual([r[2:5] + r[5:][-1:] for r in rows if r[2] != "commit"],
                         [["block", str(BLOCK), "ok"],
                          ["block", str(BLOCK + 1), "ok", "escaped"],
                          ["revoke", str(BLOCK), "ok"],
                          ["block", str(BLOCK + 2), "ok", "incomplete"]])
        self.assertEqual([int(r[0]) - tid for r in rows], [0, 0, 0, 1, 1, 2])
        # debugfs writes the time into the wrong half of its field
        self.assertEqual([r[4] for r in rows if r[2] == "commit"], ["ok", "ok"])
        self.assertRegex("\n".join(lines), r"(?m)^Transactions: +2$")
        self.assertEqual(lines[-1], "The log ends here: no further transaction.")
        self.assertEqual(self.image.read_bytes(), before)

    def test_json(self):
        self.write_some()
        d = json.loads(self.ok("journal", "--json", self.image).out)
        self.assertEqual((d["block_size"], d["blocks"], d["transactions"], d["error"]),
                         (1024, 1024, 2, 0))
        self.assertIn("journal_checksum_v3", d["features"])
        first = d["entries"][0]
        self.assertEqual(first, {"kind": "block", "transaction": d["sequence"],
                                 "log_block": d["start"] + 1, "block": BLOCK, "escaped": False,
                                 "checksum_ok": True, "complete": True})
        self.assertEqual([e["kind"] for e in d["entries"]],
                         ["block", "block", "commit", "revoke", "commit", "block"])
        self.assertEqual([e["complete"] for e in d["entries"]], [True] * 5 + [False])
        self.assertGreater(d["entries"][2]["sec"], 1 << 30)

    def test_without_checksums_nothing_is_said_of_them(self):
        self.make(options=["-b", "1024", "-J", "size=1", "-O", "^metadata_csum"])
        self.write_some(options="")
        d = json.loads(self.ok("journal", "--json", self.image).out)
        self.assertEqual({e["checksum_ok"] for e in d["entries"]}, {None})
        self.assertRegex(self.ok("journal", self.image).out, rf"(?m)^.* block +{BLOCK}  -")

    def test_wrong_checksum_shows(self):
        self.write_some()
        data = bytearray(self.image.read_bytes())
        data[data.index(pattern(1024)) + 500] ^= 1
        self.image.write_bytes(data)
        d = json.loads(self.ok("journal", "--json", self.image).out)
        self.assertEqual([e["checksum_ok"] for e in d["entries"]], [False] + [True] * 5)
        self.assertRegex(self.ok("journal", self.image).out, rf"(?m)^.* block +{BLOCK}  wrong")

    def test_no_journal(self):
        self.make(options=["-O", "^has_journal"])
        self.fails("journal", self.image, saying=f"{self.image}: it has no journal")

    def test_not_an_image(self):
        write(self.dir / "zeros", bytes(1 << 20))
        self.fails("journal", self.dir / "zeros", saying="no ext4 file system")
        self.fails("journal", self.dir / "none", saying="No such file or directory")


class Recover(Journal):
    def at_block(self, block):
        return self.image.read_bytes()[block * 1024:(block + 1) * 1024]

    def test_nothing_to_do(self):
        before = self.image.read_bytes()
        self.assertEqual(self.ok("recover", self.image).out, "The journal needs no recovery.\n")
        d = json.loads(self.ok("recover", "--json", self.image).out)
        self.assertEqual((d["was_needed"], d["blocks"]), (False, 0))
        self.assertEqual(self.image.read_bytes(), before)

    def test_text(self):
        self.write_some()
        out = self.ok("recover", self.image).out
        numbers = [int(n) for n in re.findall(r": +(\d+)", out)]
        self.assertEqual(numbers, [2, 1, 1, 1], out)
        self.assertEqual(self.at_block(BLOCK), bytes(1024))  # revoked
        self.assertEqual(self.at_block(BLOCK + 1), MAGIC + pattern(1020, seed=2))
        self.assertEqual(self.at_block(BLOCK + 2), bytes(1024))  # not committed
        self.clean()

    def test_json(self):
        self.write_some()
        d = json.loads(self.ok("recover", "--json", self.image).out)
        del d["first_transaction"]
        self.assertEqual(d, {"was_needed": True, "transactions": 2, "blocks": 1, "revokes": 1,
                             "copies_revoked": 1})

    def test_log_without_a_whole_transaction(self):
        debugfs(self.image, "feature needs_recovery")
        self.assertIn("no complete transaction", self.ok("recover", self.image).out)
        self.ok("recover", self.image)

    def test_in_use(self):
        self.write_some()
        before = self.image.read_bytes()
        with open(self.image, "rb") as other:
            fcntl.flock(other, fcntl.LOCK_SH)
            self.fails("recover", self.image, saying="in use")
        self.assertEqual(self.image.read_bytes(), before)

    def test_damaged(self):
        self.write_log(f"jw -b {BLOCK + 5},{BLOCK + 1} BLOCKS", options="-c -v 3")
        data = bytearray(self.image.read_bytes())
        data[data.index(pattern(1024)) + 500] ^= 1
        self.image.write_bytes(data)
        self.fails("recover", self.image, saying=f"copy of block {BLOCK + 5} ")
        self.fails("ls", self.image, saying="noload")

    def test_not_to_be_had(self):
        self.fails("recover", self.dir / "none", saying="No such file or directory")
        write(self.dir / "zeros", bytes(1 << 20))
        self.fails("recover", self.dir / "zeros", saying="no ext4 file system")
        debugfs(self.image, "feature needs_recovery")
        self.fails("recover", "-o", "journal_path=/nonexistent/log", self.image,
                   saying="journal_path=/nonexistent/log: No such file or directory")
        self.fails("recover", "-o", "frobnicate", self.image, saying="frobnicate")


if __name__ == "__main__":
    harness.main()
