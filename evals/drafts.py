"""Feedback as draft cases: what a person called wrong, with everything known about it, for a person to finish.

A draft has no `must_match` and the answer that was given as a comment, so that the check refuses it until somebody has
written what is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def drafted(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a draft for each answer with a thumbs-down or a correction, each question once."""
    seen: set[str] = set()
    for row in rows:
        if row["verdict"] != "down" and not row["comment"]:
            continue
        if row["question"] in seen:
            continue
        seen.add(row["question"])
        yield {
            "id": f"feedback-{row['trace_id']}",
            "question": row["question"],
            "lang": row["language"],
            "category": "feedback",
            "vllm_version": row["version"],
            "facts": [f"said of it: {row['comment']}"] if row["comment"] else [],
            "must_match": [],
            "must_not_match": [],
            "reference": "",
        }
