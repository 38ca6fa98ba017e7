"""The text of a compiled, scheduled program, read as instructions: what is called how often, with which arrays.

Only what a plan asks is read: shapes, operands and attributes of each instruction, and the trip counts of loops. XLA's
own `cost_analysis` counts the body of a loop once, and a scanned stack is a loop.
"""

import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.\-]+)|branch_computations=\{([^}]*)\}")


class Shape(NamedTuple):
    """One array; of a TPU, `space` 0 is the device memory, others are closer to the cores."""

    dtype: str
    dims: tuple[int, ...]
    space: int

    @property
    def bytes(self) -> int:
        """Without the padding of a tiled layout."""
        bits = re.search(r"\d+", self.dtype)
        return math.prod(self.dims) * (1 if bits is None else max(int(bits[0]), 8) // 8)


class Instruction(NamedTuple):
    """One line; `shapes` are those of its result, of a tuple one after the other."""

    name: str
    shapes: tuple[Shape, ...]
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    literal: str
    """The text between the parentheses: of a constant its value, of a parameter its number."""


class Computation(NamedTuple):
    name: str
    instructions: dict[str, Instruction]
    root: str


class Module(NamedTuple):
    computations: dict[str, Computation]
    entry: str


class Executed(NamedTuple):
    """An instruction of the program's own sequence, how often it runs, and the computation that it stands in."""

    instruction: Instruction
    times: int
    computation: str


def read_module(text: str) -> Module:
    """The module of `Compiled.as_text()`, which is such text:

    %body (p: f32[8]) -> f32[8] {
      %p = f32[8]{0:T(128)} parameter(0)
      ROOT %sum = f32[8]{0:T(128)S(1)} add(%p, %p), metadata={op_name="jit(f)/while"}
    }

    ENTRY %main (q: f32[8]) -> f32[8] {
      ...
    """
    computations: dict[str, Computation] = {}
    name, entry, root, found = "", "", "", dict[str, Instruction]()
    # Attributes of kernels have line feeds, and braces after them.
    for line in re.split(r"\n(?=[%}E]|  %|  ROOT )(?!\}\})", text):
        if line.startswith(("%", "ENTRY ")) and line.endswith("{"):
            name, found, root = line.removeprefix("ENTRY ").split(" ", 1)[0].lstrip("%"), {}, ""
            entry = name if line.startswith("ENTRY ") else entry
        elif line.strip() == "}" and name:
            computations[name] = Computation(name, found, root)
            name = ""
        elif name and " = " in line:
            instruction = _instruction(line.strip().removeprefix("ROOT "))
            found[instruction.name] = instruction
            root = instruction.name if line.lstrip().startswith("ROOT ") else root
    return Module(computations, entry)


def called(instruction: Instruction) -> list[str]:
    """The computations that an instruction runs; of a loop its body."""
    names = []
    for one, several in CALLED.findall(instruction.attributes):
        names += [one] if one else [name.strip().lstrip("%") for name in several.split(",")]
    return names


def executed(module: Module) -> Iterator[Executed]:
    """The instructions that run one after the other, each with how often it does: bodies of loops many times.

    What stands inside a fusion is not among them. Of the branches of a condition the longest counts.
    """
    yield from _executed(module, module.entry, 1)


def _executed(module: Module, name: str, times: int) -> Iterator[Executed]:
    computation = module.computations[name]
    for instruction in computation.instructions.values():
        yield Executed(instruction, times, name)
        if instruction.opcode == "while":
            for body in called(instruction):
                yield from _executed(module, body, times * trip_count(module, computation, instruction))
        elif instruction.opcode == "call":
            for inner in called(instruction):
                yield from _executed(module, inner, times)
        elif instruction.opcode == "conditional":
            branches = [branch for branch in called(instruction) if branch in module.computations]
            if branches:
                longest = max(branches, key=lambda branch: len(module.computations[branch].instructions))
                yield from _executed(module, longest, times)


def inside(module: Module, instruction: Instruction) -> Iterator[tuple[Instruction, Computation]]:
    """An instruction's fused or asynchronous ones, however deep; nothing for one that has none."""
    if instruction.opcode in ("while", "call", "conditional"):
        return
    for name in called(instruction):
        computation = module.computations.get(name)
        for inner in computation.instructions.values() if computation else ():
            yield inner, computation  # pyright: ignore[reportReturnType]
            yield from inside(module, inner)


def trip_count(module: Module, computation: Computation, loop: Instruction) -> int:
    """The number of times that a loop's body runs; 1 where the text does not say.

    A loop counts from one constant to another, which stand in its condition or in the tuple that it carries; the rings
    that the TPU compiler makes of a gather and a product count by twos.
    """
    if known := re.search(r'known_trip_count[^}]*"n":"(\d+)"', loop.attributes):
        return int(known[1])
    condition = re.search(r"condition=%?([\w.\-]+)", loop.attributes)
    if condition is None or condition[1] not in module.computations:
        return 1
    test, body = module.computations[condition[1]], module.computations[called(loop)[0]]
    compared = test.instructions[test.root]
    if compared.opcode != "compare" or "direction=LT" not in compared.attributes:
        return 1
    counter, limit = (_behind(test, operand) for operand in compared.operands)
    first, last = (_start(computation, loop, found) for found in (counter, limit))
    if last is None:
        return 1
    return max(math.ceil((last - (first or 0)) / _step(body, _index(counter))), 1)


def _start(outer: Computation, loop: Instruction, found: Instruction) -> int | None:
    """The integer that an operand of a loop's condition has when the loop begins; None if it is no constant."""
    if found.opcode == "constant":
        return int(found.literal)
    initial, index = outer.instructions.get(loop.operands[0]), _index(found)
    if index is None or initial is None or initial.opcode != "tuple":
        return None
    start = _behind(outer, initial.operands[index])
    return int(start.literal) if start.opcode == "constant" else None


def _step(body: Computation, index: int | None) -> int:
    """By how much a loop's body raises its counter, an element of the tuple that it carries."""
    root = body.instructions[body.root]
    if index is None or root.opcode != "tuple":
        return 1
    raised = _behind(body, root.operands[index])
    steps = [_behind(body, name) for name in raised.operands] if raised.opcode == "add" else []
    return next((int(step.literal) for step in steps if step.opcode == "constant"), 1)


def _index(found: Instruction) -> int | None:
    index = re.search(r"index=(\d+)", found.attributes) if found.opcode == "get-tuple-element" else None
    return int(index[1]) if index else None


def _behind(computation: Computation, name: str) -> Instruction:
    """The instruction that a value comes from, copies left out."""
    found = computation.instructions[name]
    while (
        found.opcode in ("copy", "bitcast", "copy-done", "copy-start") and found.operands[0] in computation.instructions
    ):
        found = computation.instructions[found.operands[0]]
    return found


def _instruction(line: str) -> Instruction:
    """One line without `ROOT`, such as `%t = (s32[], f32[8]{0}) tuple(%i, %x), metadata={...}`."""
    name, rest = line.split(" = ", 1)
    kind, rest = _split(rest) if rest.startswith("(") else rest.split(" ", 1)
    opcode, rest = rest.lstrip().split("(", 1)
    inner, attributes = _split("(" + rest)
    operands = tuple(re.findall(r"%([\w.\-]+)", inner)) if opcode not in ("constant", "parameter") else ()
    return Instruction(name.lstrip("%"), _shapes(kind), opcode, operands, attributes, inner[1:-1])


def _split(text: str) -> tuple[str, str]:
    """A text that starts with a parenthesis, cut after the one that closes it."""
    depth = 0
    for match in re.finditer(r"[()]", text):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return text[: match.end()], text[match.end() :]
    return text, ""


@functools.lru_cache(maxsize=50_000)
def _shapes(kind: str) -> tuple[Shape, ...]:
    """`(s32[], bf16[8,4]{1,0:T(8,128)S(1)})` -> an integer in memory space 0 and an array in space 1."""
    found = []
    for dtype, dims, layout in SHAPE.findall(kind):
        space = re.search(r"S\((\d+)\)", layout)
        found.append(Shape(dtype, tuple(map(int, dims.split(","))) if dims else (), int(space[1]) if space else 0))
    return tuple(found)
