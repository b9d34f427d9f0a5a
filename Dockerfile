# syntax=docker/dockerfile:1
# Two images of the server: `docker build --target cpu .` and `docker build --target cuda .`; docs/serving.md says more.
# torch brings its own CUDA libraries, so the second needs nothing of the host but the driver and NVIDIA's container toolkit.

FROM python:3.11-slim-bookworm AS python
ENV PYTHONUNBUFFERED=1 \
    PATH=/opt/venv/bin:$PATH

# What is installed, without torch: it alone differs between the two.
FROM python AS sources
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
RUN python -m venv /opt/venv \
    && python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*project["dependencies"], *project["optional-dependencies"]["serve"], sep="\n")' > requirements.txt

FROM sources AS build-cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -c constraints.txt --index-url https://download.pytorch.org/whl/cpu torch \
    && pip install -c constraints.txt -r requirements.txt
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps .

FROM sources AS build-cuda
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -c constraints.txt -r requirements.txt
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps .

# What both run as. /weights keeps what is downloaded from the Hub, /images is what was indexed.
FROM python AS runtime
ENV HF_HOME=/weights \
    HOME=/tmp
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin virtue \
    && install --directory --owner virtue /weights /images
USER 10001
WORKDIR /images
VOLUME ["/weights"]
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=10m --start-interval=2s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["virtue"]
# Refuses to start without VIRTUE_API_KEY: the address is not loopback's.
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]

# The code belongs to root, so that the process that serves cannot change it.
FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/venv /opt/venv

# The last stage is what `docker build` makes when no target is named.
FROM runtime AS cpu
COPY --from=build-cpu /opt/venv /opt/venv
