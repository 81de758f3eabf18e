from __future__ import annotations

import lightning.pytorch as pl

from edgekit.training.callbacks import Progress


def test_people_count_epochs_from_one() -> None:
    bar = Progress()
    trainer = pl.Trainer(max_epochs=3, callbacks=[bar], logger=False, enable_checkpointing=False, accelerator="cpu")
    bar.setup(trainer, pl.LightningModule(), "fit")
    told = [bar._get_train_description(epoch) for epoch in range(3)]
    assert [t.rstrip() for t in told] == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"]
    assert {len(t) for t in told} == {len(bar.validation_description)}
