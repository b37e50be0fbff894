# audiotag as a service and as a command:
#   docker build -t audiotag .
#   docker run --rm -p 8000:8000 audiotag
#   docker run --rm -v "$PWD:/data:ro" audiotag classify clip.wav
# See docs/deployment.md for VGGish and a read-only root.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
WORKDIR /src
# Install the wheels that the locks name, verified by hash; build no package from source.
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
# A directory in the build context with weights, such as those of VGGish; the default is empty.
ARG WEIGHTS=deploy/weights
COPY --chown=10001:10001 ${WEIGHTS} /weights
ENV PATH=/opt/audiotag/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    AUDIOTAG_HOME=/weights \
    AUDIOTAG_HOST=0.0.0.0
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "/opt/audiotag/healthcheck.py"]
ENTRYPOINT ["audiotag"]
CMD ["serve"]
