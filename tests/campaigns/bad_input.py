"""Damage every kind of file that this suite reads, and see that each is refused in one line or does no harm.

    python tests/campaigns/bad_input.py --cases 12000 --out results/reference/reliability

A case is a valid file with one thing wrong (`mutations.py`), given to the code that reads it. It passes if the reader
takes it, or raises DDNetError with one line that names the file; anything else is a traceback that a user would see.
Payloads that would create a file when executed are among the damage. Ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "unit"), str(TESTS / "campaigns")]
from keras_file import random_layers, write_keras
from mutations import JUNK, mutation_of, of_bytes
from photograph_files import photograph_files

from baselines import build, system_class
from baselines.common.keras_weights import read_convolutions
from baselines.common.network_system import save_weights
from baselines.external.baseline import External
from ddnet.cli.main import CONFIG
from ddnet.config import FolderData, Patches, load_baselines, load_settings, load_sources, load_variants
from ddnet.data.audit import audit
from ddnet.data.depth_maps import DepthStore, true_depth
from ddnet.data.embedded.dataset import index_benchmark, render_benchmark
from ddnet.data.embedded.true_blur import true_sigma
from ddnet.data.folder import index_folder
from ddnet.data.index import read_index, write_index
from ddnet.data.patch_set import PatchSet
from ddnet.data.patches import extract_patches
from ddnet.depth.estimate import estimate_depth
from ddnet.depth.network import DepthNetwork
from ddnet.depth.weights import load_weights as load_depth_weights
from ddnet.depth.weights import save_fitted
from ddnet.errors import DDNetError
from ddnet.fetch import read_fetched
from ddnet.fetch.manifest import Manifest
from ddnet.fetch.put import unpack_zip
from ddnet.fetch.wanted import by_name
from ddnet.io.files import sha256, write_json
from ddnet.io.images import read_depth16, read_image
from ddnet.models import build_model
from ddnet.models.pretrained import load_trunk, read_manifest
from ddnet.models.released import load_released
from ddnet.planning.plan import Plan
from ddnet.report.claims import claims_text
from ddnet.report.collect import read_run
from ddnet.report.panels import GATE_SCALES, read_gates
from ddnet.runtime.provenance import Stopwatch
from ddnet.training.checkpoint import load_run, save_run
from ddnet.training.loop import LoopState, Task, resume, save_progress


@dataclass(frozen=True)
class Target:
    """A valid file, and what reads it."""

    kind: str
    file: Path
    read: Callable[[], Any]


@dataclass
class Outcome:
    """Cases by kind and by how they ended; failures with the damaged file's name and the traceback."""

    refused: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)

    @property
    def cases(self) -> int:
        return self.refused.total() + self.taken.total() + len(self.failures)


def _data_targets(folder: Path) -> Iterator[Target]:
    """Scenes, their index, depth maps and patches of a tiny embedded benchmark, and a folder of own photographs."""
    render_benchmark(folder / "scenes", {"train": 1, "val": 1, "test": 1}, 64, 4, 0, 1)
    index = folder / "index.csv"
    write_index(index, index_benchmark(folder / "scenes"))
    scenes = read_index(index)
    train, test = (next(scene for scene in scenes if scene.split == split) for split in ("train", "test"))
    estimate_depth(scenes, "constant", folder / "depth")
    cutting = Patches(size=32, stride=0.5, drop=0)
    extract_patches([train], folder / "patches", cutting)

    def through_index() -> None:
        found = read_index(index)
        audit(found)
        extract_patches(
            [s for s in found if s.split == "train"], folder / "again", Patches(size=32, stride=0.5, drop=0)
        )

    def through_depth() -> None:
        store = DepthStore(folder / "depth")
        for scene in scenes:
            store(scene)

    yield Target("scene index", index, through_index)
    yield Target("picture", test.image, lambda: read_image(test.image))
    yield Target("picture in an index", train.target, through_index)
    depth = folder / "depth" / f"{test.key}.png"
    yield Target("depth map", depth, lambda: read_depth16(depth))
    yield Target("depth map in a cache", depth, through_depth)
    yield Target("depth cache", folder / "depth" / "index.csv", through_depth)
    assert test.depth_m is not None
    yield Target("true depth", test.depth_m, lambda: (true_depth(test), true_sigma(test)))
    record = test.image.with_name("scene.json")
    yield Target("scene record", record, lambda: (index_benchmark(folder / "scenes"), true_sigma(test), audit(scenes)))

    def through_patches() -> None:
        patches = PatchSet(folder / "patches", views=True)
        patches.batch(np.arange(min(2, len(patches))))

    for name in ("scenes.csv", "patches.csv", "images.npy", "views.npy"):
        yield Target(f"patches: {name}", folder / "patches" / name, through_patches)
    photographs = folder / "own"
    for number, scene in enumerate(scenes):
        for file, side in ((scene.image, "source"), (scene.target, "target")):
            place = photographs / ("train", "val", "test")[number] / side / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    own = FolderData(kind="folder", path=str(photographs))
    yield Target("own photograph", photographs / "test/source/2.png", lambda: index_folder(own))
    restored = folder / "restored"
    restored.mkdir()
    shutil.copy(test.target, restored / f"{test.scene}.png")
    yield Target("restored elsewhere", restored / f"{test.scene}.png", lambda: External(restored).prepare([test]))


def _network_targets(folder: Path) -> Iterator[Target]:
    """Trained networks, resume states, and weights of every compared system, ours and published."""
    from test_defocusgan import published as published_gan
    from test_dmenet import weights as dmenet_weights
    from test_kpac import published_file
    from test_released import published as published_ddnet

    folder.mkdir()
    variant = load_variants(CONFIG / "variants.yaml")["ddnet_1b"]
    save_run(folder / "model.pt", build_model(variant, 4), variant, {"width": 4, "output": "residual", "seed": 0})
    yield Target("model", folder / "model.pt", lambda: load_run(folder / "model.pt"))
    yield _resume_target(folder / "last.ckpt")
    torch.save({"state_dict": published_ddnet((1,))}, folder / "released.pth")
    yield Target("published DDNet", folder / "released.pth", lambda: load_released(folder / "released.pth"))
    gan = folder / "gan"
    gan.mkdir()
    torch.save({"state_dict": published_gan()}, gan / "90_models.pth")
    yield Target(
        "published DefocusGAN", gan / "90_models.pth",
        lambda: system_class("defocusgan").convert(gan, folder / "gan.npz"),
    )  # fmt: skip
    published_file(folder, 3)
    kpac = system_class("kpac")
    yield Target("published KPAC", folder / "single_3level.npz", lambda: kpac.convert(folder, folder / "kpac.npz"))
    keras = folder / "keras.hdf5"
    write_keras(keras, random_layers([(3, 3, 3, 4), (3, 3, 4, 3)]))
    yield Target("published Keras network", keras, lambda: read_convolutions(keras, "Toy"))
    own = folder / "dpdnet.npz"
    dpdnet = system_class("dpdnet")
    save_weights(own, dpdnet.network(2).state_dict(), 2)
    line = load_baselines(CONFIG / "baselines.yaml")["dpdnet"]
    yield Target("our weights of a network", own, lambda: build(line, own, "embedded"))
    dmenet = dmenet_weights(folder)
    line_dmenet = load_baselines(CONFIG / "baselines.yaml")["dmenet"]
    yield Target("our weights of DMENet", dmenet, lambda: build(line_dmenet, dmenet, "embedded"))
    weights = folder / "trunks"
    weights.mkdir()
    torch.save({"features.0.weight": torch.ones(2, 3, 1, 1)}, weights / "vgg16.pt")
    entry = {"status": "ok", "sha256": sha256(weights / "vgg16.pt"), "source": "x", "reason": "", "file": "vgg16.pt"}
    write_json(weights / "manifest.json", {"vgg16": entry})
    yield Target("trunk", weights / "vgg16.pt", lambda: load_trunk("vgg16", weights))
    yield Target(
        "manifest of weights", weights / "manifest.json", lambda: (read_manifest(weights), load_trunk("vgg16", weights))
    )
    depth = folder / "depth.pt"
    save_fitted(depth, [DepthNetwork()], (64, 64), [["a"]])
    yield Target("depth network", depth, lambda: load_depth_weights(depth))


class _Tiny(Task):
    """A task of which only the state matters."""

    rate = train_step = validate = row = None  # type: ignore[assignment]

    def __init__(self, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.network, self.optimizer = network, optimizer


def _resume_target(file: Path) -> Target:
    """The state of a tiny training after its first step."""
    network = torch.nn.Conv2d(3, 3, 3)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    task = _Tiny(network, optimizer)
    save_progress(task, file, "stamp", LoopState(step=1), network.state_dict())
    return Target("resume state", file, lambda: resume(task, file, "stamp"))


def _record_targets(folder: Path) -> Iterator[Target]:
    """Settings, tables of names, records of fetches and archives, results of a run."""
    from report_runs import write_run

    folder.mkdir()
    variants, baselines = load_variants(CONFIG / "variants.yaml"), load_baselines(CONFIG / "baselines.yaml")
    readers: dict[str, Callable[[Path], Any]] = {
        "smoke": lambda path: Plan(load_settings(path), variants, baselines),
        "paper": lambda path: Plan(load_settings(path), variants, baselines),
        "variants": lambda path: Plan(load_settings(CONFIG / "smoke.yaml"), load_variants(path), baselines),
        "baselines": lambda path: Plan(load_settings(CONFIG / "smoke.yaml"), variants, load_baselines(path)),
        "sources": load_sources,
    }
    for name, read in readers.items():
        file = folder / f"{name}.yaml"
        shutil.copy(CONFIG / file.name, file)
        yield Target(f"settings: {file.name}", file, lambda read=read, file=file: read(file))
    record = folder / "manifest.json"
    write_json(record, {"a.png": {"sha256": "0" * 64, "bytes": 3, "source": "here", "path": "b.png"}})
    yield Target("manifest of a fetch", record, lambda: Manifest(folder))
    fetched = folder / "fetched.json"
    write_json(fetched, {"source": "here", "files": {"a.png": "data/a.png"}, "digests": {"a.png": "0" * 64}})
    yield Target("record of a fetch", fetched, lambda: read_fetched(fetched))
    archive = folder / "set.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name in ("a.png", "b.png", "LICENSE"):
            made.writestr(f"set/{name}", b"\x89PNG\r\n\x1a\n" + name.encode() * 50)
    out = folder / "unpacked"
    yield Target("archive", archive, lambda: unpack_zip(archive, by_name("a.png", "b.png"), out, 1e-4, str(archive)))
    run = write_run(folder, "ddnet_1b", 0).folder
    for name in ("per_image.csv", "evaluation.json", "manifest.json", "history.csv"):
        yield Target(f"run: {name}", run / name, lambda: read_run(run))
    gates = folder / "gates.npz"
    np.savez_compressed(gates, **dict.fromkeys(GATE_SCALES, np.ones((4, 4), np.float32)))
    yield Target("gate maps", gates, lambda: read_gates(gates))
    claims = folder / "claims.csv"
    shutil.copy(TESTS.parent / "results/reference/embedded/tables/tableS3_claims.csv", claims)
    yield Target("table of claims", claims, lambda: claims_text(claims))


def targets(folder: Path) -> list[Target]:
    """Every kind of file, valid, in `folder`."""
    parts = (_data_targets(folder / "data"), _network_targets(folder / "networks"), _record_targets(folder / "records"))
    made = [target for part in parts for target in part]
    made += [Target(*target) for target in photograph_files(folder / "photographs")]
    for target in made:
        target.read()  # what is valid is taken
    return made


def try_one(target: Target, draw: random.Random, junk: Any, touched: Path, outcome: Outcome) -> None:
    """Damage, read, restore; and see that nothing was executed and nothing of the damage was kept."""
    valid = target.file.read_bytes()
    mutate = mutation_of(target.file, touched)
    if mutate and draw.random() < 0.65:
        try:
            damaged = mutate(valid, draw, junk)
        except (ValueError, TypeError, OverflowError, RuntimeError):  # junk that the format itself cannot hold
            damaged = of_bytes(valid, draw)
    else:
        damaged = of_bytes(valid, draw)
    target.file.write_bytes(damaged)
    try:
        target.read()
        outcome.taken[target.kind] += 1
    except DDNetError as error:
        said = str(error)
        if "\n" in said or not said or len(said) > 2000:
            outcome.failures.append((target.kind, f"not one short line: {said[:500]!r}"))
        else:
            outcome.refused[target.kind] += 1
    except Exception:
        outcome.failures.append((target.kind, traceback.format_exc()))
    finally:
        target.file.write_bytes(valid)
    if touched.exists():
        touched.unlink()
        outcome.failures.append((target.kind, "a payload was executed"))


def campaign(folder: Path, cases: int, seed: int = 0) -> Outcome:
    """About `cases` cases, evenly over the kinds of files; afterwards every valid file must be taken as before."""
    made, outcome, touched = targets(folder), Outcome(), folder / "touched"
    order = iter(range(10**9))

    @settings(
        max_examples=cases, database=None, deadline=None, phases=[Phase.generate], derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(junk=JUNK, number=st.integers(0, 2**32))
    def one(junk: Any, number: int) -> None:
        position = next(order)
        draw = random.Random(f"{seed}/{position}/{number}")
        try_one(made[position % len(made)], draw, junk, touched, outcome)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one()
    for target in made:
        try:
            target.read()
        except Exception:
            outcome.failures.append((target.kind, f"the valid file is refused afterwards: {traceback.format_exc()}"))
    return outcome


def main() -> int:
    """Run the campaign; the exit status says whether anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for bad_input.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    watch, began = Stopwatch(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ddnet-campaign-") as folder:
        outcome = campaign(Path(folder), arguments.cases, arguments.seed)
    kinds = sorted({*outcome.refused, *outcome.taken, *(kind for kind, _ in outcome.failures)})
    failed = Counter(kind for kind, _ in outcome.failures)
    for kind in kinds:
        print(f"{kind:<28}{outcome.refused[kind]:>6} refused {outcome.taken[kind]:>6} taken {failed[kind]:>4} failed")
    seen: set[tuple[str, str]] = set()
    for kind, text in outcome.failures:
        last = "\n".join(text.strip().splitlines()[-8:])
        if (key := f"{kind}: {text.strip().splitlines()[-1].split(':')[0][:40]}") not in seen:
            seen.add(key)
            print(f"--- {kind}\n{last}")
    print(f"{outcome.cases} cases in {time.monotonic() - began:.0f} s, {len(outcome.failures)} failures")
    if arguments.out:
        by_kind = {kind: {"refused": outcome.refused[kind], "taken": outcome.taken[kind]} for kind in kinds}
        facts = {"cases": outcome.cases, "failures": len(outcome.failures), "by_kind": by_kind}
        write_json(arguments.out / "bad_input.json", facts | {"provenance": watch.manifest(seed=arguments.seed)})
    return int(bool(outcome.failures))


if __name__ == "__main__":
    sys.exit(main())
