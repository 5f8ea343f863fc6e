# An image with YADTQ and nothing else. To run your own tasks:
#
#     FROM yadtq
#     COPY tasks.py /app/
#     CMD ["python", "-m", "yadtq.supervisor", "tasks:app"]

FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/yadtq
COPY requirements/build.lock requirements/image.lock ./
# The versions that the tests ran with, and nothing whose hash is another one.
RUN pip install --no-cache-dir --require-hashes --requirement build.lock \
 && /opt/yadtq/bin/pip install --no-cache-dir --require-hashes --requirement image.lock
COPY pyproject.toml README.md LICENSE ./
COPY yadtq ./yadtq
RUN pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels . \
 && /opt/yadtq/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin yadtq
COPY --from=build /opt/yadtq /opt/yadtq
ENV PATH=/opt/yadtq/bin:$PATH \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER yadtq
CMD ["python", "-m", "yadtq.supervisor"]
