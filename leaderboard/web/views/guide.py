"""The text pages: how to submit a model, and what the numbers mean."""

import streamlit as st

SUBMIT = """
You describe a model in one file, check it, and measure it on your own machine. Only the results come to the board.

**1. Describe it.** The command asks for what is needed and writes `submissions/NAME.toml`: how the model is loaded,
and what readers should know about it, above all its pretraining data.

    beans submissions new

**2. Check it.** The command checks layers, padding, determinism, lengths and values before the long run.

    beans check submissions/NAME.toml

**3. Get the data.** `beans tasks list` lists the tasks. The two built-in tasks need no download.

    beans tasks prepare esc50

**4. Measure it.** On all prepared tasks, or on the tasks that you name. An interrupted run continues where it stopped.

    beans submit submissions/NAME.toml
    beans submit submissions/NAME.toml --tasks esc50,watkins --track ta

The machine that measured the results shows them on its board at once. A row is ranked if it has all tasks of its
group, without `--limit`, under the same protocol as the others.

**5. Send it.** A result is a JSON file in the records directory, with its test scores (`*.predictions.safetensors`)
beside it. Send both files to the owner of the board, who imports them. A result that does not follow from its stored
scores is refused.

    beans records verify
    beans records import DIRECTORY
"""

ABOUT = """
This board ranks frozen audio encoders by how well a small probe recognises animal sounds from their features. The
encoder is never trained: its layers are computed once, and a linear classifier is trained on each layer.

#### The protocol

- **Data.** Tasks have fixed train, validation and test splits. Audio is mixed to one channel and resampled to the
  encoder's rate.
- **Probe.** The track is the head that is trained. `ta`, which ranks first, takes the mean over time, then a linear
  layer. Above each board stands what its head does.
- **Scale.** Features are standardised on the train split, so that the size of a layer's activations changes nothing.
- **Search.** 16 learning rates from 0.01 to 1, each for all layers at once. Layer and rate are those with the best
  validation score. The test split is read only after this choice. `layer 6 (5-11)` is layer 6, and validation cannot
  tell it from layers 5 to 11.
- **Score.** The chosen probe is trained with five seeds; the score is the mean. Classification is scored by
  accuracy, detection by macro mean average precision as in BEANS, where a class without positives counts 0.
- **Interval.** 95 %, from 1000 resamples of the test recordings. Sounds of one recording are drawn together.

A setting that differs from these is part of the protocol's name, for example `beans-probe/2+trials=4`. Results of
different protocols are never ranked together.

#### The ranking

Submissions are ranked by the unweighted mean over the tasks of a group. Only submissions that have all tasks are
ranked. `3 (2-5)` is rank 3, and the rank is 2 to 5 in 95 % of the resamples. The submissions of one rank group cannot
be distinguished from the first of that group. The Borda count depends only on who is ahead, not on by how much.

#### Limits

- A probe measures what a simple classifier can read from the features. A model that loses here may win after
  fine-tuning.
- Where validation has fewer than 30 recordings (§), another layer or learning rate may be as good. ¶ marks a probe that
  was not trained well: logistic regression on the same layer is more than 0.03 better.
- Where sounds of a task are silent, clipped, cropped or the same in two splits, or where their channels cancel, its
  results are marked (‖).
- Where a test split has few recordings, intervals are too narrow. Hainan-gibbons has four.
- Intervals and groups are not corrected for the number of submissions. They take the chosen layer and rate as given.
- Some encoders were pretrained on sounds of the tasks, or on sounds from the same collections. Overlaps that
  submitters state are marked (†). A row without a mark may still have an overlap that nobody stated.
- Memory is for one 10-s clip on the named device. It cannot be compared between devices.
- The test splits are public. Only the protocol forbids submitters to look at them.

#### Data and citation

Each task has its own licence and citation: see its page. If you use a number, please cite the data of the task and the
model, and name the protocol.
"""


def submit() -> None:
    """Draw the page that explains how to submit a model."""
    st.title("Submit a model", anchor=False)
    st.markdown(SUBMIT)


def about() -> None:
    """Draw the page that explains what the numbers mean, and their limits."""
    st.title("About", anchor=False)
    st.markdown(ABOUT)
