"""The command line: it translates flags to a call, and a result to a table or JSON.

Every import of weight happens inside a command, so that `edgekit --help` answers at once.
"""

from __future__ import annotations

import typer

from edgekit import __version__
from edgekit.cli.command import INTERRUPTED

app = typer.Typer(
    name="edgekit",
    help="From a trained model to the smallest, fastest ONNX file that keeps its accuracy, measured where it will run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"edgekit {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Version.")) -> None:
    pass


__all__ = ["INTERRUPTED", "app", "main"]


def main() -> None:
    """Entry point of the console script."""
    from edgekit.cli.bench import register as add_bench
    from edgekit.cli.bundle import register as add_bundle
    from edgekit.cli.compare import register as add_compare
    from edgekit.cli.compress import register as add_compress
    from edgekit.cli.distill import register as add_distill
    from edgekit.cli.evaluate import register as add_evaluate
    from edgekit.cli.export import register as add_export
    from edgekit.cli.generate import register as add_generate
    from edgekit.cli.look import register as add_look
    from edgekit.cli.predict import register as add_predict
    from edgekit.cli.prune import register as add_prune
    from edgekit.cli.recipes import register as add_recipes
    from edgekit.cli.train import register as add_train

    making = (add_recipes, add_train, add_export, add_compress, add_prune, add_distill)
    for add in (*making, add_evaluate, add_compare, add_bench, add_generate, add_bundle, add_predict, add_look):
        add(app)
    app()
