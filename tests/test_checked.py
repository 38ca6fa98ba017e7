"""The tests' own means: annotations are checked, those of arrays by the sizes of their dimensions, and equal programs
are compiled once."""

from collections.abc import Callable
from typing import Any, Literal

import beartype
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation
from checked import checked
from jax._src import compiler
from jaxtyping import Array, Float
from programs import remember_programs
from small import small_config

from t5like.cost.flops import batch_flops
from t5like.model.sharding import make_mesh


@checked(typechecker=beartype.beartype)
def plain(count: int, kind: Literal["a"] = "a") -> list[int]:
    return [count] if count else ["none"]  # pyright: ignore[reportReturnType]


@checked(typechecker=beartype.beartype)
def of_arrays(x: Float[np.ndarray, "rows 2"], *more: list[Float[np.ndarray, "rows"]]) -> Float[np.ndarray, "rows"]:
    return x[: more != (), 0]


@pytest.mark.parametrize("given", [("1",), (1, "b"), (0,)])
def test_what_takes_no_arrays_is_checked_by_beartype_alone(given):
    assert plain(1) == [1]
    with pytest.raises(BeartypeCallHintViolation):
        plain(*given)


def test_dimensions_of_one_name_are_of_one_size():
    x = np.ones((1, 2))
    assert of_arrays(x, [np.ones(1)]).shape == (1,)
    for wrong in ((np.ones((1, 3)),), (x, [np.ones(2)]), (np.ones((2, 2)), [np.ones(2)])):
        with pytest.raises(jaxtyping.TypeCheckError):
            of_arrays(*wrong)


def test_functions_of_t5like_are_checked():
    with pytest.raises(BeartypeCallHintViolation):
        make_mesh("all")  # pyright: ignore[reportArgumentType]
    with pytest.raises(BeartypeCallHintViolation):
        batch_flops(small_config("gpt").model, {"decoder": "8"}, 1)  # pyright: ignore[reportArgumentType]


def test_an_equal_program_is_compiled_once_and_another_anew():
    """By its text, its devices and its options, whichever function it comes from."""
    made = []

    def build(*given: Any) -> Any:
        made.append(given)
        return whole(*given)

    def program(function: Callable[[Array], Array], device: int = 0, **options: Any) -> list[float]:
        x = jax.device_put(np.arange(7, dtype=np.float32), jax.devices()[device])
        return jax.jit(lambda x: function(x), **options)(x).tolist()

    whole = compiler.backend_compile_and_load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "backend_compile_and_load", build)
        remember_programs()
        assert program(jnp.sin) == program(jnp.sin) != program(jnp.cos)
        assert len(made) == 2
        assert program(jnp.sin, device=1) == program(jnp.sin)
        assert len(made) == 3
        program(jnp.sin, compiler_options={"xla_embed_ir_in_executable": True})
        assert len(made) == 4
