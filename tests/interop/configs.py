# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of configurations: one entry is one image and one test."""

import re
import subprocess
from dataclasses import dataclass, field

import harness

# What today's mke2fs makes by default, spelled out: nothing depends on the machine's mke2fs.conf.
EXT4 = ("has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,"
        "large_file,huge_file,dir_nlink,extra_isize,metadata_csum")
EXT3 = "has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file"
EXT2 = "ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file"

MIB = 1 << 20


@dataclass
class Config:
    name: str
    features: str = EXT4
    block_size: int = 4096
    inode_size: int = 256
    size: int = 200 * MIB
    args: list = field(default_factory=list)
    before: list = field(default_factory=list)  # commands before the filling, on {image}
    after: list = field(default_factory=list)   # commands behind it
    kernel: bool = True      # the kernel's ext4 may be asked at all
    cluster_size: int = 0    # 0: a block
    nr_entries: int = 5000
    nr_fragments: int = 0    # 0: by block size
    long_too: bool = False   # also in the long suite, with 100 000 entries
    many_subdirs: bool = False  # in the long suite, more than a link count can hold

    def __post_init__(self):
        names = self.features.split(",")
        self.extents = "extent" in names
        self.filetype = "filetype" in names
        # a size that debugfs writes into an inode: 4 TiB where the format has it
        self.large_size = 4 << 40 if self.extents and "huge_file" in names and \
            self.block_size >= 4096 else 1 << 30
        self.project = any("project" in word for step in self.after for word in step)
        self.verity = "verity" in names
        self.casefold = "casefold" in names
        self.encrypt = "encrypt" in names
        self.cluster_size = self.cluster_size or self.block_size
        self.nr_fragments = self.nr_fragments or (3000 if self.block_size == 1024 else 1500)

    def mke2fs_args(self):
        args = ["-b", str(self.block_size), "-I", str(self.inode_size)]
        if "-N" not in self.args:
            args += ["-N", "12000"]
        if "has_journal" in self.features.split(","):
            args += ["-J", "size=8" if self.block_size < 8192 else "size=64"]
        return args + ["-O", "none," + self.features] + self.args


def plus(features, *more):
    return ",".join([features] + list(more))


def minus(features, *less):
    return ",".join(f for f in features.split(",") if f not in less)


def tune(*args):
    return ["tune2fs"] + list(args) + ["{image}"]


def ssv(name, value):
    return ["debugfs", "-w", "-R", "ssv %s %s" % (name, value), "{image}"]


def hash_config(alg, signed):
    return Config("hash-%s-%s" % (alg.replace("_", ""), "signed" if signed else "unsigned"),
                  block_size=1024, before=[tune("-E", "hash_alg=" + alg),
                                           ssv("flags", "1" if signed else "2")],
                  nr_entries=2500, nr_fragments=300)


def revision_0():
    """mke2fs took -r up to 1.47.0; later ones have an extended option instead."""
    said = subprocess.run(["mke2fs", "-V"], capture_output=True, text=True).stderr
    version = tuple(int(n) for n in re.search(r"(\d+)\.(\d+)\.(\d+)", said + " 0.0.0").groups())
    return ["-r", "0"] if version <= (1, 47, 0) else ["-E", "revision=0"]


CONFIGS = [
    Config("ext4-4k", long_too=True),
    Config("ext4-1k", block_size=1024, long_too=True, many_subdirs=True),
    Config("ext4-2k", block_size=2048),
    Config("ext4-16k", block_size=16384, size=300 * MIB),
    Config("ext4-64k", block_size=65536, size=600 * MIB),
    Config("ext3-4k", EXT3, long_too=True),
    Config("ext3-1k", EXT3, block_size=1024),
    Config("ext2-4k", EXT2, inode_size=128),
    Config("ext2-1k", EXT2, block_size=1024, inode_size=128),
    Config("revision-0", "none", block_size=1024, inode_size=128, args=revision_0(),
           nr_entries=600),
    Config("nojournal", minus(EXT4, "has_journal")),
    Config("no-csum", minus(EXT4, "metadata_csum")),
    Config("gdt-csum", plus(minus(EXT4, "metadata_csum"), "uninit_bg"), block_size=1024),
    Config("32bit", minus(EXT4, "64bit")),
    Config("32bit-no-csum", minus(EXT4, "64bit", "metadata_csum"), block_size=1024),
    Config("no-flex-bg", minus(EXT4, "flex_bg"), block_size=1024),
    Config("meta-bg", plus(minus(EXT4, "resize_inode"), "meta_bg"), block_size=1024),
    Config("meta-bg-32bit", plus(minus(EXT4, "resize_inode", "64bit"), "meta_bg"),
           block_size=1024),
    Config("bigalloc", plus(EXT4, "bigalloc"), cluster_size=65536, args=["-C", "65536"],
           size=500 * MIB),
    Config("bigalloc-1k", plus(EXT4, "bigalloc"), block_size=1024, cluster_size=16384,
           args=["-C", "16384"], size=400 * MIB),
    Config("large-dir", plus(EXT4, "large_dir"), block_size=1024, long_too=True),
    Config("ea-inode", plus(EXT4, "ea_inode")),
    Config("ea-inode-1k", plus(EXT4, "ea_inode"), block_size=1024),
    Config("orphan-file", plus(EXT4, "orphan_file")),
    Config("no-huge-file", minus(EXT4, "huge_file")),
    Config("dir-nlink", minus(EXT4, "dir_nlink")),
    Config("inline-data", plus(EXT4, "inline_data")),
    Config("inline-data-1k", plus(EXT4, "inline_data"), block_size=1024, inode_size=512),
    Config("sparse-super2", plus(EXT4, "sparse_super2")),
    Config("no-sparse-super", minus(EXT4, "sparse_super", "resize_inode"), block_size=1024),
    Config("mmp", EXT4, after=[tune("-O", "mmp")]),
    Config("quota-project", EXT4, after=[tune("-O", "quota,project", "-Q", "prjquota")]),
    Config("casefold", plus(EXT4, "casefold")),
    Config("encrypt", plus(EXT4, "encrypt")),
    Config("encrypt-1k", plus(EXT4, "encrypt"), block_size=1024),
    Config("verity", plus(EXT4, "verity")),
    Config("stable-inodes", plus(EXT4, "stable_inodes"), nr_entries=500),
    Config("csum-seed", plus(EXT4, "metadata_csum_seed"),
           after=[tune("-U", "c5eedc5e-5eed-4c5e-8d5e-edc5eedc5eed")]),
    Config("no-filetype", minus(EXT4, "filetype")),
    Config("no-dir-index", minus(EXT4, "dir_index")),
    Config("no-ext-attr", minus(EXT4, "ext_attr"), nr_entries=500),
    Config("inode-128", minus(EXT4, "extra_isize"), inode_size=128),
    Config("inode-1024", inode_size=1024),
    Config("inode-4096", inode_size=4096, nr_entries=1000),
    Config("inode-128-1k", minus(EXT4, "extra_isize", "metadata_csum"), block_size=1024,
           inode_size=128),
    hash_config("legacy", True), hash_config("legacy", False),
    hash_config("half_md4", True), hash_config("half_md4", False),
    hash_config("tea", True), hash_config("tea", False),
]

BY_NAME = {c.name: c for c in CONFIGS}


def run_steps(steps, image):
    for step in steps:
        harness.run([image if word == "{image}" else word for word in step])
