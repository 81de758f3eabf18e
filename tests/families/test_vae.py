from __future__ import annotations

from typing import Any

import pytest
import torch

from edgekit.errors import RecipeError
from edgekit.families import FAMILIES
from edgekit.families.vae import build_vae
from edgekit.specs import TensorSpec

VAE = FAMILIES["vae"]
DIGITS = (TensorSpec("image", "float32", ("batch", 1, 8, 8)),)
FASHION = (TensorSpec("image", "float32", ("batch", 1, 28, 28)),)
COLOUR = (TensorSpec("image", "float32", ("batch", 3, 20, 12)),)


@pytest.mark.parametrize("size", VAE.sizes)
@pytest.mark.parametrize("inputs", [DIGITS, FASHION, COLOUR], ids=["digits", "fashion", "colour"])
def test_shapes(size: str, inputs: tuple[TensorSpec, ...]) -> None:
    latent = VAE.sizes[size]["latent"]
    image, noise = VAE.model_inputs(size, inputs)
    assert image == inputs[0]
    assert noise == TensorSpec("noise", "float32", ("batch", latent))
    module = VAE.make(size, inputs, 10).eval()
    picture = torch.rand(2, *inputs[0].shape[1:])  # type: ignore[arg-type]
    pixels, mean, log_variance, logits = (o.detach() for o in module(picture, torch.zeros(2, latent)))
    assert pixels.shape == logits.shape == picture.shape
    assert mean.shape == log_variance.shape == (2, latent)
    assert 0 <= float(pixels.min()) <= float(pixels.max()) <= 1


@pytest.mark.parametrize("size", ["pico", "pico-dense"])
def test_together_is_encoder_then_decoder(size: str) -> None:
    torch.manual_seed(0)
    module: Any = VAE.make(size, DIGITS, 10).eval()
    picture, noise = torch.rand(3, 1, 8, 8), torch.randn(3, 8)
    pixels, mean, log_variance, logits = module(picture, noise)
    apart_mean, apart_log_variance = module.encoder(picture)
    apart = module.decoder(apart_mean + (apart_log_variance / 2).exp() * noise)
    torch.testing.assert_close(mean, apart_mean)
    torch.testing.assert_close(log_variance, apart_log_variance)
    torch.testing.assert_close(pixels, apart)
    torch.testing.assert_close(pixels, logits.sigmoid())


def test_the_same_noise_gives_the_same_picture_and_other_noise_another() -> None:
    torch.manual_seed(0)
    module = VAE.make("pico", DIGITS, 10).eval()
    picture, noise = torch.rand(1, 1, 8, 8), torch.randn(1, 8)
    first, again, other = (module(picture, n)[0].detach() for n in (noise, noise, -noise))
    assert torch.equal(first, again)
    assert float((first - other).abs().max()) > 1e-4


def test_dense_weights_against_the_formula() -> None:
    encoder = 64 * 64 + 2 * 64 + 2 * (64 * 8 + 8)
    decoder = 8 * 64 + 2 * 64 + 64 * 64 + 64
    assert sum(p.numel() for p in VAE.make("pico-dense", DIGITS, 10).parameters()) == encoder + decoder


def test_parts_say_what_goes_in_and_out() -> None:
    encoder, decoder = VAE.parts["encoder"], VAE.parts["decoder"]
    assert encoder.inputs(DIGITS, VAE.sizes["pico"]) == DIGITS
    assert decoder.inputs(DIGITS, VAE.sizes["pico"]) == (TensorSpec("z", "float32", ("batch", 8)),)
    assert encoder.outputs == ("mean", "log_variance")
    assert decoder.outputs == ("reconstruction",)


@pytest.mark.parametrize("latent", [0, -1, 2.5, True])
def test_a_latent_size_that_is_none(latent: Any) -> None:
    with pytest.raises(RecipeError, match=r"^latent must be a whole number of at least 1, got"):
        build_vae(DIGITS, 10, latent=latent, channels=(4,))


def test_a_picture_that_cannot_be_halved_so_often() -> None:
    odd = (TensorSpec("image", "float32", ("batch", 1, 9, 8)),)
    with pytest.raises(RecipeError) as error:
        VAE.make("pico", odd, 10)
    assert str(error.value) == (
        "a vae of 2 halvings cannot take a picture of 9x8; its sides must be multiples of 4; choose another size"
    )
    assert VAE.make("pico-dense", odd, 10) is not None


def test_data_that_is_no_picture() -> None:
    with pytest.raises(RecipeError, match="got x: float32 batchx6; "):
        VAE.make("pico", (TensorSpec("x", "float32", ("batch", 6)),), 10)
