import contextlib

import torch
from torch import nn

from shapes.training.loop import Schedule, train

SCHEDULE = Schedule(steps=40, batch=1, rate=0.05, seed=1, warmup=5)


def fit(path, steps=SCHEDULE.steps):
    weight = nn.Parameter(torch.zeros(4))
    losses = []

    def loss_of(kind):
        loss = (weight - kind + 0.1 * torch.randn(4)).square().mean()
        losses.append(loss.item())
        if len(losses) > steps:
            raise KeyboardInterrupt
        return loss

    with contextlib.suppress(KeyboardInterrupt):
        train("test", [weight], loss_of, (1, 3), SCHEDULE, path)
    return weight.detach(), losses


def test_the_loss_falls(tmp_path):
    weight, losses = fit(tmp_path / "state.pt")
    assert losses[-2] < losses[0]  # batches of the same kind
    assert (weight > 0.5).all()


def test_an_interrupted_run_ends_like_an_uninterrupted_one(tmp_path, monkeypatch):
    whole, _ = fit(tmp_path / "whole.pt")
    monkeypatch.setattr("shapes.training.loop._SAVE_SECONDS", -1)  # save after each step
    fit(tmp_path / "parts.pt", steps=17)
    resumed, losses = fit(tmp_path / "parts.pt")
    assert len(losses) == SCHEDULE.steps - 17
    assert torch.equal(resumed, whole)


def test_a_finished_run_is_not_repeated(tmp_path):
    first, _ = fit(tmp_path / "state.pt")
    again, losses = fit(tmp_path / "state.pt")
    assert losses == []
    assert torch.equal(again, first)
