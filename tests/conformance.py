#!/usr/bin/env python3
"""Checks the tables in docs that name tests: what they promise has a test that exists.

usage: tests/conformance.py [--self-check]

tests/conformance_clauses.txt lists every clause with the levels of its requirements, in order.
The tables of docs/conformance.md must have each of them, once, at its level, with a test or a
reason why not. Each row of docs/robustness.md must have a test, and each test of the files that are
about nothing else, tests/machine/host*_test.cc, a row. Prints one line per finding and exits 1 when
there are any. --self-check breaks small tables instead and expects each to be found out.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = "docs/conformance.md"
CLAUSES = "tests/conformance_clauses.txt"
ROBUSTNESS = "docs/robustness.md"
ROBUSTNESS_TESTS = "machine/host"  # files that begin so: hostile guests, faults of the host

ROW = re.compile(r"^\| (.+?) \((\d+)(?:-(\d+))?\) \| ([A-Z ]+|all) \| (.+?) \| (.+?) \|$")
NO_ROW = re.compile(r"^\| (Clause|---)")
REASON = re.compile(r"^n/a: \S+ \S+ ")
SHOWN = re.compile(r"`([^`]+)` \(([a-z_/]+)\)")
FAULT = re.compile(r"^\| \S[^|]* \| \S[^|]* \| ([^|]*) \|$")
NO_FAULT = re.compile(r"^\| (attack|fault|---)")
TEST_CASE = re.compile(r'TEST_CASE\(\s*((?:"(?:[^"\\]|\\.)*"\s*)+)')


def read_clauses(text):
    """Levels by clause: "2.4.1: MUST, MUST NOT"."""
    clauses = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            clause, levels = line.split(": ")
            clauses[clause] = levels.split(", ")
    return clauses


def find_tests(root):
    """Names of test cases by file: "virtio/queue_test"."""
    tests = {}
    for path in (root / "tests").rglob("*_test.cc"):
        names = set()
        for literal in TEST_CASE.findall(path.read_text()):
            names.add("".join(re.findall(r'"((?:[^"\\]|\\.)*)"', literal)))
        tests[str(path.relative_to(root / "tests").with_suffix(""))] = names
    return tests


def check_shown_by(shown, tests):
    if REASON.match(shown):
        return
    references = SHOWN.findall(shown)
    if not references or SHOWN.sub("", shown).strip(";, "):
        yield 'expected "`test case` (file); ..." or "n/a: reason"'
    for name, file in references:
        if name not in tests.get(file, set()):
            yield f"tests/{file}.cc has no TEST_CASE(\"{name}\")"


def check(table, clauses, tests):
    seen = {clause: [0] * len(levels) for clause, levels in clauses.items()}
    for number, line in enumerate(table.splitlines(), 1):
        if not line.startswith("|") or NO_ROW.match(line):
            continue
        row = ROW.match(line)
        if not row:
            yield f"{TABLE}:{number}: not a row of | Clause (n) | Level | Requirement | Shown by |"
            continue
        clause, first, last, level, _, shown = row.groups()
        first, last = int(first), int(last or first)
        if clause not in clauses or not 1 <= first <= last <= len(clauses[clause]):
            yield f"{TABLE}:{number}: {clause} ({first}-{last}) is not in {CLAUSES}"
            continue
        for i in range(first - 1, last):
            seen[clause][i] += 1
            if level not in ("all" if last > first else "", clauses[clause][i]):
                yield f"{TABLE}:{number}: {clause} ({i + 1}) is a {clauses[clause][i]}"
        if last > first and not shown.startswith("n/a: "):
            yield f"{TABLE}:{number}: only what does not apply may share a row"
        for finding in check_shown_by(shown, tests):
            yield f"{TABLE}:{number}: {finding}"
    for clause, counts in seen.items():
        for i, count in enumerate(counts, 1):
            if count != 1:
                yield f"{TABLE}: {clause} ({i}) is there {count} times; expected once"


def check_robustness(text, tests):
    shown = set()
    rows = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("|") or NO_FAULT.match(line):
            continue
        rows += 1
        row = FAULT.match(line)
        if not row:
            yield f"{ROBUSTNESS}:{number}: not a row of | what is done | what happens | test |"
            continue
        references = SHOWN.findall(row[1])
        shown.update(references)
        if not references or SHOWN.sub("", row[1]).strip("; "):
            yield f'{ROBUSTNESS}:{number}: expected "`test case` (file); ..."'
        for name, file in references:
            if name not in tests.get(file, set()):
                yield f"{ROBUSTNESS}:{number}: tests/{file}.cc has no TEST_CASE(\"{name}\")"
    if not rows:
        yield f"{ROBUSTNESS}: has no rows"
    for file, names in sorted(tests.items()):
        for name in sorted(names) if file.startswith(ROBUSTNESS_TESTS) else []:
            if (name, file) not in shown:
                yield f"{ROBUSTNESS}: `{name}` ({file}) has no row"


def self_check_robustness():
    tests = {"machine/host_disk_test": {"a full disk fails", "a short disk fails"},
             "kvm/log_test": {"a full log loses lines", "others"}}
    good = ["| fault | what happens | test |", "| --- | --- | --- |",
            "| full | error | `a full disk fails` (machine/host_disk_test); "
            "`a full log loses lines` (kvm/log_test) |",
            "| short | error | `a short disk fails` (machine/host_disk_test) |"]
    broken = {
        "no rows": (2, 4, []),
        "a test without a row": (3, 4, []),
        "a row without a test": (3, 3, ["| gone | error |  |"]),
        "words instead of a test": (3, 3, ["| gone | error | the same |"]),
        "words beside a test": (3, 4, [good[3].replace("_test) |", "_test), mostly |")]),
        "two columns": (3, 3, ["| gone | `a short disk fails` (machine/host_disk_test) |"]),
        "a fault test that does not exist": (3, 3, [good[3].replace("disk fails", "disk fail")]),
        "a test in another file": (3, 3, [good[3].replace("host_disk", "host_process")]),
    }
    failures = [f"good: {finding}" for finding in check_robustness("\n".join(good), tests)]
    for what, (begin, end, lines) in broken.items():
        if not list(check_robustness("\n".join(good[:begin] + lines + good[end:]), tests)):
            failures.append(f"not found out: {what}")
    return len(broken), failures


def self_check():
    clauses = read_clauses("# comment\n\n2.4.1: MUST, MUST NOT\n2.8.12: MUST, SHOULD\n")
    tests = {"virtio/queue_test": {"a reset ends", "nothing follows"}}
    good = ["| Clause | Level | Requirement | Shown by |", "| --- | --- | --- | --- |",
            "| 2.4.1 (1) | MUST | is 0 | `a reset ends` (virtio/queue_test) |",
            "| 2.4.1 (2) | MUST NOT | be loud | `nothing follows` (virtio/queue_test); "
            "`a reset ends` (virtio/queue_test) |",
            "| 2.8.12 (1-2) | all | packed rings | n/a: RING_PACKED is not offered |"]
    broken = {
        "a requirement left out": (2, None),
        "a requirement twice": (2, good[2] + "\n" + good[2]),
        "a clause that does not exist": (2, good[2] + "\n" + good[2].replace("2.4.1", "2.4.9")),
        "a number that does not exist": (3, good[3].replace("(2)", "(3)")),
        "another level": (3, good[3].replace("MUST NOT", "SHOULD NOT")),
        "all for a single one": (2, good[2].replace("| MUST |", "| all |")),
        "neither test nor reason": (2, "| 2.4.1 (1) | MUST | is 0 |  |"),
        "words instead of a test": (2, "| 2.4.1 (1) | MUST | is 0 | by design |"),
        "a reason without words": (4, good[4].replace("RING_PACKED is not offered", "no")),
        "a test case that does not exist": (2, good[2].replace("a reset ends", "a reset end")),
        "a file that does not exist": (2, good[2].replace("queue_test", "queues_test")),
        "words beside a test": (2, good[2].replace("_test) |", "_test), mostly |")),
        "a range that is tested": (4, good[4].replace("n/a: RING_PACKED is not offered",
                                                      "`a reset ends` (virtio/queue_test)")),
    }
    failures = [f"good: {finding}" for finding in check("\n".join(good), clauses, tests)]
    for what, (at, line) in broken.items():
        lines = good[:at] + ([line] if line is not None else []) + good[at + 1:]
        if not list(check("\n".join(lines), clauses, tests)):
            failures.append(f"not found out: {what}")
    more, other_failures = self_check_robustness()
    failures += other_failures
    print("\n".join(failures) or f"{len(broken) + more} broken tables found out")
    return 1 if failures else 0


def main():
    if sys.argv[1:] == ["--self-check"]:
        return self_check()
    if sys.argv[1:]:
        print(__doc__)
        return 2
    clauses = read_clauses((ROOT / CLAUSES).read_text())
    table = (ROOT / TABLE).read_text()
    tests = find_tests(ROOT)
    robustness = (ROOT / ROBUSTNESS).read_text()
    findings = list(check(table, clauses, tests)) + list(check_robustness(robustness, tests))
    rows = sum(bool(FAULT.match(line) and not NO_FAULT.match(line))
               for line in robustness.splitlines())
    print("\n".join(findings) or f"{sum(map(len, clauses.values()))} requirements accounted for, "
          f"{rows} attacks and faults")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
