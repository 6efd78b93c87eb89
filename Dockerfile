# annotmixd in a container: docker build -t annotmixd .  (Debian 12: --build-arg DEBIAN=bookworm)
#   docker run -d -p 8080:8080 -v annotmix:/data annotmixd
# The first start without a token prints one admin token to the log, once. To choose it yourself, mount a file with it and name
# the file:  -v ./admin-token:/run/secrets/admin:ro -e ANNOTMIX_ADMIN_TOKEN_FILE=/run/secrets/admin
# It needs nothing but /data:  --read-only --cap-drop ALL --security-opt no-new-privileges  work. Backups of its own: mount another
# volume and name it:  -v backups:/backups -e ANNOTMIX_BACKUP_DIR=/backups/annotmix
# Keep /data on a named volume: SQLite's WAL needs a local file system with working locks (no NFS, no SMB).
ARG DEBIAN=trixie

FROM debian:${DEBIAN}-slim AS build
WORKDIR /src
RUN apt-get -qq update && apt-get -qq -y --no-install-recommends install make >/dev/null
COPY . .
RUN make deps DEPS=build
RUN make -j"$(nproc)" all
RUN make install DESTDIR=/out PREFIX=/usr && strip /out/usr/bin/annotmixd

# Only the libraries that the program loads; deps.sh is what `make deps` calls (there is no make in this stage).
FROM debian:${DEBIAN}-slim
COPY --from=build /src/tests/ci/deps.sh /tmp/deps.sh
RUN sh /tmp/deps.sh runtime && rm -rf /tmp/deps.sh /var/lib/apt/lists/*
# libmicrohttpd had nine fix releases after Debian 13's; the newest is in sid, and needs nothing that Debian 13 has not. Debian 12's
# libraries are too old for it: there 0.9.75 stays. Sid is asked for this one package only, from the archive the image already uses.
RUN if grep -q VERSION_CODENAME=trixie /etc/os-release; then cd /etc/apt && \
    { awk -v RS= 'NR == 1 { sub(/Suites:[^\n]*/, "Suites: sid"); print }' sources.list.d/debian.sources 2>/dev/null >sources.list.d/sid.sources || \
      { rm -f sources.list.d/sid.sources && sed -n '1s/ trixie / sid /p' sources.list >sources.list.d/sid.list; }; } && \
    printf 'Package: *\nPin: release n=sid\nPin-Priority: 1\n' >preferences.d/sid && apt-get -qq update && \
    apt-get -qq -y --no-install-recommends install libmicrohttpd12t64/sid >/dev/null && \
    rm -rf sources.list.d/sid.* preferences.d/sid /var/lib/apt/lists/*; fi
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin annotmix && install -d -o annotmix -g annotmix -m 700 /data /backups
COPY --from=build /out/usr/bin/annotmixd /usr/bin/annotmixd
ENV ANNOTMIX_DB=/data/annotmix.db ANNOTMIX_LISTEN=0.0.0.0:8080
WORKDIR /data
VOLUME /data
EXPOSE 8080
USER annotmix
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["annotmixd", "health"]
ENTRYPOINT ["annotmixd"]
CMD ["serve"]
