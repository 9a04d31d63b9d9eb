"""What a user of the command line meets: help that fits, completion, exit statuses, progress only where it is read."""

import argparse
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddnet.cli import main as cli
from ddnet.cli.completion import COMPLETED, SHELLS
from ddnet.runtime.paths import ROOT


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from commands(inner)


ALL = {command.prog: command for command in commands(cli.parser())}


@pytest.mark.parametrize("name", ALL)
def test_help_fits_a_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = ALL[name].format_help().splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80


def completed(words: str) -> list[str]:
    """What a shell is offered after these words; it asks by the environment, and reads from descriptor 8."""
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": words, "COMP_POINT": str(len(words)), "_ARGCOMPLETE_IFS": "\n"}
    command = f"{sys.executable} -m ddnet 8>&1 9>&2 1>/dev/null 2>/dev/null"
    done = subprocess.run(["bash", "-c", command], env=os.environ | asked, cwd=ROOT, capture_output=True, text=True)
    return [word.strip() for word in done.stdout.splitlines()]


def test_the_shell_is_offered_commands_names_and_options() -> None:
    assert {"estimate"} == set(completed("ddnet est"))
    assert {"ddnet_1b", "ddnet_2b", "ddnet_2b_released"} <= set(completed("ddnet describe ddnet_"))
    assert {"psnr", "psnr_8bit"} == set(completed("ddnet describe psn"))
    assert {"paper", "paper-short"} == set(completed("ddnet doctor --preset pap"))
    assert "kpac" in completed("ddnet bench tiles kp")
    assert "--crop" in completed("ddnet bench step --c")


def test_every_completed_name_is_an_argument() -> None:
    arguments = {action.dest for command in ALL.values() for action in command._actions}
    assert set(COMPLETED) <= arguments
    for names in COMPLETED.values():
        assert names()


@pytest.mark.parametrize("shell", SHELLS)
def test_code_for_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert "_ARGCOMPLETE" in code and "ddnet" in code
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=code, text=True).returncode == 0


def test_the_command_starts_without_heavy_packages() -> None:
    heavy = ("torch", "pandas", "matplotlib", "mlflow", "scipy", "cv2")
    code = "import sys; from ddnet.cli.main import parser; parser(); "
    code += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "presets"]) == 0
    assert cli.main(["describe", "nothing_of_this_name"]) == 1
    with pytest.raises(SystemExit) as wrong:
        cli.main(["list", "nothing_of_this_name"])
    assert wrong.value.code == 2
    with pytest.raises(SystemExit) as version:
        cli.main(["--version"])
    assert version.value.code == 0 and "ddnet-bench" in capsys.readouterr().out


def test_a_signal_is_its_own_status() -> None:
    code = "import time\nfrom ddnet.cli import main as cli\n"
    code += "cli._schema = lambda _: (print('at work', flush=True), time.sleep(60))\n"
    code += "import sys\nsys.exit(cli.main(['schema']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.startswith("ddnet: ") and said.count("\n") == 1


SLOW = """
import time
from ddnet.cli import main as cli
from ddnet.runtime import log
log.FIRST_LINE_S = log.NEXT_LINE_S = 0.0
def slow(_):
    progress = log.Progress("counting", 3)
    for _ in range(3):
        time.sleep(0.01)
        progress.advance()
cli._schema = slow
cli.main(["schema"])
"""


def test_progress_is_shown_on_a_terminal_only() -> None:
    quiet = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=True)
    assert quiet.stderr == quiet.stdout == ""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", SLOW], stderr=theirs, stdout=subprocess.PIPE)
    assert process.wait(timeout=60) == 0
    os.close(theirs)
    said = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            said += os.read(ours, 4096)
        except OSError:  # the other end is closed, and all is read
            break
    os.close(ours)
    assert b"counting: 3 of 3 images" in said and b"to go" in said


def test_a_project_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", str(tmp_path / "study")]) == 0
    assert "snakemake --cores 8 all" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "study").iterdir()} == {
        "Snakefile", "workflow", "profiles", "constraints.txt", "results",
    }  # fmt: skip
    assert (tmp_path / "study" / "results" / "paper" / "table4.csv").is_file()
    assert cli.main(["init", str(tmp_path / "study")]) == 1
    assert "not empty" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert cli.main(["init", str(tmp_path / "empty")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "study"]
