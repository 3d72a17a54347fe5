# A node in a container. io_uring must be allowed: Docker's default seccomp profile forbids its
# three calls (io_uring_setup, io_uring_enter, io_uring_register) since version 20.10.24.
#
#   docker build -t ringlog .
#   docker run --security-opt seccomp=seccomp-io-uring.json --ulimit memlock=-1 \
#       -v ringlog-data:/var/lib/ringlog -p 127.0.0.1:9092-9093:9092-9093 -p 127.0.0.1:9080:9080 ringlog
#
# seccomp-io-uring.json is Docker's own profile (github.com/moby/profiles, seccomp/default.json) with
# those three names added to its first list of allowed calls; `--security-opt seccomp=unconfined`
# works as well and protects less. On the host `sysctl kernel.io_uring_disabled` must be 0. The volume
# must lie on a filesystem with O_DIRECT (ext4, XFS): the container's own overlay is refused.
#
# Clients are told to connect to 127.0.0.1; for others set RINGLOG_ADVERTISED_HOST to the name by
# which they reach the published ports. There is no authentication: publish the ports on loopback or a
# network that keeps others out.

FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin ringlog

FROM debian:bookworm-slim
RUN useradd --system --home-dir /var/lib/ringlog --create-home ringlog
COPY --from=build /src/target/release/ringlog /usr/local/bin/ringlog
USER ringlog
WORKDIR /var/lib/ringlog
VOLUME /var/lib/ringlog
# Two cores: ports 9092 and 9093. Another number moves every partition and needs as many ports.
ENV RINGLOG_DATA_DIR=/var/lib/ringlog \
    RINGLOG_CORES=2 \
    RINGLOG_KAFKA_ADDR=0.0.0.0:9092 \
    RINGLOG_HTTP_ADDR=0.0.0.0:9080 \
    RINGLOG_ADVERTISED_HOST=127.0.0.1 \
    RINGLOG_INSECURE=true
EXPOSE 9092 9093 9080
# SIGTERM stops the node in order.
ENTRYPOINT ["ringlog"]
CMD ["serve"]
