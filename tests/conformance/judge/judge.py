"""Judges a TUF client by the cases of theupdateframework's conformance suite, told anew.

    judge.py CLIENT [--xfails FILE]         a program with the suite's command line
    judge.py --reference [--xfails FILE]    python-tuf's client: are the cases themselves right?

A line for each case. What the xfails file lists must fail, everything else must pass; a listed case
that passes is an error too. The file holds one name on a line, a reason behind `#`.
"""

import os
import sys
import tempfile
import traceback

import attacks
import cases
import delegations
import history
from world import Program, Reference, World

REPOSITORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..")


def expected_failures(path):
    with open(path, encoding="utf-8") as file:
        lines = (line.split(" #")[0].strip() for line in file if not line.startswith("#"))
        return {line for line in lines if line}


def verdict(run, client):
    """What went wrong, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(client, folder)
        try:
            run(world)
            return None
        except Exception:
            return traceback.format_exc(limit=-2)
        finally:
            world.close()


def main(arguments):
    known = set()
    if "--xfails" in arguments:
        at = arguments.index("--xfails")
        known = expected_failures(arguments[at + 1])
        del arguments[at:at + 2]
    is_reference = arguments == ["--reference"]
    client = Reference() if is_reference else Program(arguments[0])
    table = [*cases.CASES, *history.CASES, *delegations.CASES, *attacks.CASES]
    if not is_reference:
        table += attacks.PROGRAMS_ONLY
    names = [name for name, _ in table]
    assert len(set(names)) == len(names), "two cases have one name"
    wrong = [f"the xfails list names no case: {name}" for name in known - set(names)]
    wrong += attacks.rows_without_a_judge(REPOSITORY)
    passed = failed = 0
    for name, run in table:
        trouble = verdict(run, client)
        passed, failed = passed + (trouble is None), failed + (trouble is not None)
        if (trouble is None) == (name not in known):
            print("ok" if trouble is None else "known to fail", name, flush=True)
            continue
        print("WRONG", name, flush=True)
        wrong.append(f"{name}: {trouble or 'it passes, and is listed as one that fails'}")
    for text in wrong:
        print(text, file=sys.stderr)
    print(f"{passed} passed, {failed} failed, {len(wrong)} of them unexpectedly")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
