# audiotag as a service, and as a command:
#   docker build -t audiotag .
#   docker run --rm -p 8000:8000 audiotag
#   docker run --rm -v "$PWD:/data:ro" audiotag classify clip.wav
# More, such as VGGish in a volume or baked in, and a read-only root: docs/deployment.md.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
WORKDIR /src
# What is installed is what the locks name, byte for byte; no package is built from its source.
COPY deploy/requirements.lock deploy/build.lock deploy/
RUN python -m venv --without-pip /opt/audiotag \
    && python -m pip --python /opt/audiotag/bin/python install --no-cache-dir \
        --require-hashes --only-binary :all: --requirement deploy/requirements.lock \
    && python -m pip install --no-cache-dir \
        --require-hashes --only-binary :all: --requirement deploy/build.lock
COPY pyproject.toml README.md LICENSE cli.py ./
COPY vggish vggish
COPY classifier classifier
COPY service service
COPY audiotag audiotag
COPY weights weights
RUN python -m pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation \
        --wheel-dir /wheels . \
    && python -m pip --python /opt/audiotag/bin/python install --no-cache-dir \
        --no-index --no-deps /wheels/*.whl
COPY deploy/healthcheck.py /opt/audiotag/healthcheck.py

FROM python:${PYTHON}-slim-bookworm
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin \
        audiotag \
    && mkdir /data /weights \
    && chown audiotag:audiotag /data /weights
COPY --from=build /opt/audiotag /opt/audiotag
# An AUDIOTAG_HOME in the build's context, such as one with VGGish; the usual one is empty.
ARG WEIGHTS=deploy/weights
COPY --chown=10001:10001 ${WEIGHTS} /weights
ENV PATH=/opt/audiotag/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    AUDIOTAG_HOME=/weights \
    AUDIOTAG_HOST=0.0.0.0
# By number, so that Kubernetes sees that it is not root.
USER 10001:10001
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "/opt/audiotag/healthcheck.py"]
ENTRYPOINT ["audiotag"]
CMD ["serve"]
