"""Examples of the data debugger's requests and answers."""

from __future__ import annotations

from typing import Any

_DATASET: dict[str, Any] = {
    "name": "chat",
    "kind": "annotated",
    "rows": 2000,
    "labelled": 1798,
    "imported_at": "2026-01-31T12:30:00Z",
    "versions": [1, 2],
    "analysed_at": "2026-01-31T12:31:00Z",
    "findings": {"duplicate_across_usages": 138, "label_error": 103},
    "decisions": 1,
    "last_review": 1,
    "problem": None,
}
_REVIEW: dict[str, Any] = {
    "seq": 1,
    "row": 289,
    "action": "relabel",
    "label": "pin",
    "note": "Read with the product team.",
    "reviewer": "data-team",
    "version": 2,
    "reviewed_at": "2026-01-31T12:32:00Z",
}
_FINDING: dict[str, Any] = {
    "finding": 190,
    "kind": "label_error",
    "severity": "warning",
    "title": 'Row 289 has the label "insurance" (0%), but "pin" is more probable (100%).',
    "suggestion": 'Read the row: confirm "insurance", take "pin", or choose another label.',
}

REQUESTS: dict[str, dict[str, Any]] = {
    "addReviews": {
        "another label": {
            "reviews": [{"row": 289, "action": "relabel", "label": "pin", "version": 2}],
            "unchanged_since": 0,
        },
        "two rows": {"reviews": [{"row": 17, "action": "confirm"}, {"row": 18, "action": "drop"}]},
    },
}
ANSWERS: dict[str, dict[str, Any]] = {
    "listDebugDatasets": {"one data set": {"datasets": [_DATASET]}},
    "getDebugDataset": {
        "analysed": {
            "dataset": _DATASET,
            "version": 2,
            "summary": {"classifier": {"features": "text", "accuracy": {"text": 0.94}}},
        }
    },
    "listFindings": {
        "the first one": {
            "version": 2,
            "findings": [
                _FINDING
                | {
                    "score": 0.9997,
                    "evidence": {"row": 289, "label": "insurance", "predicted": "pin"},
                    "rows": [289],
                    "row_count": 1,
                    "decided_rows": 0,
                }
            ],
            "next_after": 190,
        }
    },
    "getDebugRow": {
        "a row": {
            "row": 289,
            "record": 289,
            "external_id": "600289",
            "text": "reset my pin number please again",
            "label": "insurance",
            "complete": True,
            "usage": "train",
            "group_name": None,
            "given_score": 0.41,
            "scores": {"label_error": 0.9997, "margin": 0.88},
            "expected": {},
            "predictions": [
                {
                    "source": "out of fold: text",
                    "label": "pin",
                    "confidence": 0.9,
                    "candidates": [{"label": "pin", "confidence": 0.9}],
                    "in_sample": False,
                }
            ],
            "failures": [],
            "neighbours": {
                "text": [
                    {
                        "other": 190,
                        "cosine": 1.0,
                        "text": "reset my pin number please again",
                        "label": "pin",
                    }
                ]
            },
            "findings": [_FINDING],
            "reviews": [_REVIEW],
            "decision": "relabel",
        }
    },
    "listSlices": {
        "one slice": {
            "version": 2,
            "slices": [
                {
                    "slice": 1,
                    "partition": "cluster",
                    "name": "22",
                    "metric": "wrong_predictions",
                    "rows": 33,
                    "value": 0.212,
                    "low": 0.107,
                    "high": 0.378,
                    "rest": 0.057,
                    "p": 0.0027,
                    "q": 0.135,
                    "worse": False,
                }
            ],
        }
    },
    "getDebugMapLegend": {
        "usages": {
            "colour": "usage",
            "entries": [
                {"name": "train", "rows": 1453},
                {"name": "all others", "rows": 0},
                {"name": "none", "rows": 202},
            ],
            "colours": ["label", "usage", "finding", "decision", "label_error"],
        }
    },
    "selectOnMap": {
        "a corner": {
            "rows": 96,
            "all_rows": 2000,
            "labels": [{"label": "visa", "rows": 82, "share": 0.91, "share_of_all": 0.06}],
            "findings": {"label_error": 7},
            "first": [1016, 893],
        }
    },
    "suggestRows": {
        "one row": {
            "rows": [
                {
                    "row": 863,
                    "external_id": "600863",
                    "text": "what visa do i need to enter rice again",
                    "label": None,
                    "predicted": "visa",
                    "confidence": 0.4,
                    "margin": 0.02,
                    "why": "chosen: uncertain and unlike the others",
                }
            ]
        }
    },
    "compareAnalyses": {
        "after some reviews": {
            "name": "chat",
            "before": {
                "version": 1, "analysed_at": "2026-01-31T12:31:00", "reviews": 0, "accuracy": 0.94,
                "estimated_label_errors": 101,
            },
            "after": {
                "version": 2, "analysed_at": "2026-01-31T13:00:00", "reviews": 90, "accuracy": 0.97,
                "estimated_label_errors": 12,
            },
            "scores": {},
            "findings": {"label_error": {"before": 103, "after": 13, "new": 0, "gone": 90, "first_new": []}},
        }
    },
    "addReviews": {"stored": {"reviews": [_REVIEW], "next_after": None}},
    "listReviews": {"one review": {"reviews": [_REVIEW], "next_after": None}},
}  # fmt: skip
