# A gateway for benches and continuous integration: docs/docker.md. An aircraft needs the service, docs/installation.md.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
COPY . /source
RUN python -m pip wheel --quiet --no-deps --wheel-dir /wheels /source
RUN python -m venv --without-pip /opt/fixgw \
 && python -m pip --python /opt/fixgw/bin/python install --quiet --no-cache-dir "$(echo /wheels/fixgw-*.whl)[web,record,testing]"

FROM python:${PYTHON}-slim
COPY --from=build /opt/fixgw /opt/fixgw
# dialout owns serial ports; the groups of other devices: docker run --group-add.
RUN useradd --create-home --uid 1000 --groups dialout fixgw \
 && mkdir /var/lib/fixgw \
 && chown fixgw: /var/lib/fixgw
ENV PATH=/opt/fixgw/bin:$PATH PYTHONUNBUFFERED=1 STATE_DIRECTORY=/var/lib/fixgw
USER 1000
WORKDIR /home/fixgw
VOLUME /var/lib/fixgw
EXPOSE 3490 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["fixgw", "status", "--timeout", "5"]
ENTRYPOINT ["fixgw"]
CMD ["demo", "--host", "0.0.0.0", "--web-port", "8080"]
