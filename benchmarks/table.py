"""Results as lines of text, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results import deviation, gemm_share, ratio, same_answer, spread

from gpukmeans.compare._peers import OURS, REFERENCE


def heading(result: Mapping[str, Any]) -> str:
    """What was measured."""
    text = f"\n{result['job']} {result['case']} {result['kind']}, {result['n']} x {result['d']}, k={result['k']}"
    text += f", {result['dtype']}"
    if result["max_iter"]:
        text += f", max_iter={result['max_iter']} (scikit-learn took {result['given']})"
    if "budget_mib" in result:
        text += f"; rows {result['data_mib']:.0f} MiB, budget of a fit {result['budget_mib']:.0f} MiB"
    share = gemm_share(result)
    if share is not None:
        text += f"; {share:.0%} of the gemm peak of {result['gemm_gflops']:.0f} GFLOP/s, as if nothing were skipped"
    return text


def lines(result: Mapping[str, Any]) -> list[str]:
    """A line for each peer."""
    shown = [f"  {'':21}{'seconds':>9} {'[least, most]':19}{'ratio':>7} {'[of the rounds]':18}{'answer'}"]
    return shown + [_line(result, name) for name in result["peers"]]


def _line(result: Mapping[str, Any], name: str) -> str:
    peer, (median, least, most) = result["peers"][name], spread(result, name)
    text = f"  {name:21}{median:9.4f} {f'[{least:.4f}, {most:.4f}]':19}"
    times = ratio(result, name)
    text += f"{times[0]:7.2f} {f'[{times[1]:.2f}, {times[2]:.2f}]':18}" if times else " " * 26
    text += ", ".join([*_answer(result, name), *marks(result, name)])
    if peer.get("peak_mib") is not None:
        text += f", peak {peer['peak_mib']:.1f} MiB"
    return text


def _answer(result: Mapping[str, Any], name: str) -> list[str]:
    peer, parts = result["peers"][name], []
    if peer.get("n_iter") is not None:
        parts.append(f"{peer['n_iter']} iterations")
    off = deviation(result, name)
    if off is not None:
        parts.append(f"inertia {peer['inertia']}" if name == OURS else f"inertia {off:+.1e}")
    elif "inertia" in peer:
        parts.append(f"inertia {peer['inertia']}")
    if peer.get("wrong_labels") is not None:
        parts.append(f"{peer['wrong_labels']} labels not nearest")
    if "different" in peer:
        parts.append(f"{peer['different']} of {result['k']} rows not scikit-learn's float64 draws")
    if "error" in peer:
        parts.append(f"largest error {peer['error']:.1e}")
    return parts


def marks(result: Mapping[str, Any], name: str) -> list[str]:
    """What has to be said beside a peer's speed."""
    found = [] if same_answer(result, name) else ["NOT THE SAME ANSWER"]
    return found + ([] if result["peers"][name]["validates"] else ["input not checked"])


def shape_line(result: Mapping[str, Any]) -> str:
    """One line for a random shape."""
    text = f"{result['case']} {result['kind']:8} {result['n']:8d} x {result['d']:4d}, k={result['k']:<5d}"
    text += f" {result['dtype']}"
    if OURS not in result["peers"]:
        return f"{text} not run"
    (median, *_), (middle, least, most) = spread(result, OURS), ratio(result, OURS)
    text += f" {median:9.4f} s {middle:6.2f} [{least:5.2f}, {most:5.2f}]"
    text += f" inertia of scikit-learn's {deviation(result, REFERENCE):+.1e}"
    return text if same_answer(result, OURS) else f"{text} NOT THE SAME ANSWER"
