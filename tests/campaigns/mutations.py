"""Ways to damage a file: of its bytes, and, where the format is known, of what they mean."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from hypothesis import strategies as st

HOSTILE = (
    "", " ", "NaN", "-1", "0", "1e999", "9" * 40, "-inf", "\0", "é\u202e", "a" * 20_000, "../../etc/passwd",
    "/etc/passwd", "${HOME}", "{{7*7}}", "=1+1", "__import__('os').system('true')", "null", "[]", "{}", "true",
    "\n", '"', ",",
)  # fmt: skip

# Any value that JSON and YAML know, and texts that people or attackers write.
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)


class Payload:
    """A pickle that creates the file `touched` when it is loaded without care."""

    def __init__(self, touched: Path) -> None:
        self.command = f"touch {touched}"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def of_bytes(content: bytes, draw: random.Random) -> bytes:
    """Cut, flip, repeat, insert, zero, or replace altogether."""
    place, length = draw.randrange(len(content) + 1), draw.choice((1, 2, 4, 16, 200))
    before, after = content[:place], content[place:]
    noise = draw.randbytes(length)
    return draw.choice(
        (
            before,
            before + noise + after,
            before + noise + after[length:],
            before + b"\xff" * length + after[length:],
            before + b"\0" * length + after[length:],
            before + after[length:],
            before + after[: 10 * length] + after,
            after,
            b"",
            noise,
            b"<!DOCTYPE html><html><body>Please log in</body></html>",
            content + noise,
        )
    )


def of_tree(value: Any, draw: random.Random, junk: Any) -> Any:
    """Replace, remove, rename or add one thing somewhere in nested dictionaries and lists."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(list(value))
        way = draw.random()
        if way < 0.7:
            return {**value, key: of_tree(value[key], draw, junk)}
        if way < 0.8:
            return {name: inner for name, inner in value.items() if name != key}
        if way < 0.9:
            return {(f"{name}x" if name == key else name): inner for name, inner in value.items()}
        return {**value, draw.choice(HOSTILE): junk}
    if isinstance(value, list) and value and draw.random() < 0.85:
        place = draw.randrange(len(value))
        return [*value[:place], of_tree(value[place], draw, junk), *value[place + draw.choice((0, 1)) :]]
    return junk


def of_json(content: bytes, draw: random.Random, junk: Any) -> bytes:
    """A JSON file with one thing changed."""
    return json.dumps(of_tree(json.loads(content), draw, junk)).encode("utf-8", "surrogatepass")


def of_yaml(content: bytes, draw: random.Random, junk: Any) -> bytes:
    """A YAML file with one thing changed, also by tags that would build Python objects."""
    text = yaml.dump(of_tree(yaml.safe_load(content), draw, junk), allow_unicode=True)
    if draw.random() < 0.15:
        tags = ("!!python/object/apply:os.system", "!!python/name:os.system", "!!binary", "!x", "&a *a", "<<:")
        lines = text.splitlines() or [""]
        place = draw.randrange(len(lines))
        lines[place] = f"{lines[place].split(':')[0]}: {draw.choice(tags)} ['true']"
        text = "\n".join(lines)
    return text.encode("utf-8", "surrogatepass")


def of_csv(content: bytes, draw: random.Random, junk: Any) -> bytes:
    """A CSV file with a cell, a row or a column changed."""
    rows = list(csv.reader(content.decode().splitlines()))
    row, column = draw.randrange(len(rows)), draw.randrange(max(1, len(rows[0])))
    way = draw.random()
    if way < 0.6 and column < len(rows[row]):
        rows[row][column] = str(junk) if draw.random() < 0.5 else draw.choice(HOSTILE)
    elif way < 0.7:
        rows[row] = rows[row][:column]
    elif way < 0.8:
        rows = [[*cells[:column], *cells[column + 1 :]] for cells in rows]
    elif way < 0.85:
        rows.append(rows[row])
    elif way < 0.9:
        del rows[row]
    else:
        rows[row] = [*rows[row], str(junk)]
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode("utf-8", "surrogatepass")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def of_png(content: bytes, draw: random.Random, _: Any) -> bytes:
    """A PNG of another size, depth or kind of colour than its data, with checksums that hold; or a whole other one."""
    sizes = (0, 1, 7, 64, 2**15, 2**16, 2**20, 2**31 - 1)
    width, height = draw.choice(sizes), draw.choice(sizes)
    depth, colour = draw.choice((1, 2, 4, 8, 16, 3)), draw.choice((0, 2, 3, 4, 6, 5))
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, draw.choice((0, 1, 9))))
    way = draw.random()
    if way < 0.5:
        return content[:8] + header + content[33:]
    small = max(1, width % 65), max(1, height % 65)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", *small, depth, colour, 0, 0, 0))
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    line = b"\0" + draw.randbytes((small[0] * channels * depth + 7) // 8)
    palette = _chunk(b"PLTE", draw.randbytes(3 * draw.choice((1, 16, 256)))) if draw.random() < 0.7 else b""
    body = _chunk(b"IDAT", zlib.compress(line * small[1]))
    return content[:8] + header + palette + body + _chunk(b"IEND", b"")


def _array(draw: random.Random, value: Any, touched: Path) -> Any:
    value = np.asarray(value)
    return draw.choice(
        (
            lambda: value.astype(draw.choice((np.float16, np.int8, np.complex64, bool, "S3", np.float64))),
            lambda: value[..., :-1] if value.ndim and value.size else np.zeros(3),
            lambda: np.full_like(value, np.nan) if value.dtype.kind == "f" else value - 10**6,
            lambda: value.T,
            lambda: value[None],
            lambda: np.array(Payload(touched), dtype=object),
            lambda: np.zeros(0, np.float32),
            lambda: np.full(value.shape, 1e38),
            lambda: np.array(draw.choice(HOSTILE[:8])),
        )
    )()


def of_npz(content: bytes, draw: random.Random, junk: Any, touched: Path) -> bytes:
    """An .npz with an array changed, removed, added or renamed, or one that claims to be enormous."""
    with np.load(io.BytesIO(content), allow_pickle=True) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = draw.choice(sorted(arrays))
    way = draw.random()
    if way < 0.6:
        arrays[name] = _array(draw, arrays[name], touched)
    elif way < 0.7:
        del arrays[name]
    elif way < 0.8:
        arrays["".join(c for c in f"x{junk}"[:20] if c.isalnum()) or "x"] = arrays[name]
    elif way < 0.9:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive_:
            header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 64), }".ljust(117) + b"\n"
            archive_.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        return stream.getvalue()
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def of_npy(content: bytes, draw: random.Random, _: Any, touched: Path) -> bytes:
    """An .npy with another array."""
    stream = io.BytesIO()
    np.save(stream, _array(draw, np.load(io.BytesIO(content)), touched))
    return stream.getvalue()


def _tensor_tree(value: Any, draw: random.Random, junk: Any, touched: Path) -> Any:
    if isinstance(value, dict) and value:
        key = draw.choice(list(value))
        way = draw.random()
        if way < 0.75:
            return {**value, key: _tensor_tree(value[key], draw, junk, touched)}
        if way < 0.85:
            return {name: inner for name, inner in value.items() if name != key}
        return {**value, f"{key}x": value[key]}
    if isinstance(value, torch.Tensor):
        return draw.choice(
            (
                lambda: value[..., :-1] if value.ndim else torch.zeros(3),
                lambda: torch.full_like(value, float("nan")) if value.is_floating_point() else value - 5,
                lambda: value.to(torch.int64),
                lambda: value.numpy().tolist(),
                lambda: value.to_sparse() if value.ndim > 1 else value[None],
                lambda: Payload(touched),
                lambda: junk,
            )
        )()
    return Payload(touched) if draw.random() < 0.2 else junk


def of_torch(content: bytes, draw: random.Random, junk: Any, touched: Path) -> bytes:
    """A file of torch.save with one thing changed, also by a payload or as a plain pickle."""
    changed = _tensor_tree(torch.load(io.BytesIO(content), weights_only=True), draw, junk, touched)
    stream = io.BytesIO()
    if draw.random() < 0.05:
        pickle.dump(Payload(touched), stream)
    else:
        torch.save(changed, stream, _use_new_zipfile_serialization=draw.random() < 0.9)
    return stream.getvalue()


def of_zip(content: bytes, draw: random.Random, junk: Any) -> bytes:
    """A zip with an entry renamed out of its folder, doubled, turned into a link or grown a thousandfold."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        entries = old.infolist()
        chosen, way = draw.choice(entries), draw.randrange(6)
        for entry in entries:
            data, name = old.read(entry), entry.filename
            if entry is chosen:
                if way == 0:
                    name = draw.choice(("../", "/tmp/", "a/../../", "C:\\", "..\\")) + name
                if way == 1:
                    link = zipfile.ZipInfo(name)
                    link.external_attr = 0o120777 << 16
                    new.writestr(link, "/etc/passwd")
                    continue
                if way == 2:
                    data = bytes(30_000_000)
                if way == 3:
                    new.writestr("other/" + name, data)
                if way == 4:
                    continue
                if way == 5:
                    name = "".join(c for c in str(junk)[:30] if c.isprintable()) or "x"
            new.writestr(name, data)
    return stream.getvalue()


Mutation = Callable[[bytes, random.Random, Any], bytes]


def mutation_of(path: Path, touched: Path) -> Mutation | None:
    """The mutation that knows a file's format; None for a format of which only the bytes are known here."""
    kinds: dict[str, Mutation] = {
        ".json": of_json, ".yaml": of_yaml, ".csv": of_csv, ".png": of_png, ".zip": of_zip,
        ".npz": lambda content, draw, junk: of_npz(content, draw, junk, touched),
        ".npy": lambda content, draw, junk: of_npy(content, draw, junk, touched),
    }  # fmt: skip
    torch_files = dict.fromkeys((".pt", ".pth", ".ckpt"), lambda c, d, j: of_torch(c, d, j, touched))
    return (kinds | torch_files).get(path.suffix)
