# syntax=docker/dockerfile:1

# What the page /docs takes from npm; it becomes part of the program.
FROM node:20-slim AS ui
WORKDIR /ui
COPY ui/.npmrc ui/package.json ui/package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci

# The image's own toolchain builds: rust-toolchain.toml stays out, see .dockerignore.
FROM rust:1.95-slim-bookworm AS server
WORKDIR /src
COPY . .
COPY --from=ui /ui/node_modules/swagger-ui-dist/swagger-ui-bundle.js /ui/node_modules/swagger-ui-dist/swagger-ui.css \
    ui/node_modules/swagger-ui-dist/
# Dependencies stay compiled in the cache. The touch is for sources older than what the cache was built from.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    touch build.rs src/lib.rs src/main.rs \
    && SQLX_OFFLINE=true cargo build --release --locked --bin ferry \
    && install target/release/ferry /usr/local/bin/ferry

FROM debian:bookworm-slim AS runtime
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 65532 ferry \
    && useradd --uid 65532 --gid 65532 --home-dir /var/lib/ferry --no-create-home --shell /usr/sbin/nologin ferry \
    && install -d -o ferry -g ferry -m 0750 /var/lib/ferry
COPY --from=server /usr/local/bin/ferry /usr/local/bin/ferry
COPY config/*.toml /etc/ferry/
ENV FERRY__SERVER__LISTEN=0.0.0.0:8080 \
    FERRY__STORAGE__DIR=/var/lib/ferry
USER 65532:65532
WORKDIR /var/lib/ferry
VOLUME /var/lib/ferry
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=6s --start-period=60s --retries=3 \
    CMD ["ferry", "health", "--server", "http://127.0.0.1:8080"]
ENTRYPOINT ["ferry"]
CMD ["serve", "--config", "/etc/ferry/default.toml"]
