"""The built-in tasks: reproducible, as their facts state them, and neither trivial nor hopeless."""

import collections
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from tasks.manifest import read_manifest
from tasks.prepare.synthetic.calls import CALLS, Voice, coloured_noise, render_call, seeded
from tasks.prepare.synthetic.plans import (
    CLIP_SECONDS,
    CLIP_SNR,
    RATES,
    SCAPE_DISTRACTORS,
    SCAPE_LABELS,
    SCAPE_RATE,
    plan_calls,
    plan_soundscapes,
    render_clip,
    render_soundscape,
)
from tasks.task import SPLITS, Manifest, Split, load_task


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("kind", sorted(CALLS))
def test_every_call_type_renders_at_every_length_within_its_band(kind: str, rate: int) -> None:
    for seconds in (0.05, 0.4, 3.0):
        voice = Voice.of(kind, 0)
        samples = render_call(kind, voice, seconds, rate, seeded("test", kind))
        assert samples.shape == (round(seconds * rate),)
        assert np.isfinite(samples).all()
        assert np.mean(samples**2) == pytest.approx(1.0), "SNR would not be what the plan says"
    power = np.abs(np.fft.rfft(samples)) ** 2
    low = np.fft.rfftfreq(len(samples), 1 / rate) < 7500
    assert power[low].sum() > 0.9 * power.sum(), "most of the call lies where a 16-kHz backbone cannot hear it"


def test_individuals_differ_and_stay_themselves() -> None:
    for kind, (pitch, tempo, _) in CALLS.items():
        voices = [Voice.of(kind, individual) for individual in range(10)]
        assert len({voice.pitch for voice in voices}) == len({voice.tempo for voice in voices}) == 10
        assert all(pitch[0] <= voice.pitch <= pitch[1] and tempo[0] <= voice.tempo <= tempo[1] for voice in voices)
        assert Voice.of(kind, 3) == voices[3]


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_has_the_colour_it_is_asked_for(exponent: float) -> None:
    noise = coloured_noise(2**17, 16_000, exponent, seeded("test"))
    assert np.mean(noise**2) == pytest.approx(1.0)
    power = np.abs(np.fft.rfft(noise)) ** 2
    bands = [power[2**k : 2 ** (k + 1)].mean() for k in range(10, 16)]  # octaves from 125 Hz
    slope = np.polyfit(np.arange(6), np.log2(bands), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.15)


def test_items_do_not_depend_on_what_was_rendered_before() -> None:
    clips, scapes = plan_calls(), plan_soundscapes()
    first = render_clip(clips[137]), render_soundscape(scapes[20])
    render_clip(clips[3])
    assert plan_calls() == clips
    assert plan_soundscapes() == scapes
    assert np.array_equal(render_clip(clips[137]), first[0])
    assert np.array_equal(render_soundscape(scapes[20]), first[1])


def test_mini_calls_is_what_its_facts_say(tmp_path: Path) -> None:
    clips = plan_calls()
    assert load_task("mini-calls", data=tmp_path).labels == tuple(sorted(CALLS))
    assert {clip.rate for clip in clips} == set(RATES)
    assert all(CLIP_SECONDS[0] <= clip.seconds <= CLIP_SECONDS[1] for clip in clips)
    assert all(CLIP_SNR[0] <= clip.snr <= CLIP_SNR[1] for clip in clips)
    assert 15 < sum(clip.seconds for clip in clips) / 60 < 20
    splits: dict[str, set[Split]] = collections.defaultdict(set)
    for clip in clips:
        splits[clip.recording].add(clip.split)
    assert len(splits) == 100
    assert all(len(seen) == 1 for seen in splits.values()), "an individual is heard in two splits"
    counts = collections.Counter((clip.label, clip.split) for clip in clips)
    assert set(counts.values()) == {30, 10}, "labels are uneven, so chance is not one in ten"


def test_mini_soundscape_is_what_its_facts_say(tmp_path: Path) -> None:
    scapes = plan_soundscapes()
    assert load_task("mini-soundscape", data=tmp_path).labels == SCAPE_LABELS
    events = [event for scape in scapes for event in scape.events]
    assert {event.label for event in events if event.labelled} == set(SCAPE_LABELS)
    assert {event.label for event in events if not event.labelled} == set(SCAPE_DISTRACTORS)
    assert all(0 <= event.st < event.ed <= 60 and 0.39 < event.ed - event.st < 5.01 for event in events)
    assert all(12 <= len(scape.annotations) <= 19 for scape in scapes)
    for split in SPLITS:
        named = {a["label"] for scape in scapes if scape.split == split for a in scape.annotations}
        assert named == set(SCAPE_LABELS), f"a label is never heard in {split}, so its precision is 0"
    overlapping = sum(a.ed > b.st for scape in scapes for a, b in zip(scape.events, scape.events[1:], strict=False))
    assert overlapping > 100, "calls hardly overlap"


def test_annotations_say_where_the_calls_are() -> None:
    scape = max(plan_soundscapes(), key=lambda scape: max(event.snr for event in scape.events))
    loud = max(scape.events, key=lambda event: event.snr)
    samples = render_soundscape(scape)
    inside = samples[round(loud.st * SCAPE_RATE) : round(loud.ed * SCAPE_RATE)]
    assert np.mean(inside**2) > 4 * np.median([np.mean(part**2) for part in np.split(samples, 60)])


def test_stored_audio_is_16_bit_flac_at_its_native_rate(prepared: Path) -> None:
    for clip in plan_calls()[::50]:
        info = soundfile.info(prepared / "mini-calls" / clip.path)
        assert (info.format, info.subtype, info.channels) == ("FLAC", "PCM_16", 1)
        assert (info.samplerate, info.frames) == (clip.rate, round(clip.seconds * clip.rate))
        samples = soundfile.read(prepared / "mini-calls" / clip.path, dtype="float32")[0]
        assert np.abs(samples - render_clip(clip)).max() < 2**-14, "clipped or mangled on the way to disk"


# --- how hard they are ---


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small products on many threads of a busy machine take ten times as long as on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


def log_mel_statistics(samples: torch.Tensor, mel: torch.nn.Module) -> np.ndarray:
    spectrum = torch.log(mel(samples) + 1e-6)
    return torch.cat([spectrum.mean(1), spectrum.std(1), spectrum.amin(1), spectrum.amax(1)]).numpy()


def features(manifest: Manifest) -> dict[Split, tuple[np.ndarray, np.ndarray]]:
    """Per split: mean, deviation, minimum and maximum over time of 64 log-mel bands at 16 kHz, and 0/1 targets."""
    mel = torchaudio.transforms.MelSpectrogram(16_000, n_fft=1024, hop_length=160, n_mels=64)
    audio: dict[Path, torch.Tensor] = {}
    result: dict[Split, tuple[np.ndarray, np.ndarray]] = {}
    for split, items in manifest.items.items():
        rows = []
        for item in items:
            if item.path not in audio:
                samples, rate = soundfile.read(item.path, dtype="float32")
                audio[item.path] = torchaudio.functional.resample(torch.from_numpy(samples), rate, 16_000)
            start, end = item.window or (0.0, 1e6)
            rows.append(log_mel_statistics(audio[item.path][int(start * 16_000) : int(end * 16_000)], mel))
        targets = np.array([[label in item.labels for label in range(len(manifest.labels))] for item in items])
        result[split] = np.stack(rows), targets
    return result


@pytest.mark.usefixtures("one_thread")
def test_mini_calls_is_well_above_chance_and_well_below_one_for_log_mel_statistics(prepared: Path) -> None:
    data = features(read_manifest(load_task("mini-calls", data=prepared)))
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    probe.fit(data["train"][0], data["train"][1].argmax(1))
    for split in ("valid", "test"):
        accuracy = probe.score(data[split][0], data[split][1].argmax(1))
        assert 0.4 < accuracy < 0.85, f"accuracy {accuracy:.2f} on {split}; chance is 0.1"


@pytest.mark.usefixtures("one_thread")
def test_mini_soundscape_is_well_above_chance_and_well_below_one_for_log_mel_statistics(prepared: Path) -> None:
    data = features(read_manifest(load_task("mini-soundscape", data=prepared)))
    probe = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(C=0.01, max_iter=1000)))
    probe.fit(*data["train"])
    for split in ("valid", "test"):
        x, y = data[split]
        mean_precision = average_precision_score(y, probe.predict_proba(x), average="macro")
        assert 0.05 < y.mean() < 0.25, "chance is not where the bounds below expect it"
        assert 0.33 < mean_precision < 0.8, f"mean average precision {mean_precision:.2f} on {split}"
