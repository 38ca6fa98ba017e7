"""The floors of the house: an import never goes up, and the cheap modules stay cheap."""

import ast
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
from command_line import ROOT, environment

PACKAGE = ROOT / "t5like"
OPEN = {
    *("", "bucket_path", "buckets", "config", "errors", "json_files", "lock", "signals", "storage", "strict_json"),
    "versions",
}
"""What all may import, and what imports nothing else of ours."""
TOWER = {
    "__main__": 10,
    "cli": 9,
    "commands": 8,
    "plan": 7,
    "drill": 7,
    "library": 7,
    "loading": 7,
    "results": 7,
    "convert": 6,
    "infer": 6,
    "tasks": 6,
    "train.loop": 6,
    "train.steps": 6,
    "train.milestones": 6,
    "train.recovery": 6,
    "train.why": 6,
    "train.reporter": 5,
    "train.saver": 5,
    "train.evaluate": 5,
    "train.compile": 5,
    "train.start": 5,
    "train.eval_step": 4,
    "train.step": 4,
    "train.state": 4,
    "train.logger": 4,
    "train.board": 4,
    "train.guard": 4,
    "train.watchdog": 4,
    "train.profile": 4,
    "train.selection": 4,
    "train.chunked": 3,
    "train.losses": 3,
    "train.labels": 3,
    "train.spikes": 3,
    "runs": 3,
    "processes": 3,
    "optim": 3,
    "cost": 3,
    "model.network": 2,
    "model.transformer": 2,
    "model.blocks": 2,
    "model.stack": 2,
    "model.heads": 2,
    "model.architectures": 2,
    "model.adapters": 1,
    "model.attention": 1,
    "model.embedding": 1,
    "model.layers": 1,
    "model.projection": 1,
    "model.sharding": 1,
    "xla": 0,
    "train.__init__": 0,
    "model.__init__": 0,
}
DATA = {
    "data.prepare": 6,
    "data.rows": 6,
    "data.statistics": 6,
    "data.packing": 5,
    "data.tasks": 4,
    "data.objectives": 4,
    "data.store": 4,
    "data.inspection": 4,
    "data.vocabulary": 3,
    "data.sources": 2,
    "data.cleaning": 2,
    "data": 1,
}
"""The house beside the tower: `runs` and all above may enter it, and `model.network` the description of a batch."""
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
        return not importer and imported in ("library", "loading")  # for `t5like.load`, imported when it is called
    if imported in DATA:
        described = (importer, imported) == ("model.network", "data")
        return DATA.get(importer, 0) >= DATA[imported] or TOWER.get(importer, 0) >= TOWER["runs"] or described
    return importer in TOWER and TOWER[importer] >= TOWER[imported]


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
