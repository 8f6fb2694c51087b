# Three stages: `builder` installs, `development` adds the tools, `runtime` ships.
# The times of all files are fixed, and the facts of a build come last. So layers are equal while
# base, requirements and code are, and a release has nodes pull no more than what has changed.
# A release names its base by digest: --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /app
COPY requirements.txt ./
# Wheels only, so no compiler is needed; what only a compiler or the libraries' own tests
# would read goes. The byte code is made here, because the root of a running container is
# read-only. It does not depend on file times, nor on what a process happened to compile
# before, as with several (-j), so builds compare equal.
RUN python -m venv --without-pip /opt/venv \
 && python -m pip --python /opt/venv/bin/python install \
      --require-hashes --only-binary :all: --no-compile --requirement requirements.txt \
 && find /opt/venv -type f \( -name '*.pyi' -o -name '*.[ch]' -o -name '*.px[di]' \) -delete \
 && rm -r /opt/venv/lib/python3*/site-packages/*/testing \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib \
 && find /opt/venv -exec touch --no-dereference --date=@0 {} +
COPY *.py alembic.ini LICENSE ./
COPY migrations migrations
COPY chassis chassis
COPY userservice userservice
RUN python -m compileall -q --invalidation-mode unchecked-hash . \
 && find /app -exec touch --no-dereference --date=@0 {} +


FROM builder AS development
COPY requirements-dev.txt ./
RUN python -m pip --python /opt/venv/bin/python install \
      --require-hashes --requirement requirements-dev.txt
ENV PATH=/opt/venv/bin:$PATH \
    DATABASE_URL=sqlite:////tmp/app.db \
    HOME=/tmp \
    REDIS_URL=
COPY --chown=10001:10001 . .
RUN chown 10001:10001 /app
USER 10001:10001
EXPOSE 8080
# Its debugger runs code for whoever can reach it, so it listens on 127.0.0.1: use --network host.
CMD ["python", "app.py", "--debug"]


FROM ${PYTHON_IMAGE} AS runtime
# Nothing is installed into a running container, and nobody becomes another user there. `useradd`
# would write the date.
RUN touch /before \
 && python -B -c "import ensurepip, pip, shutil; [shutil.rmtree(m.__path__[0]) for m in (ensurepip, pip)]" \
 && rm -f /usr/local/bin/pip* /usr/bin/pip* \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && echo "app:x:10001:" >> /etc/group \
 && echo "app:x:10001:10001::/tmp:/usr/sbin/nologin" >> /etc/passwd \
 && find / -xdev -newer /before -exec touch --no-dereference --date=@0 {} + \
 && rm /before \
 && touch --date=@0 /
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /app /app
# Without an environment it serves on SQLite, which production refuses, in the one folder that it
# may write to. Hashing a password takes 19 MiB for a moment. The C library would keep that in each
# thread's own heap for good, 160 MiB a process; blocks of this size go straight back to the system.
ENV PATH=/opt/venv/bin:$PATH \
    DATABASE_URL=sqlite:////tmp/app.db \
    REDIS_URL= \
    MALLOC_MMAP_THRESHOLD_=1048576 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-I", "-S", "/app/healthcheck.py"]
CMD ["python", "app.py"]
ARG BUILD_DATE=unknown
ARG BUILD_VERSION=unknown
ARG BUILD_COMMIT=unknown
ENV APP_VERSION=${BUILD_VERSION} \
    BUILD_ID=${BUILD_COMMIT}
LABEL org.opencontainers.image.title="cloudnative-user-api" \
      org.opencontainers.image.description="User service: web, worker and admin in one image" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.created="${BUILD_DATE}" \
      org.opencontainers.image.version="${BUILD_VERSION}" \
      org.opencontainers.image.revision="${BUILD_COMMIT}"
