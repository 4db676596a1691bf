# Two images: `serving` answers requests and has nothing of training in it; `pipelines` trains, with Dagster.
#
#     docker build --target serving --tag embup-serving .
#     docker build --target pipelines --tag embup-pipelines .
#
# docs/how-to/container.md says how they are run. The tests run the steps of `serving` in a fresh environment.

# 3.11 is the version that every test runs with.
FROM python:3.11.17-slim-trixie@sha256:45037981b62b34b44602584fccbc4d884d5f7dc92c7ee86bb38a698a79fe1e51 AS python
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore


# A compiler, for the extension that decodes rows; without one NumPy would, three times slower.
FROM python AS compiler
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*


FROM compiler AS build-serving
WORKDIR /src
# Dependencies first: they change less often than the code, and their layer is kept. Without the code this
# installs a package with nothing in it, and the dependencies of the extra.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python -m venv /opt/embup \
    && /opt/embup/bin/python -m pip install --constraint constraints.txt '.[s3,serve]'
COPY debugger ./debugger
COPY embup_core ./embup_core
COPY embup_client ./embup_client
COPY serving ./serving
COPY embup ./embup
COPY pipelines ./pipelines
RUN /opt/embup/bin/python -m pip install --no-deps --force-reinstall . \
    && /opt/embup/bin/python -P -c "import embup_core.decoders.mixture_kriging._kernel, embup_core.text._digits"


FROM compiler AS build-pipelines
WORKDIR /src
# Where the builds of PyTorch for processors alone are found; without it pip takes one with several gigabytes
# of CUDA. Installed by itself and first, for the same reason.
ARG TORCH_INDEX=""
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python -m venv /opt/embup \
    && sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml > torch.txt \
    && /opt/embup/bin/python -m pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --requirement torch.txt \
    && /opt/embup/bin/python -m pip install --constraint constraints.txt '.[dagster,notify,s3]'
COPY debugger ./debugger
COPY embup_core ./embup_core
COPY embup_client ./embup_client
COPY serving ./serving
COPY embup ./embup
COPY pipelines ./pipelines
RUN /opt/embup/bin/python -m pip install --no-deps --force-reinstall . \
    && /opt/embup/bin/python -P -c "import embup_core.decoders.mixture_kriging._kernel, embup_core.text._digits"


# What both have when they run. Nothing is written outside of /data and /tmp.
FROM python AS runtime
# Fixed numbers, so that the owner of a volume's files is the same everywhere.
RUN groupadd --gid 10001 embup \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin embup \
    && install --directory --owner 10001 --group 10001 /data
ENV PATH=/opt/embup/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    EMBUP_DATA=/data \
    EMBUP_REGISTRY=/data/registry \
    EMBUP_REGISTRY_CACHE=/data/registry-cache \
    EMBUP_BATCH_ROOTS=/data
WORKDIR /data
VOLUME /data
STOPSIGNAL SIGTERM


FROM runtime AS pipelines
COPY --from=build-pipelines /opt/embup /opt/embup
ENV DAGSTER_HOME=/data/.dagster \
    DAGSTER_DISABLE_TELEMETRY=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    OMP_WAIT_POLICY=PASSIVE
USER 10001:10001
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 3000, timeout=4); c.request('GET', '/server_info'); sys.exit(c.getresponse().status != 200)"]
CMD ["dagster-webserver", "--host", "0.0.0.0", "--port", "3000", "--module-name", "pipelines.definitions"]


# The last one, so that it is what a build without --target makes.
FROM runtime AS serving
COPY --from=build-serving /opt/embup /opt/embup
ENV EMBUP_HOST=0.0.0.0 \
    EMBUP_PORT=8000 \
    EMBUP_LOG_FORMAT=json
USER 10001:10001
EXPOSE 8000
# Alive, not ready: a service without a decoder is not ready, and restarting it would not give it one.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/health/live'); sys.exit(c.getresponse().status != 200)"]
CMD ["embup", "serve"]
