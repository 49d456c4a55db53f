"""The item counts of a task's classes, and examples with their picture and sound."""

from pathlib import Path

import streamlit as st

from leaderboard.web import text
from leaderboard.web.charts import tasks as charts
from leaderboard.web.examples import HEARD, SLOWED, Example, ExampleClip, Overview, make_clip, overview, why_not_played
from tasks.manifest import manifest_files, read_manifest
from tasks.prepare import why_not_prepared
from tasks.support.errors import UserError
from tasks.task import SPLITS, Task

# With more classes than this, the page lists the largest and smallest classes instead of bars.
MOST_BARS = 40
MOST_CLASSES = 6
_COMMON = "Most common"


def show(task: Task) -> None:
    """Draw both sections. ``class`` in the address chooses the class of the examples.

    The page names no directory of this machine.
    """
    st.subheader("Class balance", anchor="classes")
    counted = _read_overview(task)
    if counted is not None:
        _balance(task, counted)
    st.subheader("Examples", anchor="examples")
    silent = why_not_played(task)
    if silent:
        st.info(f"{text.markdown(silent)} `beans tasks prepare {task.name}` brings them to your own machine.")
    elif counted is None:
        st.info("Examples need the data, which are not here.")
    else:
        _examples(task, counted)


def _read_overview(task: Task) -> Overview | None:
    """Count the prepared data. Without readable data, show the reason and return None."""
    try:
        if why_not_prepared(task) is None:
            return _overview(task, task.name, str(task.root), _stamps(task))
        st.info(f"The data are not here: run `beans tasks prepare {task.name}` on the machine that serves this page.")
    except (UserError, OSError) as error:
        reason = str(error) if isinstance(error, UserError) else f"{error.strerror or 'no reason given'}."
        st.warning(text.markdown(f"The data cannot be read: {reason.replace(f'{task.root}/', '')}"))
    return None


def _stamps(task: Task) -> tuple[tuple[int, int], ...]:
    """Times and sizes of the manifest files, which change with the manifest."""
    return tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in manifest_files(task).values())


@st.cache_data(max_entries=32, show_spinner="Counting the items")
def _overview(_task: Task, name: str, root: str, stamps: tuple[tuple[int, int], ...]) -> Overview:
    return overview(read_manifest(_task))


@st.cache_data(max_entries=48, show_spinner="Drawing the sounds")
def _clip(example: Example, max_duration: float | None, stamp: int) -> ExampleClip:
    return make_clip(example, max_duration)


def _balance(task: Task, counted: Overview) -> None:
    items = "clips" if task.kind == "classification" else "windows"
    if len(counted.labels) <= MOST_BARS:
        with st.container(border=True):
            st.altair_chart(charts.class_balance(counted.labels, counted.counts, items), width="stretch")
    else:
        st.html(text.facts(_extremes(counted, items)))
    if task.kind == "detection":
        none = ", ".join(f"{counted.unlabelled[split]:,} of {counted.items[split]:,} {split}" for split in SPLITS)
        st.caption(text.markdown(f"Windows without any label: {none}. A window may have several labels."))


def _extremes(counted: Overview, items: str) -> dict[str, object]:
    facts: dict[str, object] = {"classes": len(counted.labels)}
    for split in SPLITS:
        counts = counted.counts[split]
        ordered = sorted(counts)
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        facts[f"{items} per class, {split}"] = f"fewest {ordered[0]:,}, median {middle:,g}, most {ordered[-1]:,}"
    counts = counted.counts[HEARD]
    by_count = sorted(range(len(counts)), key=lambda index: (counts[index], index))
    for words, indices in (("most", by_count[::-1][:5]), ("fewest", by_count[:5])):
        facts[f"{words} in {HEARD}"] = ", ".join(f"{counted.labels[index]} ({counts[index]:,})" for index in indices)
    return facts


def _examples(task: Task, counted: Overview) -> None:
    options = [_COMMON, *counted.labels]
    asked = st.query_params.get("class")
    index = options.index(asked, 1) if asked in counted.labels else 0
    # The choice is an index, since a class may have the name of the first option.
    chosen = st.columns([1, 2])[0].selectbox(
        "Class", range(len(options)), index=index, format_func=lambda place: options[place]
    )
    if chosen != index:
        if chosen:
            st.query_params["class"] = options[chosen]
        else:
            del st.query_params["class"]
        st.rerun()
    if chosen:
        shown = [(chosen - 1, example) for example in counted.examples[chosen - 1]]
    else:
        shown = [(label, counted.examples[label][0]) for label in counted.most_common(MOST_CLASSES)]
    if not shown:
        st.info(text.markdown(f"The {HEARD} split has no item of this class."))
    for start in range(0, len(shown), 3):
        for area, (label, example) in zip(st.columns(3), shown[start : start + 3], strict=False):
            with area, st.container(border=True):
                _example(task, counted.labels[label], example)
    licence = f" Licence: {task.facts.licence}; source and citation are above." if task.facts.licence else ""
    st.caption(text.markdown(f"Items of the {HEARD} split, so that the test split stays unheard.{licence}"))


def _example(task: Task, label: str, example: Example) -> None:
    st.markdown(f"**{text.markdown(label)}**")
    try:
        clip = _clip(example, task.max_duration, _changed(example.path))
    except UserError as error:
        st.warning(text.markdown(f"This example cannot be played: {error}."))
        return
    st.altair_chart(charts.spectrogram(clip, f"Mel spectrogram of an example of {label}"), width="stretch")
    st.audio(clip.audio, format="audio/flac")
    others = [other for other in example.labels if other != label]
    notes = [
        f"played {SLOWED} times slower, since people cannot hear ultrasound" if clip.slowed > 1 else "",
        f"the first {clip.seconds:g} s of {clip.whole:.3g} s" if clip.seconds < clip.whole else "",
        f"also: {', '.join(others)}" if others else "",
    ]
    if any(notes):
        st.caption(text.markdown("; ".join(note for note in notes if note)))


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
