# The command line in a small image:
#   docker build -t audiotag .
#   docker run --rm -v "$PWD:/data" -v audiotag-weights:/weights audiotag embed clip.wav
# mini is built in. VGGish's weights live in the volume; install them there from an environment
# that has the extra `train`.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE cli.py ./
COPY vggish vggish
COPY classifier classifier
COPY service service
COPY weights weights
RUN python -m venv /opt/audiotag \
    && /opt/audiotag/bin/pip install --no-cache-dir '.[parquet]'

FROM python:3.12-slim
RUN apt-get update \
    && apt-get install --no-install-recommends -y ffmpeg \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 audiotag \
    && mkdir /data /weights \
    && chown audiotag /data /weights
COPY --from=build /opt/audiotag /opt/audiotag
ENV PATH=/opt/audiotag/bin:$PATH AUDIOTAG_HOME=/weights PYTHONDONTWRITEBYTECODE=1
USER audiotag
WORKDIR /data
ENTRYPOINT ["audiotag"]
CMD ["--help"]
