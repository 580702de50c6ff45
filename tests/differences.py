"""What differs from scikit-learn on purpose: the one record behind the table in docs/algorithm.md and test_contract.py.

`python tests/differences.py` prints the table.
"""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """A row of the table."""

    topic: str
    theirs: str
    ours: str
    members: frozenset[str] = frozenset()  # what test_contract.py finds to differ for this reason, as it names it
    shown_by: str = ""  # or the test that shows it: file::function


def _members(*names: str) -> frozenset[str]:
    return frozenset(names)


def _of_both(name: str) -> frozenset[str]:
    """The same of both classes; `name` has a gap for theirs."""
    return _members(*(name.format(K) for K in ("KMeans", "MiniBatchKMeans")))


DIFFERENCES = [
    Difference(
        "`device`",
        "none",
        "a parameter; `device_` says where a fit ran, `to` moves a model",
        _of_both("parameter {} device")
        | _of_both("attribute {} device_")
        | _of_both("method {} to")
        | _members("parameter k_means device", "parameter kmeans_plusplus device"),
    ),
    Difference(
        "`metric`",
        "none",
        'a parameter of `KMeans`: "cosine" is spherical k-means',
        _members("parameter KMeans metric"),
    ),
    Difference(
        "array API dispatch",
        "not supported",
        "supported; CuPy and array-API arrays keep their namespace without it, too",
        _of_both("tag {} array_api_support"),
    ),
    Difference(
        "float32 rows of packages without the array API (torch)",
        "converted to float64",
        "stay float32",
        _of_both("dtype of lent float32 in {}"),
    ),
    Difference(
        "exact ties between centres",
        "decided by rounding, after the data were centred",
        "the lowest index, by float64 differences in original coordinates",
        shown_by="test_exactness.py::test_ties_go_to_the_lowest_index",
    ),
    Difference(
        "`labels_` and `predict`",
        "may differ on ties and after rounding",
        "always equal on the rows of the fit",
        shown_by="test_accepted_input.py::test_methods_agree",
    ),
    Difference(
        "negative `sample_weight`",
        "accepted in a fit of `KMeans`, an error of NumPy's in one of `MiniBatchKMeans`",
        "refused, with an error",
        _of_both("negative weights in {}"),
    ),
    Difference(
        "values above 1e140, weights whose sum overflows",
        "accepted; the results are not finite",
        "refused, with an error",
        _of_both("huge rows in {}") | _of_both("huge weights in {}"),
    ),
    Difference(
        "text, dates and durations",
        "converted to numbers if NumPy can",
        "refused, with an error",
        _of_both("numeric text in {}") | _of_both("dates in {}") | _of_both("durations in {}"),
    ),
    Difference(
        "a fit that fails",
        "may leave `n_features_in_` behind",
        "leaves the estimator as it was",
        _of_both("after a failed fit in {}"),
    ),
    Difference(
        "NaN or infinity in `init`",
        'the error says "Input"',
        'the error says "Input init"',
        _of_both("NaN in init in {}"),
    ),
    Difference(
        "lists of rows in `kmeans_plusplus`",
        "an AttributeError",
        "accepted, as everywhere",
        _members("kmeans_plusplus of a list"),
    ),
    Difference(
        "callable `init` in `KMeans`",
        "gets the centred copy of X",
        "gets X as it was given",
        _members("what a callable gets in KMeans"),
    ),
    Difference(
        "rows of weight zero",
        "may be given to an empty cluster",
        "are never given to one",
        shown_by="test_lloyd.py::test_relocation_takes_the_farthest_rows_of_positive_weight",
    ),
    Difference(
        "rows for several empty clusters",
        "the farthest, in no fixed order",
        "by distance descending, then index ascending",
        shown_by="test_lloyd.py::test_relocation_breaks_ties_by_index",
    ),
    Difference(
        "an empty cluster that nothing fills",
        "goes to the *sum* of the heaviest cluster's (centred) rows if it has the lower index, else to their mean",
        "goes to the mean of the heaviest cluster",
        shown_by="test_lloyd.py::test_an_empty_cluster_that_nothing_can_fill_sits_on_the_heaviest",
    ),
    Difference(
        "precision of centres and sums",
        "that of the rows",
        "float64; centres are rounded to float32 at the end, for float32 rows",
        shown_by="test_exactness.py::test_ill_conditioned_float32",
    ),
    Difference(
        "k-means++ on float32 rows",
        "distances in float32",
        "the rows that float64 would pick",
        shown_by="test_parity.py::test_float32_picks_the_seeds_of_float64",
    ),
    Difference(
        "two candidates with the same potential",
        "rounding decides",
        "the first, within $10^{-12}$",
        shown_by="test_parity.py::test_seeds_are_those_of_scikit_learn",
    ),
    Difference(
        "integer, float16 and long double rows",
        "converted to float64 as a whole",
        "converted block by block",
        shown_by="test_accepted_input.py::test_dtypes",
    ),
    Difference(
        "`copy_x=False`",
        "centres X in place, then restores it up to rounding",
        "never writes to X, nor copies it",
        _members("X after copy_x=False in KMeans"),
    ),
    Difference(
        '`algorithm="elkan"`',
        "another method, $n \\times k$ bounds",
        "another name for the same result",
        shown_by="test_contract.py::test_elkan_is_another_name",
    ),
    Difference(
        "a long stream of float32 batches (`partial_fit`)",
        "centres and weights in float32: rounding moves a heavy cluster more than its rows do",
        "float64; what a float32 centre loses is kept for the next batch",
        shown_by="test_minibatch.py::test_a_long_float32_stream_keeps_its_digits",
    ),
    Difference(
        "`reassignment_ratio` above 1, all clusters light",
        "an error of NumPy's",
        "the heaviest stays where it is",
        shown_by="test_minibatch.py::test_a_ratio_above_one_leaves_the_heaviest_cluster",
    ),
    Difference(
        "`compute_labels=False`, a fit of one batch",
        "a TypeError",
        "`inertia_` from that batch",
        shown_by="test_minibatch.py::test_one_batch_without_labels",
    ),
    Difference(
        "`compute_labels=False` after a fit with labels",
        "the old `labels_` stay",
        "they are deleted",
        shown_by="test_minibatch.py::test_a_fit_without_labels_forgets_old_ones",
    ),
    Difference(
        "sparse rows whose indices are of 64 bits",
        "refused, with an error",
        "accepted",
        _of_both("sparse rows with long indices in {}"),
    ),
    Difference(
        "entries of sparse rows that are stored in two parts",
        "each part has a square of its own",
        "are one entry, their sum",
        _of_both("entries in two parts in {}"),
    ),
    Difference(
        "threads",
        "may change the last digits",
        "change no bit",
        shown_by="test_exactness.py::test_threads_blocks_and_memory_do_not_change_a_bit",
    ),
    Difference(
        "silhouettes of float32 rows",
        "distances in float32",
        "float64",
        shown_by="test_silhouette.py::test_against_scikit_learn",
    ),
]


def table() -> list[str]:
    """The lines of the table in Markdown."""
    rows = [f"| {row.topic} | {row.theirs} | {row.ours} |" for row in DIFFERENCES]
    return ["| | scikit-learn | gpukmeans |", "|---|---|---|", *rows]


if __name__ == "__main__":
    print("\n".join(table()))
