#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manual pages name what there is, and nothing else.

    check_manuals.py UEXT4

Each command that `UEXT4 --help` lists has a section in uext4(1), which speaks of each of its
options; each mount option that the library takes is in uext4(5) and in uext4.h, and no other.
"""

import re
import subprocess
import sys
from pathlib import Path

import tree

MAIN = Path("docs/man/uext4.1")
OPTIONS_PAGE = Path("docs/man/uext4.5")
OPTIONS_CODE = Path("src/lib/options.c")
HEADER = Path("include/uext4.h")

FLAG = re.compile(r"\bFl -([a-z][a-z0-9-]*)")
TABLE_ROW = re.compile(r'^\s*\{"(\w+)", (?:NO|WITH|MAYBE)_VALUE,', re.M)


def help_of(uext4, *words):
    return subprocess.run([uext4, *words, "--help"], check=True, stdout=subprocess.PIPE,
                          text=True).stdout


def commands_of(text):
    listed = text.split("Commands:\n", 1)[1].split("\n\n", 1)[0]
    return [line.split()[0] for line in listed.splitlines()]


def options_of(text):
    """Long options: the column of options begins a line, and ends before two blanks."""
    columns = re.findall(r"^ {2,6}(-.*?)(?:  |$)", text.replace(",  ", ", "), re.M)
    return {option for column in columns for option in re.findall(r"--([a-z][a-z0-9-]*)", column)}


def sections_of(page):
    """Name of a subsection -> its text; "" has what stands before the first one."""
    parts = re.split(r"^\.S[sh] (.+)$", page, flags=re.M)
    return dict(zip([""] + parts[1::2], parts[::2]))


def takes_overrides(name, synopsis):
    """What stands for several options in the synopsis is told of with the command `put`."""
    return any(line.startswith(name + "\n") and "Ar overrides" in line
               for line in synopsis.split(".Nm\n.Cm "))


def check_command(name, text, sections, findings):
    if name not in sections:
        findings.add(MAIN, 1, f"no section for the command {name}")
        return
    told = set(FLAG.findall(sections[name] + sections["Options of all commands"]))
    if takes_overrides(name, sections["SYNOPSIS"]):
        told |= set(FLAG.findall(sections["put"]))
    for option in sorted(options_of(text) - told):
        findings.add(MAIN, 1, f"{name}: --{option} is not there")
    for option in sorted(set(FLAG.findall(sections[name])) - options_of(text)):
        findings.add(MAIN, 1, f"{name}: there is no --{option}")


def check_mount_options(findings):
    options = set(TABLE_ROW.findall(tree.read(OPTIONS_CODE)))
    page = tree.read(OPTIONS_PAGE).split(".Sh MOUNT OPTIONS", 1)[1].split("\n.Sh ", 1)[0]
    items = " , ".join(re.findall(r"^\.It Cm (.*)$", page, re.M))
    items = re.sub(r"(Brq|Ns) Cm .*?(?= , |$)", "", items.replace(" , Cm ", " , "))
    told = {item.split()[0].removesuffix("=") for item in re.split(r" , | \| ", items)}
    comment = tree.read(HEADER).split("Mount options are", 1)[1].split("*/", 1)[0]
    for option in sorted(options - told):
        findings.add(OPTIONS_PAGE, 1, f"the mount option {option} is not there")
    for option in sorted(told - options):
        findings.add(OPTIONS_PAGE, 1, f"there is no mount option {option}")
    for option in sorted(options):
        if not re.search(r"\b%s\b" % option, comment):
            findings.add(HEADER, 1, f"the mount option {option} is not there")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: check_manuals.py UEXT4")
    uext4 = sys.argv[1]
    findings = tree.Findings()
    sections = sections_of(tree.read(MAIN))
    for name in commands_of(help_of(uext4)):
        check_command(name, help_of(uext4, name), sections, findings)
    check_mount_options(findings)
    return findings.status()


if __name__ == "__main__":
    sys.exit(main())
