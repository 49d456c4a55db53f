"""The pages of prose: how a model gets on the board, and what its numbers mean."""

import streamlit as st

SUBMIT = """
A model is described in one file, checked, and measured where it is. Only the results come to the board.

**1. Describe it.** The command asks for what is needed and writes `submissions/NAME.toml`: how the model is loaded,
and what readers should know of it, above all what it heard in pretraining.

    beans submissions new

**2. Check it.** Layers, padding, determinism, lengths and values are looked at before the long run.

    beans check submissions/NAME.toml

**3. Get the data.** `beans tasks list` names the tasks. The two built-in ones need no download.

    beans tasks prepare esc50

**4. Measure it.** Every prepared task, or those that are named. A run that was broken off goes on where it was.

    beans submit submissions/NAME.toml
    beans submit submissions/NAME.toml --tasks esc50,watkins --track ta

The results are on the board of the machine that measured them at once. A row is ranked when it has all tasks of its
group, without `--limit`, and under the same protocol as the others.

**5. Send it.** A result is a JSON file in the records directory, with its test scores (`*.predictions.safetensors`)
beside it. Whoever keeps the board takes them in; what does not follow from the stored scores is refused.

    beans records verify
    beans records import DIRECTORY
"""

ABOUT = """
This board ranks frozen audio encoders by how well a small probe reads animal sounds out of them. The encoder is
never trained: its layers are computed once, and a linear classifier is trained on each.

#### The protocol

- **Data.** Tasks have fixed train, validation and test splits. Audio is mixed to one channel and resampled to the
  encoder's rate.
- **Probe.** The track is the head that is trained. `ta`, which ranks first, takes the mean over time, then a linear
  layer. Above each board stands what its head does.
- **Search.** 16 learning rates from 1e-5 to 1e-1, each for all layers at once. Layer, rate and epoch are those with
  the best validation score. Only then is the test split read.
- **Score.** The chosen probe is trained with five seeds; the score is the mean. Classification is scored by
  accuracy, detection by macro mean average precision as in BEANS, where a class without positives counts 0.
- **Interval.** 95 %, from 1000 resamples of the test recordings. Sounds of one recording are drawn together.

A setting that departs from this is part of the protocol's name, for example `beans-probe/1+trials=4`. Results of
different protocols are never ranked together.

#### The ranking

The rank is by the unweighted mean over the tasks of a group, and only for submissions that have all of them. `3
(2-5)` is the rank and the range it takes in 95 % of the resamples. Ranks of one group cannot be told apart from its
first. The Borda count does not depend on how large differences are, only on who is ahead.

#### Limits

- A probe measures what a simple reader finds. A model that loses here may win when it is fine-tuned.
- Where a test split has few recordings, intervals are too narrow. Hainan-gibbons has four.
- Intervals and groups are not corrected for the number of submissions, and hold the chosen layer and rate as given.
- Some encoders were pretrained on sounds of the tasks, or on sounds from the same collections. What submitters
  state of it is marked (†); no mark is no proof that there is no overlap.
- Memory is that of one 10-s clip on the device that is named, and is not to be compared between devices.
- The test splits are public. Nothing but the protocol keeps a submitter from looking at them.

#### Data and citation

Each task has a licence and a citation of its own: see its page. Whoever uses a number should cite the data of the
task, the model, and name the protocol.
"""


def submit() -> None:
    """How a model gets on the board."""
    st.title("Submit a model", anchor=False)
    st.markdown(SUBMIT)


def about() -> None:
    """What the numbers mean, and what they do not."""
    st.title("About", anchor=False)
    st.markdown(ABOUT)
