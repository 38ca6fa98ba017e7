"""What is read from compiled programs: loops, products, collectives and what the compiler says of memory."""

import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from products import count_products
from small import small_config

from t5like.cost.devices import DEVICES
from t5like.cost.flops import step_flops
from t5like.plan import collectives
from t5like.plan.collectives import Collective, find_collectives, totals
from t5like.plan.compiled import too_large
from t5like.plan.counts import count
from t5like.plan.hlo import read_module
from t5like.train.compile import lower_step
from t5like.train.state import make_training

LOOPED = """HloModule m, is_scheduled=true

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[]{:T(128)}, f32[8,4]{1,0:T(8,128)}) parameter(0)
  %kernel = f32[8,4]{1,0} custom-call(%p), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"block": "{\\"a\\": 1}"
}}, metadata={op_name="jit(f)/while"}, backend_config={"window_config":{"estimated_cycles":"100"}}
  %permute = (f32[8,4]{1,0}, f32[8,4]{1,0}, u32[], u32[]) collective-permute-start(%kernel), channel_id=7, source_target_pairs={{0,1},{1,0},{2,3},{3,2}}
  %done = f32[8,4]{1,0} collective-permute-done(%permute)
  %part = f32[8,4]{1,0} fusion(%done), kind=kCustom, calls=%async_collective_fusion.1, backend_config={"window_config":{"estimated_cycles":"5"}}
  %part2 = f32[8,4]{1,0} fusion(%part), kind=kCustom, calls=%async_collective_fusion.2
  %scattered = f32[2,4]{1,0:S(1)} fusion(%part2), kind=kCustom, calls=%all-reduce-scatter.3
  %at = s32[] get-tuple-element(%p), index=0
  %two = s32[] constant(2)
  %next = s32[] add(%at, %two)
  ROOT %t = (s32[], f32[8,4]) tuple(%next, %part2)
}

%async_collective_fusion.1 (q: f32[4,4]) -> f32[8,4] {
  %q = f32[4,4]{1,0} parameter(0)
  ROOT %g = f32[8,4]{1,0} all-gather(%q), channel_id=9, replica_groups=[2,2]<=[2,2]T(1,0), dimensions={0}
}

%async_collective_fusion.2 (q: f32[4,4]) -> f32[8,4] {
  %q = f32[4,4]{1,0} parameter(0)
  ROOT %g = f32[8,4]{1,0} all-gather(%q), channel_id=9, replica_groups=[2,2]<=[2,2]T(1,0), dimensions={0}
}

%all-reduce-scatter.3 (q: f32[8,4]) -> f32[2,4] {
  %q = f32[8,4]{1,0} parameter(0)
  %r = f32[8,4]{1,0} all-reduce(%q), channel_id=10, replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %s = f32[2,4]{1,0} slice(%r), slice={[0:2], [0:4]}
}

%condition (p: (s32[], f32[8,4])) -> pred[] {
  %p = (s32[], f32[8,4]) parameter(0)
  %last = s32[] constant(10)
  %at = s32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[] compare(%at, %last), direction=LT
}

ENTRY %main (x: f32[8,4]) -> f32[8,4] {
  %x = f32[8,4]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %copied = s32[]{:T(128)} copy(%zero)
  %init = (s32[], f32[8,4]) tuple(%copied, %x)
  %loop = (s32[], f32[8,4]) while(%init), condition=%condition, body=%body
  ROOT %out = f32[8,4]{1,0} get-tuple-element(%loop), index=1
}
"""  # noqa: E501
SLICED = """HloModule m, is_scheduled=true

%slicing (a: f32[12,8,4], n: s32[]) -> f32[8,4] {
  %a = f32[12,8,4]{2,1,0} parameter(0)
  %n = s32[] parameter(1)
  ROOT %s = f32[1,8,4]{2,1,0} dynamic-slice(%a, %n), dynamic_slice_sizes={1,8,4}
}

%updating (b: f32[12,8,4], u: f32[8,4], n: s32[]) -> f32[12,8,4] {
  %b = f32[12,8,4]{2,1,0} parameter(0)
  %u = f32[8,4]{1,0} parameter(1)
  %n = s32[] parameter(2)
  %one = f32[1,8,4]{2,1,0} bitcast(%u)
  ROOT %d = f32[12,8,4]{2,1,0} dynamic-update-slice(%b, %one, %n)
}

%both (a: f32[12,8,4], b: f32[12,8,4], n: s32[], p: f32[4,4]) -> (f32[12,8,4], f32[4,4]) {
  %a = f32[12,8,4]{2,1,0} parameter(0)
  %b = f32[12,8,4]{2,1,0} parameter(1)
  %n = s32[] parameter(2)
  %p = f32[4,4]{1,0} parameter(3)
  %part = f32[8,4]{1,0} fusion(%a, %n), kind=kLoop, calls=%slicing
  %new = f32[12,8,4]{2,1,0} fusion(%b, %part, %n), kind=kLoop, calls=%updating
  ROOT %t = (f32[12,8,4]{2,1,0}, f32[4,4]{1,0}) tuple(%new, %p)
}

ENTRY %main (a: f32[12,8,4], n: s32[], p: f32[4,4]) -> f32[12,8,4] {
  %a = f32[12,8,4]{2,1,0} parameter(0)
  %n = s32[]{:S(6)} parameter(1)
  %p = f32[4,4]{1,0} parameter(2)
  %b = f32[12,8,4]{2,1,0} custom-call(), custom_call_target="AllocateBuffer"
  %fused = (f32[12,8,4]{2,1,0}, f32[4,4]{1,0}) fusion(%a, %b, %n, %p), kind=kOutput, calls=%both
  ROOT %out = f32[12,8,4]{2,1,0} get-tuple-element(%fused), index=0
}
"""
MESH: Any = types.SimpleNamespace(devices=np.arange(4).reshape(2, 2), axis_names=("fsdp", "tensor"))
REFUSED = """RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. \
Used 122.06G of 15.75G hbm. Exceeded hbm capacity by 106.31G.

  Largest program allocations in hbm:

  1. Size: 12.00G
     Operator: op_name="jit(train_step)/decoder/while/body/self"
     Shape: f32[24,128,32,512,512]{4,3,2,1,0:T(8,128)}
     Unpadded size: 12.00G
     ==========================

  2. Size: 512.0M
     Shape: bf16[24,4096,4096]{2,1,0}
"""


def test_a_loops_body_counts_as_often_as_it_runs():
    counts = count(read_module(LOOPED))
    assert counts.cycles == 5 * (100 + 5)
    assert counts.kernels == 5


def test_of_arrays_that_are_sliced_or_updated_in_place_only_the_part_moves():
    assert count(read_module(SLICED)).bytes == 2 * 8 * 4 * 4


def test_collectives_are_told_apart_and_counted_once_a_round():
    found = {(c.kind, c.axes): (c.times, c.bytes, c.devices) for c in find_collectives(read_module(LOOPED), MESH)}
    assert found == {
        ("collective-permute", ("tensor",)): (5, 128, 2),
        ("all-gather", ("fsdp",)): (5, 128, 2),
        ("reduce-scatter", ("fsdp", "tensor")): (5, 128, 4),
    }


def test_what_is_sent_follows_from_the_kind():
    def sent(kind: str) -> float:
        return Collective(kind, ("fsdp",), 4, 1000, 3, False).sent

    assert sent("all-gather") == sent("reduce-scatter") == sent("all-to-all") == 0.75 * 1000 * 3
    assert sent("all-reduce") == 2 * 0.75 * 1000 * 3
    assert sent("collective-permute") == 3000


def test_totals_add_up_what_is_of_a_kind_and_over_the_same_axes():
    one, two = (
        Collective("all-gather", ("fsdp",), 4, 100, 3, False),
        Collective("all-gather", ("fsdp",), 4, 10, 1, True),
    )
    other = Collective("all-gather", ("tensor",), 4, 1, 1, True)
    (first, second) = totals([one, other, two])
    assert (first.count, first.bytes, second.axes) == (4, 310, ("tensor",))


def test_a_group_over_more_of_the_torus_has_more_links():
    places = [types.SimpleNamespace(coords=(x, y, 0)) for x in range(4) for y in range(4)]
    mesh: Any = types.SimpleNamespace(devices=np.array(places).reshape(4, 4), axis_names=("fsdp", "tensor"))
    gather = Collective("all-gather", ("fsdp",), 4, 1000, 1, False)
    wide = Collective("all-gather", ("fsdp", "tensor"), 4, 1000, 1, False)
    device = DEVICES["v5e"]
    assert collectives.seconds(gather, device, mesh) == pytest.approx(750 / device.link)
    assert collectives.seconds(wide, device, mesh) == pytest.approx(750 / device.link / 2)


def test_a_collective_between_slices_goes_over_the_network():
    device = DEVICES["v5e"]
    between = Collective("all-reduce", ("slice",), 2, 1000, 1, False)
    assert collectives.seconds(between, device, None) == pytest.approx(1000 / device.network)


def test_the_compilers_refusal_is_read():
    refused = too_large(REFUSED)
    assert (refused.needed, refused.available) == (122.06 * 2**30, 15.75 * 2**30)
    assert [part.bytes for part in refused.largest] == [12 * 2**30, 512 * 2**20]
    assert refused.largest[0].shape.startswith("f32[24,128,32,512,512]")
    assert refused.largest[0].operation == "jit(train_step)/decoder/while/body/self"


def test_a_refusal_before_arrays_have_places_is_read_too():
    refused = too_large(
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (230.72G) "
        "exceeds available HBM (15.75G)."
    )
    assert (refused.needed, refused.available, refused.largest) == (230.72 * 2**30, 15.75 * 2**30, ())


def test_products_and_collectives_of_a_real_program(mesh):
    """A scan over matrices that are gathered: on CPU, where dots stay dots."""
    rows, place = PartitionSpec(("data", "fsdp")), PartitionSpec(None, "fsdp")
    x = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=NamedSharding(mesh, rows))
    weights = jax.ShapeDtypeStruct((3, 32, 32), jnp.float32, sharding=NamedSharding(mesh, place))

    def layer(x: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
        return jnp.tanh(x @ jax.lax.all_gather(w, "fsdp", tiled=True)), None

    layers = jax.shard_map(lambda x, w: jax.lax.scan(layer, x, w)[0], in_specs=(rows, place), out_specs=rows)
    module = read_module(jax.jit(layers).lower(x, weights).compile().as_text() or "")
    assert count(module).products * 8 == count_products(layers, x, weights)
    (gather,) = find_collectives(module, mesh)
    assert (gather.kind, gather.axes, gather.times, gather.bytes) == ("all-gather", ("fsdp",), 3, 32 * 32 * 4)


def test_the_products_of_a_train_step_are_the_formulas(one_device):
    settings = small_config("gpt", model__attention="plain")
    training = make_training(settings, one_device)
    module = read_module(lower_step(training).compile().as_text() or "")
    assert count(module).products == step_flops(settings).training_unhalved
