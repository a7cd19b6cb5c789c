# SPDX-License-Identifier: LGPL-2.1-or-later
"""Take something out of the sources, one thing at a time: a test must fail.

Who has a list of mutations calls main().  The sources are copied, each mutation is made in the
copy, and the scenario that it names is run, once without any mutation, too.  A line is printed for
each.  What the list takes out must be in the sources, once; and where lines are marked with a
comment "order:", all of these must be in the list.

    PROGRAM [NUMBER...]         all mutations, or these of the list
    PROGRAM --check             look at the list only
"""

import collections
import concurrent.futures
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(os.environ.get("UEXT4_SOURCE_ROOT", Path(__file__).resolve().parents[2]))
CC = shlex.split(os.environ.get("CC", "cc"))
FLAGS = ["-std=gnu11", "-O1", "-g", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-w",
         "-fno-strict-aliasing", "-fno-common", "-Isrc", "-Iinclude", '-DUEXT4_VERSION="0"']
LIBS = ["-lcmocka", "-luring", "-lisal", "-lpthread"]
FOLDERS = ["src", "include"] + ["tests/" + f for f in ("change", "jbd2", "lib", "unit", "write")]
TIMEOUT = 120

# `file` is below src/, `program` below tests/; `edits` are pairs of what is there, once, and what
# comes in its place.
Mutation = collections.namedtuple("Mutation", "file edits program scenario why")


# ---- building --------------------------------------------------------------------


def run(command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", **more)


def compile_file(tree, source):
    """The object, and what the compiler says if it fails."""
    obj = tree / "obj" / (source.replace("/", "_") + ".o")
    done = run([*CC, *FLAGS, "-c", source, "-o", obj], cwd=tree)
    return obj, done.stdout if done.returncode else None


def build(tree, layers, rig, programs):
    """Objects of the library, of what the tests share, and of the programs, by source."""
    sources = [str(path.relative_to(tree)) for layer in layers
               for path in sorted((tree / "src" / layer).glob("*.c"))]
    sources += ["tests/" + name for name in rig + [program + ".c" for program in programs]]
    objects = {}
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        compiled = pool.map(lambda source: compile_file(tree, source), sources)
        for source, (obj, errors) in zip(sources, compiled):
            if errors:
                sys.exit("%s does not compile:\n%s" % (source, errors))
            objects[source] = obj
    return objects


def link(tree, objects, program):
    shared = [obj for source, obj in objects.items() if not Path(source).name.startswith("test_")]
    exe = tree / Path(program).name
    done = run([*CC, *FLAGS, objects["tests/%s.c" % program], *shared, "-o", exe, *LIBS], cwd=tree)
    if done.returncode:
        sys.exit("%s cannot be linked:\n%s" % (program, done.stdout))
    return exe


def run_scenario(exe, scenario):
    """None when it passes, else what was seen."""
    env = dict(os.environ, UEXT4_TEST=scenario, CMOCKA_MESSAGE_OUTPUT="STDOUT")
    env.pop("UEXT4_LONG", None)
    try:
        done = run([exe], env=env, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return "it hangs"
    if done.returncode == 0:
        if "1 test(s) run" not in done.stdout:
            sys.exit("there is no scenario %s: %s" % (scenario, done.stdout))
        return None
    lines = [line for line in done.stdout.split("\n") if line and not line.startswith(("[", "#"))]
    return lines[0] if lines else "exit status %d" % done.returncode


# ---- the list --------------------------------------------------------------------


def check_list(mutations, marked):
    """What is wrong with it; `marked` are the files whose marks it must have."""
    bad = []
    for name in marked:
        for mark in re.findall(r"/\* order: .*\*/", (ROOT / "src" / name).read_text()):
            if not any(mu.file == name and mark in text for mu in mutations for text, _ in mu.edits):
                bad.append("%s: no mutation for: %s" % (name, mark))
    for mu in mutations:
        source = (ROOT / "src" / mu.file).read_text()
        bad += ["%s: not there once: %s" % (mu.file, text) for text, _ in mu.edits
                if source.count(text) != 1]
    return bad


def mutate(tree, objects, mu):
    """What was seen, and what the compiler said if it did not compile."""
    source = "src/" + mu.file
    good = bad = (tree / source).read_text()
    for text, new in mu.edits:
        bad = bad.replace(text, new)
    (tree / source).write_text(bad)
    _, errors = compile_file(tree, source)
    seen = None if errors else run_scenario(link(tree, objects, mu.program), mu.scenario)
    (tree / source).write_text(good)
    compile_file(tree, source)
    return seen, errors


def try_all(tree, mutations, layers, rig, wanted):
    """How many failed."""
    objects = build(tree, layers, rig, sorted({mutations[n - 1].program for n in wanted}))
    failures = 0
    for program, scenario in sorted({(mutations[n - 1].program, mutations[n - 1].scenario)
                                     for n in wanted}):
        seen = run_scenario(link(tree, objects, program), scenario)
        if seen:
            failures += 1
            print("FAIL without any mutation: %s: %s" % (scenario, seen), flush=True)
    for number in wanted:
        mu = mutations[number - 1]
        seen, errors = mutate(tree, objects, mu)
        failures += not seen
        print("%s %2d %s: %s: %s: %s" % ("ok  " if seen else "FAIL", number, mu.file, mu.why,
                                         mu.scenario, errors or seen or "nothing was seen"),
              flush=True)
    return failures


def main(mutations, marked, layers, rig):
    """Of src/ the layers are built, of tests/ the files of the rig and the programs."""
    bad = check_list(mutations, marked)
    for text in bad:
        print("FAIL list: " + text, flush=True)
    if bad or sys.argv[1:] == ["--check"]:
        return 1 if bad else 0
    wanted = [int(arg) for arg in sys.argv[1:]] or range(1, len(mutations) + 1)
    with tempfile.TemporaryDirectory(prefix="uext4-mutate-") as name:
        tree = Path(name)
        for folder in FOLDERS:
            shutil.copytree(ROOT / folder, tree / folder)
        (tree / "obj").mkdir()
        failures = try_all(tree, mutations, layers, rig, wanted)
    print("%d mutations, %d failures" % (len(wanted), failures))
    return 1 if failures else 0
