"""The floors of the house: an import never goes up, and the cheap modules stay cheap."""

import ast
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
from command_line import ROOT, environment

PACKAGE = ROOT / "t5like"
OPEN = {"", "config", "errors"}
"""What all may import, and what imports nothing else of ours."""
TOWER = {
    "cli": 7,
    "commands": 6,
    "plan": 5,
    "infer": 5,
    "tasks": 5,
    "convert": 5,
    "train.loop": 5,
    "train.evaluate": 4,
    "train.preflight": 3,
    "train.feeding": 3,
    "train.roll_call": 2,
    "train.distributed": 2,
    "train.start": 4,
    "train.compile": 4,
    "train.step": 3,
    "train.eval_step": 3,
    "train.state": 3,
    "train.checkpoint": 3,
    "train.logger": 3,
    "train.guard": 3,
    "train.profile": 3,
    "train.losses": 2,
    "train.chunked": 2,
    "train.optimizer": 2,
    "train.groups": 2,
    "train.matrices": 2,
    "train.placement": 2,
    "train.scales": 2,
    "model.transformer": 2,
    "model.blocks": 2,
    "model.heads": 2,
    "model.architectures": 2,
    "model.attention": 1,
    "model.embedding": 1,
    "model.flash": 1,
    "model.kernels": 1,
    "model.local": 1,
    "model.visibility": 1,
    "model.layers": 1,
    "model.sharding": 1,
    "model.flops": 2,
    "model.devices": 1,
    "xla": 0,
    "train.__init__": 0,
    "model.__init__": 0,
}
DATA = {"data.stream": 3, "data.prepare": 2, "data": 1}
"""The house beside the tower: `train` and all above may enter it."""
FORBIDDEN = {"data": {"jax", "jaxlib", "flax", "optax", "orbax"}, "config": {"jax", "flax", "tensorflow", "numpy"}}


def floor_of(module: str) -> str:
    """The longest name of a floor that a module, such as `infer.decode`, belongs to."""
    for name in (module, *(module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1))):
        if name in OPEN | TOWER.keys() | DATA.keys():
            return name
    raise AssertionError(f"t5like.{module} is on no floor: name its floor in tests/test_imports.py.")


def may_import(importer: str, imported: str) -> bool:
    """Whether a module on one floor may import one on another."""
    if imported in OPEN:
        return True
    if importer in OPEN:
        return False
    if imported in DATA:
        return DATA.get(importer, 0) >= DATA[imported] or TOWER.get(importer, 0) >= 5 or importer.startswith("train.")
    return importer in TOWER and TOWER[importer] >= TOWER[imported] and not crosses(importer, imported)


def crosses(importer: str, imported: str) -> bool:
    """The model knows nothing of training, whatever the floors."""
    return importer.startswith("model.") and imported.startswith("train.")


def module_name(file: pathlib.Path) -> str:
    """`model.layers` for t5like/model/layers.py, and `model.__init__` for a package itself."""
    name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
    return "" if name == "__init__" else name


def imports(file: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that a file imports, in functions as well."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports by relative name."
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def target(name: str) -> str | None:
    """The module of ours that `t5like.model.layers.rms_norm` lies in; None for a name of another package."""
    package, *parts = name.split(".")
    if package != "t5like":
        return None
    while parts and not (PACKAGE.joinpath(*parts).is_dir() or PACKAGE.joinpath(*parts).with_suffix(".py").is_file()):
        parts.pop()
    return ".".join([*parts, "__init__"] if parts and PACKAGE.joinpath(*parts).is_dir() else parts)


def violations(file: pathlib.Path) -> Iterator[str]:
    """A sentence for each import of a file that goes up, or out to a library that its floor does without."""
    here = floor_of(module_name(file))
    for line, name in imports(file):
        there, library = target(name), name.split(".")[0]
        if there is not None and not may_import(here, floor_of(there)):
            yield f"{file.relative_to(ROOT)}:{line} on floor {here or 't5like'!r} imports {name} on {floor_of(there)!r}"
        if library in FORBIDDEN.get(here.split(".")[0], ()):
            yield f"{file.relative_to(ROOT)}:{line} on floor {here!r} imports {library}"


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_is_on_a_floor_and_imports_nothing_from_above(file):
    assert list(violations(file)) == []


def test_a_config_imports_neither_jax_nor_tensorflow():
    modules = ["t5like", *(f"t5like.{module_name(file)}" for file in sorted((PACKAGE / "config").glob("*.py")))]
    modules = [name.removesuffix(".__init__") for name in modules]
    program = f"import sys, {', '.join(modules)}; print(*{{'jax', 'jaxlib', 'tensorflow', 'numpy'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout.split() == []
    assert len(modules) > 8
