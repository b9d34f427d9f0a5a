"""What each choice in the model is worth, at nano's size: `python benchmarks/ablations.py --run FOLDER --results FILE`.

Every arm (`ablation_arms`) starts from the first three stages of a run of `virtue train nano`, takes equally many steps
of the fourth and is measured on held-out scenes (`ablation_scores`). Each arm and seed that is done is a line of the
results file, and what has a line is not done again: a run that was stopped goes on, and any number of processes, of one
command (`--workers`) or of several, share the work. `--markdown` prints the tables that the file has figures for.
An arm and seed takes about four minutes of one core.

A difference is an effect of the choice on how fast a small model learns from here, no more: after 200 steps no arm is
near its end.
"""

import argparse
import json
import math
import time
from collections.abc import Iterable, Sequence
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from ablation_arms import ARMS, QUESTIONS, trained
from ablation_scores import WAYS, measured
from filelock import FileLock, Timeout

HEADS = {
    **dict(zip(WAYS, WAYS, strict=True)),
    "box object": "objects",
    "box relation": "relations",
    "recall": "text to image",
}
"""The tables' columns: figure and heading."""
BUDGET = ("steps", "images", "scenes", "first")
Line = dict[str, Any]


def main() -> None:
    """Does what is missing, or prints what is there."""
    options = arguments().parse_args()
    if options.markdown:
        print(tables(lines(options.results), {name: getattr(options, name) for name in BUDGET}))
        return
    if options.run is None:
        raise SystemExit("Name the folder of a run of `virtue train nano` with --run.")
    context = get_context("spawn")
    workers = [context.Process(target=work, args=(options,)) for _ in range(options.workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    raise SystemExit(max(abs(worker.exitcode or 0) for worker in workers))


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(description="Ablations at nano's size.")
    parser.add_argument("--run", type=Path, help="folder of a run of `virtue train nano`, its first three stages done")
    parser.add_argument("--results", type=Path, default=Path("runs/ablations.jsonl"))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--images", type=int, default=8, help="scenes per step")
    parser.add_argument("--scenes", type=int, default=300, help="held-out scenes to measure on")
    parser.add_argument("--first", type=int, default=5000, help="seed of the first of them")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--markdown", action="store_true", help="print the tables of the results file")
    return parser


def work(options: argparse.Namespace) -> None:
    """Take one arm and seed after the other that nobody has done or is doing."""
    torch.set_num_threads(1)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    locks = options.results.with_suffix(".locks")
    locks.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for name in options.arms:
            wanted = {"arm": name, "seed": seed} | {each: getattr(options, each) for each in BUDGET}
            try:
                with FileLock(locks / f"{name}-{seed}", timeout=0):
                    if not any(wanted.items() <= line.items() for line in lines(options.results)):
                        append(options.results, wanted | done(name, seed, options))
            except Timeout:
                continue


def done(name: str, seed: int, options: argparse.Namespace) -> Line:
    """An arm trained and measured: its figures, and the seconds of the CPU that it took."""
    began = time.process_time()
    arm = ARMS[name]

    def progress(step: int, figures: dict[str, float]) -> None:
        if step % 25 == 0 or step == options.steps:
            kept = " ".join(f"{term} {figures[term]:.2f}" for term in ("tower", "region", "region_heads", "image"))
            print(f"{name} {seed}: {step}/{options.steps} {kept}, {time.process_time() - began:.0f} s", flush=True)

    result = trained(arm, seed, options.run, options.steps, options.images, progress)
    figures = measured(result.embedder, result.stream.look, options.first, options.scenes, arm.asked)
    seconds = time.process_time() - began
    print(f"{name} {seed}: {', '.join(f'{key} {100 * value:.1f}' for key, value in figures.items())}", flush=True)
    return {"figures": figures, "seconds": round(seconds, 1)}


def lines(results: Path) -> list[Line]:
    """What is done; a line that a killed process left unfinished is none."""
    if not results.exists():
        return []
    found = []
    for line in results.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def append(results: Path, line: Line) -> None:
    """Add a line, in one piece and after a line break whatever was there before."""
    begins = not results.exists() or results.read_bytes()[-1:] in (b"", b"\n")
    with results.open("a") as file:
        file.write(("" if begins else "\n") + json.dumps(line) + "\n")


def tables(found: Iterable[Line], budget: dict[str, int]) -> str:
    """A Markdown table for each question, from the results of one budget."""
    kept = [line for line in found if budget.items() <= line.items()]
    runs = {name: [line["figures"] for line in kept if line["arm"] == name] for name in ARMS}
    written = []
    for question, rows in QUESTIONS.items():
        shown = {label: runs[name] for label, name in rows.items() if runs[name]}
        columns = [key for key in HEADS if any(key in figures for each in shown.values() for figures in each)]
        if shown:
            written += [f"| {question} | {' | '.join(HEADS[key] for key in columns)} | runs |"]
            written += [f"| --- |{' ---: |' * (len(columns) + 1)}"]
            written += [
                f"| {label} | {' | '.join(cell([figures.get(key) for figures in each]) for key in columns)} "
                f"| {len(each)} |"
                for label, each in shown.items()
            ]
            written.append("")
    return "\n".join(written)


def cell(values: Sequence[float | None]) -> str:
    """Mean of an arm's runs in percent, ± its standard error where there are several; a dash for what it cannot do."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "\N{EN DASH}"
    return f"{mean(known):.1f}" + (f" ± {stdev(known) / math.sqrt(len(known)):.1f}" if len(known) > 1 else "")


if __name__ == "__main__":
    main()
