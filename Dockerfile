# One image for the leaderboard, MLflow and the evaluator. torch brings its own CUDA libraries: the same image runs on a
# GPU and without one, and is some 8 GB large for it.
FROM python:3.11.14-slim-bookworm

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 \
    BEANS_HOME=/home/beans/.beans HF_HOME=/home/beans/models TORCH_HOME=/home/beans/models/torch

# A new named volume takes over what the image has at its place, owner included.
RUN useradd --uid 10001 --create-home beans \
    && install --directory --owner beans --group beans \
        /home/beans/.beans /home/beans/models /home/beans/artifacts /home/beans/project

WORKDIR /src
# What it depends on changes less often than the code, and takes minutes.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python -m pip install --constraint constraints.txt .

COPY tasks tasks
COPY leaderboard leaderboard
COPY evaluator evaluator
RUN python -m pip install --no-deps --force-reinstall .

USER beans
WORKDIR /home/beans/project
CMD ["beans", "--help"]
