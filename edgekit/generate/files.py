"""Files of language models: the model with the tokeniser beside it, and data in the ids of that."""

from __future__ import annotations

from pathlib import Path

from edgekit.data import Split, is_text, load_split, longest_told, our_task, refuse_longer
from edgekit.data.text.beside import find_tokenizer, find_tokenizers, told_of
from edgekit.data.text.tokenizer import PairTokenizers, TextTokenizer
from edgekit.errors import ModelError
from edgekit.generate.model import SessionModel
from edgekit.ort import Session


def tokenizers_of(path: Path, runner: object) -> TextTokenizer | PairTokenizers:
    """The tokeniser that a model was trained with, or the two of a model of pairs.

    Args:
        path: A checkpoint directory or an .onnx file.
        runner: The same model, opened.

    Raises:
        ModelError: if it is missing or of another model.
    """
    from edgekit.training.checkpoint import TrainedModel

    if isinstance(runner, TrainedModel):
        return find_tokenizers(path, runner.card.preprocessing)
    return find_tokenizers(path, told_of(runner.metadata if isinstance(runner, Session) else {}))


def split_for(model: Path, data: str, split: str) -> Split:
    """One split of data as an .onnx file takes it: text in the ids of the tokeniser beside it.

    Raises:
        DataError: if the data is not there.
        ModelError: for text, if the tokeniser is missing or of another model.
    """
    if not is_text(data):
        return load_split(data, split)
    from edgekit.graph.read import read_model
    from edgekit.graph.stored import spec_of

    proto = read_model(model)
    metadata = {p.key: p.value for p in proto.metadata_props}
    tokenizer = find_tokenizers(model, told_of(metadata))
    inputs = [spec_of(value) for value in proto.graph.input]
    loaded = load_split(data, split, task=metadata.get("edgekit.task", ""), inputs=inputs, tokenizer=tokenizer)
    return refuse_longer(loaded, longest_told(metadata), str(model))


def usual_metric(model: Path, data: str) -> str:
    """The metric that an .onnx file is judged by where none is asked for: for text that of its task, else top1."""
    if not is_text(data):
        return "top1"
    from edgekit.graph.read import read_model
    from edgekit.tasks import TASKS

    metadata = {p.key: p.value for p in read_model(model).metadata_props}
    task = our_task(metadata.get("edgekit.task", ""))
    return TASKS[task].metric if task in TASKS else "top1"


def open_model(
    path: Path, *, tokenizer: Path | None = None, provider: str = "cpu", threads: int | None = None
) -> tuple[SessionModel, TextTokenizer]:
    """Open a language model.

    Args:
        path: An .onnx file.
        tokenizer: Where its tokenizer.json lies, if not beside it.
        provider: Short name.
        threads: Intra-op threads; by default what affinity and cgroup allow.

    Raises:
        ModelError: if it is no language model, or its tokeniser is missing or of another model.
        ProviderError: if the provider is not there.
    """
    from edgekit.graph.admit import admit_model

    if path.is_dir():
        raise ModelError(
            f"{path} is a directory; write the model as ONNX first: edgekit export {path} --part cache --out gpt.onnx"
        )
    admit_model(path)
    session = Session(path, provider, threads=threads)
    model = SessionModel(session, longest_told(session.metadata))
    return model, find_tokenizer(path, told_of(session.metadata), tokenizer)
