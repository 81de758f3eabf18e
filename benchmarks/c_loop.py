"""The loop in C: built from the installed wheel's library, and talked to while it runs in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import TracebackType

from edgekit.errors import MissingPackageError, ModelError

SOURCE = Path(__file__).with_name("c_loop.c")


def find_compiler() -> str | None:
    """The C compiler on PATH."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def find_library() -> Path | None:
    """ONNX Runtime's shared library in the installed wheel."""
    import onnxruntime

    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    return found[0] if found else None


def why_not() -> str:
    """Why the loop cannot be built here; "" where it can."""
    if find_compiler() is None:
        return "there is no C compiler (cc, gcc or clang)"
    return "" if find_library() else "the installed ONNX Runtime has no libonnxruntime.so"


def build(directory: Path) -> Path:
    """Compile the loop.

    Raises:
        MissingPackageError: without a compiler or the library.
        ModelError: if it does not compile.
    """
    compiler, program = find_compiler(), directory / "c_loop"
    if compiler is None or why_not():
        raise MissingPackageError(f"the loop in C cannot be built: {why_not()}")
    command = [compiler, "-O2", "-std=gnu11", "-Wall", "-Wextra", str(SOURCE), "-o", str(program), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 or done.stderr:
        raise ModelError(f"{SOURCE.name} does not compile cleanly: {done.stderr}")
    return program


class CLoop:
    """A running loop, which measures when it is asked to.

    Args:
        program: What `build` made.
        model: A model with one float32 input.
        shape: The input's.
        threads: Intra-op threads.

    Attributes:
        version: ONNX Runtime's version, as the library itself says.
        output_sum: Sum of the elements of the first output, for an input of ones.
        output_count: How many there are.
    """

    def __init__(self, program: Path, model: Path, shape: tuple[int, ...], *, threads: int = 1) -> None:
        words = [program, find_library(), model, threads, *shape]
        self._process = subprocess.Popen(
            [str(w) for w in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        version, total, count = self._line()
        self.version, self.output_sum, self.output_count = version, float(total), int(count)

    def median_ms(self, seconds: float) -> tuple[float, int]:
        """(median latency, number of runs) of a loop for so long."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{1000 * seconds}\n")
        self._process.stdin.flush()
        runs, median_ns = self._line()
        return int(median_ns) / 1e6, int(runs)

    def _line(self) -> list[str]:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = self._process.stdout.readline().split()
        if not line:
            said = " ".join(self._process.stderr.read().split())
            self.close()
            raise ModelError(f"the loop in C failed: {said}")
        return line

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> CLoop:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
