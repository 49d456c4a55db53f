"""Encoders whose memory, time or end is known: copied beside a submission file, and loaded by a fresh process."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor

from evaluator.backbone import Layer

MIB = 2**20


def ones(mebibytes: float) -> Tensor:
    """Memory counts where it was written to."""
    return torch.ones(int(mebibytes * MIB), dtype=torch.uint8)


class Quiet(torch.nn.Module):
    """Does nothing; each pass is a call of ``work``. 1000 samples a second, 8 MiB of weights."""

    sample_rate = 1000
    layers = (Layer("zeros", 1),)

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.ones(8 * MIB // 4))

    def work(self, seconds: float) -> None:
        """Nothing."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        self.work(waveforms.shape[1] / self.sample_rate)
        return [waveforms.new_zeros(len(waveforms), 1, 1)], torch.ones_like(lengths)


class Known(Quiet):
    """48 MiB that are freed, then two pieces of 40 MiB at once: a peak of 80 MiB."""

    def work(self, seconds: float) -> None:
        early = ones(48)
        del early
        pair = [ones(40), ones(40)]
        del pair


class FreedBefore(Quiet):
    """100 MiB while it is made, and 75 MiB in its first pass, the warm-up: nothing of it is in a later pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first = True
        passing = ones(100)
        del passing

    def work(self, seconds: float) -> None:
        if self.first:
            passing = ones(75)
            del passing
        self.first = False


class Pieces(Quiet):
    """48 MiB in pieces so small that the C library keeps them for itself when they are freed."""

    def work(self, seconds: float) -> None:
        pieces = [ones(1 / 32) for _ in range(48 * 32)]
        del pieces


class Greedy(Quiet):
    """A pebibyte for clips of 4 s and more."""

    def work(self, seconds: float) -> None:
        if seconds >= 4:
            ones(2**30)


class Growing(Quiet):
    """1 GiB for every second."""

    def work(self, seconds: float) -> None:
        piece = torch.empty(int(seconds * 2**30), dtype=torch.uint8)
        del piece


class Killed(Quiet):
    """Is killed as by a system without memory, at 4 s and more."""

    def work(self, seconds: float) -> None:
        if seconds >= 4:
            os.kill(os.getpid(), signal.SIGKILL)


class Slow(Quiet):
    """Takes a minute at 4 s and more."""

    def work(self, seconds: float) -> None:
        if seconds >= 4:
            time.sleep(60)


class Picky(Quiet):
    """Refuses clips of exactly 4 s."""

    def work(self, seconds: float) -> None:
        if seconds == 4:
            raise ValueError("no clips of four seconds")


class Counting(Quiet):
    """Notes in a file beside its own each process in which it ran."""

    noted = False

    def work(self, seconds: float) -> None:
        if not self.noted:
            with (Path(__file__).parent / "ran.txt").open("a") as file:
                file.write(f"{seconds:g}\n")
        self.noted = True
        if seconds >= 4 and (Path(__file__).parent / "wait").exists():
            (Path(__file__).parent / "waiting").touch()
            time.sleep(60)
