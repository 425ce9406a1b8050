# A CPU image of `crisscross serve`, built from the wheel: docs/serving.md#docker
FROM python:3.12-slim AS wheel
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
# PyTorch's own index has wheels without CUDA, which are a tenth as large: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL=""
# The second is for exported files (model.onnx); openvino is for those of OpenVINO.
ARG EXTRAS="serve,onnx"
COPY --from=wheel /wheels /wheels
# The extras are named behind the wheel's path.
RUN pip install --no-cache-dir "$(ls /wheels/*.whl)[${EXTRAS}]" \
    && rm -r /wheels \
    && useradd --create-home --uid 10001 crisscross
# As a number, which Kubernetes' runAsNonRoot can check.
USER 10001
WORKDIR /home/crisscross
# One process has all cores, downloads stay in the cache folder, and nothing else is written.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
# As a list, so that the service is the process that `docker stop` signals.
ENTRYPOINT ["crisscross", "serve", "--device", "cpu", "--host", "0.0.0.0", "--port", "8000"]
CMD ["camvid-light"]
