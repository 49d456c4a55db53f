"""The evidence for the rules of training, from the audio to the table.

    python3 -m benchmarks.protocol vectors --submissions a.toml b.toml --tasks mini-calls,my.toml --out vectors
    python3 -m benchmarks.protocol compare vectors --json protocol.json

The first command writes the pooled vectors of every submission on every task. The second trains all candidates.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.protocol import vectors
from benchmarks.protocol.candidates import CANDIDATES, FIRST, WINNER, Candidate
from benchmarks.protocol.judge import compare
from benchmarks.protocol.summary import Content, content, tables
from benchmarks.report import count, facts
from evaluator.cli.console import progress
from tasks.support.errors import UserError
from tasks.support.home import Home


def main() -> int:
    """Run from the command line."""
    arguments = _parse()
    # Probes are small: more threads wait for each other.
    torch.set_num_threads(1)
    try:
        if arguments.command == "vectors":
            with progress() as report:
                tasks = arguments.tasks.split(",")
                home = Home.from_environment()
                vectors.write(arguments.submissions, tasks, arguments.data_dir, arguments.out, home, report)
        else:
            _compare(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _compare(arguments: argparse.Namespace) -> None:
    files = [vectors.Vectors.read(path) for path in sorted(arguments.directory.glob("*.npz"))]
    if not files:
        raise UserError(
            f"{arguments.directory} has no vectors: write them with `python3 -m benchmarks.protocol vectors`."
        )
    wanted = [own for own in CANDIDATES if own in (WINNER, FIRST) or _named(own, arguments.only)]
    with progress() as report:
        evidence = compare(files, wanted, splits=arguments.splits, seeds=arguments.seeds, report=report)
    written = content(evidence, wanted)
    print(tables(written))
    if arguments.json:
        machine = facts(torch.device("cpu"), shlex.join(["python3", "-m", "benchmarks.protocol", *sys.argv[1:]]))
        settings = {"splits": arguments.splits, "seeds": arguments.seeds}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(_lines({"machine": machine, "settings": settings, **written}))


def _named(candidate: Candidate, names: Sequence[str] | None) -> bool:
    """Whether a candidate is asked for; without names all are."""
    return names is None or any(name in candidate.name for name in names)


def _lines(written: Content) -> str:
    """JSON with one line per entry of the top-level lists and objects, so that a change is readable."""
    parts = []
    for name, value in written.items():
        start, end = "{}" if isinstance(value, dict) else "[]"
        entries = (
            [f"{json.dumps(key)}: {json.dumps(own)}" for key, own in value.items()]
            if isinstance(value, dict)
            else [json.dumps(own) for own in value]
        )
        parts.append(f"{json.dumps(name)}: {start}\n  " + ",\n  ".join(entries) + f"\n {end}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.protocol", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("vectors", help="write the pooled vectors of submissions on tasks")
    write.add_argument("--submissions", type=Path, nargs="+", required=True, metavar="FILE", help="submission files")
    write.add_argument("--tasks", required=True, help="names or task files, separated by commas")
    write.add_argument("--data-dir", type=Path, metavar="DIR", help="where the relative paths of task files start")
    write.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write TASK.SUBMISSION.npz")
    judge = commands.add_parser("compare", help="train every candidate and print the tables")
    judge.add_argument("directory", type=Path, metavar="DIR", help="the vectors")
    judge.add_argument("--splits", type=count, default=2, metavar="N", help="splits per task, the first its own (2)")
    judge.add_argument(
        "--seeds", type=_several, default=5, metavar="N", help="seeds of the first split, at least 2 (5)"
    )
    judge.add_argument(
        "--only", nargs="+", metavar="NAME", help="candidates with one of these in their name, and the two protocols"
    )
    judge.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    return parser.parse_args()


def _several(value: str) -> int:
    """Parse a number of seeds. One seed has no deviation."""
    number = int(value)
    if number < 2:
        raise argparse.ArgumentTypeError(f"{value} is less than 2")
    return number


if __name__ == "__main__":
    sys.exit(main())
