from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.errors import RecipeError
from edgekit.families import FAMILIES
from edgekit.families.bert import pretraining_inputs
from edgekit.specs import TensorSpec
from edgekit.tasks import TASKS


def picture(channels: int, height: int, width: int) -> tuple[TensorSpec, ...]:
    return (TensorSpec("image", "float32", ("batch", channels, height, width)),)


DIGITS, CLOTHES, COLOUR = picture(1, 8, 8), picture(1, 28, 28), picture(3, 20, 12)
TEXT = (TensorSpec("ids", "int64", ("batch", "length"), 300),)
OF_TASK = {"language-modelling": TEXT, "masked-language-modelling": pretraining_inputs(300)}
PICTURES = ("cnn", "resnet", "vgg", "vit")
NAMED = ("pico", "small", "base")
SERIES = (TensorSpec("series", "float32", ("batch", "time", 12)),)
RECURRENT = ("rnn", "gru", "lstm")
CLASSIFIERS = [f.name for f in FAMILIES.values() if f.tasks[0] == "classification" and f.name not in RECURRENT]
SIZES = [(name, size) for name in CLASSIFIERS for size in FAMILIES[name].sizes]


def make(family: str, size: str, inputs: tuple[TensorSpec, ...] = (), outputs: int = 10) -> nn.Module:
    """An untrained module that costs no memory: its weights are on torch's meta device."""
    usual = SERIES if family in RECURRENT else OF_TASK.get(FAMILIES[family].tasks[0], CLOTHES)
    with torch.device("meta"):
        return FAMILIES[family].make(size, inputs or usual, outputs)


def weights(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_says_what_it_is(name: str) -> None:
    family = FAMILIES[name]
    assert family.name == name
    assert tuple(family.sizes)[:3] == NAMED
    assert set(family.tasks) <= set(TASKS)
    assert family.summary
    assert family.paper


@pytest.mark.parametrize("name", FAMILIES)
def test_sizes_grow_and_pico_is_small_enough_for_tests(name: str) -> None:
    counts = [weights(make(name, size)) for size in NAMED]
    assert counts == sorted(counts)
    assert counts[0] < 50_000
    assert counts[2] > 10 * counts[0]


@pytest.mark.parametrize(("name", "size"), [s for s in SIZES if s[1] != "base"])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_shapes_at_any_batch(name: str, size: str, batch: int) -> None:
    inputs = picture(3, 32, 32) if size.startswith("classic") else CLOTHES
    with torch.device("meta"):
        image = torch.zeros(batch, *(int(d) for d in inputs[0].shape[1:]))
    out = make(name, size, inputs, 7).eval()(image)
    assert out.shape == (batch, 7)
    assert out.dtype == torch.float32


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("inputs", [DIGITS, CLOTHES, COLOUR], ids=["digits", "clothes", "colour"])
def test_pictures_of_any_kind(name: str, inputs: tuple[TensorSpec, ...]) -> None:
    module = FAMILIES[name].make("pico", inputs, 7).eval()
    out = module(torch.zeros(2, *(int(d) for d in inputs[0].shape[1:])))
    assert out.shape == (2, 7)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_samples_of_a_batch_do_not_meet(name: str) -> None:
    torch.manual_seed(0)
    module = FAMILIES[name].make("pico", CLOTHES, 10).eval()
    images = torch.randn(3, 1, 28, 28)
    alone = torch.cat([module(image[None]) for image in images])
    np.testing.assert_allclose(module(images).detach().numpy(), alone.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_unknown_size_gives_the_nearest(name: str) -> None:
    allowed = ", ".join(sorted(FAMILIES[name].sizes))
    with pytest.raises(RecipeError) as error:
        FAMILIES[name].make("smal", DIGITS, 10)
    assert str(error.value) == (f"unknown size 'smal' of family '{name}'; did you mean 'small'? allowed: {allowed}")


@pytest.mark.parametrize("name", ["cnn", "resnet", "vgg"])
def test_convolutions_refuse_dynamic_int8(name: str) -> None:
    assert "3 to 8 times slower" in FAMILIES[name].refuses["quantize: dynamic"]


@pytest.mark.parametrize("name", PICTURES)
def test_only_pictures_are_taken(name: str) -> None:
    with pytest.raises(
        RecipeError, match=rf"^family '{name}' takes one picture .*, got x: float32 batchx13; "
    ) as error:
        FAMILIES[name].make("pico", (TensorSpec("x", "float32", ("batch", 13)),), 2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "size", "pixels", "halvings"), [("cnn", "small", 3, 2), ("resnet", "base", 7, 3), ("vgg", "base", 15, 4)]
)
def test_a_picture_too_small_to_be_halved(name: str, size: str, pixels: int, halvings: int) -> None:
    least = 2**halvings
    with pytest.raises(RecipeError) as error:
        FAMILIES[name].make(size, picture(1, pixels, 40), 10)
    assert str(error.value) == (
        f"family '{name}' at this size halves the picture {halvings} times and needs at least {least}x{least} pixels, "
        f"got {pixels}x40; choose a smaller size of the family or larger pictures"
    )
    assert weights(make(name, size, picture(1, least, least))) > 0


def test_cnn_weights_against_the_formula() -> None:
    """Two 3x3 convolutions a stage without bias, two numbers a channel of batch normalisation, one linear layer."""
    channels = (8, 16)
    pairs = [(1, 8), (8, 8), (8, 16), (16, 16)]
    wanted = sum(9 * a * b + 2 * b for a, b in pairs) + channels[-1] * 10 + 10
    assert weights(make("cnn", "pico", DIGITS)) == wanted


def test_depthwise_weights_against_the_formula() -> None:
    """Of a pair of channels only the 1x1 is left of nine, and nine numbers of each channel."""
    pairs = [(8, 8), (8, 16), (16, 16)]
    wanted = 9 * 8 + 2 * 8 + sum(9 * a + 2 * a + a * b + 2 * b for a, b in pairs) + 16 * 10 + 10
    assert weights(make("cnn", "pico-depthwise")) == wanted
    assert weights(make("cnn", "base-depthwise")) < weights(make("cnn", "base")) / 8


def test_mlp_weights_against_the_formula() -> None:
    features = math.prod((1, 8, 8))
    wanted = features * 32 + 2 * 32 + 32 * 10 + 10
    assert weights(make("mlp", "pico", DIGITS)) == wanted


def test_vit_weights_against_the_formula() -> None:
    """Four square matrices and an MLP of 4x a block, each with biases, two norms; patches, positions, class token."""
    width, depth, tokens, patch = 32, 2, 49 + 1, 4 * 4
    attention, mlp, norm = 4 * width * (width + 1), 2 * 4 * width * width + 5 * width, 2 * width
    ends = (patch + 1) * width + tokens * width + width + norm + 10 * (width + 1)
    assert weights(make("vit", "pico")) == depth * (attention + mlp + 2 * norm) + ends


@pytest.mark.parametrize(
    ("family", "size", "published"),
    [
        ("resnet", "base", 11_689_512),
        ("resnet", "base-bottleneck", 25_557_032),
        ("vgg", "classic", 138_357_544),
        ("vgg", "classic-norm", 138_365_992),
    ],
)
def test_the_papers_networks_have_their_published_weights(family: str, size: str, published: int) -> None:
    """ResNet-18, ResNet-50, VGG-16 with and without batch normalisation, for 1000 classes of ImageNet."""
    assert weights(make(family, size, picture(3, 224, 224), 1000)) == published


def test_cnn_halves_the_picture_between_stages() -> None:
    module = FAMILIES["cnn"].make("small", DIGITS, 10).eval()
    wanted = [(16, 8, 8), (16, 8, 8), (48, 4, 4), (48, 4, 4), (96, 2, 2), (96, 2, 2)]
    assert shapes_of(module, nn.Conv2d, DIGITS) == wanted


def test_a_depthwise_stage_halves_at_its_first_convolution() -> None:
    module = FAMILIES["cnn"].make("pico-depthwise", DIGITS, 10).eval()
    wanted = [(8, 8, 8), (8, 8, 8), (8, 8, 8), (8, 4, 4), (16, 4, 4), (16, 4, 4), (16, 4, 4)]
    assert shapes_of(module, nn.Conv2d, DIGITS) == wanted


def test_a_large_picture_is_quartered_on_entering_a_resnet() -> None:
    small = FAMILIES["resnet"].make("pico", picture(3, 60, 60), 10).eval()
    large = FAMILIES["resnet"].make("pico", picture(3, 64, 96), 10).eval()
    from edgekit.families.layers import Residual

    assert shapes_of(small, Residual, picture(3, 60, 60)) == [(8, 60, 60), (16, 30, 30), (32, 15, 15)]
    assert shapes_of(large, Residual, picture(3, 64, 96)) == [(8, 16, 24), (16, 8, 12), (32, 4, 6)]


def test_a_bottleneck_widens_four_times() -> None:
    from edgekit.families.layers import Residual

    module = FAMILIES["resnet"].make("pico-bottleneck", CLOTHES, 10).eval()
    assert shapes_of(module, Residual, CLOTHES) == [(32, 28, 28), (64, 14, 14)]


def test_a_residual_block_adds_its_input() -> None:
    from edgekit.families.layers import Residual

    block = Residual(nn.Conv2d(2, 2, 1, bias=False), nn.Identity())
    nn.init.zeros_(block.body.weight)
    image = torch.tensor([-1.0, 2.0]).reshape(1, 2, 1, 1)
    assert block(image).flatten().tolist() == [0.0, 2.0]


def test_he_initialisation_keeps_the_size_of_what_goes_through() -> None:
    """The weights' spread is that of section 2.2; without normalisation a deep plain net still answers with about 1."""
    torch.manual_seed(0)
    module = FAMILIES["vgg"].make("small-plain", CLOTHES, 10)
    last = [m for m in module.modules() if isinstance(m, nn.Conv2d)][-1]
    assert float(last.weight.detach().std()) == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)
    assert not last.bias.any()
    features = module.get_submodule("features")(torch.randn(4, 1, 28, 28))
    assert 0.05 < float(features.detach().square().mean().sqrt()) < 5


def test_craft_has_the_trunk_of_vgg16_up_to_its_twelfth_convolution() -> None:
    """What the text detector CRAFT (arXiv:1904.01941) takes of VGG-16; the layers keep the numbers they have there."""
    trunk = make("vgg", "craft", picture(3, 64, 64)).get_submodule("features")
    convolutions = {name: tuple(m.weight.shape) for name, m in trunk.named_children() if isinstance(m, nn.Conv2d)}
    assert list(convolutions) == ["0", "3", "7", "10", "14", "17", "20", "24", "27", "30", "34", "37"]
    assert convolutions["37"] == (512, 512, 3, 3)
    assert all(f"{index}.bias" in trunk.state_dict() for index in convolutions)


def test_attention_is_the_one_of_torch() -> None:
    from edgekit.families.layers import SelfAttention

    torch.manual_seed(0)
    ours, theirs = SelfAttention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 5, 12)
    wanted = theirs(x, x, x, need_weights=False)[0]
    np.testing.assert_allclose(ours(x).detach().numpy(), wanted.detach().numpy(), atol=1e-6)


def test_tokens_are_the_class_then_the_patches_row_by_row() -> None:
    from edgekit.families.layers import Tokens

    tokens = Tokens(1, (2, 3), 2, 1)
    nn.init.constant_(tokens.project.weight, 0.25)
    nn.init.zeros_(tokens.project.bias)
    nn.init.constant_(tokens.class_token, 9.0)
    nn.init.zeros_(tokens.positions)
    image = torch.arange(6.0).reshape(1, 1, 2, 3).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert tokens(image).flatten().tolist() == [9.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_picture_that_cannot_be_cut_into_patches() -> None:
    with pytest.raises(RecipeError) as error:
        FAMILIES["vit"].make("pico", picture(3, 30, 28), 10)
    assert str(error.value) == (
        "family 'vit' at this size cuts pictures into 4x4 patches, which 30x28 pixels are no multiple of; choose "
        "another size of the family or resize the pictures"
    )


def shapes_of(module: nn.Module, kind: type[nn.Module], inputs: tuple[TensorSpec, ...]) -> list[tuple[int, ...]]:
    """Shapes (c, h, w) of what each layer of a kind gives, in order."""
    found: list[tuple[int, ...]] = []
    for layer in module.modules():
        if isinstance(layer, kind):
            layer.register_forward_hook(lambda _, __, out: found.append(tuple(out.shape[1:])))
    module(torch.zeros(1, *(int(d) for d in inputs[0].shape[1:])))
    return found
