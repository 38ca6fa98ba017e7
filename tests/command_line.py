"""The command line as users start it: a process of its own, without this process's devices."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
PROGRAM = "from t5like.cli import main; main()"


def command(*arguments: object, program: str = PROGRAM) -> list[str]:
    """The words of a command line."""
    return [sys.executable, "-c", program, *map(str, arguments)]


def environment(devices: int = 1) -> dict[str, str]:
    """The variables of a process that finds this checkout and some CPU devices, without what these tests, and what they
    import, set for their own. Its programs are compiled quickly, as those of the tests' process are."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    own = {name: value for name, value in os.environ.items() if name not in ("NPROC", "TF_CPP_MIN_LOG_LEVEL")}
    fixed = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return own | fixed


def t5like(*arguments: object, devices: int = 1, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs `t5like` to its end."""
    asked = {"capture_output": True, "text": True, "timeout": 300, "env": environment(devices), **options}
    return subprocess.run(command(*arguments), check=False, **asked)


def succeed(*arguments: object, **options: object) -> str:
    """Runs `t5like` to its end, which must be a good one, and returns what it printed."""
    done = t5like(*arguments, **options)
    assert done.returncode == 0, f"t5like {' '.join(map(str, arguments))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def complaint(*arguments: object, **options: object) -> str:
    """Runs `t5like`, which must end with status 2 and one line on standard error, and returns that line."""
    done = t5like(*arguments, **options)
    assert done.returncode == 2, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("t5like: "), done.stderr
    return lines[0].removeprefix("t5like: ")
