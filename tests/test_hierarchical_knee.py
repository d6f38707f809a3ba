"""Does the rank of the gradient matrix find how many filters a trained layer needs? A student of four times its teacher.

The behaviour that the paper's abstract claims, on a layer of a trained network rather than with planted singularities.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import pytest
import test_hierarchical as planted
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.tasks.kinds.classification import Classification
from methods.families.structured import Group, channels
from methods.hierarchical import gradients, pruning
from methods.interface import Split

torch.set_num_threads(1)
NEEDED, WIDTH, HELD_OUT = 6, 24, 1000


def layers(width: int) -> nn.Sequential:
    """A convolution of `width` filters with BatchNorm, one that reads it, and a classifier of 8 × 8 images."""
    between = (nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 12, 3, padding=1), nn.ReLU())
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False), *between, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 10)
    )


@dataclass(frozen=True)
class Toy:
    """A trained student, the task that its teacher of `NEEDED` filters sets, and the group of filters in question."""

    student: nn.Sequential
    task: Classification
    group: Group

    def fit(self, network: nn.Sequential, steps: int, lr: float) -> nn.Sequential:
        images, labels = self.task.prepare(self.task.train.inputs), self.task.train.targets
        order, optimiser = torch.Generator().manual_seed(0), torch.optim.Adam(network.parameters(), lr)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            batch = torch.randint(len(images), (64,), generator=order)
            optimiser.zero_grad()
            functional.cross_entropy(network.train()(images[batch]), labels[batch]).backward()
            optimiser.step()
            falling.step()
        return network.eval()

    @torch.no_grad()
    def accuracy(self, network: nn.Sequential) -> float:
        held = self.task.validation
        return float((network.eval()(self.task.prepare(held.inputs)).argmax(1) == held.targets).float().mean())

    def without(self, gone: Tensor | list[int], compensated: bool) -> nn.Sequential:
        """The student without these filters, and narrow."""
        dense, before = copy.deepcopy(self.student), torch.ones(WIDTH, dtype=torch.bool)
        after = before.clone()
        after[gone] = False
        if compensated:
            pruning.compensate(dense, self.group, before, after, self.task)
        narrow = layers(int(after.sum()))
        state = dense.state_dict()
        kept = {name: tensor[after] if name[0] in "01" and tensor.ndim else tensor for name, tensor in state.items()}
        narrow.load_state_dict({**kept, "3.weight": state["3.weight"][:, after]})
        return narrow.eval()

    def gram(self) -> Tensor:
        return gradients.grams(self.student, [self.group], self.task, planted.RUN, 32, 32, "drawn")["0"]

    def cheapest(self, count: int) -> list[int]:
        """The filters that the gradient matrix would have removed first."""
        return gradients.cheapest(self.gram(), torch.ones(WIDTH, dtype=torch.bool), count)[0]

    def incoming(self) -> Tensor:
        found = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
        for images, labels in gradients.micro_batches(self.task, planted.RUN, 32, 32):
            loss = self.task.loss(self.student(images), labels)
            (gradient,) = torch.autograd.grad(loss, [self.student.get_parameter("0.weight")])
            found += (gradient.flatten(1) @ gradient.flatten(1).T).double()
        return found


def toy(seed: int) -> Toy:
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (12_000, 1, 8, 8), dtype=torch.uint8, generator=draws)
    task = replace(planted.digits(), mean=(0.5,), std=(0.29,))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(100 + seed)
        outputs = layers(NEEDED).eval()(task.prepare(images))
        student = layers(WIDTH)
    labels = (outputs - outputs.mean(0)).argmax(1)
    splits = Split(images[HELD_OUT:], labels[HELD_OUT:]), Split(images[:HELD_OUT], labels[:HELD_OUT])
    made = Toy(
        student, replace(task, load_splits=lambda: splits), channels.find(student.eval(), torch.zeros(1, 1, 8, 8))[0]
    )
    made.fit(student, 1000, 5e-3)
    return made


@pytest.fixture(scope="module")
def toys() -> list[Toy]:
    return [toy(seed) for seed in range(3)]


def test_the_rank_is_near_what_the_student_needs_where_incoming_gradients_see_nothing(toys: list[Toy]) -> None:
    for known in toys:
        rank = gradients.numerical_rank(known.gram())
        assert NEEDED <= rank <= 16 and gradients.numerical_rank(known.incoming()) >= 20
        down_to_rank = known.without(known.cheapest(WIDTH - rank), True)
        assert known.accuracy(down_to_rank) > known.accuracy(known.student) - 0.06


def test_compensation_is_worth_more_than_half_of_what_removal_costs(toys: list[Toy]) -> None:
    for known in toys:
        gone = known.cheapest(WIDTH // 2)
        whole, with_it, without_it = (
            known.accuracy(n) for n in (known.student, known.without(gone, True), known.without(gone, False))
        )
        assert whole - with_it < (whole - without_it) / 2


def test_after_a_little_training_the_choice_beats_the_smallest_norms_and_fewer_than_needed_are_too_few(
    toys: list[Toy],
) -> None:
    chosen, by_norm, too_few = [], [], []
    for known in toys:
        norms = known.student.get_parameter("0.weight").abs().sum((1, 2, 3))
        for count, results in ((NEEDED, chosen), (NEEDED - 3, too_few)):
            gone = known.cheapest(WIDTH - count)
            results.append(known.accuracy(known.fit(known.without(gone, True), 400, 1e-3)))
        smallest = norms.argsort()[: WIDTH - NEEDED]
        by_norm.append(known.accuracy(known.fit(known.without(smallest, False), 400, 1e-3)))
    assert sum(chosen) > max(sum(by_norm), sum(too_few)) + 0.02 * len(toys)
