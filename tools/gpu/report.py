"""report.py - one stage of tools/gpu_check: its checks, its commands, its clock, its JSON file.

The file is written anew after every check, so that whatever ends the stage, what was found is there.
"""

import json
import os
import signal
import subprocess
import sys
import time

TAIL = 4000  # characters of a command's output that are kept
END = 20  # seconds for ending what does not end when it is asked to


class TimeUp(Exception):
    pass


def write_json(path, value):
    with open(path + ".part", "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")
    os.replace(path + ".part", path)


class Report:
    def __init__(self, stage, out, limit, facts):
        self.stage, self.out = stage, out
        self.path = os.path.join(out, stage + ".json")
        self.begin = time.monotonic()
        self.limit = limit
        self.found = {"stage": stage, "status": "running", "limit_s": limit, **facts, "checks": [], "commands": []}
        self.write()

    def write(self):
        self.found["seconds"] = round(time.monotonic() - self.begin, 1)
        write_json(self.path, self.found)

    def left(self):
        return self.limit - (time.monotonic() - self.begin)

    def check(self, name, good, note=""):
        """One line for the reader, one entry in the file.  good: True, False, or None for "not done"."""
        word = {True: "ok", False: "FAILED", None: "skipped"}[good]
        print(f"{self.stage}: {word:7} {name}{': ' if note else ''}{note}", flush=True)
        self.found["checks"].append({"name": name, "status": word, "note": note})
        self.write()
        return good

    def put(self, key, value):
        self.found[key] = value
        self.write()

    def run(self, command, env=None, cwd=None, most=None, stdin=None):
        """(exit code, output): the code is None where the time was up.  The command gets what is left of the
        stage's time, at most `most` seconds; then it and all it started are ended."""
        seconds = self.left() if most is None else min(most, self.left())
        entry = {"command": command, "cwd": cwd or os.getcwd()}
        self.found["commands"].append(entry)
        if seconds < 1:
            entry["rc"] = "not begun: the time was up"
            return None, ""
        begin = time.monotonic()
        log_path = os.path.join(self.out, f"{self.stage}.log")
        with open(log_path, "ab+") as log:
            log.write(("$ " + " ".join(command) + "\n").encode())
            log.flush()
            start = log.tell()
            try:
                p = subprocess.Popen(
                    command,
                    env=env,
                    cwd=cwd,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=stdin or subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError as e:
                entry["rc"] = str(e)
                return 127, str(e)
            try:
                code = p.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
            except BaseException:
                end_group(p)
                raise
            if code is None:
                end_group(p)
            log.seek(start)
            output = log.read().decode("utf-8", "replace")
        entry.update(
            rc="time up" if code is None else code, seconds=round(time.monotonic() - begin, 1), output=output[-TAIL:]
        )
        self.write()
        return code, output

    def end(self, status=None):
        if status is None:
            words = [c["status"] for c in self.found["checks"]]
            status = "failed" if "FAILED" in words or not words else "ok" if "ok" in words else "skipped"
        self.found["status"] = status
        self.write()
        counts = {w: sum(c["status"] == w for c in self.found["checks"]) for w in ("ok", "FAILED", "skipped")}
        print(
            f"{self.stage}: {status} in {self.found['seconds']:.0f} s: {counts['ok']} ok, {counts['FAILED']} failed, "
            f"{counts['skipped']} skipped",
            flush=True,
        )
        return status != "failed"


def end_group(p):
    """Ask, then insist."""
    for sign, wait in ((signal.SIGTERM, 5), (signal.SIGKILL, 10)):
        try:
            os.killpg(p.pid, sign)
        except ProcessLookupError:
            pass
        try:
            p.wait(wait)
            return
        except subprocess.TimeoutExpired:
            pass


def run_stage(function, report, *args):
    """A stage that breaks is a stage that failed, with its reason; it is no reason to leave the others out."""

    def stop(signum, frame):
        raise TimeUp(signal.Signals(signum).name)

    old = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    signal.alarm(max(1, int(report.limit) + END))  # run() keeps the limit; this is for what is not a command
    try:
        function(report, *args)
        if report.left() <= 0:
            report.check("time limit", False, f"{report.limit:.0f} s were not enough")
        return report.end()
    except TimeUp as e:
        report.check("interrupted", False, str(e))
        good = report.end("failed")
        if str(e) in ("SIGTERM", "SIGINT"):
            sys.exit(1)
        return good
    except Exception as e:  # noqa: BLE001: whatever it was, it is written down
        report.check("stage", False, f"{type(e).__name__}: {e}")
        return report.end("failed")
    finally:
        signal.alarm(0)
        for s, handler in old.items():
            signal.signal(s, handler)
