"""A bundle on a command line: python app.py BUNDLE INPUT... (see README.md)."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

VERDICT_NO = 3


def main() -> int:
    """Answer pictures, texts or the camera, or check the golden samples."""
    asked = _arguments()
    try:
        runtime = _runtime(asked)
    except (ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    try:
        keys = {"public_key": asked.key, "key": runtime.read_key(asked.key_file, asked.key_env)}
        if asked.golden:
            return 0 if check_golden(runtime, asked, keys) else VERDICT_NO
        with runtime.load(asked.bundle, provider=asked.provider, variant=asked.variant, **keys) as model:
            for name, given in _inputs(asked):
                _show(name, model.predict(given, top=asked.top))
    except runtime.EdgekitError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Answer pictures or texts with a bundle's model.")
    parser.add_argument("bundle", type=Path, help="a directory or a .zip")
    parser.add_argument("inputs", nargs="*", help="picture or sound files, or texts for a model of text")
    parser.add_argument("--camera", type=int, metavar="N", help="one picture of this camera; needs opencv-python")
    parser.add_argument("--golden", action="store_true", help="check the golden samples on this machine")
    parser.add_argument("--provider", help="only this one, such as cuda")
    parser.add_argument("--variant", help="only this one")
    parser.add_argument("--key", type=Path, help="public key, PEM, of who must have signed the bundle")
    parser.add_argument("--key-file", type=Path, help="key of an encrypted bundle")
    parser.add_argument("--key-env", help="environment variable with that key")
    parser.add_argument("--top", type=int, default=3, help="classes to name (default: 3)")
    parser.add_argument("--loader", action="store_true", help="run the bundle's own loader.py: only of one you trust")
    asked = parser.parse_args()
    if not asked.inputs and asked.camera is None and not asked.golden:
        parser.error("name an input, --camera N or --golden")
    return asked


def _runtime(asked: argparse.Namespace) -> ModuleType:
    """The runtime of edgekit in one namespace; the bundle's single file has the same names."""
    if asked.loader:
        return _import_file(asked.bundle / "loader.py")
    import edgekit.runtime
    from edgekit.errors import BundleError, EdgekitError
    from edgekit.runtime import archive, opening, seal

    joined = ModuleType("runtime")
    for module in (archive, opening, seal, edgekit.runtime):
        vars(joined).update(vars(module))
    vars(joined).update({"EdgekitError": EdgekitError, "BundleError": BundleError})
    return joined


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("loader", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"{path} is not there; pack the bundle as a directory and with --loader")
    module = importlib.util.module_from_spec(spec)
    sys.modules["loader"] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def _inputs(asked: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    yield from ((word, word) for word in asked.inputs)
    if asked.camera is not None:
        yield f"camera {asked.camera}", take_picture(asked.camera)


def take_picture(number: int) -> np.ndarray[Any, Any]:
    """One picture of a camera: uint8 (height, width, 3), red first."""
    try:
        import cv2
    except ModuleNotFoundError:
        raise SystemExit("error: --camera needs OpenCV; install it: pip install opencv-python-headless") from None
    camera = cv2.VideoCapture(number)
    there, picture = camera.read()
    camera.release()
    if not there:
        raise SystemExit(f"error: camera {number} gives no picture; is it connected, and used by nobody else?")
    return np.ascontiguousarray(picture[..., ::-1])  # OpenCV has blue first


def _show(name: str, answer: Any) -> None:
    if answer.top:
        told = ", ".join(f"{c.label} {100 * c.score:.1f} %" for c in answer.top)
    elif answer.values:
        told = ", ".join(f"{k} {v:.6g}" for k, v in answer.values.items())
    else:
        told = ", ".join(f"{k} {'x'.join(map(str, v.shape))}" for k, v in answer.outputs.items())
    print(f"{name}: {told}")
    for warning in answer.warnings:
        print(f"  warning: {warning}", file=sys.stderr)


def check_golden(runtime: ModuleType, asked: argparse.Namespace, keys: Mapping[str, Any]) -> bool:
    """Run the golden samples of every variant that runs here: stored inputs, and raw samples through preprocessing."""
    good, checked = True, 0
    with runtime.open_archive(asked.bundle) as archive:
        manifest = runtime.read_manifest(runtime.read_file(archive, "manifest.json", 16 << 20))
        for variant in manifest.variants:
            if asked.variant not in (None, variant.name):
                continue
            try:
                model = runtime.load(asked.bundle, variant=variant.name, provider=asked.provider, guard=None, **keys)
            except runtime.EdgekitError as error:
                print(f"left out {variant.name}: {error}")
                continue
            for name, ok, detail in _check_variant(runtime, archive, manifest, model):
                print(f"{'ok  ' if ok else 'FAIL'} {name}: {detail}")
                good, checked = good and ok, checked + 1
            model.close()
    if not checked:
        print("no variant could be checked")
    return good and checked > 0


def _check_variant(runtime: ModuleType, archive: Any, manifest: Any, model: Any) -> Iterator[tuple[str, bool, str]]:
    try:
        yield from _check_samples(runtime, archive, manifest, model)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:  # it is what a foreign file says
        reason = f"damaged ({type(error).__name__}: {error})"
        raise runtime.BundleError(f"the golden part of the manifest is {reason}; get the bundle again") from error


def _check_samples(runtime: ModuleType, archive: Any, manifest: Any, model: Any) -> Iterator[tuple[str, bool, str]]:
    name, golden = model.variant.name, manifest.golden
    for index, sample in enumerate(golden["samples"]):
        wanted = _arrays(runtime, archive, manifest, golden["outputs"][name][index])
        feeds = _arrays(runtime, archive, manifest, sample["inputs"])
        yield f"{name} input {index}", *_compare(model.run(feeds), wanted, golden["tolerance"][name])
        if sample.get("raw"):
            raw = runtime.read_checked(archive, sample["raw"], manifest.files[sample["raw"]])
            given = raw.decode() if sample["raw"].endswith(".txt") else raw
            got = {k: v[None] for k, v in model.predict(given).outputs.items()}
            yield f"{name} raw {index}", *_compare(got, wanted, golden["tolerance"][name])


def _arrays(runtime: ModuleType, archive: Any, manifest: Any, entries: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, entry in entries.items():
        content = runtime.read_checked(archive, entry["file"], manifest.files[entry["file"]])
        dtype = np.dtype(entry["dtype"]).newbyteorder("<")
        found[name] = np.frombuffer(content, dtype).reshape(entry["shape"]).astype(entry["dtype"])
    return found


def _compare(got: Mapping[str, Any], wanted: Mapping[str, Any], tolerance: Mapping[str, Any]) -> tuple[bool, str]:
    """|got - wanted| <= absolute + relative * |wanted|, and the same best class where the bundle asks for it."""
    if not (wanted and 0 <= tolerance["relative"] < 1 and tolerance["absolute"] >= 0):
        raise ValueError("it holds no output, or its tolerance allows any")
    ok, worst, where = True, -1.0, ""
    for name, array in wanted.items():
        a, b = got[name].astype(np.float64), array.astype(np.float64)
        if a.shape != b.shape:
            return False, f"{name} has shape {a.shape}, not {b.shape}"
        error = float(np.abs(a - b).max(initial=0))
        near = np.allclose(a, b, rtol=tolerance["relative"], atol=tolerance["absolute"], equal_nan=True)
        same = not tolerance.get("same_top1") or bool((a.argmax(-1) == b.argmax(-1)).all())
        ok, worst, where = (ok and near and same, *max((worst, where), (error, name)))
    return ok, f"{where} is off by {worst:.1e}"


if __name__ == "__main__":
    sys.exit(main())
