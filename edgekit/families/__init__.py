"""Model families. A new one: one module here, one line in FAMILIES, one recipe, one test."""

from edgekit.families.bert import BERT
from edgekit.families.cnn import CNN
from edgekit.families.family import Family, Part
from edgekit.families.gan import GAN
from edgekit.families.gpt import GPT
from edgekit.families.gru import GRU
from edgekit.families.lstm import LSTM
from edgekit.families.mlp import MLP
from edgekit.families.resnet import RESNET
from edgekit.families.rnn import RNN
from edgekit.families.transformer import TRANSFORMER
from edgekit.families.vae import VAE
from edgekit.families.vgg import VGG
from edgekit.families.vit import VIT

_IMAGES = (MLP, CNN, RESNET, VGG, VIT, VAE, GAN)
_SEQUENCES = (RNN, GRU, LSTM, BERT, GPT, TRANSFORMER)
FAMILIES: dict[str, Family] = {f.name: f for f in (*_IMAGES, *_SEQUENCES)}

__all__ = ["FAMILIES", "Family", "Part"]
