# A PostgreSQL server for one run of the tests. tests/run sources this file and must define the functions
# fail, say and apt_install.

postgres_bin=/usr/lib/postgresql/15/bin
postgres_folder=

# Starts a server in a temporary folder, on a free port and a Unix socket, and sets postgres_url. The server runs
# until stop_postgres.
start_postgres() {
    [[ -x $postgres_bin/initdb ]] || apt_install postgresql-15
    postgres_folder=$(mktemp --directory)
    local data=$postgres_folder/data log=$postgres_folder/log password port
    password=$(python3 -c 'import secrets; print(secrets.token_hex(8))')
    port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
    printf '%s' "$password" >"$postgres_folder/password"
    make_postgres_certificates "$postgres_folder/tls" || fail "cannot make the certificates of PostgreSQL"
    export IMAGESTORE_TEST_POSTGRES_TLS=$postgres_folder/tls
    # PostgreSQL refuses to run as root; its package has created the user postgres.
    [[ $EUID -ne 0 ]] || chown --recursive postgres "$postgres_folder"
    # A locale that does not order text by bytes, so that the tests detect columns without an explicit collation.
    as_postgres "$postgres_bin/initdb" --pgdata "$data" --username tests --no-sync --encoding UTF8 \
        --locale C.UTF-8 --locale-provider icu --icu-locale en \
        --auth scram-sha-256 --pwfile "$postgres_folder/password" >"$postgres_folder/initdb" ||
        fail "cannot make a PostgreSQL database"
    # Roles of the tests of TLS: one that logs in over TLS only, one that does so by a certificate.
    {
        printf 'hostssl all tls_only 127.0.0.1/32 scram-sha-256\nhost all tls_only all reject\n'
        printf 'hostssl all certified 127.0.0.1/32 cert\nhost all certified all reject\n'
        cat "$data/pg_hba.conf"
    } >"$postgres_folder/hba"
    local tls="-c ssl=on -c ssl_ca_file=$postgres_folder/tls/ca.pem -c hba_file=$postgres_folder/hba"
    tls+=" -c ssl_cert_file=$postgres_folder/tls/server.pem -c ssl_key_file=$postgres_folder/tls/server.key"
    [[ $EUID -ne 0 ]] || chown postgres "$postgres_folder/hba"
    # The data need not survive a power failure, so nothing is synced (-F).
    as_postgres "$postgres_bin/pg_ctl" start --wait --silent --pgdata "$data" --log "$log" \
        --options "-h 127.0.0.1 -p $port -k $postgres_folder -F -N 500 $tls" ||
        fail "PostgreSQL does not start: $(cat "$log")"
    postgres_url="postgres://tests:$password@127.0.0.1:$port/postgres"
}

# Makes in a folder: an authority and what it has signed, for the server (localhost) and the role `certified`; and
# another authority.
make_postgres_certificates() {
    command -v openssl >/dev/null || apt_install openssl
    local folder=$1 name key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
    mkdir "$folder" || return
    for name in ca other; do
        openssl req -x509 "${key[@]}" -keyout "$folder/$name.key" -out "$folder/$name.pem" -days 30 \
            -subj "/CN=$name of the tests" 2>>"$folder/log" || return
    done
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1' >"$folder/server.ext" || return
    printf 'extendedKeyUsage=clientAuth' >"$folder/certified.ext" || return
    for name in server certified; do
        openssl req -new "${key[@]}" -keyout "$folder/$name.key" -out "$folder/$name.csr" \
            -subj "/CN=$name" 2>>"$folder/log" || return
        openssl x509 -req -in "$folder/$name.csr" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" \
            -CAcreateserial -days 30 -extfile "$folder/$name.ext" -out "$folder/$name.pem" 2>>"$folder/log" ||
            return
    done
    chmod 600 "$folder"/*.key
}

# Stops the server and deletes its data. The first argument is the exit code of the tests: if it is not 0, the
# end of the server's log is printed, because clients cannot tell a crashed server from a stopped one.
stop_postgres() {
    [[ -n $postgres_folder ]] || return 0
    if [[ ${1:-0} -ne 0 && -f $postgres_folder/log ]]; then
        say "the last lines of PostgreSQL's log:"
        tail --lines 60 "$postgres_folder/log" >&2
    fi
    if [[ -f $postgres_folder/data/postmaster.pid ]]; then
        as_postgres "$postgres_bin/pg_ctl" stop --silent --mode immediate --pgdata "$postgres_folder/data"
    fi
    rm -rf "$postgres_folder"
}

as_postgres() {
    if [[ $EUID -eq 0 ]]; then
        (cd / && runuser --user postgres -- "$@")
    else
        "$@"
    fi
}
