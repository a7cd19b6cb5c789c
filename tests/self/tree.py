# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the checks of the source tree share: which files there are, and C without comments."""

import os
import re
from pathlib import Path

ROOT = Path(os.environ.get("UEXT4_SOURCE_ROOT", Path(__file__).resolve().parents[2]))

SKIPPED_FOLDERS = re.compile(r"^(\.git|build.*|__pycache__|corpus)$")
CODE_SUFFIXES = {".c", ".h", ".cc", ".py", ".sh", ".build"}
CODE_NAMES = {"Makefile", "meson.build", "meson_options.txt", "meson.options", "run", ".clang-format",
              ".gitignore"}
CODE_FOLDERS = {"scripts", "bench"}  # programs without a suffix
PROSE_SUFFIXES = {".md", ".1", ".3", ".5", ".7"}

C_TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.S)


def files():
    """All files of the project, as paths relative to its root, sorted."""
    found = []
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [s for s in subfolders if not SKIPPED_FOLDERS.match(s)]
        found += [(Path(folder) / name).relative_to(ROOT) for name in names]
    return sorted(found)


def is_c(path):
    return path.suffix in (".c", ".h")


def is_code(path):
    return (path.suffix in CODE_SUFFIXES or path.name in CODE_NAMES
            or (path.parent.name in CODE_FOLDERS and not path.suffix))


def is_prose(path):
    return path.suffix in PROSE_SUFFIXES


def read(path):
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


def blank(text):
    """Spaces for everything but line ends, so that positions stay."""
    return re.sub(r"[^\n]", " ", text)


def c_code(text):
    """C without comments and without what is inside quotes."""
    return C_TOKEN.sub(lambda match: blank(match.group()), text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


class Findings:
    """Complaints of the form "path:line: text", for a compiler's reader."""

    def __init__(self):
        self.nr = 0

    def add(self, path, line, text):
        print(f"{path}:{line}: {text}")
        self.nr += 1

    def status(self):
        return 1 if self.nr else 0
