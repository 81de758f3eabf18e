"""Inputs and outputs bound to a device's memory, so that a run copies nothing over the bus."""

from __future__ import annotations

from functools import partial

from edgekit.errors import ModelError, brief
from edgekit.ort.providers import find_provider
from edgekit.ort.runtime import require_ort
from edgekit.ort.session import Session, interrupt_or
from edgekit.specs import Array, Feeds, TensorSpec


class BoundRun:
    """One run of a session on inputs that lie on its device, into outputs that stay there.

    A call waits until the device is done: ONNX Runtime synchronises at the end of each run. Where the provider has no
    memory of its own, it is the CPU's that is bound, which saves the copies between NumPy and ONNX Runtime.

    Args:
        session: What runs.
        feeds: One feed; copied to the device once.

    Raises:
        ModelError: if an input or an output cannot be bound, or the first run fails.
    """

    def __init__(self, session: Session, feeds: Feeds) -> None:
        self._session = session
        for spec in session.inputs:
            if not _is_numeric(spec):
                raise ModelError(f"only tensors of numbers can be bound, and input {spec} is none; use --no-io-binding")
        try:
            self._binding = session.raw.io_binding()
            self._bind_inputs(feeds)
            self._bind_outputs()
        except Exception as error:
            interrupt_or(error)
            raise ModelError(f"inputs and outputs cannot be bound to the device: {brief(error)}") from error
        # as little as can be between the clock's two readings
        self.run = partial(session.raw.run_with_iobinding, self._binding)
        self.run_interruptibly = partial(session.raw.run_with_iobinding, self._binding, session.run_options)

    def __call__(self) -> None:
        """Run once, stopped at once when the user asks to stop."""
        self.run_interruptibly()

    def outputs(self) -> list[Array]:
        """Copies of the last run's outputs."""
        return list(self._binding.copy_outputs_to_cpu())

    @property
    def device(self) -> str:
        """ONNX Runtime's name of the memory that is bound."""
        return device_memory(self._session)

    def _bind_inputs(self, feeds: Feeds) -> None:
        for spec in self._session.inputs:
            if self.device == "cpu":
                self._binding.bind_cpu_input(spec.name, feeds[spec.name])
                continue
            value = require_ort().OrtValue.ortvalue_from_numpy(feeds[spec.name], self.device, self._session.device)
            self._binding.bind_ortvalue_input(spec.name, value)
        self._binding.synchronize_inputs()

    def _bind_outputs(self) -> None:
        """Let the first run make the outputs, then keep them: no run after it allocates."""
        for spec in self._session.outputs:
            there = _is_numeric(spec) and self.device != "cpu"
            self._binding.bind_output(spec.name, *((self.device, self._session.device) if there else ("cpu", 0)))
        self._session.raw.run_with_iobinding(self._binding, self._session.run_options)
        for spec, value in zip(self._session.outputs, self._binding.get_outputs(), strict=True):
            if value.is_tensor() and _is_numeric(spec):
                self._binding.bind_ortvalue_output(spec.name, value)


def can_bind(session: Session) -> bool:
    """Whether all inputs of a session are tensors of numbers."""
    return all(map(_is_numeric, session.inputs))


def _is_numeric(spec: TensorSpec) -> bool:
    return spec.dtype != "object" and "(" not in spec.dtype  # as in seq(tensor(float))


def device_memory(session: Session) -> str:
    """Where the inputs and outputs of a session can lie: "cpu", or the memory of its provider."""
    return "cpu" if session.fell_back else find_provider(session.provider).memory or "cpu"
