"""Published weights that a person has downloaded: recognised, checked by a full conversion, and kept where the workflow
looks for them; and a list of what there could be.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ddnet.config import Item, source_of
from ddnet.data.fetch_data import WEIGHTS, folder_of
from ddnet.errors import DDNetError
from ddnet.fetch import Fetched, by_name, put_item, scan_folder, unpack_zip
from ddnet.fetch.manifest import Manifest
from ddnet.io.files import sha256
from ddnet.io.torch_files import CONVERT
from ddnet.planning.compared import compared_systems
from ddnet.registry import did_you_mean

Files = dict[str, Path]
RESULTS = Path("results", "systems")
PACKED = "packed"  # where a zip's files go for the time of an import
CONVERTED = Path("converted", "weights.npz")
SUFFIXES = (".pth", ".pt", ".ckpt", ".pytorch", ".bin", ".tar", ".safetensors", ".npz", ".hdf5", ".h5")


@dataclass(frozen=True)
class Imported:
    """What a file was recognised as: the item, its parameters, where it is now."""

    name: str
    parameters: int
    fetched: Fetched
    folder: Path


@dataclass(frozen=True)
class Recognised:
    """What a file was recognised as, before it is kept anywhere.

    Attributes:
        files: canonical name -> file; one from a zip is there only within `recognised`.
        converted: our file of a compared system, as the item's files; None for what is read as it is.
    """

    name: str
    parameters: int
    files: Files
    digests: dict[str, str]
    converted: Path | None


def import_weights(path: Path, items: Mapping[str, Item], name: str | None = None) -> Imported:
    """Recognise published weights and copy them to `data/weights/<item>/`, recorded as by the workflow's fetch.

    Args:
        path, items, name: see `recognised`.

    Raises:
        DDNetError: see `recognised`; or another file is there already. Nothing has been written then.
    """
    with recognised(path, items, name) as found:
        folder = folder_of(found.name)
        fetched = put_item(
            found.name, source_of(found.name, items), WEIGHTS[found.name](), folder, found.files,
            f"imported from {path.name}", found.digests,
        )  # fmt: skip
        return Imported(found.name, found.parameters, fetched, folder)


@contextmanager
def recognised(path: Path, items: Mapping[str, Item], name: str | None = None) -> Iterator[Recognised]:
    """Recognise published weights by what they hold: all of a file must fit. Nothing in it is executed.

    A file is first tried as the items that it is called like, then as any other item of one file.

    Args:
        path: the published file, or a folder or a zip that contains it.
        items: the table of sources.
        name: which item it is; None: found out.

    Raises:
        DDNetError: no such file or item; nothing fits, or more than one item does.
    """
    if name is not None and name not in WEIGHTS:
        raise DDNetError(f"no published weights '{name}'{did_you_mean(name, WEIGHTS)}")
    try:
        with tempfile.TemporaryDirectory(prefix="ddnet-weights-") as scratch:
            yield _recognise(path, items, [name] if name else list(WEIGHTS), Path(scratch))
    except OSError as error:
        reason = error.strerror or error
        raise DDNetError(f"{error.filename or path}: {reason}; correct that and try again") from None


def _recognise(path: Path, items: Mapping[str, Item], names: Sequence[str], scratch: Path) -> Recognised:
    problems: dict[str, str] = {}
    for number, find in enumerate((_called_so, _of_any_name)):
        fits = {}
        for name, files in find(path, [name for name in names if name not in problems], items, scratch).items():
            digests = {canonical: sha256(file) for canonical, file in files.items()}
            try:
                stage = scratch / f"{name}-{number}"
                parameters = _parameters(name, files, stage, path)
            except DDNetError as error:
                problems[name] = str(error)
                continue
            converted = stage / CONVERTED
            fits[name] = Recognised(name, parameters, files, digests, converted if converted.is_file() else None)
        if len(fits) > 1:
            raise DDNetError(f"{path}: holds weights of {', '.join(fits)}; say which by --as, one at a time")
        if fits:
            return next(iter(fits.values()))
        if not number:
            called = dict(problems)
    raise DDNetError(_nothing_fits(path, names, called or problems))


def _nothing_fits(path: Path, names: Sequence[str], problems: Mapping[str, str]) -> str:
    """One line that says why; of a file that is called like an item, why it is not that one."""
    if not problems:
        expected = f"{names[0]}: {expected_files(names[0])}" if len(names) == 1 else "`ddnet weights list`"
        return f"{path}: holds no published weights that are expected, by name; see {expected}"
    if len(problems) == 1:
        [(name, problem)] = problems.items()
        return f"{name}: {problem}"
    nothing = f"{path}: no published weights that this suite knows"
    if code := next((problem for problem in problems.values() if CONVERT in problem), ""):
        return code.rpartition("; ")[0]  # without what to do about an item's own file
    if len(problems) > 2:  # its name says nothing, and everything was tried
        return f"{nothing} (tried: {', '.join(problems)}); `ddnet weights import FILE --as NAME` says why not"
    said = "; ".join(f"not {name}: {problem}" for name, problem in problems.items())
    return f"{nothing} ({said}); see `ddnet weights list`"


def _called_so(path: Path, names: Sequence[str], items: Mapping[str, Item], scratch: Path) -> dict[str, Files]:
    """The files of every item that `path` is called like, or has files that are called so, by canonical name."""
    if path.is_dir():
        return _all_of(names, lambda name: scan_folder(path, WEIGHTS[name]())[0])
    if not path.is_file():
        raise DDNetError(f"{path}: no such file or folder; give the downloaded file")

    def unpacked(name: str) -> Files:
        gigabytes = source_of(name, items).gigabytes
        return unpack_zip(path, WEIGHTS[name](), scratch / PACKED / name, gigabytes, str(path))

    # PyTorch's and NumPy's files are zips, too, but hold no file that is called so.
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        found = _all_of(names, unpacked)
        if found or path.suffix.lower() == ".zip":
            return found
    return _all_of(names, lambda name: _beside(path, name))


def _of_any_name(path: Path, names: Sequence[str], items: Mapping[str, Item], scratch: Path) -> dict[str, Files]:
    """`path`, or the only file of weights in it, as every item of one file."""
    single = {name: files[0] for name in names if len(files := WEIGHTS[name]().files or ()) == 1}
    if path.is_dir():
        inside = [path / other for other in scan_folder(path, by_name())[1] if _ends_so(other)]
    elif (entries := _zipped(path)) is None:
        inside = [path]
    elif len(entries) == 1:
        only, gigabytes = Path(entries[0]).name, max(source_of(name, items).gigabytes for name in names)
        inside = list(unpack_zip(path, by_name(only), scratch / PACKED / "any", gigabytes, str(path)).values())
    else:
        inside = []
    return {name: {canonical: inside[0]} for name, canonical in single.items()} if len(inside) == 1 else {}


def _zipped(path: Path) -> list[str] | None:
    """Files of weights in a zip; None for a file that is none, or a zip that is one file of weights itself."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        entries = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    packed = any(entry.endswith((".npy", "data.pkl")) for entry in entries)
    return None if packed else [entry for entry in entries if _ends_so(entry) and "__MACOSX" not in entry]


def _ends_so(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _all_of(names: Sequence[str], find: Callable[[str], Files]) -> dict[str, Files]:
    """What is found of every item that all files of are found of.

    Raises:
        DDNetError: there is none, and one of them cannot be told.
    """
    found: dict[str, Files] = {}
    problem: DDNetError | None = None
    for name in names:
        try:
            files = find(name)
        except DDNetError as error:
            problem = problem or error
            continue
        if not WEIGHTS[name]().missing(set(files)):
            found[name] = files
    if problem and not found:
        raise problem
    return found


def _beside(path: Path, name: str) -> Files:
    """An item's files where one of them is given: itself, and the others from the same folder."""
    wanted = WEIGHTS[name]()
    own = wanted.name_of(path.name)
    if own is None:
        return {}
    others = {canonical: path.with_name(canonical) for canonical in wanted.files or () if canonical != own}
    return {own: path, **{canonical: file for canonical, file in others.items() if file.is_file()}}


def _parameters(name: str, files: Files, stage: Path, path: Path) -> int:
    """Parameters of an item's network, of which every file has been read to its end.

    Raises:
        DDNetError: a file is not what it must be; the message names it as it was given.
    """
    stage.mkdir()
    for canonical, file in files.items():
        (stage / canonical).symlink_to(file.resolve())
    try:
        return CHECKS.get(name, _check_compared)(name, stage)
    except DDNetError as error:
        text = str(error)
        for canonical, file in files.items():
            shown = f"{path}, {canonical}" if file.is_relative_to(stage.parent / PACKED) else str(file)
            text = text.replace(str(stage / canonical), shown)
        raise DDNetError(text.replace(str(stage), str(path))) from None
    except Exception as error:  # a file of unknown origin can make its reader raise anything
        raise DDNetError(
            f"{path}: not readable as weights of {name} ({type(error).__name__}); download it again"
        ) from None


def _check_compared(name: str, folder: Path) -> int:
    return int(compared_systems("official_weights").convert_official(name, folder, folder / CONVERTED))


def _check_monodepth2(_: str, folder: Path) -> int:
    from ddnet.depth.weights import load_weights

    [network] = load_weights(folder).networks
    return sum(value.numel() for value in network.parameters())


def _check_depth_anything(_: str, folder: Path) -> int:
    from ddnet.depth.sources.depth_anything import DepthAnything

    return sum(value.numel() for value in DepthAnything(folder).network.parameters())


def _check_released(name: str, folder: Path) -> int:
    from ddnet.models import count_parameters
    from ddnet.models.released import load_released

    [file] = WEIGHTS[name]().files or ()
    return count_parameters(load_released(folder / file))


CHECKS: dict[str, Callable[[str, Path], int]] = {
    "monodepth2": _check_monodepth2,
    "depth_anything": _check_depth_anything,
    "ddnet": _check_released,
}


def expected_files(name: str) -> str:
    """What an item's files are called, in words."""
    wanted = WEIGHTS[name]()
    return wanted.called or ", ".join(wanted.files or ())


def here(name: str) -> str:
    """Whether an item's files are here, whether they are as recorded, and what was made of them; empty: not here."""
    try:
        return _here(name)
    except DDNetError as error:  # two files that stand for one, or a damaged manifest
        return str(error)


def _here(name: str) -> str:
    folder, wanted = folder_of(name), WEIGHTS[name]()
    files = scan_folder(folder, wanted)[0] if folder.is_dir() else {}
    if wanted.missing(set(files)):
        return ""
    manifest, digests = Manifest(folder), {canonical: sha256(file) for canonical, file in files.items()}
    changed = [key for key, digest in digests.items() if manifest.recorded(key) not in (None, digest)]
    if changed:
        return f"{folder}, but {changed[0]} is not what was recorded; move the folder aside and import or fetch again"
    known = all(manifest.recorded(key) for key in digests)
    said = f"{folder}, SHA-256 {', '.join(digest[:12] for digest in digests.values())}"
    said += " as recorded" if known else " not recorded yet: `ddnet weights import` checks and records it"
    converted = [path.parent for path in sorted(RESULTS.glob(f"*/{name}/manifest.json")) if _made_of(path, digests)]
    if converted:
        said += f"; converted: {', '.join(map(str, converted))}"
    elif name not in CHECKS:
        said += "; not converted yet"
    return said


def _made_of(path: Path, digests: Mapping[str, str]) -> bool:
    """Whether a system's manifest says that its weights were converted from files of these digests."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record["weights"] == "official" and record["digests"] == digests
    except (OSError, ValueError, KeyError, TypeError):
        return False
