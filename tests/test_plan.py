"""Train steps compiled for TPUs that are not here: they fit, keep their state in place, and gather what they should."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from typing import Any

import jax
import pytest
from command_line import CONFIGS
from settings import sentence
from small import labelled_config, small_config

from t5like.commands.plan import PlanOptions, plan
from t5like.config import Config
from t5like.cost.devices import DEVICES
from t5like.plan import early, figures, search
from t5like.plan.compiled import too_large
from t5like.plan.programs import Answers
from t5like.plan.topology import SLICES, Topology, quiet, slices_of, topology

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu, the TPU compiler, is not installed"
)
SIZES = dict(embed=128, mlp=512, heads=4, kv=32, vocab=512, dtype="bfloat16")
STRATEGIES = {
    "fsdp": {},
    "sequence": dict(fsdp=2, sequence=2),
    "replicated": dict(fsdp=1, data=4),
}
BUDGET = figures.Budget(tokens=1e9, price=2.0)
# The gradient of the embedding reaches its parts by an all-to-all of the tokens' gradients, which are fewer than rows.
GATHERED = {"all-gather", "reduce-scatter", "all-reduce", "collective-permute", "all-to-all"}
EXPECTED = {
    "fsdp": GATHERED,
    "sequence": GATHERED,
    "replicated": {"all-reduce"},
}


def settings_of(family: str, strategy: str = "fsdp", **changes: Any) -> Config:
    """A small config of a family, with rows and widths that a TPU's tiles fill."""
    sizes = {f"model__{name}": value for name, value in SIZES.items()}
    length = 140 if family == "t5" else 128  # of a T5 both lengths are then even
    lengths = {"data__length": length} | ({"model__max_positions": length} if family in ("bert", "pairs") else {})
    mesh = {f"mesh__{name}": size for name, size in STRATEGIES[strategy].items()}
    return small_config(
        family, **{**sizes, **lengths, **mesh, "train__batch": 32, "optimizer__name": "adamw", **changes}
    )


def check(settings: Config, where: Topology, expected: set[str]) -> dict[str, Any]:
    """What every plan must hold; of collectives those that move more than a thousandth of all."""
    found = figures.figures(settings, where)
    memory, moved = found["memory"], sum(total["sent"] for total in found["collectives"])
    assert memory["fits"]
    assert memory["in_place"] >= 0.95
    assert {total["kind"] for total in found["collectives"] if total["sent"] > moved / 1000} <= expected
    computed = found["flops"]["formula" if found["flops"]["kernels"] else "unhalved"]
    assert found["flops"]["compiled"] == pytest.approx(computed, rel=0.05)
    return found


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt", "t5", "pairs"])
def test_every_family_fits_in_place_and_gathers_its_parameters(family):
    found = check(settings_of(family), topology("v5e:2x2"), GATHERED)
    split = {total["kind"] for total in found["collectives"] if total["axes"] == ("fsdp",)}
    assert {"all-gather", "reduce-scatter"} <= split
    # Four bytes of each parameter, on a quarter of the devices: what is whole on all is norms and biases.
    assert found["memory"]["params"] < 1.1 * found["parameters"]


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("family", "strategy"), [("t5", "sequence"), ("gpt", "replicated"), ("pairs", "replicated")])
def test_other_strategies(family, strategy):
    """Here and on the slices below each with two families, and each family with two: what a family has of its own
    (cross-attention, causal rows, heads of a row) does not meet a strategy in a third way."""
    check(settings_of(family, strategy), topology("v5e:2x2"), EXPECTED[strategy])


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "pairs"])
def test_a_larger_slice(family):
    larger = check(settings_of(family, mesh__tensor=4), topology("v5e:4x4"), GATHERED)
    assert larger["mesh"] == {"fsdp": 4, "tensor": 4}


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "changes", "mesh"),
    [("t5", {}, {"slice": 2, "fsdp": 4}), ("gpt", dict(mesh__sequence=2), {"slice": 2, "fsdp": 2, "sequence": 2})],
)
def test_two_slices(family, changes, mesh):
    joined = check(settings_of(family, **changes), topology("v5e:2x2", slices=2), GATHERED)
    assert joined["mesh"] == mesh
    assert any("slice" in total["axes"] for total in joined["collectives"])


@pytest.mark.parametrize(
    ("name", "slices", "said"),
    [
        ("a100-40", 1, "There is no topology 'a100-40': give a TPU slice such as v5e:4x4 or v5p:4x4x4, or GPUs"),
        ("v5litepod-12", 1, "or by chips v5e-1, -4, -8, -16, -32, -64, -128, -256."),
        ("tpu7x-9", 1, "and other multiples of 4x4x4, or by TensorCores tpu7x-8, -16, -32, -64, -128, "),
        ("v9:4x4", 1, "There is no topology 'v9:4x4': give a TPU slice such as v5e:4x4 or v5p:4x4x4, or GPUs"),
        ("v5e", 1, "There is no topology 'v5e': give a TPU slice such as v5e:4x4"),
        ("v5e:3x5", 1, "There is no slice 'v5e:3x5': v5e has 1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16, or"),
        ("v5p:4x4", 1, "There is no slice 'v5p:4x4': v5p has 2x2x1, 2x2x2, "),
        ("h100:many", 1, "There is no topology 'h100:many': GPUs are given by their number, such as h100:8."),
        ("h100:8", 2, "--slices 2 is for TPU slices: give h100:8 as h100:16."),
        ("", 2, "--slices 2 needs --topology: name a TPU slice such as v5e:4x4."),
    ],
)
def test_an_unknown_topology_is_answered_by_those_that_are_known(name, slices, said):
    assert said in sentence(topology, name, slices)


@pytest.mark.parametrize(
    ("name", "canonical", "devices"),
    [
        ("v5litepod-16", "v5e:4x4", 16),
        ("v5e-16", "v5e:4x4", 16),
        ("V5E:4X4", "v5e:4x4", 16),
        ("v5e-4x4", "v5e:4x4", 16),
        ("tpu-v5-lite-podslice:2x4", "v5e:2x4", 8),
        ("v5p-8", "v5p:2x2x1", 4),
        ("v5p-1536", "v5p:8x8x12", 768),
        ("v4-384", "v4:4x4x12", 192),
        ("v6e-256", "v6e:16x16", 256),
        ("tpu7x:2x2x1", "tpu7x:2x2x1", 8),
        ("tpu7x-128", "tpu7x:4x4x4", 128),
    ],
)
def test_a_slice_has_several_names(name, canonical, devices):
    found = topology(name)
    assert (found.name, found.count) == (canonical, devices)


@pytest.mark.parametrize("kind", SLICES)
@needs_compiler
def test_the_compiler_grants_what_the_table_says_is_usable(kind):
    device = next(slices_of(kind)).devices()[0]
    array = jax.ShapeDtypeStruct((2**40,), "int8", sharding=jax.sharding.SingleDeviceSharding(device))
    with quiet(), pytest.raises(jax.errors.JaxRuntimeError) as raised:
        jax.jit(lambda x: x + 1).lower(array).compile()
    usable = DEVICES[kind].memory
    assert too_large(str(raised.value)).available == pytest.approx(usable, rel=1e-3)


IMPORTED_FIRST = "import jax; from t5like.cli import main; main()"
"""The command line where a preset has imported JAX before the command says that there is no TPU."""


@needs_compiler
@pytest.mark.parametrize(
    "words", ["check {} --topology v5e-8", pytest.param("plan {} --topology h100:8", marks=pytest.mark.slow)]
)
def test_nothing_of_the_compilers_own_words_is_printed(words):
    variables = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    line = [sys.executable, "-c", IMPORTED_FIRST, *words.format(CONFIGS / "tiny_gpt.py").split()]
    done = subprocess.run(line, env=variables, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr, "WARNING" in done.stdout) == (0, "", False)


def test_a_run_is_checked_before_anything_starts(say, preset):
    given = ("check", preset, "--train.directory", "bucket/runs/x")
    assert say(*given, "--show", "train.directory", "train.batch") == "bucket/runs/x\n32\n"
    shown = say(*given, "--topology", "v5litepod-16")
    assert shown == "It is a valid run: 10 steps of 32 rows into bucket/runs/x.\n"
    assert "no flag --train.stepz; did you mean '--train.steps'?" in sentence(say, *given, "--train.stepz", "7")
    assert sentence(say, *given, "--show", "train.dir").startswith("There is no field train.dir; did you mean 'train.")
    assert sentence(say, *given, "--slices", "2") == "--slices 2 needs --topology: name a TPU slice such as v5e:4x4."


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--train.batch 24", "train.batch / train.accumulate=24 does not divide over the 16 devices"),
        ("--mesh.fsdp 3", "mesh.fsdp=3 needs 3 device(s), but there are 16: change mesh."),
        ("--slices 2 --mesh.slice 4", "mesh.slice=4, but there are 2 slices: set mesh.slice=2."),
        ("--slices 3", "train.batch / train.accumulate=32 does not divide over the 48 devices"),
        ("--topology v5litepod-17", "There is no slice 'v5litepod-17'"),
    ],
)
def test_what_a_slice_cannot_hold_is_found_without_its_compiler(say, preset, monkeypatch, flags, said):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    assert said in sentence(say, "check", preset, "--topology", "v5e-16", *flags.split())


@pytest.mark.parametrize("kind", SLICES)
@needs_compiler
def test_the_compiler_knows_every_slice_up_to_64_chips(kind):
    for shape in SLICES[kind]:
        where = topology(f"{kind}:{'x'.join(map(str, shape))}")
        if where.count <= 64:
            devices = where.devices()
            assert (len(devices), devices[0].platform) == (where.count, "tpu")
            assert where.device is not None
            assert devices[0].device_kind in where.device.kinds


@needs_compiler
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(mesh__fsdp=3), "mesh.fsdp=3 needs 3 device(s), but there are 4: change mesh."),
        (dict(mesh__tensor=4, model__heads=2), "heads=2, which 4 devices of mesh axes tensor do not divide"),
        (dict(mesh__sequence=4, data__length=126), "length=126, which 4 devices of mesh axes sequence do not divide"),
        (dict(train__batch=6), "train.batch / train.accumulate=6 does not divide over the 4 devices"),
    ],
)
def test_what_does_not_fit_the_mesh_is_one_sentence(changes, said):
    assert said in sentence(figures.figures, settings_of("gpt", **changes), topology("v5e:2x2"))


@pytest.mark.parametrize("where", ["h100:8", ""])
def test_machine_code_is_for_tpus_alone(where):
    assert sentence(plan, settings_of("gpt"), PlanOptions(topology=where, full=True)) == (
        "--full asks for the machine code of TPUs: give --topology one of these, such as v5e:4x4."
    )


def test_without_the_compiler_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    said = sentence(figures.figures, settings_of("gpt"), topology("v5e:2x2"))
    assert said == "A plan for TPUs needs their compiler, libtpu: install it by pip install 'jax[tpu]'."


@needs_compiler
def test_a_mesh_that_the_torus_cannot_hold_is_one_sentence():
    settings = settings_of("gpt", mesh__fsdp=8, mesh__tensor=2)
    assert "cannot hold a mesh of fsdp=8 * tensor=2" in sentence(figures.figures, settings, topology("v5e:4x4"))


def test_gpus_are_planned_by_formula():
    found = figures.figures(settings_of("t5", mesh__tensor=2, mesh__fsdp=-1), topology("h100:8"), budget=BUDGET)
    assert found["memory"]["fits"]
    assert found["flops"]["compiled"] == pytest.approx(found["flops"]["unhalved"], rel=1e-6)
    assert found["time"]["scheduled"] is None
    assert 0 < found["mfu"]["roofline"] <= 1
    run = found["run"]
    assert run["price"] == pytest.approx(2 * run["device_hours"])
    assert run["steps"] == -(-1_000_000_000 // run["tokens_per_step"])
    assert run["hours"] == pytest.approx(24 * run["days"]) == pytest.approx(24 * run["tokens"] / run["tokens_per_day"])
    assert {(total["kind"], total["axes"]) for total in found["collectives"]} == {
        ("all-gather", ("fsdp",)),
        ("reduce-scatter", ("fsdp",)),
        ("all-reduce", ("tensor",)),
    }


def test_heads_are_planned_too():
    found = figures.figures(labelled_config("multiple_choice", mesh__fsdp=8, model__pooler=True), topology("h100:8"))
    assert found["memory"]["fits"] and found["flops"]["compiled"] > 0


@pytest.mark.slow
def test_kept_activations_of_the_formula_grow_with_rows_and_shrink_with_remat():
    where = topology("h100:8")

    def kept(**changes: Any) -> int:
        return figures.figures(settings_of("gpt", **changes), where)["memory"]["activations"]

    assert kept(train__batch=64) == 2 * kept(train__batch=32) == 2 * kept(train__batch=64, train__accumulate=2)
    assert kept(model__remat="full") < kept() / 2


def test_a_step_on_the_devices_that_are_here(say, preset):
    found = json.loads(say("plan", preset, "--json"))
    assert found["devices"] == jax.device_count()
    assert (found["time"], found["mfu"], found["memory"]["usable"]) == (None, None, None)
    assert found["flops"]["compiled"] == pytest.approx(found["flops"]["unhalved"], rel=0.01)


def test_the_search_ends_with_the_largest_batch_and_the_cheapest_remat(monkeypatch):
    """Here a row takes 1 unit without remat and half of one with it, and 100 units fit."""
    weights = {"none": 1.0, "full": 0.5}

    def fits(config: Config, where: Topology, say: Any) -> bool:
        return config.train.batch * weights.get(config.model.remat, 1.0) <= 100

    monkeypatch.setattr(search, "fits", fits)
    found = search.largest_batch(settings_of("gpt"), topology("h100:4"), print)
    assert found.model.remat == "full"
    assert 160 <= found.train.batch <= 200
    weights["full"] = 1.0
    assert search.largest_batch(settings_of("gpt"), topology("h100:4"), print).model.remat == "none"


@pytest.mark.slow
@needs_compiler
def test_a_plan_is_of_every_program_of_the_run():
    """While it evaluates or generates, the optimizer state stays where it is."""
    settings, where = settings_of("t5", eval__batch=4096), topology("v5e:2x2")
    found = figures.figures(settings, where, answers=Answers(prompts=8, tokens=4))
    sizes, memory = found["programs"], found["memory"]
    assert list(sizes) == ["train step", "evaluation", "generation"]
    assert sizes["train step"] == memory["total"]
    assert memory["params"] + memory["optimizer"] < sizes["generation"] < sizes["evaluation"]
    assert found["largest_program"] == max(sizes, key=sizes.get) == "evaluation"


@pytest.mark.slow
@needs_compiler
def test_an_evaluation_that_does_not_fit_is_refused_though_the_step_fits(say, preset, capsys):
    said = sentence(say, "plan", preset, "--topology", "v5e:2x2", "--eval.batch", "4194304")
    assert re.fullmatch(r"It does not fit: .* of 15.75 GiB on each device for the evaluation\.", said)
    assert "--eval.batch 2097152: the same result" in capsys.readouterr().out


def test_generation_is_planned_for_models_that_generate(say, preset):
    assert sentence(figures.figures, settings_of("bert"), topology(""), answers=Answers(8, 4)) == (
        "--generate is for models with a decoder: this one has an encoder alone."
    )


@pytest.fixture
def preset(tmp_path) -> str:
    """A preset file with a small GPT."""
    file = tmp_path / "preset.py"
    file.write_text("import sys\nfrom test_plan import settings_of\nconfig = settings_of('gpt', mesh__fsdp=-1)\n")
    return str(file)


@needs_compiler
@pytest.mark.slow
def test_machine_code_changes_nothing_but_adds_cycles_and_its_size():
    settings, where = settings_of("gpt", model__attention="plain"), topology("v5e:2x2")
    early, full = (figures.figures(settings, where, full=full) for full in (False, True))
    for name in ("parameters", "flops", "collectives", "mesh"):
        assert early[name] == full[name]
    for name in ("params", "optimizer", "batch"):
        assert early["memory"][name] == full["memory"][name]
    # Machine code may keep small arrays out of the device's main memory, and adds what collectives use.
    assert -(2**22) < full["memory"]["total"] - full["memory"]["code"] - early["memory"]["total"] < 2**27
    assert (early["memory"]["code"], early["time"]["scheduled"]) == (None, None)
    assert full["memory"]["code"] > 0
    assert full["time"]["scheduled"] > 0
    assert full["mfu"]["scheduled"] > 0


@needs_compiler
def test_explain_lists_where_every_parameter_lives(say, preset):
    rows = json.loads(say("plan", preset, "--explain", "--json", "--topology", "v5e:2x2"))
    by_name = {row["name"]: row for row in rows if row["part"] == "params"}
    query = by_name["decoder/blocks/self/query"]
    assert query["axes"] == ["layers", "embed", "heads", "kv"]
    assert query["mesh_axes"] == [[], ["fsdp"], [], []]
    assert query["bytes"] == 2 * 128 * 4 * 32 * 4 // 4
    shown = say("plan", preset, "--explain", "--topology", "v5e:2x2")
    assert "float32[layers=2, embed=128 over fsdp, heads=4, kv=32]" in shown


@needs_compiler
@pytest.mark.slow
def test_a_plan_is_printed_and_one_that_does_not_fit_ends_with_a_sentence(say, preset):
    shown = say("plan", preset, "--topology", "v5e:2x2", "--price", "1.2")
    assert re.search(r"It fits: .* on each device. Planned in \d+ s.", shown)
    assert "as the compiler schedules it" in shown
    many = ("--train.batch", "1048576", "--model.attention", "plain")
    said = sentence(say, "plan", preset, "--topology", "v5e:1x1", *many)
    assert said.startswith("It does not fit: ")


def test_a_program_is_read_when_it_is_written_to_its_end(tmp_path):
    """Whatever part of the compiler's text has reached the disk, also one that ends with a brace."""
    whole = "HloModule m\n\n%a (p: f32[]) -> f32[] {\n  ROOT %p = f32[] parameter(0), metadata={a={1}}\n}\n\n"
    whole += "ENTRY %main (q: f32[]) -> f32[] {\n  ROOT %q = f32[] parameter(0), metadata={a={1}}\n}\n"
    file = tmp_path / "1.txt"
    for end in range(len(whole) + 1):
        file.write_text(whole[:end])
        assert early._written(tmp_path, "*.txt") == (end >= len(whole) - 1), whole[:end]
