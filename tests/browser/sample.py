"""What the browser tests find on the board."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from consistent import write_consistent
from factory import make_record

from leaderboard.records.record import Record, Tracking

H200, A100 = "NVIDIA H200", "NVIDIA A100-SXM4-80GB"
# By name: mean score, MiB, seconds for 10 s of audio, device.
COSTS = {
    "big": (0.90, 2000, 0.020, H200),
    "slow": (0.80, 900, 0.040, H200),
    "quick": (0.70, 1100, 0.005, H200),
    "other": (0.60, 400, 0.001, A100),
    "floor": (0.20, None, None, "cpu"),
}
# The two themes, as the browser tells the colour behind all.
BACKGROUNDS: dict[Literal["light", "dark"], str] = {"light": "rgb(255, 255, 255)", "dark": "rgb(16, 22, 21)"}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def records() -> list[Record]:
    """Three ranked submissions whose order differs between tasks, an incomplete and hostile one, a limited one."""
    scores = {"aves": (0.8, 0.5), "hubert": (0.6, 0.9), "floor": (0.2, 0.1)}
    doubted: dict[str, Any] = {"alike": [5, 6, 7, 8, 9], "recordings": 12}
    found = [
        make_record(
            *(name, task),
            track=track,
            test=test + (0.05 if track == "twa" else 0),
            metric=metric,
            **(doubted if (name, task) == ("hubert", "mini-calls") else {}),
        )
        for name, pair in scores.items()
        for (task, metric), test in zip([("mini-calls", "accuracy"), ("mini-soundscape", "map")], pair, strict=True)
        for track in ("ta", "twa")
    ]
    # A level curve, so that a test can find it with the mouse.
    layer = {"name": HOSTILE, "width": 8, "valid": 0.3, "test": 0.3, "lr": 0.001, "epoch": 1}
    hostile = make_record(
        HOSTILE,
        "mini-calls",
        test=0.3,
        about={"authors": HOSTILE, "paper": f"javascript:alert(3)//{HOSTILE}", HOSTILE: HOSTILE},
        best_layer_name=HOSTILE,
        n_layers=4,
        best_layer=0,
        layers=[{"index": index, **layer} for index in range(4)],
        flags=[HOSTILE, "lr-at-upper-edge"],
    )
    return [*found, hostile, make_record("aves", "mini-calls", test=0.99, limit=20)]


def disclosed() -> list[Record]:
    """Two submissions on the auxiliary tasks: the better one heard Freesound before and runs its own code."""
    heard = {
        "description": "A model that has heard the data before.",
        "pretraining": [
            {"data": "FSD50K", "domain": "general audio", "hours": 108.3, "collections": []},
            {"data": HOSTILE, "domain": "animals", "collections": ["ESC-50"]},
        ],
    }
    found = []
    for name, test, about in (("heard-it", 0.9, heard), ("clean", 0.8, {"pretraining": []}), ("silent", 0.7, {})):
        for task in ("esc50", "speech-commands"):
            record = make_record(name, task, group="auxiliary", test=test, about=about)
            arguments = {**record.submission.arguments, "trust_remote_code": name == "heard-it"}
            info = record.submission.model_copy(update={"arguments": arguments})
            found.append(record.model_copy(update={"submission": info}))
    return found


def costly() -> list[tuple[Record, Tracking | None]]:
    """A submission for each of `COSTS` on two own tasks; the runs of two are known."""
    found = []
    for name, (score, mebibytes, seconds, device) in COSTS.items():
        reason = "" if mebibytes else "no CUDA device"
        bytes_ = mebibytes and mebibytes * 2**20
        efficiency = {"device": device, "vram_bytes": bytes_, "seconds": seconds, "reason": reason}
        for task in ("one", "two"):
            record = make_record(name, task, group="own", test=score, efficiency=efficiency, parameters=0)
            run = Tracking(uri="https://mlflow.example.org", experiment_id="7", run_id=f"{name}{task}")
            found.append((record, run if name in ("big", "slow") else None))
    return found


def with_predictions(directory: Path) -> list[Path]:
    """Three submissions on two own tasks, their predictions beside them; the memory of two was measured."""
    found = []
    for number, (name, parameters, memory) in enumerate(
        [("small", 9_000_000, 2**28), ("large", 300_000_000, 2**31), ("medium", 90_000_000, None)]
    ):
        for task, kind in (("clicks", "classification"), ("songs", "detection")):
            targets = np.arange(24) % 3
            found.append(
                write_consistent(
                    directory,
                    name,
                    task=task,
                    kind=kind,
                    targets=targets if kind == "classification" else np.eye(3, dtype=np.uint8)[targets],
                    parameters=parameters,
                    vram_bytes=memory,
                    seed=number,
                )
            )
    return found
