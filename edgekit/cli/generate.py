"""edgekit generate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.command import command, emit, json_wanted

if TYPE_CHECKING:
    from edgekit.generate import SessionModel


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "generate")(generate)


def generate(
    model: Annotated[Path, typer.Argument(help="A language model's .onnx file, its tokenizer.json beside it.")],
    prompt: Annotated[str, typer.Argument(help="The text to go on from; an empty one begins anew.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens to write.")] = 128,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token always.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Draw from so many likeliest tokens; 0 for all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens of this share; 1 for all.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same text.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="Stop before this text; can be given again.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="tokenizer.json, where it does not lie beside.")] = None,
    provider: Annotated[str, typer.Option(help="`edgekit list providers` names them.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="By default all cores.")] = None,
) -> None:
    """Write text with a language model, and say how fast it is."""
    from edgekit.generate import Request, Sampling
    from edgekit.generate import generate as write
    from edgekit.generate.files import open_model
    from edgekit.progress import note

    sampling = Sampling(temperature, top_k, top_p, seed)
    language, known = open_model(model, tokenizer=tokenizer, provider=provider, threads=threads)
    request = Request(prompt, max_tokens, stop or (), sampling)
    if json_wanted():
        done = write(language, known, request)
        emit({"model": str(model), "prompt": prompt, **done.as_dict(), **_memory(language)})
        return
    typer.echo(prompt, nl=False)
    done = write(language, known, request, lambda piece: typer.echo(piece, nl=False))
    typer.echo()
    speed = "" if done.tokens_per_second is None else f", then {done.tokens_per_second:.1f} tokens/s"
    memory = f"cache {done.cache_bytes / 1e6:.2f} MB{_at_most(language)}" if language.has_cache else "no cache"
    counted = f"{done.prompt_tokens} + {done.tokens} tokens ({done.stopped})"
    note(f"{counted}; first after {done.first_token_ms:.1f} ms{speed}; {memory}")


def _memory(model: SessionModel) -> dict[str, Any]:
    """What it remembers a token, and at its longest."""
    longest = model.longest
    return {
        "has_cache": model.has_cache,
        "cache_bytes_per_token": model.cache_bytes_per_token,
        "longest": longest,
        "longest_cache_bytes": None if longest is None else model.bytes_at(longest),
    }


def _at_most(model: SessionModel) -> str:
    return "" if model.longest is None else f" of {model.bytes_at(model.longest) / 1e6:.2f} MB at the longest"
