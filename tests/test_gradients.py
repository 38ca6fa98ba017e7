"""Gradients in bfloat16 are those of float32, for every parameter of a model of each family, on 16,384 Zipf tokens."""

import importlib.util
from typing import Any

import pytest
from command_line import ROOT


@pytest.fixture(scope="module")
def gradients() -> Any:
    """benchmarks/gradients.py, which prints the table of all parameters."""
    found = importlib.util.spec_from_file_location("gradients", ROOT / "benchmarks" / "gradients.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "devices", "accumulate"),
    [("t5", 4, 2), ("bert", 4, 2), ("gpt2", 1, 1), ("llama", 4, 1)],
)
def test_no_parameters_gradient_is_a_tenth_off(gradients, monkeypatch, family, devices, accumulate):
    """Embeddings, norms, biases, position tables and token types are sums over all tokens of a batch, which bfloat16
    would stop adding at about 256 equal terms; so are sums over layers, devices and parts."""
    limits = {"head/bias": 0.5, "pooler/bias": 0.2}  # labels of next sentences are balanced: gradients nearly cancel
    monkeypatch.chdir(ROOT)
    found = gradients.measure(family, devices, accumulate, rows=128, warm=False)
    assert {name: error for name, error in found["errors"].items() if error > limits.get(name, 0.1)} == {}
    assert len(found["errors"]) > 10
