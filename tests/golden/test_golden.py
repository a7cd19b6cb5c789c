#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a fixed list of commands makes of fixed images, and says of them: compared with the texts in
expected/, one for each configuration.  The texts have places on the device, so that a change of how
space is chosen shows, and all that users' scripts may read.

UEXT4_GOLDEN=update writes the texts anew; what changed in them belongs to the commit that changed it.
"""

import difflib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

UEXT4 = os.environ.get("UEXT4", "uext4")
EXPECTED = Path(__file__).resolve().parent / "expected"

ENV = {**os.environ, "MKE2FS_CONFIG": "/dev/null", "E2FSPROGS_FAKE_TIME": "1700000000",
       "SOURCE_DATE_EPOCH": "1700000000", "TZ": "UTC0", "LC_ALL": "C.UTF-8"}

OLD = "filetype,sparse_super,ext_attr,dir_index"
EXT4 = (OLD + ",has_journal,extents,huge_file,flex_bg,64bit,dir_nlink,extra_isize,metadata_csum,"
        "large_file")
CONFIGS = {
    "4k": f"-b 4096 -I 256 -J size=4 -O none,{EXT4}",
    "1k": f"-b 1024 -g 4096 -I 256 -J size=1 -O none,{EXT4}",
    "ext3": f"-b 1024 -I 128 -J size=1 -O none,has_journal,large_file,{OLD}",
    "ext2": f"-b 2048 -I 128 -O none,{OLD}",
    "bigalloc": f"-b 1024 -C 8192 -I 256 -J size=1 -O none,bigalloc,{EXT4}",
    "inline": f"-b 4096 -I 512 -J size=4 -O none,inline_data,{EXT4}",
}

# IMG is the image, TREE the directory that fill() makes; what is made first, and then asked.
CHANGES = """
mkdir -p IMG:/dir/sub
put TREE/text IMG:/dir/text
put -r TREE IMG:/tree
truncate -s 300K IMG:/dir/text
truncate -s 70K IMG:/tree/large
ln IMG:/dir/text IMG:/dir/sub/second
ln -s ../dir/text IMG:/dir/link
attr -s user.mark -V golden IMG:/dir/text
chmod 2750 IMG:/dir/sub
chown 1000:100 IMG:/dir/sub
mv IMG:/tree/small IMG:/dir/moved
rm IMG:/tree/gone
"""
WITH_EXTENTS = """
fallocate --length=40K --offset=400K IMG:/dir/text
fallocate --punch-hole --length=16K --offset=16K IMG:/tree/large
"""
QUESTIONS = """
info IMG
info --json IMG
ls -laRi IMG:/
stat IMG:/dir/text
stat --json IMG:/dir/sub
map IMG:/dir/text
map --json IMG:/tree/large
map --picture IMG:/tree/large
attr -d IMG:/dir/text
find IMG:/ -type f
du -a IMG:/dir
df IMG
journal IMG
verify --raw=0 --sums IMG
cat IMG:/dir/moved
cat IMG:/nothing
ls IMG:/dir/text/below
"""


# What depends on the host or the moment: alignment of the file that is the image, speed.
LEFT_OUT = ("Direct I/O:", '"dio_', "seconds ", "checksum ", "requests ")


def fill(tree):
    """Contents and times that are the same each time."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    for name, size in [("text", 5000), ("small", 60), ("large", 200000), ("gone", 9000)]:
        line = f"{name} has {size} bytes.\n".encode()
        path = tree / name
        path.write_bytes((line * (size // len(line) + 1))[:size])
        path.chmod(0o644)
    for path in [*tree.iterdir(), tree]:
        os.utime(path, (1600000000, 1600000000))


def make(image, options):
    image.unlink(missing_ok=True)
    subprocess.run(["mke2fs", "-q", "-F", "-N", "64", "-U", "6d4a9a5c-0f6e-4d4e-9b8b-0c1d2e3f4a5b",
                    "-E", "hash_seed=0d1e2f3a-4b5c-6d7e-8f90-a1b2c3d4e5f6,lazy_itable_init=0,"
                    "root_owner=0:0", *options.split(), str(image), "16M"],
                   check=True, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run(line, folder):
    """A command and all that it says."""
    words = [word.replace("IMG", "img").replace("TREE", "tree") for word in line.split()]
    done = subprocess.run([UEXT4, *words], env=ENV, cwd=folder, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    said = (done.stdout + done.stderr).decode().splitlines(keepends=True)
    said = "".join(text for text in said if not text.lstrip().startswith(LEFT_OUT))
    status = f"[exit status {done.returncode}]\n" if done.returncode else ""
    return f"$ uext4 {' '.join(words)}\n{said}{status}\n"


def text_of(name, options, folder):
    image = folder / "img"
    make(image, options)
    fill(folder / "tree")
    changes = CHANGES + (WITH_EXTENTS if "extents" in options else "")
    lines = [line for line in (changes + QUESTIONS).splitlines() if line]
    text = "".join(run(line, folder) for line in lines)
    done = subprocess.run(["e2fsck", "-fn", str(image)], env=ENV, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    return text + (f"e2fsck: {done.stdout}\n" if done.returncode else "")


def compare(name, got):
    """True when it is what was expected."""
    path = EXPECTED / f"{name}.txt"
    if os.environ.get("UEXT4_GOLDEN") == "update":
        path.write_text(got)
    want = path.read_text() if path.exists() else ""
    for line in difflib.unified_diff(want.splitlines(), got.splitlines(), f"expected/{name}.txt",
                                     "what it is now", lineterm=""):
        print("# " + line)
    return got == want


def main():
    if not shutil.which("mke2fs") or not shutil.which("e2fsck"):
        print("skipped: mke2fs or e2fsck is missing")
        return 77
    os.umask(0o022)
    failed = 0
    print(f"1..{len(CONFIGS)}")
    with tempfile.TemporaryDirectory(prefix="uext4-golden-") as folder:
        for nr, (name, options) in enumerate(CONFIGS.items(), 1):
            good = compare(name, text_of(name, options, Path(folder)))
            failed += not good
            print(f"{'ok' if good else 'not ok'} {nr} - {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
