# syntax=docker/dockerfile:1
# One build, one target per program: docker build --target sidecar|collector|platform-api|fake-aws .
FROM rust:1.95-bookworm AS build
ARG PICKET_COMMIT=unknown
ENV PICKET_COMMIT=${PICKET_COMMIT}
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin collector --bin platform-api --bin fake-aws \
    && HOST=$(rustc -vV | sed -n 's/^host: //p') \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile lean --bin sidecar --target "$HOST" \
    && mkdir -p /out/log /out/state \
    && cp "target/$HOST/lean/sidecar" target/release/collector target/release/platform-api target/release/fake-aws /out/

# glibc, CA certificates and nothing else; user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot AS base
# Fargate gives a volume the owner of the image's folder.
COPY --from=build --chown=65532:65532 /out/log /var/log/app
COPY --from=build --chown=65532:65532 /out/state /var/lib/picket
VOLUME ["/var/log/app"]

# The sidecar is one static file: CA certificates beside it and nothing else; user 65532.
FROM gcr.io/distroless/static-debian12:nonroot AS sidecar
COPY --from=build --chown=65532:65532 /out/log /var/log/app
COPY --from=build --chown=65532:65532 /out/state /var/lib/sidecar
VOLUME ["/var/log/app", "/var/lib/sidecar"]
COPY --from=build /out/sidecar /sidecar
EXPOSE 9464
HEALTHCHECK CMD ["/sidecar", "healthcheck"]
ENTRYPOINT ["/sidecar"]
CMD ["run"]

FROM base AS collector
COPY --from=build --chown=65532:65532 /out/state /var/lib/collector
VOLUME ["/var/lib/collector"]
COPY --from=build /out/collector /collector
EXPOSE 9090
HEALTHCHECK CMD ["/collector", "healthcheck"]
ENTRYPOINT ["/collector"]

FROM base AS platform-api
COPY --from=build /out/platform-api /platform-api
EXPOSE 3000
HEALTHCHECK CMD ["/platform-api", "healthcheck"]
ENTRYPOINT ["/platform-api"]

# Development only.
FROM base AS fake-aws
COPY --from=build /out/fake-aws /fake-aws
EXPOSE 4566
ENTRYPOINT ["/fake-aws"]
