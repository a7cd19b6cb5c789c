# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trees with everything that files can have, and what is to be equal of two of them."""

import hashlib
import os
import random
import stat
import struct

ACL_ACCESS, ACL_DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
IS_ROOT = os.geteuid() == 0


def acl(*entries):
    """The value of an ACL's attribute, of (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


NOBODY = 0xffffffff
AN_ACL = acl((1, 6, NOBODY), (2, 7, 1234), (4, 4, NOBODY), (16, 6, NOBODY), (32, 4, NOBODY))


def can_have_xattrs(folder):
    """Does this host keep attributes and ACLs here?"""
    try:
        os.setxattr(folder, "user.test", b"1")
        os.removexattr(folder, "user.test")
        os.setxattr(folder, ACL_DEFAULT, AN_ACL)
        os.removexattr(folder, ACL_DEFAULT)
    except OSError:
        return False
    return True


def make_file(path, rng):
    size = rng.choice([0, 1, 100, 4095, 4096, 4097, 20000, 300000])
    with open(path, "wb") as f:
        if rng.random() < 0.2:  # holes, at the end too
            for _ in range(rng.randrange(3)):
                f.seek(rng.randrange(64) * 65536)
                f.write(rng.randbytes(rng.randrange(1, 9000)))
            f.truncate(rng.randrange(4 << 20, 5 << 20))
        else:
            f.write(rng.randbytes(size))


def decorate(path, rng, xattrs):
    is_link = path.is_symlink()
    is_dir = not is_link and path.is_dir()
    if IS_ROOT and rng.random() < 0.5:
        os.chown(path, rng.randrange(70000), rng.randrange(70000), follow_symlinks=False)
    if not is_link:
        path.chmod(0o700)  # a file with several names comes here again
    if xattrs and not is_link and (is_dir or path.is_file()):
        for i in range(rng.randrange(3)):
            os.setxattr(path, f"user.name{i}", rng.randbytes(rng.choice([0, 1, 30, 250])))
        if IS_ROOT and rng.random() < 0.2:  # nobody else gets them back
            os.setxattr(path, ACL_ACCESS, AN_ACL)
        if IS_ROOT and is_dir and rng.random() < 0.3:
            os.setxattr(path, ACL_DEFAULT, AN_ACL)
    if not is_link:
        mode = rng.choice([0o644, 0o600, 0o755, 0o4755, 0o2711, 0o1777, 0o444, 0o700])
        mode |= 0o700 if is_dir else 0o400
        path.chmod(mode if IS_ROOT else mode & 0o777)
    nsec = rng.randrange(10**9)
    os.utime(path, ns=(rng.randrange(2**33) * 10**9 + nsec, rng.randrange(2**33) * 10**9 + nsec),
             follow_symlinks=False)


def make_tree(root, seed, nr, xattrs):
    """About `nr` things below the directory, which must be there."""
    rng = random.Random(seed)
    dirs, made = [root], []
    for i in range(nr):
        parent = rng.choice(dirs)
        path = parent / rng.choice([f"f{i}", f"name {i}", f"\u00e4{i}", f"-{i}", "n" * 200 + str(i)])
        kind = rng.random()
        if kind < 0.15:
            path.mkdir()
            dirs.append(path)
        elif kind < 0.25:
            path.symlink_to(rng.choice(["target", "x" * 59, "y" * 60, "z" * 1000, "../" * 5]))
        elif kind < 0.30:
            os.mkfifo(path)
        elif kind < 0.33 and IS_ROOT:
            os.mknod(path, rng.choice([stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK]) | 0o600,
                     os.makedev(rng.randrange(300), rng.randrange(300)))
        elif kind < 0.40 and made:
            os.link(rng.choice(made), path, follow_symlinks=False)
            continue
        else:
            make_file(path, rng)
            made.append(path)
    for folder, subdirs, files in os.walk(root, topdown=False):
        for name in files + subdirs:
            decorate(root.joinpath(folder, name), rng, xattrs)
    decorate(root, rng, xattrs)


def xattrs_of(path):
    try:
        return {name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)}
    except OSError:
        return {}


def describe(root, ignore=()):
    """All of a tree that is to be kept, by path."""
    found, first = {}, {}
    for folder, subdirs, files in os.walk(root):
        for name in [""] + files + [d for d in subdirs if os.path.islink(os.path.join(folder, d))]:
            path = os.path.join(folder, name) if name else folder
            st = os.lstat(path)
            key = os.path.relpath(path, root)
            what = {"mode": st.st_mode, "owner": (st.st_uid, st.st_gid), "mtime": st.st_mtime_ns,
                    "xattrs": xattrs_of(path)}
            if not stat.S_ISDIR(st.st_mode):
                what["size"], what["nlink"], what["rdev"] = st.st_size, st.st_nlink, st.st_rdev
                what["same as"] = first.setdefault(st.st_ino, key)
            if stat.S_ISLNK(st.st_mode):
                what["target"] = os.readlink(path)
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    what["contents"] = hashlib.file_digest(f, "sha256").hexdigest()
                what["sparse"] = st.st_blocks * 512 < st.st_size - 65536
            found[key] = {k: v for k, v in what.items() if k not in ignore}
    # Which name of a file is met first depends on the order of directories: name the least one.
    least = {}
    for key, what in found.items():
        if "same as" in what:
            least[what["same as"]] = min(least.get(what["same as"], key), key)
    for what in found.values():
        if "same as" in what:
            what["same as"] = least[what["same as"]]
    return found


def differences(a, b):
    lines = []
    for key in sorted(a.keys() | b.keys()):
        one, two = a.get(key), b.get(key)
        if one is None or two is None:
            lines.append(f"{key}: only in the {'second' if one is None else 'first'}")
        elif one != two:
            lines += [f"{key}: {k}: {one[k]!r} != {two.get(k)!r}" for k in one if one[k] != two.get(k)]
    return lines
