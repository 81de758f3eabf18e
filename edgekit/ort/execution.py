"""How a provider is to run a model, and where its nodes went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit.errors import ProviderError
from edgekit.ort.providers import Provider

RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"


@dataclass(frozen=True)
class Execution:
    """What is asked of a provider beyond its name.

    Attributes:
        device: Index of the device; None is the provider's default.
        allow_fallback: Whether the CPU may take the place of a provider that is not there; it is strict otherwise.
        strict_placement: Whether it is an error if a node runs on the CPU.
        options: Provider options beyond those of the provider's record.
    """

    device: int | None = None
    allow_fallback: bool = False
    strict_placement: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds; `Execution(**...)` makes it again."""
        return {**vars(self), "options": dict(self.options)}


@dataclass(frozen=True)
class Node:
    """A node of the graph as ONNX Runtime divided it."""

    op_type: str
    name: str
    provider: str


def assigned_nodes(session: Any) -> list[Node] | None:
    """Which provider each node was assigned to, of an `onnxruntime.InferenceSession` that records it.

    It holds the graph's own nodes, before a provider fuses them; None where ONNX Runtime is older than 1.24.
    """
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    if tell is None:
        return None
    return [Node(n.op_type, n.name, part.ep_name) for part in tell() for n in part.get_nodes()]


def check_device(provider: Provider, device: int | None) -> None:
    """Refuse a device that cannot be chosen, or that this machine does not have.

    Raises:
        ProviderError: for both; the second only where the driver tells which there are.
    """
    if device is None:
        return
    if not provider.device_options:
        raise ProviderError(f"provider {provider.name!r} has no devices to choose from; leave --device out")
    if device < 0:
        raise ProviderError(f"device {device} cannot be; devices are counted from 0")
    if provider.memory != "cuda":
        return
    from edgekit.nvidia import gpus

    if gpus() and device >= len(gpus()):
        raise ProviderError(f"device {device} is not on this machine; it has {'; '.join(map(str, gpus()))}")
