"""Language models of a few thousand parameters, with a tokeniser, saved as the hub has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = 50
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BERT = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 80,
    "initializer_range": 0.3,
}
_LABELS = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
_SPEECH = {
    "conv_dim": (8, 8),
    "conv_stride": (5, 2),
    "conv_kernel": (10, 3),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
# name -> (class of transformers, class of its configuration, options)
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertModel", "BertConfig", _BERT),
    "bert-six": ("BertModel", "BertConfig", {**_BERT, "num_hidden_layers": 6}),
    "bert-classes": ("BertForSequenceClassification", "BertConfig", {**_BERT, **_LABELS}),
    "distilbert-tokens": (
        "DistilBertForTokenClassification",
        "DistilBertConfig",
        {"vocab_size": WORDS, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 80}
        | _LABELS,
    ),
    "roberta-mask": ("RobertaForMaskedLM", "RobertaConfig", {**_BERT, "pad_token_id": 1}),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 80, "initializer_range": 0.3}
        | {"bos_token_id": 0, "eos_token_id": 0},
    ),
    "llama": (
        "LlamaForCausalLM",
        "LlamaConfig",
        {**_BERT, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        | {"tie_word_embeddings": True, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"vocab_size": WORDS, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
        | {"decoder_start_token_id": 0, "initializer_factor": 3.0},
    ),
    "whisper": (
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        {"vocab_size": WORDS, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_mel_bins": 8}
        | {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
        | {"max_source_positions": 1500, "max_target_positions": 20, "init_std": 0.3}
        | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3},
    ),
    "wav2vec2": (
        "Wav2Vec2ForCTC",
        "Wav2Vec2Config",
        {**{k: v for k, v in _BERT.items() if k != "max_position_embeddings"}, **_SPEECH},
    ),
}


def save_model(name: str, place: Path) -> Path:
    """Save one of MODELS with random weights and a tokeniser of WORDS tokens; gives its directory."""
    import transformers

    torch.manual_seed(0)
    model, config, options = MODELS[name]
    made = getattr(transformers, model)(getattr(transformers, config)(**options)).eval()
    made.save_pretrained(place / name)
    save_tokenizer(place / name)
    return place / name


def save_tokenizer(place: Path, words: int = WORDS) -> None:
    """A WordPiece tokeniser of so many tokens: five special ones, letters, then made-up words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [chr(ord("a") + i) for i in range(26)]
    vocabulary = [*_SPECIAL, *letters, *(f"word{i}" for i in range(words))][:words]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(place)
