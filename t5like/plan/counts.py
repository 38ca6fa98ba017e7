"""Counts of a compiled program, on each device in one step: products, bytes through its memory, estimated cycles.

Each instruction counts as often as it runs. Products are counted as XLA's cost analysis counts those of one
instruction: a convolution, which is what the TPU compiler makes of every matrix product, has two operations for each
pair of an output and a position of the window that lies inside the input.

Products are read here and not from the traced step, which has nearly the same (T5 1.1 base on v5e:2x2: 1.00015 of the
traced ones, with remat "full" 1.00023, tiny_t5 on a CPU 0.9997), for what only the partitioned program knows: products
that devices repeat since a dimension is not split, remat that XLA undoes, and kernels (GPT-2 on v5e:4x4: 1.075).
"""

import functools
import math
import re
from typing import NamedTuple

from t5like.plan.hlo import Computation, Executed, Instruction, Module, Shape, called, executed, inside

CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "after-all"),
    *("copy-done", "slice-done", "all-gather-done", "all-reduce-done", "collective-permute-done", "async-done"),
    *("partition-id", "replica-id", "opt-barrier"),
}
"""Instructions that move nothing themselves."""
ALLOCATES = 'custom_call_target="AllocateBuffer"'


class Counts(NamedTuple):
    """Of one device and one step."""

    products: int
    """FLOPs of matrix products, those that are computed again included."""
    bytes: int
    """Read from and written to the device's memory."""
    cycles: int
    """The compiler's estimate for the instructions that have one; those that wait for others have none."""
    kernels: int = 0
    """Calls of kernels that are not XLA's own, such as splash attention: it knows neither their products nor cycles."""


def count(module: Module) -> Counts:
    """The counts of a program."""
    products = moved = cycles = kernels = 0
    for step in executed(module):
        instruction, times = step.instruction, step.times
        products += times * _products(instruction, module.computations[step.computation])
        products += times * sum(_products(inner, within) for inner, within in inside(module, instruction))
        moved += times * _bytes(module, step)
        kernels += times * ('custom_call_target="tpu_custom_call"' in instruction.attributes)
        if estimate := CYCLES.search(instruction.attributes):
            cycles += times * int(estimate[1])
    return Counts(products, moved, cycles, kernels)


def _products(instruction: Instruction, within: Computation) -> int:
    """FLOPs of one matrix product; 0 for any other instruction."""
    if instruction.opcode not in ("dot", "convolution"):
        return 0
    left, right = (within.instructions[name].shapes[0].dims for name in instruction.operands[:2])
    if instruction.opcode == "dot":
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
        contracted = [left[int(axis)] for axis in axes[1].split(",") if axis] if axes else []
        return 2 * math.prod(instruction.shapes[0].dims) * math.prod(contracted)
    # dim_labels=0bf_0io->0bf: of input and output the batch b and features f, of the kernel its inputs i and outputs o
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    assert labels is not None, instruction.name
    inputs, kernel, output = (dict(zip(labels[n], range(9), strict=False)) for n in (1, 2, 3))
    result = instruction.shapes[0].dims
    pairs = math.prod(
        _pairs(result[output[axis]], left[inputs[axis]], right[kernel[axis]], *window)
        for axis, window in zip(sorted(set(labels[3]) - {"b", "f"}), _windows(instruction.attributes), strict=True)
    )
    return 2 * result[output["b"]] * result[output["f"]] * right[kernel["i"]] * pairs


def _windows(attributes: str) -> list[tuple[int, int, int, int]]:
    """Stride, low padding, and dilation of input and kernel, for each axis of a convolution's window.

    `window={size=3x1 stride=2x1 pad=1_1x0_0}` -> [(2, 1, 1, 1), (1, 0, 1, 1)]
    """
    found = re.search(r"window=\{([^}]*)\}", attributes)
    if found is None:
        return []
    fields = dict(field.split("=") for field in found[1].split())
    rank = len(fields["size"].split("x"))

    def values(name: str, default: int) -> list[int]:
        given = fields[name].split("x") if name in fields else [str(default)] * rank
        return [int(value.split("_")[0]) for value in given]

    return list(
        zip(values("stride", 1), values("pad", 0), values("lhs_dilate", 1), values("rhs_dilate", 1), strict=True)
    )


@functools.lru_cache(maxsize=10_000)
def _pairs(outputs: int, inputs: int, kernel: int, stride: int, pad: int, spread: int, reach: int) -> int:
    """Pairs of an output and a position of the kernel that meet an element of the input, along one axis."""
    last = (inputs - 1) * spread  # of the input with `spread` - 1 zeros between its elements
    positions = (out * stride - pad + at * reach for out in range(outputs) for at in range(kernel))
    return sum(1 for position in positions if 0 <= position <= last and position % spread == 0)


def _bytes(module: Module, step: Executed) -> int:
    """Bytes that an instruction reads from and writes to the device's memory; arrays that are nearer are free."""
    instruction = step.instruction
    if instruction.opcode in FREE or instruction.opcode.endswith("-done") or ALLOCATES in instruction.attributes:
        return 0
    within = module.computations[step.computation]
    operands = [within.instructions[name].shapes for name in instruction.operands]
    if instruction.opcode in ("copy-start", "slice-start"):  # the result names the operand again, and a token
        return sum(_far(shapes[:1]) for shapes in (instruction.shapes, operands[0]))
    if instruction.opcode == "dynamic-update-slice":
        return 2 * _far(operands[1])
    if instruction.opcode in ("dynamic-slice", "gather"):
        return 2 * _far(instruction.shapes)
    if instruction.opcode == "fusion":
        return _fusion_bytes(module, module.computations[called(instruction)[0]], operands, instruction.shapes)
    return _far(instruction.shapes) + sum(map(_far, operands))


def _fusion_bytes(
    module: Module, fused: Computation, operands: list[tuple[Shape, ...]], results: tuple[Shape, ...]
) -> int:
    """Bytes that a fusion reads and writes: of an operand that is only sliced its slices, of a result that is only
    updated in place the update."""
    parameters = {int(i.literal): i.name for i in fused.instructions.values() if i.opcode == "parameter"}
    read = sum(_read(module, fused, parameters[n]) for n, shapes in enumerate(operands) if _far(shapes))
    root = fused.instructions[fused.root]
    names = root.operands if root.opcode == "tuple" else (root.name,)
    made = zip(results, names, strict=False)
    return read + sum(_written(module, fused, name) for shape, name in made if shape.space == 0)


def _read(module: Module, within: Computation, name: str) -> int:
    """Bytes that a fused computation reads of an array: what it slices, or all of it."""
    whole, total = within.instructions[name].shapes[0].bytes, 0
    for user in within.instructions.values():
        for number, operand in enumerate(user.operands):
            if operand != name or user.opcode == "tuple" or (user.opcode, number) == ("dynamic-update-slice", 0):
                continue
            if user.opcode in ("dynamic-slice", "gather") and number == 0:
                total += user.shapes[0].bytes
            elif user.opcode == "bitcast":
                total += _read(module, within, user.name)
            elif user.opcode == "fusion":
                inner = module.computations[called(user)[0]]
                total += sum(
                    _read(module, inner, i.name)
                    for i in inner.instructions.values()
                    if i.opcode == "parameter" and int(i.literal) == number
                )
            else:
                return whole
    return min(total, whole)


def _written(module: Module, within: Computation, name: str) -> int:
    """Bytes that a fused computation writes of one of its results: none of what it passes on."""
    made = within.instructions[name]
    if made.opcode == "dynamic-update-slice":
        return within.instructions[made.operands[1]].shapes[0].bytes
    if made.opcode == "bitcast":
        return _written(module, within, made.operands[0])
    if made.opcode == "fusion":
        inner = module.computations[called(made)[0]]
        if inner.instructions[inner.root].opcode != "tuple":
            return _written(module, inner, inner.root)
    return 0 if made.opcode == "parameter" else sum(shape.bytes for shape in made.shapes)


def _far(shapes: tuple[Shape, ...]) -> int:
    """Bytes of the arrays in the device's main memory."""
    return sum(shape.bytes for shape in shapes if shape.space == 0)
