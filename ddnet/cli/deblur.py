"""`ddnet deblur`: one's own photographs, restored."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddnet.errors import DDNetError, printable
from ddnet.io.files import expanded
from ddnet.runtime.log import Progress, disk_problem, say
from ddnet.runtime.malloc import out_of_memory

if TYPE_CHECKING:
    from ddnet.restoration.deblur import Done, Task
    from ddnet.restoration.load import Loaded

UNCHANGED = 1 / 255
EPILOG = "PNG and TIFF of 8 or 16 bits, JPEG, WebP; bits and what a file says are kept; -o NAME.png, say, converts."


def deblur(arguments: argparse.Namespace) -> None:
    """Restore photographs; what is wrong with one of them does not keep the others waiting."""
    # Before torch is imported: with OpenMP's default spinning, work on shared cores takes many times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from ddnet.restoration.deblur import find_photographs, plan_tasks
    from ddnet.restoration.tiles import SMALLEST

    if arguments.tile is not None and arguments.tile < SMALLEST:
        raise DDNetError(f"--tile {arguments.tile}: at least {SMALLEST} pixels")
    if not 1 <= arguments.quality <= 100:
        raise DDNetError(f"--quality {arguments.quality}: allowed is 1 to 100")
    places = [expanded(path) for path in arguments.photos]
    out, depth = (expanded(path) if path else None for path in (arguments.out, arguments.depth))
    found = find_photographs(places)
    folder = any(path.is_dir() for path in places)
    tasks = plan_tasks(found.photos, out, folder, depth, arguments.save_depth, arguments.save_blur)
    if found.other:
        kinds = ", ".join(sorted({path.suffix.lower() for path in found.other}))
        say(f"left out: {kinds} ({len(found.other)}), not read here; export JPEG, or TIFF of 16 bits, from them")
    if found.made:
        say(f"left out: {len(found.made)} file{'s' * (len(found.made) > 1)} that an earlier run wrote")
    network = _network(arguments, depth is not None)
    progress, failed = Progress("deblurring", len(tasks), "photographs"), 0
    for task in tasks:
        try:
            _one(task, network, arguments)
        except DDNetError as error:
            if len(tasks) == 1:
                raise
            say(f"ddnet: {error}", error=True)
            failed += 1
        progress.advance()
    if failed:
        raise DDNetError(f"{failed} of {len(tasks)} photographs could not be restored; the lines above say why")


def _network(arguments: argparse.Namespace, depth_given: bool) -> Loaded:
    """The network that was asked for, or the best at hand; and a line that says which."""
    from ddnet.restoration.choose import choose
    from ddnet.restoration.load import in_half, load

    network, why = (load(arguments.network), "as asked for") if arguments.network else choose(depth_given)
    if arguments.half:
        in_half(network)
    for option, given in (("--depth", depth_given), ("--save-depth", arguments.save_depth)):
        if given and network.depth is None:
            raise DDNetError(f"{network.name} is not guided by depth; leave {option} out, or name another --variant")
    source = f" ({network.source})" if network.source else ""
    say(f"network: {network.name}{source}, {why}")
    return network


def _one(task: Task, network: Loaded, arguments: argparse.Namespace) -> None:
    from ddnet.restoration.deblur import restore_task

    try:
        done = restore_task(task, network, arguments.tile, arguments.quality, arguments.overwrite)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise DDNetError(f"{task.photo}: memory does not suffice; free some, or try --tile 512") from None
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG):  # a full disk is that for all
            raise
        raise DDNetError(f"{task.photo}: {disk_problem(error)}") from None
    except DDNetError as error:
        raise error if printable(str(task.photo)) in str(error) else DDNetError(f"{task.photo}: {error}") from None
    _report(task, done)


def _report(task: Task, done: Done) -> None:
    say(f"{task.restored}: {done.size}, {done.seconds:.1f} s, mean change {100 * done.change:.2f} %")
    if task.save_depth:
        say(f"{task.save_depth}: the depth that was used, white nearest")
    if task.save_blur:
        say(f"{task.save_blur}: blur, sigma 0 px (dark) to {done.largest_blur:g} px (bright)")
    if done.change < UNCHANGED:
        say(
            f"ddnet: {task.photo}: next to nothing was changed (less than 1/255 in the mean): it is sharp already, or "
            "blurred in a way that this network did not learn",
            error=True,
        )


def add_parser(commands: Any) -> None:
    """Add `deblur` to the commands of `ddnet`."""
    restore = commands.add_parser(
        "deblur",
        help="restore photographs of your own",
        usage="ddnet deblur [OPTIONS] PHOTO|FOLDER [PHOTO|FOLDER ...]",
        epilog=EPILOG,
    )
    add = restore.add_argument
    add("photos", nargs="+", type=Path, metavar="PHOTO|FOLDER", help="photographs, or folders of them")
    add("-o", dest="out", type=Path, metavar="OUT", help="folder, or file for one PHOTO (default: beside it)")
    add("--variant", dest="network", metavar="NAME", help="a network or system, or its path (default: the best here)")
    add("--depth", type=Path, metavar="MAP", help="its depth, white nearest: PNG, .npy, folder of them")
    add("--tile", type=int, metavar="PX", help="in tiles of this size, where memory is short (try 512)")
    add("--half", action="store_true", help="in half precision: faster where the hardware has it")
    add("--save-depth", action="store_true", help="also the depth that was used: *_depth.png")
    add("--save-blur", action="store_true", help="also a picture of the blur's strength: *_blur.png")
    add("--overwrite", action="store_true", help="replace files of an earlier run")
    add("--quality", type=int, default=95, metavar="1-100", help="of JPEG and WebP (default: 95)")
    restore.set_defaults(run=deblur)
