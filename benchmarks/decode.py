"""Tokens a second and time to the first token of our decoding beside that of others, on the same weights and cores.

    python benchmarks/decode.py [--rounds 5] [--cases t5 t5_beam gpt2_1 gpt2_8 t5_base] [--t5x FOLDER]
                                [--decoders ours transformers ...] [--cores 2] [--loop]

Others are transformers.generate and CTranslate2, where they are installed (constraints/originals.txt), and T5X's
decoding from the sources in FOLDER, a checkout of google-research/t5x. All compute in float32 on the same two cores,
each in a process of its own, and take turns within a round, so that what else the machine does hits all alike. `of
ours` is the median over rounds of tokens a second divided by ours in the same round, with the least and the greatest.
`best` is the quickest. The first call compiles and does not count; `warm-up` is what it took longer. `same` is the
share of tokens that are ours: greedy ones of transformers have to be, all of them. `MB` is the process's peak memory,
with its libraries. `t5_base` is 64 rows of T5 1.1 base by 4 beams, for a GPU.

With `--loop`, nothing is timed: each case's program is compiled, and the copies, transposes and gathers in the body of
its loop over tokens are listed, by operation and shape, largest first. Each case prints a table and a JSON line.
"""

import argparse
import collections
import json
import math
import multiprocessing
import os
import pathlib
import sys
import tempfile
from typing import Any, NamedTuple

import numpy as np
from decode_t5x import t5x
from decoders import Case, convert_folder, ctranslate2, ours, transformers, write_folder
from turns import Contender

from t5like.plan.hlo import Module, called, read_module

CASES = {
    "t5": Case("t5_tiny", 8, 512, 64),
    "t5_beam": Case("t5_tiny", 8, 512, 64, beams=4),
    "gpt2_1": Case("gpt2_small", 1, 128, 128),
    "gpt2_8": Case("gpt2_small", 8, 128, 128),
    "t5_base": Case("t5_base", 64, 512, 64, beams=4),
}
DECODERS = {"ours": ours, "transformers": transformers, "CTranslate2": ctranslate2, "T5X": t5x}
USUAL = ("t5", "t5_beam", "gpt2_1", "gpt2_8")
MOVES = ("copy", "transpose", "gather", "concatenate")


class Found(NamedTuple):
    """One decoder's measurements of a case, by rounds."""

    first: list[float]
    """Seconds to one token a row."""
    whole: list[float]
    """Seconds to all tokens."""
    warm_up: float
    answers: np.ndarray
    megabytes: int


def measure(case: Case, folder: pathlib.Path, names: list[str], rounds: int, checkout: str) -> dict[str, Found | str]:
    """The measurements of each decoder, or the reason that there are none."""
    children = {name: Contender(DECODERS[name], case, folder, checkout) for name in names}
    runs = {name: child for name, child in children.items() if not child.left_out}
    colds = {name: [child(1), child(case.tokens)][1] for name, child in runs.items()}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    last = dict(colds)
    for _ in range(rounds):
        for name, child in runs.items():
            first, last[name] = child(1), child(case.tokens)
            seconds[name].append((first[0], last[name][0]))
    found: dict[str, Found | str] = {name: child.left_out for name, child in children.items()}
    for name, each in seconds.items():
        children[name].close()
        first, whole = ([pair[n] for pair in each] for n in (0, 1))
        found[name] = Found(first, whole, colds[name][0] - float(np.median(whole)), *last[name][1:])
    return found


def figures(case: Case, found: Found, ours: Found | None) -> dict[str, float]:
    """The row of a decoder: ratios are of rounds."""
    made = found.answers.size
    row = {"tokens_per_second": made / float(np.median(found.whole)), "best": made / min(found.whole)}
    row["first_token"] = float(np.median(found.first))
    if ours is not None:
        ratios = np.divide(ours.whole, found.whole)
        row |= {"of_ours": float(np.median(ratios)), "least": float(ratios.min()), "greatest": float(ratios.max())}
        row["same"] = float((found.answers == ours.answers).mean()) if made == ours.answers.size else math.nan
    return row | {"warm_up": found.warm_up, "megabytes": found.megabytes}


def print_table(case: Case, found: dict[str, Found | str]) -> None:
    """The table of a case, and its JSON line."""
    ours = found.get("ours")
    rows = {
        name: figures(case, one, ours if isinstance(ours, Found) else None)
        for name, one in found.items()
        if isinstance(one, Found)
    }
    print(
        f"\n{case.name:32} {'tokens/s':>9} {'best':>8} {'first, ms':>9} {'of ours':>8} {'':13} same  warm-up, s    MB"
    )
    for name, one in found.items():
        if isinstance(one, str):
            print(f"  {name:30} left out: {one}")
            continue
        row = rows[name]
        ratio = " " * 27
        if "of_ours" in row:
            spread = f"({row['least']:.2f}-{row['greatest']:.2f})"
            ratio = f"{row['of_ours']:8.2f} {spread:13} {row['same']:4.0%}"
        print(
            f"  {name:30} {row['tokens_per_second']:9,.0f} {row['best']:8,.0f} {1e3 * row['first_token']:9.1f} {ratio} "
            f"{row['warm_up']:10.1f} {row['megabytes']:5.0f}"
        )
    left = {name: one for name, one in found.items() if isinstance(one, str)}
    print(json.dumps({"case": case.name, **case._asdict(), "decoders": rows, "left_out": left}), flush=True)


def require_same(case: Case, found: dict[str, Found | str]) -> None:
    """Ends the script where greedy tokens of transformers are others than ours, or too few were made."""
    for name, one in found.items():
        if isinstance(one, Found) and one.answers.shape != (case.rows, case.tokens):
            sys.exit(f"{case.name}: {name} made {one.answers.shape} tokens.")
    ours, theirs = found.get("ours"), found.get("transformers")
    if case.beams == 1 and isinstance(ours, Found) and isinstance(theirs, Found):
        different = np.argwhere(ours.answers != theirs.answers)
        if len(different):
            sys.exit(f"{case.name}: token {different[0].tolist()} of ours is not that of transformers.")


def loops(module: Module) -> list[str]:
    """The bodies of the loops that stand in the entry or in what it calls, not in other loops."""
    found, todo = [], [module.entry]
    while todo:
        for instruction in module.computations[todo.pop()].instructions.values():
            if instruction.opcode == "while":
                found.append(called(instruction)[0])
            else:
                todo += [name for name in called(instruction) if name in module.computations]
    return found


def moves(module: Module, body: str) -> collections.Counter[tuple[str, str]]:
    """How often a loop's body, with all that it calls, copies, transposes or gathers an array of each shape."""
    found, todo = collections.Counter[tuple[str, str]](), [body]
    while todo:
        for instruction in module.computations[todo.pop()].instructions.values():
            if instruction.opcode in MOVES:
                shape = instruction.shapes[0]
                found[instruction.opcode, f"{shape.dtype}[{','.join(map(str, shape.dims))}]"] += 1
            todo += [name for name in called(instruction) if name in module.computations]
    return found


def print_loop(case: Case, folder: pathlib.Path) -> None:
    """Lists what the compiled loop over tokens moves: of the loops in a program, that of the most instructions."""
    with tempfile.TemporaryDirectory() as dump:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={dump} --xla_dump_hlo_as_text"
        child = Contender(ours, case, folder, "")
        if child.left_out:
            print(f"\n{case.name}: {child.left_out}")
            return
        child(case.tokens)
        child.close()
        programs = pathlib.Path(dump).glob("*after_optimizations.txt")
        module = read_module(max((file.read_text("utf-8") for file in programs), key=len))
    body = max(loops(module), key=lambda name: len(module.computations[name].instructions))
    counted = sorted(moves(module, body).items(), key=lambda pair: -size_of(pair[0][1]))
    print(f"\n{case.name}: the body of the loop over tokens, {body}")
    for (opcode, shape), times in counted:
        print(f"  {times:3} {opcode:12} {shape}")
    moved = [{"operation": opcode, "shape": shape, "times": times} for (opcode, shape), times in counted]
    print(json.dumps({"case": case.name, "loop": moved}), flush=True)


def size_of(shape: str) -> int:
    """f32[8,4] -> 32."""
    return math.prod(int(size) for size in shape.split("[")[1].rstrip("]").split(",") if size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=USUAL)
    parser.add_argument("--decoders", nargs="+", choices=DECODERS, default=[*DECODERS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--t5x", default="", metavar="FOLDER")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--loop", action="store_true", help="list what the compiled loop copies; time nothing")
    asked = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked.cores])
    for name in asked.cases:
        case: Case = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            in_child(write_folder, case.model, pathlib.Path(folder))
            if asked.loop:
                print_loop(case, pathlib.Path(folder))
                continue
            if "CTranslate2" in asked.decoders:
                in_child(convert_folder, case.model, pathlib.Path(folder))
            found = measure(case, pathlib.Path(folder), asked.decoders, asked.rounds, asked.t5x)
        print_table(case, found)
        require_same(case, found)


def in_child(function: Any, *given: Any) -> None:
    """Calls a function in a process of its own, whose memory ends with it."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=given)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{function.__name__} failed.")


if __name__ == "__main__":
    main()
