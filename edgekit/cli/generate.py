"""edgekit generate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.command import command, emit, flat, json_wanted, refuse_beside

if TYPE_CHECKING:
    from edgekit.data.text.tokenizer import TextTokenizer
    from edgekit.generate import Request, SessionModel
    from edgekit.generate.pairs import Translator

_PAIRS = "Encoder and decoder"


@dataclass(frozen=True)
class PairFlags:
    """The flags of a model of pairs."""

    decoder: Annotated[
        Path | None, typer.Option(help="The decoder's .onnx file of the encoder.", rich_help_panel=_PAIRS)
    ] = None
    beam: Annotated[
        int, typer.Option(min=1, help="Texts to go on with at once; 1 is greedy.", rich_help_panel=_PAIRS)
    ] = 1
    length_penalty: Annotated[
        float, typer.Option(help="Answers compare by log-probability / length ** this.", rich_help_panel=_PAIRS)
    ] = 1.0


_OF_PAIRS = {"model", "prompt", "max_tokens", "provider", "threads", *PairFlags.__dataclass_fields__}


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "generate")(generate)


def generate(
    model: Annotated[
        Path,
        typer.Argument(help="A language model's .onnx file, or an encoder's; the tokenizer.json lies beside it."),
    ],
    prompt: Annotated[
        str, typer.Argument(help="The text to go on from (an empty one begins anew), or to turn into another.")
    ] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens to write.")] = 128,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token always.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Draw from so many likeliest tokens; 0 for all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens of this share; 1 for all.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same text.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="Stop before this text; can be given again.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="tokenizer.json, where it does not lie beside.")] = None,
    provider: Annotated[str, typer.Option(help="`edgekit list providers` names them.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="By default all cores.")] = None,
    *,
    pairs: PairFlags,
) -> None:
    """Write text with a language model, or turn a text into another with an encoder and a decoder."""
    given = flat(locals())
    from edgekit.generate.pairs import is_model_of_pairs, open_translator

    if pairs.decoder is not None or is_model_of_pairs(model):
        refuse_beside("a model of pairs of texts", generate, given, _OF_PAIRS)
        translator = open_translator(model, pairs.decoder, provider=provider, threads=threads)
        return _turn(translator, model, prompt, pairs, max_tokens)
    refuse_beside("a language model", generate, given, set(given) - {"beam", "length_penalty"})
    from edgekit.generate import Request, Sampling
    from edgekit.generate.files import open_model

    request = Request(prompt, max_tokens, stop or (), Sampling(temperature, top_k, top_p, seed))
    language, known = open_model(model, tokenizer=tokenizer, provider=provider, threads=threads)
    _write(language, known, model, request)


def _write(language: SessionModel, known: TextTokenizer, model: Path, request: Request) -> None:
    """Write on from the prompt; every piece as soon as it is sure, but for --json."""
    from edgekit.generate import generate as write
    from edgekit.progress import note
    from edgekit.report.figures import human_bytes

    if json_wanted():
        done = write(language, known, request)
        return emit({"model": str(model), "prompt": request.prompt, **done.as_dict(), **_memory(language)})
    unsaid = [request.prompt]  # until the first piece: what is refused says nothing on stdout

    def show(piece: str) -> None:
        typer.echo("".join([*unsaid, piece]), nl=False)
        unsaid.clear()

    done = write(language, known, request, show)
    typer.echo("".join(unsaid))
    speed = "" if done.tokens_per_second is None else f", then {done.tokens_per_second:.1f} tokens/s"
    memory = f"cache {human_bytes(done.cache_bytes)}{_at_most(language)}" if language.has_cache else "no cache"
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
    from edgekit.report.figures import human_bytes

    return "" if model.longest is None else f" of {human_bytes(model.bytes_at(model.longest))} at the longest"


def _turn(translator: Translator, model: Path, prompt: str, pairs: PairFlags, max_tokens: int) -> None:
    """Write the answer to a text, and how likely it is."""
    import time

    from edgekit.progress import note

    started = time.perf_counter()
    best, *others = translator.write(prompt, width=pairs.beam, penalty=pairs.length_penalty, most=max_tokens)
    ms = 1e3 * (time.perf_counter() - started)
    content = {"model": str(model), "decoder": str(pairs.decoder) if pairs.decoder else None, "prompt": prompt}
    emit(
        {**content, **best.as_dict(), "others": [a.as_dict() for a in others], "ms": ms},
        lambda: "\n".join([best.text, *(f"{a.text}  ({a.log_probability:.2f})" for a in others)]),
    )
    ended = "" if best.ended else ", cut at its longest"
    note(f"{len(best.ids)} tokens{ended}; log-probability {best.log_probability:.2f}; {ms:.1f} ms")
