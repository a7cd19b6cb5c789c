# SPDX-License-Identifier: LGPL-2.1-or-later
"""The results as tables in markdown."""
from results import median_of

RATIOS = [("library", "raw"), ("library", "kernel"), ("mount", "kernel")]
SPREAD_SHOWN = 0.01
POWERS = {1000: "10³", 10 ** 4: "10⁴", 10 ** 5: "10⁵", 10 ** 6: "10⁶"}


def amount(value):
    """Four digits or more, as many as mean something."""
    if value >= 100:
        return "{:,.0f}".format(value)
    return "{:.3g}".format(value)


def cell(figure):
    if "missing" in figure:
        return ""
    text = amount(figure["median"])
    spread = (figure["highest"] - figure["lowest"]) / 2 / figure["median"] \
        if figure["median"] else 0
    return text + (" ±{:.0f}%".format(100 * spread) if spread >= SPREAD_SHOWN else "")


def ratio(row, key, to):
    mine, other = median_of(row, key), median_of(row, to)
    return "%.2f" % (mine / other) if mine is not None and other else ""


def line(cells):
    return "| " + " | ".join(cells) + " |\n"


def head_line(first, titles):
    return line([first, *titles]) + "|---|" + "---:|" * len(titles) + "\n"


def how_many(row, counted=True):
    """x, as people write it, with what is counted."""
    x = row["x"]
    if row["of"] == "bytes":
        for unit, name in [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB")]:
            if x >= unit:
                return "%d %s" % (x // unit, name)
    what = " " + (row["of"] if x > 1 else row["of"][:-1]) if counted else ""
    return "%s%s" % (POWERS.get(x, x), what)


def main_table(results):
    """One set of rows, more is better."""
    parties = results["contenders"]
    keys = [c["key"] for c in parties]
    text = head_line("", [c["title"] for c in parties] + ["%s : %s" % r for r in RATIOS])
    group = None
    for row in results["rows"]:
        if row["group"] != group:
            group = row["group"]
            text += line(["**%s**" % group] + [""] * (len(keys) + len(RATIOS)))
        text += line(["%s, %s" % (row["title"], row["unit"])]
                     + [cell(row["figures"][key]) for key in keys]
                     + [ratio(row, *r) for r in RATIOS])
    return text


def scaling_table(results):
    """Costs, less is better; the rows of one title together."""
    rows = results["scaling"]
    shown = [c for c in results["contenders"]
             if any(median_of(row, c["key"]) is not None for row in rows)]
    titles = list(dict.fromkeys(row["title"] for row in rows))
    text = head_line("cost when there is more", [c["title"] for c in shown])
    for title in titles:
        for row in rows:
            if row["title"] == title:
                text += line(["%s: %s, %s" % (title, how_many(row), row["unit"])]
                             + [cell(row["figures"][c["key"]]) for c in shown])
    return text


def missing(results):
    """Why there is no figure where one is wanted: whole contenders, and jobs that failed."""
    lines = ["%s: %s." % (c["title"], c["missing"]) for c in results["contenders"] if c["missing"]]
    expected = {"no file system", "not mounted"} | {c["missing"] for c in results["contenders"]}
    for row in results["rows"]:
        for c in results["contenders"]:
            why = row["figures"][c["key"]].get("missing")
            if why and why not in expected:
                lines.append("%s, %s: %s." % (c["title"], row["title"], why))
    return "Missing: " + " ".join(lines) + "\n\n" if lines else ""


def how(results):
    p, m = results["parameters"], results["machine"]
    return ("Medians of %d runs of %g s, ± half of what lies between the lowest and the highest; "
            "a file of %d MiB, %s names.\n%s; %d CPUs%s, %d GiB; Linux %s; images on %s; %s; %s.\n"
            % (p["repeat"], p["runtime"], p["size"] >> 20, "{:,}".format(p["files"]),
               results["date"][:10], m["cpus"], ", virtual" if m["virtual"] else "",
               round(m["memory_kib"] / 2 ** 20), m["kernel"], m["images_on"], m["cpu"],
               results["versions"]["e2fsprogs"]))


def markdown(results):
    """What stands in the README between its marks."""
    return "\n".join([how(results), main_table(results), missing(results) + scaling_table(results)])
