# The image of cellkeeper: the program and nothing else; what it works on comes from /etc/nova or the environment.
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY cli cli
COPY clients clients
COPY demo demo
COPY jobs jobs
COPY novadb novadb
COPY runs runs
COPY schedules schedules
COPY settings settings
COPY throttle throttle
COPY workers workers
RUN python -m venv /opt/cellkeeper && /opt/cellkeeper/bin/pip install --no-cache-dir .

FROM python:3.13-slim-bookworm
RUN groupadd --gid 42424 cellkeeper && useradd --uid 42424 --gid 42424 --create-home cellkeeper
COPY --from=build /opt/cellkeeper /opt/cellkeeper
ENV PATH=/opt/cellkeeper/bin:$PATH PYTHONUNBUFFERED=1
USER cellkeeper
WORKDIR /home/cellkeeper
ENTRYPOINT ["cellkeeper"]
CMD ["--help"]
