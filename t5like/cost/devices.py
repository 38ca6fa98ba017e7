"""The figures of known devices: peak of dense bfloat16 products, memory, and the speed of its links. It needs no JAX.

Peaks, memory and links are the makers' figures (Google's TPU pages, NVIDIA's data sheets; NVIDIA's peaks are those
without sparsity). Usable memory of a TPU is what its compiler grants a program, which is less than what is built in.
The speeds between slices are those that Austin et al. 2025, "How to Scale Your Model", chapter 2, give for a chip's
share of its host's network. A device that is not in the table has no figures: what is computed from them is left out.
"""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device as JAX counts them: a TPU chip (v2, v3 and 7x have two in a chip) or a GPU."""

    name: str
    kinds: tuple[str, ...]
    """Values of `device_kind` of JAX's devices."""
    peak: float
    """Dense bfloat16 products, FLOP/s."""
    memory: float
    """Bytes that a program can have."""
    bandwidth: float
    """Device memory, bytes/s."""
    link: float
    """One way of one link of the torus, or all of a GPU's links to its node, bytes/s."""
    torus: int
    """Dimensions of the torus, each with two links; 0 where every device reaches every other at `link`."""
    network: float
    """Out of the slice or node, one way, bytes/s."""
    clock: float
    """Cycles/s that the TPU compiler's estimates are in; 0 for a GPU."""
    cores: int = 1
    """Devices of a chip, which share its links; of memory and bandwidth each has its part."""


def _tpu(name: str, kinds: tuple[str, ...], torus: int, cores: int, **figures: float) -> Device:
    """Of a TPU; `memory` is in GiB."""
    memory = figures.pop("memory") * GIB
    return Device(name=name, kinds=kinds, torus=torus, cores=cores, memory=memory, **figures)


def _gpu(name: str, *kinds: str, **figures: float) -> Device:
    """Of a GPU in a node whose network gives each 400 Gbit/s; `memory` is in GiB."""
    memory = figures.pop("memory") * GIB
    return Device(name=name, kinds=kinds, torus=0, cores=1, clock=0.0, network=50e9, memory=memory, **figures)


V4 = dict(peak=275e12, memory=30.75, bandwidth=1228e9, link=45e9, network=6.25e9, clock=1.05e9)
V5E = dict(peak=197e12, memory=15.75, bandwidth=819e9, link=45e9, network=3.125e9, clock=1.5e9)
V5P = dict(peak=459e12, memory=95.7, bandwidth=2765e9, link=90e9, network=6.25e9, clock=1.75e9)
V6E = dict(peak=918e12, memory=31.25, bandwidth=1640e9, link=90e9, network=12.5e9, clock=1.75e9)
TPU7X = dict(peak=1153.5e12, memory=94.75, bandwidth=3690e9, link=45e9, network=6.25e9, clock=2.2e9)
A100, A100_40 = "NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-40GB"

DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        _tpu("v4", ("TPU v4",), 3, 1, **V4),
        _tpu("v5e", ("TPU v5 lite", "TPU v5e"), 2, 1, **V5E),
        _tpu("v5p", ("TPU v5", "TPU v5p"), 3, 1, **V5P),
        _tpu("v6e", ("TPU v6 lite", "TPU v6e"), 2, 1, **V6E),
        _tpu("tpu7x", ("TPU7x",), 3, 2, **TPU7X),
        _gpu("a100-40", A100_40, peak=312e12, memory=39.0, bandwidth=1555e9, link=300e9),
        _gpu("a100", A100, "NVIDIA A100 80GB PCIe", peak=312e12, memory=79.0, bandwidth=2039e9, link=300e9),
        _gpu("h100", "NVIDIA H100 80GB HBM3", "NVIDIA H100", peak=989e12, memory=79.0, bandwidth=3350e9, link=450e9),
        _gpu("h200", "NVIDIA H200", peak=989e12, memory=140.0, bandwidth=4800e9, link=450e9),
        _gpu("b200", "NVIDIA B200", peak=2250e12, memory=179.0, bandwidth=8000e9, link=900e9),
    )
}
"""Known devices by the name that a topology such as `v5e:4x4` or `h100:8` starts with."""


def device_of(kind: str) -> Device | None:
    """The device that JAX calls `kind`, as `jax.devices()[0].device_kind` says; None if it is not known."""
    return next((device for device in DEVICES.values() if kind in device.kinds), None)


def mfu(flops: float | int, seconds: float, devices: int, device: Device | None) -> float | None:
    """The share of the devices' peak that `flops` in `seconds` are (Chowdhery et al. 2022); None if it is not known.

    `flops` are those that the model needs, by `cost.flops`, not those that are computed again.
    """
    return None if device is None or seconds <= 0 else flops / seconds / devices / device.peak
