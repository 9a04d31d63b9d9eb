"""Sparse coding of every patch of an image at once: how many atoms of a dictionary it takes; and such a dictionary.

Orthogonal matching pursuit (Pati, Rezaiifar and Krishnaprasad 1993) until the residual is small enough: each step takes
the atom most correlated with the residual and removes from the patch what the atoms taken so far explain. For a count
the coefficients are not needed, only an orthonormal basis of the atoms taken, so each step is one product of many
residuals with the dictionary and, per patch, two projections by its own basis.
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from ddnet.errors import DDNetError
from ddnet.runtime.resources import cpu_count

FloatArray = NDArray[np.floating]
SingleArray = NDArray[np.float32]
CountArray = NDArray[np.uint8]

CHUNK = 1024  # patches worked on at once by one thread: fewer, and the interpreter would be what takes the time
DEPENDENT = 1e-12  # squared norm of what an atom adds to those taken: below, single precision cannot tell it from 0
DENSE = 0.85  # finished patches are dropped once fewer than this share of a chunk is left
ALPHA, BATCH = 0.15, 256  # of the dictionary's learning; patches have a mean norm of 1 there


def count_atoms(
    grey: FloatArray, dictionary: SingleArray, goal: float, most: int, threads: int | None = None
) -> CountArray:
    """Number of atoms that the patch around every pixel takes; its mean is removed first.

    A patch of side s begins (s - 1) // 2 pixels above and left of its pixel; the image is mirrored at its borders.
    Single precision, with each atom made orthogonal twice: against double precision one count in some hundred differs.
    The result does not depend on `threads`.

    Args:
        grey: (H, W).
        dictionary: (A, s²), atoms of norm 1 and mean 0.
        goal: norm of the residual, in units of `grey`, at which a patch is explained.
        most: atoms at most; s² - 1 explain any patch without its mean.
        threads: None: one per processor.

    Returns:
        (H, W), 0 where the patch itself is no larger than `goal`.
    """
    from threadpoolctl import threadpool_limits

    side = math.isqrt(dictionary.shape[1])
    before = (side - 1) // 2
    full = np.pad(grey.astype(np.float32), (before, side - 1 - before), "symmetric")
    patches = sliding_window_view(full, (side, side))
    energy = _energy(full, side).reshape(-1)
    # Patches of like energy take about as many atoms: a chunk of them is done all at once.
    order = np.argsort(energy, kind="stable")
    order = order[np.searchsorted(energy[order], 0.99 * goal**2) :]
    counts = np.zeros(energy.size, np.uint8)
    atoms = np.ascontiguousarray(dictionary, np.float32)
    most = min(most, side**2 - 1)
    own = threading.local()

    def work(start: int) -> None:
        if not hasattr(own, "basis"):
            # One patch more than there is: a patch's vectors lie a power of 2 apart otherwise, and evict each other.
            own.basis = np.empty((most, CHUNK + 1, side**2), np.float32)
        chosen = order[start : start + CHUNK]
        residual = patches[np.divmod(chosen, grey.shape[1])].reshape(-1, side**2)
        residual -= residual.mean(axis=1, keepdims=True)
        counts[chosen] = _pursue(residual, atoms, goal**2, own.basis)

    # Threads of the matrix product inside these threads would only get into each other's way.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads or cpu_count()) as executor:
        list(executor.map(work, range(0, len(order), CHUNK)))
    return counts.reshape(grey.shape)


def _energy(full: SingleArray, side: int) -> NDArray[np.float64]:
    """Squared norm of every patch of `full` without its mean: (H - side + 1, W - side + 1)."""
    exact = full.astype(np.float64)
    inner = (
        slice(side // 2, side // 2 + full.shape[0] - side + 1),
        slice(side // 2, side // 2 + full.shape[1] - side + 1),
    )
    mean, square = (ndimage.uniform_filter(plane, side)[inner] for plane in (exact, exact**2))
    return side**2 * (square - mean**2)


def _pursue(residual: SingleArray, atoms: SingleArray, goal: float, basis: SingleArray) -> CountArray:
    """Atoms that each patch takes until its squared norm is `goal` or less: (N,).

    Args:
        residual: (N, P) patches, used up.
        atoms: (A, P).
        basis: (most, N or more, P) room to work in.
    """
    counts = np.zeros(len(residual), np.uint8)
    rows = np.arange(len(residual))
    going = np.vecdot(residual, residual) > goal
    for step in range(len(basis)):
        left = int(np.count_nonzero(going))
        if left == 0:
            break
        if left < DENSE * len(rows):
            for line in basis[:step]:
                line[:left] = line[: len(rows)][going]
            rows, residual, going = rows[going], residual[going], np.ones(left, bool)
        correlation = residual @ atoms.T
        new = atoms.take(np.abs(correlation, out=correlation).argmax(axis=1), axis=0)
        if step:
            taken = basis[:step, : len(rows)].transpose(1, 0, 2)
            for _ in range(2):  # once leaves too much: atoms of smooth patches are nearly dependent
                new -= np.vecmat(np.matvec(taken, new), taken)
        norm = np.vecdot(new, new)
        going &= norm > DEPENDENT
        new /= np.sqrt(np.maximum(norm, DEPENDENT))[:, None]
        basis[step, : len(rows)] = new
        residual -= np.vecdot(new, residual)[:, None] * new
        counts[rows[going]] = step + 1
        going &= np.vecdot(residual, residual) > goal
    return counts


def learn_dictionary(patches: FloatArray, atoms: int, seed: int) -> SingleArray:
    """(N, P) patches without their means to (atoms, P) of norm 1 and mean 0, by one pass of mini-batches.

    Mairal et al., "Online dictionary learning for sparse coding", ICML 2009, in scikit-learn's implementation.

    Raises:
        DDNetError: there are fewer patches than atoms, or they are too much alike.
    """
    from sklearn.decomposition import MiniBatchDictionaryLearning
    from threadpoolctl import threadpool_limits

    if len(patches) < atoms:
        raise DDNetError(
            f"dictionary: {len(patches)} textured patches for {atoms} atoms; "
            "the training photographs are too few or too flat"
        )
    scaled = patches.astype(np.float64) / np.linalg.norm(patches, axis=1).mean()
    learner = MiniBatchDictionaryLearning(
        atoms, alpha=ALPHA, max_iter=1, batch_size=BATCH, fit_algorithm="lars", max_no_improvement=None, tol=0.0,
        random_state=seed,
    )  # fmt: skip
    with threadpool_limits(1, user_api="blas"):  # sums in the same order on every machine
        learned = learner.fit(scaled).components_
    learned = learned - learned.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(learned, axis=1, keepdims=True)
    if not norms.min() > 1e-6:
        raise DDNetError(
            f"dictionary: the {len(patches)} training patches are too much alike for {atoms} atoms; add pictures"
        )
    return (learned / norms).astype(np.float32)
