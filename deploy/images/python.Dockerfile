# syntax=docker/dockerfile:1
# An image of one Python room: `gateway`, `svc-auth`, `svc-tenants`, `svc-messaging`, `svc-webhooks`, `meta-emulator` …
#
#   make images                                     all of them
#   docker build -f deploy/images/python.Dockerfile --build-arg ROOM=svc-auth --build-arg PACKAGE=svc_auth .
#
# The contracts (proto/gen) must have been built before: `make protos`. BASE may be any image with Python 3.11 or later
# and its module venv.
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm

FROM ${BASE} AS build
ARG ROOM
RUN python3 -m venv /opt/aerostic
COPY requirements/${ROOM}.txt /tmp/requirements.txt
RUN /opt/aerostic/bin/pip install --no-cache-dir --disable-pip-version-check --no-compile --require-hashes \
        --requirement /tmp/requirements.txt
# Beside the dependencies, as an installation would put them; a room that imports what it does not declare fails below.
COPY proto/gen kit/src ${ROOM}/src /tmp/ours/
COPY deploy/images/finish.py /tmp/finish.py
ARG PACKAGE
ARG VERSION=0.0.0
RUN /opt/aerostic/bin/python /tmp/finish.py "${ROOM}" "${PACKAGE}" "${VERSION}"

FROM ${BASE}
# Named again: a stage does not see what stands before the first one.
ARG BASE
ARG ROOM
ARG PACKAGE
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="aerostic ${ROOM}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      io.aerostic.sbom="/opt/aerostic/sbom.cdx.json"
COPY --from=build /opt/aerostic /opt/aerostic
COPY --chmod=0755 deploy/images/healthcheck.py /usr/local/bin/healthcheck
# Nothing is written outside of /tmp, so the root may be read-only.
ENV PATH=/opt/aerostic/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=random \
    AEROSTIC_PACKAGE=${PACKAGE}
USER 10001:10001
WORKDIR /tmp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["healthcheck"]
# `docker run image serve`: the arguments are the room's own commands.
ENTRYPOINT ["/bin/sh", "-c", "exec python -m \"$AEROSTIC_PACKAGE\" \"$@\"", "aerostic"]
