# syntax=docker/dockerfile:1
# The worker of a RunPod serverless endpoint. Build with deploy.sh, or: docker build --build-arg DEVICE=cpu -t NAME:TAG .
# The base is of the Python version that the tests run the worker on.
FROM python:3.11.14-slim-bookworm

# gpu: CUDA comes as wheels, the driver from the host. cpu: half the size.
ARG DEVICE=gpu
# Data sets that workers have without a download, by name, with spaces between.
ARG DATASETS="digits mnist"

ENV PYTHONUNBUFFERED=1 \
    SEEDPOD_CACHE_DIR=/data \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

RUN useradd --uid 10001 --create-home worker && install -d -o worker -g worker "$SEEDPOD_CACHE_DIR"
WORKDIR /app

# Packages first: they change seldom. pip compiles them, so that no worker does at each of its starts.
COPY constraints.txt ./
COPY runpod_service/requirements.txt runpod_service/requirements-gpu.txt runpod_service/requirements-cpu.txt ./
RUN case "$DEVICE" in gpu|cpu) ;; *) echo "DEVICE=$DEVICE: must be gpu or cpu" >&2; exit 2 ;; esac \
    && pip install --no-cache-dir --disable-pip-version-check -c constraints.txt -r "requirements-$DEVICE.txt"

COPY src/seedpod/__init__.py src/seedpod/errors.py src/seedpod/clock.py src/seedpod/extras.py src/seedpod/guarded.py \
    src/seedpod/reading.py src/seedpod/health.py src/seedpod/hyperparameters.py src/seedpod/objectives.py src/seedpod/trial.py seedpod/
COPY src/seedpod/training/ seedpod/training/
COPY runpod_service/handler.py ./
RUN python -m compileall -q seedpod handler.py

USER worker
RUN set -eu; for name in $DATASETS; do python -m seedpod.training.datasets "$name" "$SEEDPOD_CACHE_DIR"; done; \
    rm -rf "$SEEDPOD_CACHE_DIR/keras"

# The exec form: python is process 1, and signals reach it.
ENTRYPOINT ["python", "handler.py"]
