"""A loaded decoder ready to serve: NumPy and a neighbour index, no PyTorch, no scikit-learn."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import numpy as np

from embup_core.artifacts.anchors import mean_dims
from embup_core.artifacts.basis import basis_id
from embup_core.artifacts.reference_statistics import ReferenceStatistics
from embup_core.artifacts.training_rows import near_training_rows
from embup_core.decoders.base import unit_rows
from embup_core.decoders.parts.complemented_decoder import ComplementedDecoder
from embup_core.errors import InputError, InvalidArgumentError, NoAnchorsError, NoProjectionError
from embup_core.geometry.anchors import anchors_for_projection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from embup_core.artifacts.artifact import Artifact
    from embup_core.artifacts.training_rows import NearTrainingRows
    from embup_core.batch import RowUpsampler
    from embup_core.batch.spec import BadRowPolicy, BatchSpec
    from embup_core.progress import Progress
    from embup_core.stores.export import ExportSummary
    from embup_core.stores.kinds import StoreKind
    from embup_core.stores.store import Dtype, IndexKind

Basis: TypeAlias = Literal["decoded", "original"]
"""Which axes rows have: the decoder's own, or those of the originals, which anchors make known."""

_DECODED_PHASES: Final = 0.05
"""Radians. Phases of decoded rows are met within 1e-6, within 1e-4 after float16; of others they are not."""
_SHORTEST: Final = 1e-150
"""A row's length, so that squares of its numbers keep their digits in float64."""

NO_REGRESSION: Final = "has no regression that anchors could rotate into the originals' basis"


@dataclass(frozen=True)
class BatchSummary:
    """What `Upsampler.upsample_file` did.

    Attributes
    ----------
    output
        The file that was written.
    rows
        Rows in it.
    failed_rows
        Those of them that are NaN, because their input row could not be decoded.
    elapsed_s
        Seconds it took.
    notices
        What a user should know of how the input was understood: reordered or ignored columns.
    output_bytes
        Its size.
    """

    output: Path
    rows: int
    failed_rows: int
    elapsed_s: float
    notices: tuple[str, ...] = ()
    output_bytes: int = 0

    @property
    def rows_per_s(self) -> float:
        """Rows decoded a second."""
        return self.rows / self.elapsed_s


class Upsampler:
    """Projected embeddings in, unit rows out. Safe to call from several threads at once.

    Parameters
    ----------
    artifact
        Loaded and verified.

    Attributes
    ----------
    version
        Its version.
    reference_statistics
        What the rows were like that it learned from; None where the artifact does not say.
    basis_id
        Of its basis: vectors that versions of the same one decoded are comparable. None where it has none.
    anchor_scores
        How well rows in the originals' basis agree with fresh originals; None in a version without anchors.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.version = artifact.version
        self.reference_statistics = ReferenceStatistics.from_manifest(artifact.manifest)
        self._decoder = artifact.decoder
        self._fitted_on = {name: artifact.manifest.get(name) for name in ("data", "split")}
        self.anchor_scores = None if artifact.anchors is None else artifact.anchors.scores
        self._original_basis = None if artifact.anchors is None else artifact.anchors.basis()
        self.basis_id = basis_id(artifact.manifest)
        self._transform = artifact.transform
        self._projection = None if artifact.anchors is None else artifact.anchors.projection

    @property
    def input_dims(self) -> int:
        """Numbers in a projected embedding."""
        return self._decoder.input_dims_

    @property
    def output_dims(self) -> int:
        """Numbers in a decoded row."""
        return self._decoder.output_dims_

    @property
    def mean_dims(self) -> int | None:
        """Leading dimensions of a decoded row that are the regression's; None of a decoder without one."""
        return mean_dims(self._decoder)

    @property
    def low_confidence(self) -> float | None:
        """Confidence that about a tenth of rows like the training rows lie below; None where nobody knows."""
        return None if self.reference_statistics is None else self.reference_statistics.confidence_low

    def upsample(
        self, projected: ArrayLike, *, basis: Basis = "decoded"
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode rows.

        Parameters
        ----------
        projected
            z: shape (n, input_dims), an array or nested lists. Rows are made unit length first: only their
            direction counts.
        basis
            Axes of the rows: ``"decoded"``, in which they compare with other decoded rows, or ``"original"``,
            in which they compare with original vectors as well. The latter needs a version with anchors.

        Returns
        -------
        rows
            float32, shape (n, output_dims), unit rows, C-contiguous.
        confidence
            float32, shape (n,): 0 to 1, how much of the vector is known rather than filled in; NaN where the
            decoder does not know.

        Raises
        ------
        InputError
            Another shape, a value that is not finite, or a row of zeros.
        NoAnchorsError
            The basis ``"original"`` of a version without anchors.
        """
        self.require_basis(basis)
        rows, confidence = self._decoder.predict_checked(_directions(projected, self.input_dims))
        if basis == "original" and self._original_basis is not None:
            rows = self._original_basis(rows)
        return rows, confidence

    def nearest_training_rows(self, projected: ArrayLike, *, count: int = 5) -> NearTrainingRows | None:
        """Find the training rows of nearest z, in a decoder that holds them.

        Parameters
        ----------
        projected
            z: shape (input_dims,). Only its direction counts.
        count
            How many, at most.

        Returns
        -------
        None where the decoder does not hold them.

        Raises
        ------
        InputError
            As `upsample`.
        """
        row = _directions(np.asarray(projected)[None], self.input_dims)
        return near_training_rows(self._decoder, self._fitted_on, row, count)

    def project(self, vectors: ArrayLike, *, basis: Basis = "decoded") -> NDArray[np.float32]:
        """Project long vectors to short ones, as the unknown map did.

        Decoded rows come back to the z that they were made of: the map tells about where it is, and the
        complement exactly. Mixtures of decoded rows have no such z, and get what the map says.

        Parameters
        ----------
        vectors
            Shape (n, output_dims). Only directions count.
        basis
            ``"decoded"`` for rows that `upsample` made, this version or another one of the same basis;
            ``"original"`` for originals.

        Returns
        -------
        float32, shape (n, input_dims), unit rows

        Raises
        ------
        InputError
            Another shape, a value that is not finite, or a row of zeros.
        NoProjectionError
            The version holds no affine map, or its decoder no regression in the map's axes.
        NoAnchorsError
            Originals, of a version without anchors or with too few.
        """
        self.require_projection(basis)
        rows = _directions(vectors, self.output_dims)
        if basis == "original" and self._projection is not None:
            return self._projection.project(rows)
        decoder, transform = self._decoder, self._transform
        assert isinstance(decoder, ComplementedDecoder)  # noqa: S101 - required above
        assert transform is not None  # noqa: S101
        mapped = transform.project(rows[:, : decoder.mean_dims_])
        read, error = decoder.read_projected(rows, mapped)
        return unit_rows(np.where((error <= _DECODED_PHASES)[:, None], read, mapped))

    def require_projection(self, basis: Basis) -> None:
        """Check that vectors of a basis can be projected; raises as `project`."""
        if basis == "decoded":
            if not isinstance(self._decoder, ComplementedDecoder):
                raise NoProjectionError(
                    f"Expected a decoder with principal axes and a complement, found {self._decoder.name} in "
                    f"{self.version}.",
                    remedy="Publish another decoder: `embup train` takes one that has.",
                )
            if self._transform is None or not self._transform.affine:
                raise NoProjectionError(
                    f"Expected a version with a recovered affine map, found {self.version}, which has none.",
                    remedy="Train again: an affine map is kept where one fits.",
                )
            return
        self.require_basis(basis)
        if self._projection is None and self.anchor_scores is not None:
            found, needed = self.anchor_scores.anchors, anchors_for_projection(self.output_dims)
            raise NoAnchorsError(
                f"Expected at least {needed:,} anchors, as originals are projected by a map that these fix, "
                f"found {found:,} in {self.version}."
                if found < needed
                else f"Expected anchors that an affine map takes to their short vectors, found {found:,} in "
                f"{self.version} that none fits.",
                remedy="Give more anchors, with `embup anchors` or with the training data.",
            )

    def require_basis(self, basis: Basis) -> None:
        """Check that rows can be had in a basis.

        Raises
        ------
        InvalidArgumentError
            There is no such basis.
        NoAnchorsError
            The version has no anchors, or its decoder no regression that they could rotate.
        """
        if basis not in get_args(Basis):
            raise InvalidArgumentError(
                f"Expected a basis of {', '.join(get_args(Basis))}, found {basis!r}.",
                remedy="Give one of them.",
            )
        if basis == "decoded" or self._original_basis is not None:
            return
        if mean_dims(self._decoder) is None:
            raise NoAnchorsError(
                f"Expected a version with anchors, found {self.version}: {self._decoder.name} "
                f"{NO_REGRESSION}.",
                remedy="Put another decoder into service, or ask for the basis `decoded`.",
            )
        raise NoAnchorsError(
            f"Expected a version with anchors, found {self.version}, which has none: the originals' axes are "
            "unknown.",
            remedy="Embed some hundred texts again, and give them with `embup anchors`; or ask for the basis "
            "`decoded`.",
        )

    def anchor_rotation(self) -> NDArray[np.float32]:
        """The rotation R of the regression's dimensions into those of the originals.

        Returns
        -------
        float32, shape (mean_dims, output_dims), orthonormal rows

        Raises
        ------
        NoAnchorsError
            The version has no anchors.
        """
        self.require_basis("original")
        assert self._original_basis is not None  # noqa: S101 - required above
        return self._original_basis.rotation

    def in_basis(self, basis: Basis) -> RowUpsampler:
        """What decodes rows into one basis, for a batch; raises as `require_basis`."""
        self.require_basis(basis)
        return self if basis == "decoded" else _InBasis(self, basis)

    def upsample_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        on_bad_row: BadRowPolicy = "fail",
        max_bad_rows: float | None = None,
        overwrite: bool = False,
        basis: Basis = "decoded",
        processes: int = 1,
        progress: Progress | None = None,
    ) -> BatchSummary:
        """Decode a file of any length; memory does not grow with it.

        `target` holds nothing, what it held before, or the whole result, never a part.

        Parameters
        ----------
        source
            Projected embeddings; the ending tells the format: ``.txt``, ``.csv``, ``.tsv``, ``.jsonl``, also
            with ``.gz`` or ``.zst``, ``.npy``, ``.npz``, ``.parquet``. A path, or ``s3://bucket/key``
            (``gs://``, ``az://``).
        target
            Where the decoded rows go, one for each input row, in order: ``.txt``, ``.npy`` or ``.parquet``. A
            path, or ``s3://bucket/key``: after a crash the same call goes on where it was.
        on_bad_row
            ``"fail"`` stops at the first row that cannot be decoded; ``"nan"`` writes a row of NaN for it,
            and reports it in ``<target>.errors.jsonl``.
        max_bad_rows
            With ``"nan"``: more of them stop the run all the same; below 1 a share of the rows.
        overwrite
            Whether `target` may exist.
        basis
            As for `upsample`.
        processes
            How many decode at a time. More than one are forked: a program with threads of its own should
            keep to one.
        progress
            Called with rows done as text, bytes read, and bytes in all.

        Raises
        ------
        InputFileError, BadRowError
            The file, or a row of it, cannot be decoded; with file and line.
        OutputError
            `target` exists or cannot be written; or its part file exists, perhaps of another run.
        NoAnchorsError
            The basis ``"original"`` of a version without anchors.
        """
        return _run_file(
            self.in_basis(basis),
            _spec(source, target, on_bad_row=on_bad_row, max_bad_rows=max_bad_rows, overwrite=overwrite),
            processes=processes,
            progress=progress,
        )

    def export(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        to: StoreKind,
        collection: str = "embeddings",
        id_column: str | None = None,
        columns: Sequence[str] = (),
        payload: str | os.PathLike[str] | None = None,
        first_id: int = 0,
        basis: Basis = "decoded",
        dims: int | str = "all",
        dtype: Dtype = "float32",
        index: IndexKind = "exact",
        on_bad_row: Literal["fail", "skip"] = "fail",
        recreate: bool = False,
        commit_rows: int = 4096,
        processes: int = 1,
        progress: Progress | None = None,
    ) -> ExportSummary:
        """Decode a file of any length into a vector store, in bounded memory.

        A row replaces the one of its id. A killed export goes on where it stopped when it is called again;
        after the last row a call does nothing.

        Parameters
        ----------
        source
            Projected embeddings, as for `upsample_file`.
        target
            Folder, file or address of the store.
        to
            The store: ``"lancedb"``, ``"qdrant"``, ``"pgvector"``, ``"milvus"``, ``"faiss"``, ``"parquet"``.
        collection
            Collection or table; not for faiss and parquet.
        id_column
            Column of ids; None: ids are the row numbers, counted from `first_id`.
        columns
            Columns that are stored beside the vectors.
        payload
            Parquet file that has these columns, with a row for each row of `source`; None: `source` itself.
            A path, or ``s3://bucket/key``.
        first_id
            Id of the first row, where ids are row numbers.
        basis
            As for `upsample`.
        dims
            ``"all"``; ``"mean"``, the regression alone; or how many leading dimensions.
        dtype
            Of the stored numbers.
        index
            ``"exact"`` compares each vector, ``"hnsw"`` builds a graph of neighbours.
        on_bad_row
            ``"fail"`` stops at the first row that cannot be decoded, ``"skip"`` leaves it out.
        recreate
            Whether to remove the collection first; only what an export made.
        commit_rows
            Rows between two commits: what a kill costs at most, and what is held in memory.
        processes, progress
            As for `upsample_file`.

        Raises
        ------
        InputFileError, BadRowError, InvalidArgumentError
            The file, a row of it, or what is asked for.
        OutputError
            The store cannot be reached or written, or its collection holds vectors of another basis or kind.
        NoAnchorsError
            The basis ``"original"`` of a version without anchors.
        MissingExtraError
            The store's package is not installed.
        """
        from embup_core.object_store import batch_path
        from embup_core.stores.export import ExportRequest, export

        request = ExportRequest(
            batch_path(source).resolve(),
            to,
            os.fspath(target),
            collection=collection,
            basis=basis,
            dims=dims,
            dtype=dtype,
            index=index,
            payload=None if payload is None else batch_path(payload).resolve(),
            id_column=id_column,
            columns=tuple(columns),
            first_id=first_id,
            on_bad_row=on_bad_row,
            recreate=recreate,
            commit_rows=commit_rows,
        )
        return export(self, request, processes=processes, progress=progress)

    def project_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        on_bad_row: BadRowPolicy = "fail",
        max_bad_rows: float | None = None,
        overwrite: bool = False,
        basis: Basis = "decoded",
        processes: int = 1,
        progress: Progress | None = None,
    ) -> BatchSummary:
        """Project a file of long vectors, of any length, to short ones.

        Parameters
        ----------
        source, target, on_bad_row, max_bad_rows, overwrite, processes, progress
            As for `upsample_file`.
        basis
            As for `project`.

        Raises
        ------
        EmbupError
            As `upsample_file` and `project`.
        """
        self.require_projection(basis)
        return _run_file(
            _Projecting(self, basis),
            _spec(source, target, on_bad_row=on_bad_row, max_bad_rows=max_bad_rows, overwrite=overwrite),
            processes=processes,
            progress=progress,
        )

    def cosine_standard_error(
        self,
        rows: NDArray[np.float32],
        confidence: NDArray[np.float32],
        other_rows: NDArray[np.float32],
        other_confidence: NDArray[np.float32],
    ) -> NDArray[np.float32] | None:
        """Standard errors of the cosines between decoded rows; None where the decoder does not know.

        Parameters
        ----------
        rows, other_rows
            From `upsample`, in the basis ``"decoded"``: float32, shapes (n, output_dims) and
            (m, output_dims).
        confidence, other_confidence
            That came with them: float32, shapes (n,) and (m,).

        Returns
        -------
        standard_error
            float32, shape (n, m): root of the expected squared error of each cosine.
        """
        return self._decoder.cosine_standard_error(rows, confidence, other_rows, other_confidence)


@dataclass(frozen=True)
class _InBasis:
    """An upsampler whose rows have one basis."""

    upsampler: Upsampler
    basis: Basis

    @property
    def version(self) -> str:
        return self.upsampler.version

    @property
    def input_dims(self) -> int:
        return self.upsampler.input_dims

    @property
    def output_dims(self) -> int:
        return self.upsampler.output_dims

    def upsample(self, z: NDArray[np.float32], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.upsampler.upsample(z, basis=self.basis)


@dataclass(frozen=True)
class _Projecting:
    """The way back as a batch sees it: long rows in, short ones out."""

    upsampler: Upsampler
    basis: Basis

    @property
    def version(self) -> str:
        return self.upsampler.version

    @property
    def input_dims(self) -> int:
        return self.upsampler.output_dims

    @property
    def output_dims(self) -> int:
        return self.upsampler.input_dims

    def upsample(self, rows: NDArray[np.float32], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.upsampler.project(rows, basis=self.basis), np.full(len(rows), np.nan, np.float32)


def _spec(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    on_bad_row: BadRowPolicy,
    max_bad_rows: float | None,
    overwrite: bool,
) -> BatchSpec:
    from embup_core.batch import BatchSpec
    from embup_core.object_store import batch_path

    return BatchSpec(
        batch_path(source).resolve(),
        batch_path(target).resolve(),
        on_bad_row=on_bad_row,
        overwrite=overwrite,
        max_bad_rows=max_bad_rows,
    )


def _run_file(
    rows: RowUpsampler, spec: BatchSpec, *, processes: int, progress: Progress | None
) -> BatchSummary:
    """One file from its first row to its published output."""
    from embup_core.batch import BatchRun, check_request, run_to_completion
    from embup_core.batch.upload_runs import run_upload
    from embup_core.object_store import ObjectPath

    started_s = time.monotonic()

    def report(at: BatchRun) -> None:
        if progress is not None:
            progress(f"{at.rows:,} rows", at.bytes_done, at.bytes_total)

    if isinstance(spec.output_path, ObjectPath):
        run, notices = run_upload(spec, rows, workers=processes - 1, on_progress=report)
    else:
        facts = check_request(
            spec, input_dims=rows.input_dims, output_dims=rows.output_dims, replace_parts=False
        )
        notices = facts.notices
        run = BatchRun(spec, rows, workers=processes - 1, replace_parts=False)
        run_to_completion(run, on_progress=report)
    elapsed_s = time.monotonic() - started_s
    return BatchSummary(
        spec.output_path, run.rows, run.failed_rows, elapsed_s, notices, output_bytes=run.output_bytes
    )


def _directions(values: ArrayLike, dims: int) -> NDArray[np.float32]:
    """Rows made unit length: float32, shape (n, dims); raises `InputError` for what has no direction."""
    rows = _numbers(values)
    if rows.ndim != 2 or rows.shape[1] != dims:
        raise InputError(
            f"Expected rows of {dims} numbers, found an array of shape {rows.shape}.",
            remedy=f"Send {dims} numbers a row.",
        )
    wide = rows.astype(np.float64)  # as the square of a large float32 is infinite in float32
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    shortest, longest = lengths.min(initial=1), lengths.max(initial=1)  # NaN where there is one
    if not (shortest > _SHORTEST and longest < np.inf):
        usable = np.isfinite(lengths) & (lengths > _SHORTEST)
        row = int(np.argmin(usable))
        found = "only zeros" if lengths[row] <= _SHORTEST else "a value that is not finite"
        raise InputError(
            f"Expected finite numbers with a direction in row {row}, found {found}.",
            remedy="Leave the row out or correct it.",
        )
    wide /= lengths[:, None]
    unit: NDArray[np.float32] = wide.astype(np.float32, order="C")
    return unit


def _numbers(values: ArrayLike) -> NDArray[np.number]:
    """An array of numbers, not copied where it is one already."""
    try:
        found = np.asarray(values)
    except ValueError as error:  # nested lists of different lengths
        raise InputError(
            f"Expected rows of the same length, found rows that differ ({error}).",
            remedy="Give an array of shape (n, d).",
        ) from error
    if found.dtype.kind not in "fiu":
        raise InputError(
            f"Expected numbers, found an array of {found.dtype}.", remedy="Give rows without None and text."
        )
    return found
