#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completion in the shell: commands, their options, names in an image."""

import shutil
import subprocess
import unittest
from pathlib import Path

import harness

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "completion"

# What bash does when TAB is pressed at the end of a line.  It breaks words at colons, too.
PRESS = r"""
source "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDBREAKS=$' \t\n"'"'"'><=;|&(:'
read -ra COMP_WORDS <<< "${COMP_LINE//:/ : }"
[[ $COMP_LINE == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_uext4 "$3"
printf '%s\n' "${COMPREPLY[@]}"
"""


class Bash(harness.Case):
    def press(self, line):
        done = subprocess.run(["bash", "-c", PRESS, "bash", str(SCRIPTS / "uext4"), line,
                               harness.UEXT4], check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.split("\n")[:-1]

    def test_commands(self):
        self.assertIn("truncate", self.press("uext4 "))
        self.assertEqual(sorted(self.press("uext4 tr")), ["trim", "truncate"])

    def test_options(self):
        found = self.press("uext4 fallocate --")
        self.assertIn("--punch-hole", found)
        self.assertIn("--length=", found)
        self.assertIn("--help", found)
        self.assertEqual(self.press("uext4 find --min"), ["--mindepth="])

    def test_names_in_an_image(self):
        harness.write(self.tree / "folder" / "file", "x")
        harness.write(self.tree / "folder" / "deep" / "file", "x")
        harness.write(self.tree / "alone", "x")
        self.make()
        self.assertEqual(sorted(self.press(f"uext4 cat {self.image}:/fo")), ["/folder/"])
        self.assertEqual(sorted(self.press(f"uext4 cat {self.image}:/folder/")),
                         ["/folder/deep/", "/folder/file"])
        self.assertEqual(self.press(f"uext4 cat {self.image}:/nothing"), [""])


class Zsh(unittest.TestCase):
    @unittest.skipUnless(shutil.which("zsh"), "no zsh")
    def test_it_is_zsh(self):
        subprocess.run(["zsh", "-fn", str(SCRIPTS / "_uext4")], check=True)


if __name__ == "__main__":
    harness.main()
