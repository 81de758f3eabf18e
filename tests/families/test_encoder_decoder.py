from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import ModelError, RecipeError
from edgekit.export.torch_onnx import export_onnx
from edgekit.families import FAMILIES
from edgekit.families.encoder_decoder import EncoderDecoder
from edgekit.ort import Session
from edgekit.specs import TensorSpec
from edgekit.training.checkpoint import ModelCard, TrainedModel, load_checkpoint, save_checkpoint

READ, WRITTEN = 400, 300
TASK = "sequence-to-sequence"


def inputs(written: int = WRITTEN) -> tuple[TensorSpec, ...]:
    return (
        TensorSpec("source", "int64", ("batch", "length"), READ),
        TensorSpec("mask", "int64", ("batch", "length")),
        TensorSpec("target", "int64", ("batch", "target_length"), written),
    )


def pico(size: str = "pico") -> TrainedModel:
    torch.manual_seed(0)
    card = ModelCard("transformer", size, TASK, "pairs", (), inputs(READ if "tied" in size else WRITTEN), {})
    return TrainedModel(card.build().eval(), card)


def texts(batch: int, length: int, vocabulary: int) -> Tensor:
    return torch.randint(0, vocabulary, (batch, length), generator=torch.Generator().manual_seed(length))


def as_torch(ours: EncoderDecoder, width: int, heads: int, depth: int) -> nn.Transformer:
    """torch's own transformer with the same weights."""
    theirs = nn.Transformer(
        width, heads, depth, depth, 4 * width, dropout=0.0, batch_first=True, norm_first=True
    ).eval()
    names = {"attention": "self_attn", "memory_attention": "multihead_attn"}
    norms = {"encoder": ("attention_norm", "mlp_norm"), "decoder": ("attention_norm", "memory_norm", "mlp_norm")}
    for side in ("encoder", "decoder"):
        stack = getattr(theirs, side)
        stack.norm.load_state_dict(getattr(ours, f"{side}_norm").state_dict())
        for block, layer in zip(getattr(ours, side), stack.layers, strict=True):
            layer.linear1.load_state_dict(block.mlp[0].state_dict())
            layer.linear2.load_state_dict(block.mlp[2].state_dict())
            for index, name in enumerate(norms[side], start=1):
                getattr(layer, f"norm{index}").load_state_dict(getattr(block, name).state_dict())
            for name, other in names.items():
                if hasattr(block, name):
                    _copy_attention(getattr(block, name), getattr(layer, other))
    return theirs


def _copy_attention(ours: nn.Module, theirs: nn.MultiheadAttention) -> None:
    parts = [getattr(ours, name) for name in ("query", "key", "value")]
    theirs.in_proj_weight.data = torch.cat([p.weight.data for p in parts])
    theirs.in_proj_bias.data = torch.cat([p.bias.data for p in parts])
    theirs.out_proj.load_state_dict(ours.out.state_dict())  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_it_computes_what_torchs_transformer_does(mode: str) -> None:
    """In evaluation by plain products, in training by the fused one."""
    ours = pico().module
    assert isinstance(ours, EncoderDecoder)
    for layer in ours.modules():
        if isinstance(layer, nn.LayerNorm):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    theirs = as_torch(ours, 32, 2, 2)
    source, target = texts(3, 9, READ), texts(3, 5, WRITTEN)
    mask = (torch.arange(9) < torch.tensor([[9], [4], [1]])).long()
    with torch.no_grad():
        got = ours.train(mode == "train")(source, mask, target)
        embedded = [
            table(ids) * 32**0.5 + ours.positions(torch.arange(ids.shape[1]))
            for table, ids in ((ours.source, source), (ours.target or ours.source, target))
        ]
        wanted = theirs(
            *embedded,
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(5),
            src_key_padding_mask=mask == 0,
            memory_key_padding_mask=mask == 0,
        )
        assert ours.target is not None
        torch.testing.assert_close(got, wanted @ ours.target.weight.T, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_base_is_the_papers_in_size() -> None:
    """The blocks of torch.nn.Transformer, whose defaults are the paper's base; one table of 37,000 pairs of bytes."""
    specs = [TensorSpec(s.name, s.dtype, s.shape, s.vocabulary and 37_000) for s in inputs()]
    with torch.device("meta"):
        module = FAMILIES["transformer"].make("base-tied", tuple(specs), 0, task=TASK)
        blocks = sum(p.numel() for p in nn.Transformer().parameters())
    assert sum(p.numel() for p in module.parameters()) == blocks + 37_000 * 512


def test_what_is_written_later_and_padding_change_nothing() -> None:
    module = pico().module
    source, target = texts(1, 6, READ), texts(1, 6, WRITTEN)
    whole = module(source, torch.ones_like(source), target)
    longer = torch.cat([source, texts(1, 3, READ)], dim=1)
    mask = (torch.arange(9) < 6).long()[None]
    torch.testing.assert_close(module(longer, mask, target), whole, rtol=1e-5, atol=1e-5)
    changed = target.clone()
    changed[0, 4] = (changed[0, 4] + 1) % WRITTEN
    after = module(source, torch.ones_like(source), changed)
    torch.testing.assert_close(after[:, :4], whole[:, :4], rtol=0, atol=0)
    assert (after[:, 4:] - whole[:, 4:]).abs().amax(dim=-1).min() > 1e-4


def test_tied_tables_are_one(tmp_path: Path) -> None:
    model = pico("pico-tied")
    assert [tuple(p.shape) for p in model.module.parameters()].count((READ, 32)) == 1
    save_checkpoint(model, tmp_path, {})
    again = load_checkpoint(tmp_path)
    given = (texts(2, 4, READ), torch.ones(2, 4, dtype=torch.int64), texts(2, 3, READ))
    torch.testing.assert_close(again.module(*given), model.module(*given), rtol=0, atol=0)
    export_onnx(model, tmp_path / "tied.onnx")
    graph = onnx.load(tmp_path / "tied.onnx").graph
    assert sum(READ in w.dims for w in graph.initializer) == 1
    with pytest.raises(
        RecipeError, match="one table for both texts, and there are 400 tokens to read and 300 to write"
    ):
        FAMILIES["transformer"].make("pico-tied", inputs(), 0, task=TASK)


@pytest.mark.parametrize(
    ("part", "taken", "given"),
    [
        ("", "source mask target", "logits: float32 batchxtarget_lengthx300"),
        ("encoder", "source mask", "memory: float32 batchxlengthx32"),
        ("decoder", "target memory mask", "logits: float32 batchxtarget_lengthx300"),
    ],
)
def test_export_of_the_whole_and_of_its_parts(part: str, taken: str, given: str, tmp_path: Path) -> None:
    model = pico().take(part) if part else pico()
    result = export_onnx(model, tmp_path / "part.onnx")
    assert (result.exporter, result.parity.batches) == ("dynamo", (1, 2, 7))
    assert (result.parity.lengths, result.parity.padded) == ((1, 3, 64, 128), True)
    assert result.parity.max_rel < 1e-5
    session = Session(tmp_path / "part.onnx")
    assert [s.name for s in session.inputs] == taken.split()
    assert all(isinstance(d, str) for s in session.inputs for d in s.shape[:2])
    assert [str(s) for s in session.outputs] == [given]
    assert session.metadata["edgekit.longest"] == "128"


def test_encoder_and_decoder_in_two_files_are_the_whole(tmp_path: Path) -> None:
    model = pico()
    for part in ("encoder", "decoder"):
        export_onnx(model.take(part), tmp_path / f"{part}.onnx")
    encoder, decoder = (Session(tmp_path / f"{part}.onnx") for part in ("encoder", "decoder"))
    source, target = texts(7, 11, READ).numpy(), texts(7, 5, WRITTEN).numpy()
    mask = (torch.arange(11) < torch.arange(1, 8)[:, None]).long().numpy()
    memory = encoder.run({"source": source, "mask": mask})[0]
    logits = decoder.run({"target": target, "memory": memory, "mask": mask})[0]
    whole = model.run({"source": source, "mask": mask, "target": target})[0]
    torch.testing.assert_close(torch.from_numpy(logits), torch.from_numpy(whole), rtol=1e-4, atol=1e-4)


def test_parts_that_it_has_not() -> None:
    with pytest.raises(ModelError, match="only a language model has the part 'cache'"):
        pico().take("cache")
    card = ModelCard("transformer", "pico", "language-modelling", "text", (), inputs()[:1], {})
    with pytest.raises(ModelError, match="a language model is a decoder alone"):
        TrainedModel(card.build(), card).take("encoder")


def test_inputs_that_are_no_pair() -> None:
    with pytest.raises(RecipeError, match=r"takes source, mask, target for sequence-to-sequence, .* `data: cmudict`"):
        FAMILIES["transformer"].make("pico", inputs()[:2], 0, task=TASK)
