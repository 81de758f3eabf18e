"""edgekit pack, verify, sign."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.command import VERDICT_NO, command, emit

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.bundle import Candidate, PackOptions, Verdict


class Layouts(StrEnum):
    """Where the files of a bundle lie."""

    EDGEKIT = "edgekit"
    TRANSFORMERS_JS = "transformers.js"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "pack")(pack)
    command(app, "verify")(verify)
    command(app, "sign")(sign)


def pack(
    out: Annotated[Path, typer.Option(help="The bundle to write: a directory, or a .zip.")],
    models: Annotated[
        list[Path] | None, typer.Argument(help="Variants of one model, .onnx files; the one to prefer first.")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="A model under a name of its own: --variant small=int8.onnx")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="What the models were made for: --target cuda, or of one: --target small=arm"),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(help="What a variant may run on and nothing else, the best first: --provider small=cuda,cpu"),
    ] = None,
    session_options: Annotated[
        list[str] | None,
        typer.Option(help="How ONNX Runtime opens them, a file of `bench --tune --out`; or of one: small=FILE"),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="A finished directory of `edgekit run`, with its models, figures and data.")
    ] = None,
    choose: Annotated[str, typer.Option(help="Of a run: best, all, or a model's name.")] = "best",
    data: Annotated[
        str | None, typer.Option(help="Golden samples and what the guard learns: a data set's name, an .npz or text.")
    ] = None,
    judge: Annotated[bool, typer.Option(help="Judge the models on the data's test split.")] = True,
    samples: Annotated[int, typer.Option(min=1, max=100, help="Golden samples.")] = 3,
    name: Annotated[str, typer.Option(help="Of the bundle; by default that of the run or the output.")] = "",
    version: Annotated[str, typer.Option(help="Of the bundle.")] = "1",
    license: Annotated[str, typer.Option(help="Of the model, such as Apache-2.0.")] = "",
    description: Annotated[str, typer.Option(help="One sentence.")] = "",
    tokenizer: Annotated[Path | None, typer.Option(help="The tokenizer.json, if not beside the model.")] = None,
    ort: Annotated[bool, typer.Option("--ort", help="Every variant in ORT format too, for reduced builds.")] = False,
    loader: Annotated[bool, typer.Option("--loader", help="The runtime beside it, as one file: loader.py.")] = False,
    layout: Annotated[Layouts, typer.Option(help="Where the files lie.")] = Layouts.EDGEKIT,
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Seal the models by AES-256-GCM; needs a key.")] = False,
    key_file: Annotated[Path | None, typer.Option(help="32 bytes, or 64 hexadecimal digits, to seal with.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable with those digits.")] = None,
    sign: Annotated[Path | None, typer.Option(help="Private Ed25519 key, PEM, to sign with.")] = None,
) -> None:
    """Pack variants of a model with all that an app needs to run and check them."""
    from edgekit.bundle import PackOptions, pack_bundle
    from edgekit.bundle.meant import mean_for

    told = PackOptions(name, version, license, description, data, samples, tokenizer, judge=judge)
    options = replace(
        told, ort=ort, loader=loader, layout=layout.value, key=_key(encrypt, key_file, key_env), signer=sign
    )
    candidates, options = _asked_for(models or [], variant or [], run, choose, options)
    meant = (_by_variant("target", target), _lists(_by_variant("provider", provider)))
    candidates = mean_for(candidates, *meant, _by_variant("session-options", session_options))
    packed = pack_bundle(candidates, out, options)
    emit(packed.as_dict(), lambda: _table(packed.as_dict()))


def verify(
    bundle: Annotated[Path, typer.Argument(help="A directory or a .zip that `edgekit pack` made.")],
    key: Annotated[Path | None, typer.Option(help="Public key, PEM, of who must have signed it.")] = None,
    provider: Annotated[str, typer.Option(help="Which the models are run on.")] = "cpu",
    key_file: Annotated[Path | None, typer.Option(help="Key of encrypted models.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable with that key.")] = None,
) -> None:
    """Check a bundle here: every file's hash, who signed it, and each variant's golden answers."""
    from edgekit.bundle import verify_bundle
    from edgekit.runtime.seal import read_key

    verdict = verify_bundle(bundle, public_key=key, provider=provider, key=read_key(key_file, key_env))
    emit(verdict.as_dict(), lambda: _checks_table(verdict))
    for fault in verdict.faults:
        print(f"failed: {fault.what}: {fault.detail}", file=sys.stderr)
    if verdict.faults:
        raise typer.Exit(VERDICT_NO)


def sign(
    bundle: Annotated[Path, typer.Argument(help="A directory or a .zip that `edgekit pack` made.")],
    key: Annotated[Path, typer.Option(help="Private Ed25519 key, PEM: openssl genpkey -algorithm ed25519")],
) -> None:
    """Sign a bundle; `verify --key` with the public key tells whether it is still yours."""
    from edgekit.bundle import sign_bundle

    fingerprint = sign_bundle(bundle, key)
    emit({"bundle": str(bundle), "key": fingerprint}, lambda: f"{bundle} is signed with key {fingerprint}")


def _asked_for(
    models: list[Path], named: list[str], run: Path | None, choose: str, options: PackOptions
) -> tuple[list[Candidate], PackOptions]:
    from edgekit.bundle.given import given_models
    from edgekit.pipeline.finished import models_of_run

    if run is None:
        return given_models(models, _pairs(named), options), options
    if models or named:
        raise typer.BadParameter("name models, or a finished run with --run, not both")
    return models_of_run(run, choose, options)


def _key(encrypt: bool, file: Path | None, variable: str | None) -> bytes | None:
    from edgekit.errors import BundleError
    from edgekit.runtime.seal import read_key

    if not encrypt and (file or variable):
        raise typer.BadParameter("--key-file and --key-env go with --encrypt")
    key = read_key(file, variable)
    if encrypt and key is None:
        raise BundleError(
            "--encrypt needs a key: --key-file FILE or --key-env NAME; make one with: openssl rand -hex 32 > key"
        )
    return key


def _pairs(named: list[str]) -> list[tuple[str, Path]]:
    found = []
    for text in named:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise typer.BadParameter(f"--variant {text!r} is not of the form NAME=PATH")
        found.append((name, Path(path)))
    return found


def _by_variant(flag: str, given: list[str] | None) -> dict[str, str]:
    """NAME=VALUE for one variant, VALUE for all that are not named."""
    found: dict[str, str] = {}
    for text in given or []:
        name, equals, value = text.partition("=") if "=" in text else ("", "", text)
        if not value or (equals and not name):
            raise typer.BadParameter(f"--{flag} {text!r} is not of the form VALUE or VARIANT=VALUE")
        if name in found:
            raise typer.BadParameter(f"--{flag} is given twice for {name or 'all variants'}")
        found[name] = value
    return found


def _lists(found: dict[str, str]) -> dict[str, list[str]]:
    return {name: [part.strip() for part in value.split(",")] for name, value in found.items()}


def _checks_table(verdict: Verdict) -> Table:
    from rich.table import Table

    unrun = sum(c.passed is None and c.what.startswith("variant") for c in verdict.checks)
    outcome = "failed" if verdict.faults else "passed" + (f", {unrun} not run" if unrun else "")
    table = Table(title=f"{verdict.bundle}: {outcome} (ONNX Runtime {verdict.onnxruntime})", title_justify="left")
    table.add_column("checked", no_wrap=True)
    table.add_column("result")
    table.add_column("found", overflow="fold")
    for check in verdict.checks:
        table.add_row(check.what, _RESULTS[check.passed], check.detail)
    return table


_RESULTS = {True: "passed", False: "FAILED", None: "-"}


def _table(content: dict[str, Any]) -> Table:
    from rich.table import Table

    title = f"{content['out']}: {content['name']} {content['version']}, {content['size_bytes']:,} bytes"
    table = Table(title=title, title_justify="left")
    table.add_column("variant", no_wrap=True)
    for column in ("precision", "for", "bytes", "quality", "tolerance", "ONNX Runtime"):
        table.add_column(column, overflow="fold")
    for row in content["variants"]:
        metric = row["metric"]
        quality = f"{metric['name']} {metric['value']:.4f}" if metric else "-"
        allowed = f"{content['tolerance'][row['name']]['absolute']:g}"
        table.add_row(
            *(row["name"], row["precision"], ", ".join(row["providers"])),
            *(f"{row['size_bytes']:,}", quality, allowed),
            f"{row['minimum_onnxruntime']}+",
        )
    return table
