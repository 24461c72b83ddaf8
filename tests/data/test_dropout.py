"""What a training batch drops depends on (seed, epoch, image), or for networks of your own on (seed, epoch, batch)."""

import pytest
import torch
from torch import nn

from mnist_lit.data.dropout import keyed_dropout
from mnist_lit.data.keyed_random import DROPOUT, uniform
from mnist_lit.data.loaders import Batch
from mnist_lit.model import TutorialCNN


def batch_of(indices: list[int], epoch: int = 2) -> Batch:
    size = len(indices)
    return Batch(torch.zeros(size, 1, 28, 28), torch.zeros(size).long(), torch.tensor(indices), size, epoch)


def mask(indices: list[int], epoch: int = 2, batch_idx: int = 0) -> torch.Tensor:
    network = TutorialCNN()
    with keyed_dropout(network, batch_of(indices, epoch), batch_idx, seed=4, p=0.3):
        assert network.dropout.mask is not None
        return network.dropout.mask


def test_dropout_is_keyed_by_image_and_epoch() -> None:
    drawn = mask([5, 9, 30])
    assert drawn.equal((uniform(4, 2, torch.tensor([5, 9, 30]), 4096, stream=DROPOUT) >= 0.3) / 0.7)
    assert mask([30, 5], batch_idx=8)[1].equal(drawn[0])
    assert not mask([5], epoch=3)[0].equal(drawn[0])
    assert drawn.mean() == pytest.approx(1, abs=0.02)
    assert ((drawn == 0) | (drawn == torch.tensor(1 / 0.7))).all()


def test_the_tutorials_network_leaves_torchs_generator_alone() -> None:
    network = TutorialCNN()
    before = torch.get_rng_state()
    with keyed_dropout(network, batch_of([1, 2]), 0, seed=4, p=0.3):
        pass
    assert torch.get_rng_state().equal(before)


def test_without_dropout_there_is_no_mask() -> None:
    network = TutorialCNN()
    with keyed_dropout(network, batch_of([1, 2]), 0, seed=4, p=0.0):
        assert network.dropout.mask is None


def test_the_mask_has_the_weights_dtype() -> None:
    network = TutorialCNN().double()
    with keyed_dropout(network, batch_of([1, 2]), 0, seed=4, p=0.3):
        assert network.dropout.mask is not None
        assert network.dropout.mask.dtype == torch.float64


def test_no_mask_outlives_its_batch() -> None:
    network = TutorialCNN()
    with keyed_dropout(network, batch_of([1, 2]), 0, seed=4, p=0.3):
        pass
    assert network.dropout.mask is None
    interrupted = keyed_dropout(network, batch_of([1, 2]), 0, seed=4, p=0.3)
    with pytest.raises(KeyboardInterrupt), interrupted:
        raise KeyboardInterrupt
    assert network.dropout.mask is None


def test_a_network_of_your_own_drops_by_seed_epoch_batch_and_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def dropped(seed: int = 4, epoch: int = 2, batch_idx: int = 1, rank: int = 0) -> list[float]:
        monkeypatch.setattr("mnist_lit.data.dropout.rank_and_world_size", lambda: (rank, 2))
        with keyed_dropout(nn.Dropout(), batch_of([1, 2], epoch), batch_idx, seed=seed, p=0.0):
            return nn.Dropout()(torch.ones(64)).tolist()  # type: ignore[no-any-return]

    before = torch.get_rng_state()
    first = dropped()
    assert torch.get_rng_state().equal(before)  # a loader that shuffles is not disturbed
    torch.manual_seed(99)
    assert dropped() == first
    others = [dropped(seed=5), dropped(epoch=3), dropped(batch_idx=2), dropped(rank=1)]
    assert all(other != first for other in others)
    assert len({*map(tuple, others)}) == 4
