"""What goes wrong while a network is trained: signals, too little memory, damaged states, data that teach nothing."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from test_train import state, toy_inputs

from ddnet.config import Patches
from ddnet.data.index import describe_pair
from ddnet.data.patches import extract_patches
from ddnet.depth.estimate import estimate_depth
from ddnet.errors import DDNetError
from ddnet.io.images import write_image
from ddnet.runtime.signals import Stopped
from ddnet.training import train as training
from ddnet.training.train import Inputs, train

Step = Callable[..., np.ndarray]


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return toy_inputs(tmp_path)


def at_step(number: int, act: Callable[[], Any]) -> Step:
    """`train_step`, which before a step does something else first."""
    original = training.train_step

    def step(*arguments: Any) -> np.ndarray:
        if arguments[-1] == number:
            act()
        return original(*arguments)

    return step


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_leave_it_saves_the_very_step_and_goes_on_to_the_same_bits(
    number: int,
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train(inputs, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_step", at_step(4, lambda: os.kill(os.getpid(), number)))
        with pytest.raises(Stopped, match=signal.Signals(number).name):
            train(inputs, tmp_path / "cut")  # validates after steps 2, 4, 6 and 8: in the middle of an interval
    assert not (tmp_path / "cut" / "model.pt").exists()
    steps: list[int] = []
    original = training.train_step
    monkeypatch.setattr(training, "train_step", lambda *a: steps.append(a[-1]) or original(*a))
    train(inputs, tmp_path / "cut")
    assert steps == [5, 6, 7]
    whole, cut = ((tmp_path / name / "model.pt").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    histories = [
        [row.rsplit(",", 1)[0] for row in (tmp_path / name / "history.csv").read_text().splitlines()]
        for name in ("whole", "cut")
    ]
    assert histories[0] == histories[1]


def test_asked_during_a_validation_it_validates_that_step_when_it_goes_on(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(inputs, tmp_path / "whole")
    original = training.validate

    def interrupted(model: Any, given: Inputs, asked: Callable[[], int]) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(model, given, asked)

    with monkeypatch.context() as patch:
        patch.setattr(training, "validate", interrupted)
        with pytest.raises(Stopped):
            train(inputs, tmp_path / "cut")
    train(inputs, tmp_path / "cut")
    whole, cut = ((tmp_path / name / "history.csv").read_text().splitlines() for name in ("whole", "cut"))
    assert [row.rsplit(",", 1)[0] for row in whole] == [row.rsplit(",", 1)[0] for row in cut]
    assert (tmp_path / "whole" / "model.pt").read_bytes() == (tmp_path / "cut" / "model.pt").read_bytes()


def test_a_finished_training_whose_outputs_were_lost_is_not_done_again(
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed between the last step and the moment when it was recorded as finished."""
    train(inputs, tmp_path / "run")
    made = (tmp_path / "run" / "model.pt").read_bytes()
    (tmp_path / "run" / "model.pt").unlink()
    monkeypatch.setattr(training, "train_step", lambda *_: pytest.fail("trained again"))
    train(inputs, tmp_path / "run")
    assert (tmp_path / "run" / "model.pt").read_bytes() == made


def test_a_batch_that_memory_does_not_hold_goes_in_parts_with_a_note(
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    four = replace(inputs, training=inputs.training.model_copy(update={"batch": 4, "augment": True}))
    assert train(four, tmp_path / "whole")["batch_parts"] == 1
    forward = torch.nn.Module.__call__

    def holds_one(module: torch.nn.Module, *arguments: Any, **options: Any) -> Any:
        if training.banded and type(module).__name__ == "DDNet" and len(arguments[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")
        return forward(module, *arguments, **options)

    monkeypatch.setattr(torch.nn.Module, "__call__", holds_one)
    with caplog.at_level("WARNING"):
        manifest = train(four, tmp_path / "parts")
    assert manifest["batch_parts"] == 4
    assert "memory does not hold the batch of 4: in 2 parts from now on" in caplog.text
    whole, parts = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert max(float((whole[name] - parts[name]).abs().max()) for name in whole) < 1e-5


def test_a_single_patch_that_memory_does_not_hold_is_one_line(
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_memory(*_: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(training, "_gradients", no_memory)
    with pytest.raises(DDNetError, match=r"^ddnet_1b seed 5: this device's memory does not hold .*patches$") as caught:
        train(inputs, tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_an_option_that_the_fusion_does_not_take_is_one_line(inputs: Inputs, tmp_path: Path) -> None:
    wrong = inputs.variant.model_copy(update={"fusion_options": {"gates": 3}})
    with pytest.raises(
        DDNetError, match=r"^fusion 'gru' has no option 'gates' \(fusion_options\); allowed: roles, reset$"
    ):
        train(replace(inputs, variant=wrong), tmp_path / "run")


def test_without_validation_scenes_nothing_is_trained(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match="no validation scenes, which choose the weights to keep"):
        train(replace(inputs, validation=[]), tmp_path / "run")


def test_a_constant_picture_trains_like_any_other(inputs: Inputs, tmp_path: Path) -> None:
    scenes = []
    for number in range(4):
        paths = [tmp_path / f"flat{number}{kind}.png" for kind in ("", "-target")]
        for path, value in zip(paths, (0.0 if number == 3 else 0.4, 0.0 if number == 3 else 0.5), strict=True):
            write_image(path, np.full((32, 48, 3), value, np.float32))
        split = "train" if number < 3 else "val"
        scenes.append(describe_pair("toy", split, f"f{number}", "indoor", *paths, None))
    extract_patches(scenes[:3], tmp_path / "flat", Patches(size=32, stride=0.5, drop=0))
    estimate_depth(scenes, "constant", tmp_path / "flat-depth")
    flat = replace(
        inputs, patches=tmp_path / "flat", depth=tmp_path / "flat-depth",
        training_scenes=scenes[:3], validation=scenes[3:],
    )  # fmt: skip
    manifest = train(flat, tmp_path / "run")
    assert 0 < manifest["best_val_psnr"] <= 120.0


def test_a_damaged_resume_state_of_the_right_stamp_is_one_line(
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "train_step", at_step(5, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    with pytest.raises(Stopped):
        train(inputs, tmp_path / "run")
    path = tmp_path / "run" / "state" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["loop"]["ste"] = content["loop"].pop("step")
    torch.save(content, path)
    with pytest.raises(DDNetError, match=r"last\.ckpt: a damaged resume state \(TypeError\); move it aside"):
        train(inputs, tmp_path / "run")


PARENT = """
import pickle, sys
from pathlib import Path
from ddnet.training.processes import train_in_processes
import logging
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
train_in_processes(pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]), 2)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_processes_that_train_together_leave_with_the_one_that_started_them(
    number: int,
    inputs: Inputs,
    tmp_path: Path,
) -> None:
    long = replace(inputs, training=inputs.training.model_copy(update={"steps": 100_000, "validate_every": 0.001}))
    (tmp_path / "inputs.pickle").write_bytes(pickle.dumps(long))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "inputs.pickle"), str(tmp_path / "run")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    for line in parent.stdout:
        if re.search(r"step \d+/100000", line):
            break
    members = [psutil.Process(parent.pid), *psutil.Process(parent.pid).children(recursive=True)]
    assert len(members) >= 4  # this one, the launcher, two workers
    parent.send_signal(number)
    parent.stdout.close()
    parent.wait(60)
    until = time.monotonic() + 60
    while (alive := [p for p in members[1:] if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]) and (
        time.monotonic() < until
    ):
        time.sleep(0.2)
    assert not alive
    saved = torch.load(tmp_path / "run" / "state" / "last.ckpt", weights_only=True)
    assert saved["loop"]["step"] > 0


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("write", [1, 2, 3, 8, 9, 10, 11])
def test_killed_at_any_write_it_goes_on_to_the_same_bytes(
    write: int, moment: str, inputs: Inputs, tmp_path: Path, whole_run: bytes
) -> None:
    """Four states with their curves, model, history, manifest: SIGKILL just before or after each gets its name."""
    child = os.fork()
    if not child:
        replace_file, count = Path.replace, 0

        def killing(self: Path, target: Path) -> Path:
            nonlocal count
            count += 1
            if count == write and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            moved = replace_file(self, target)
            if count == write:
                os.kill(os.getpid(), signal.SIGKILL)
            return moved

        Path.replace = killing  # type: ignore[method-assign]
        train(inputs, tmp_path / "run")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    train(inputs, tmp_path / "run")
    assert (tmp_path / "run" / "model.pt").read_bytes() == whole_run


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The network of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    train(toy_inputs(folder), folder / "run")
    return (folder / "run" / "model.pt").read_bytes()
