"""Guard against regressions: run the quick benchmarks and compare their ratios with limits.json.

    python benchmarks/gate.py                    # all, about two minutes on two cores
    python benchmarks/gate.py stream inference   # those whose name contains one of the words

Only ratios and counts are compared, never seconds: both sides of a ratio are measured in the same run, so the limits
hold on any machine. Other programs disturb even ratios, so a benchmark that misses a limit is run once more, and the
second run decides; the first one is printed too. Exits with 1 when a limit is missed. For your own changes, before a
pull request; it is no part of the tests, because what else runs on a machine is not the code's fault.

limits.json: benchmark with its arguments → key of its JSON line (dots lead into nested objects) → "min" or "max", and
"per": the key by which the value is divided.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ATTEMPTS = 2
PATIENCE_S = 300.0


def run(command: str) -> dict[str, Any]:
    """Run a benchmark and return its JSON line; raise SystemExit with its last words when it fails."""
    script, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise SystemExit(f"{command} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def value_at(report: Mapping[str, Any], key: str) -> float:
    """Return the number under a key, or under a path of keys joined by dots."""
    if key in report:
        return float(report[key])
    found: Any = report
    for part in key.split("."):
        found = found[part]
    return float(found)


def judge(report: Mapping[str, Any], limits: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[bool, str]]:
    """Yield for each limit whether it holds, and a line that says so."""
    for key, limit in limits.items():
        value, name = value_at(report, key), key
        if "per" in limit:
            value, name = value / value_at(report, limit["per"]), f"{key} / {limit['per']}"
        low, high = limit.get("min", float("-inf")), limit.get("max", float("inf"))
        holds = low <= value <= high
        wanted = f">= {low:g}" if "min" in limit else f"<= {high:g}"
        yield holds, f"  {'ok  ' if holds else 'MISS'} {name}: {value:.4g} (limit {wanted})"


def holds(command: str, limits: Mapping[str, Mapping[str, Any]]) -> bool:
    """Run a benchmark until all its limits hold, at most ATTEMPTS times; print what was found."""
    for attempt in range(1, ATTEMPTS + 1):
        print(command if attempt == 1 else f"{command}, once more", flush=True)
        verdicts = list(judge(run(command), limits))
        print("\n".join(line for _, line in verdicts), flush=True)
        if all(good for good, _ in verdicts):
            return True
    return False


def main() -> None:
    """Run the gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="run only the benchmarks whose name contains one of these")
    words = parser.parse_args().words
    table: dict[str, dict[str, Any]] = json.loads((HERE / "limits.json").read_text())
    chosen = {c: limits for c, limits in table.items() if not words or any(word in c for word in words)}
    if not chosen:
        raise SystemExit(f"No benchmark in limits.json is called so; there are: {', '.join(table)}.")
    missed = [command for command, limits in chosen.items() if not holds(command, limits)]
    if missed:
        raise SystemExit(f"Limits were missed by: {', '.join(missed)}.")
    print("All limits hold.")


if __name__ == "__main__":
    main()
