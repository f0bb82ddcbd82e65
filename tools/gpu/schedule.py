"""schedule.py - runs a table of stages in its order within a budget of time.

A stage begins only where its estimated time is left, and gets its limit or what is left, whichever is less.  What a
stage found is written when it ends, into OUT/STAGE.json and OUT/summary.json, so that a killed run leaves all that was
found before.
"""

import collections
import os
import time

from gpu import report
from gpu.report import Report, run_stage, write_json

# estimate: seconds that must be left for the stage to begin; limit: seconds after which it is ended.
Stage = collections.namedtuple("Stage", "name run estimate limit about")

LONG = ("commands", "environment", "arguments")  # in STAGE.json alone


def select(table, words):
    """The rows that the words name, in the order of the words: a stage, or all whose names begin with "WORD-"."""
    rows = []
    for word in words:
        named = [s for s in table if s.name == word] or [s for s in table if s.name.startswith(word + "-")]
        if not named:
            raise ValueError(f"no stage {word}; there are {' '.join(s.name for s in table)}")
        rows += [s for s in named if s not in rows]
    return rows or list(table)


def describe(table):
    """For --help."""
    wide = max(len(s.name) for s in table)
    return "\n".join(f"  {s.name:{wide}}  {s.estimate:4} {s.limit:4}  {s.about}" for s in table)


def brief(found):
    return {k: v for k, v in found.items() if k not in LONG}


def skip(stage, out, left, command):
    note = f"it takes about {stage.estimate} s, and {max(0, left):.0f} s are left"
    print(f"{stage.name}: skipped: {note}; alone: {command} {stage.name}", flush=True)
    found = {"stage": stage.name, "status": "skipped", "note": note, "command": f"{command} {stage.name}"}
    write_json(os.path.join(out, stage.name + ".json"), found)
    return found


def run_stages(rows, o, facts, command):
    """o: with out, begin (time.monotonic()) and seconds, the budget since then; command: how a stage is run alone.
    Returns whether no stage failed; one that is skipped has not."""
    path = os.path.join(o.out, "summary.json")
    summary = {"budget_s": None if o.seconds == float("inf") else o.seconds, **facts}
    summary["stages"] = {s.name: {"status": "not begun", "estimate_s": s.estimate} for s in rows}
    write_json(path, summary)
    good = True
    for s in rows:
        left = o.seconds - report.END - (time.monotonic() - o.begin)
        if left < s.estimate:
            summary["stages"][s.name] = skip(s, o.out, left, command)
        else:
            summary["stages"][s.name]["status"] = "running"  # stays there if the run is killed
            write_json(path, summary)
            r = Report(s.name, o.out, min(s.limit, left), {"estimate_s": s.estimate, **facts})
            try:
                good &= run_stage(s.run, r, o)
            finally:
                summary["stages"][s.name] = brief(r.found)
                write_json(path, summary)
    write_json(path, summary)
    skipped = [s.name for s in rows if "command" in summary["stages"][s.name]]
    if skipped:
        print(f"skipped for lack of time: {command} {' '.join(skipped)}", flush=True)
    return good
