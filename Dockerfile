# An image with YADTQ and nothing else. To run your own tasks:
#
#     FROM yadtq
#     COPY tasks.py /app/
#     CMD ["python", "-m", "yadtq.supervisor", "tasks:app"]

FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/yadtq
COPY pyproject.toml README.md LICENSE requirements-dev.txt ./
COPY yadtq ./yadtq
# The versions that the tests ran with; as constraints, they install nothing that YADTQ does not ask for.
RUN /opt/yadtq/bin/pip install --no-cache-dir --constraint requirements-dev.txt .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin yadtq
COPY --from=build /opt/yadtq /opt/yadtq
ENV PATH=/opt/yadtq/bin:$PATH \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER yadtq
CMD ["python", "-m", "yadtq.supervisor"]
