# What start.sh and reload.sh share: the files of the ConfigMap and the Secrets become a configuration of this pod.
# shellcheck shell=sh

# Where Kubernetes mounts them, where the process reads them, where the kernel tells of CPUs: tests have others.
etc=${FLOWMOB_ETC:-/etc/flowmob}
run=${FLOWMOB_RUN:-/run/flowmob}
cpus=${FLOWMOB_CPUS_DIRECTORY:-/sys/devices/system/cpu}
status=${FLOWMOB_STATUS:-/proc/self/status}

say() {
    echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $*" >&2
}

# "0-2,8" as a list.
numbers() {
    echo "$1" | awk -F, '{ for (i = 1; i <= NF; i++) { n = split($i, ends, "-"); for (c = ends[1]; c <= ends[n]; c++) print c + 0 } }'
}

# One CPU of each physical core that this container may use: threads of one core halve each other.
physical_cores() {
    seen=" "
    for cpu in $(numbers "$1"); do
        siblings=$(cat "$cpus/cpu$cpu/topology/thread_siblings_list" 2>/dev/null || echo "$cpu")
        core=$(numbers "$siblings" | head -n 1)
        case "$seen" in *" $core "*) continue ;; esac
        seen="$seen$core "
        echo "$cpu"
    done
}

# What ${NAME} stands for, a line each.
values() {
    env | awk '/^PCIDEVICE_/ && !/^[^=]*_INFO=/ {
        name = substr($0, 1, index($0, "=") - 1)
        value = substr($0, index($0, "=") + 1)
        print name "=" value
        n = split(value, each, ",")
        for (i = 1; i <= n; i++) print name "_" i "=" each[i]
    }'
    allowed=$(awk '/^Cpus_allowed_list:/ { print $2 }' "$status")
    count=$(numbers "$allowed" | wc -l)
    if [ "$count" -ne "${FLOWMOB_CPUS:-0}" ]; then
        # All CPUs of the node, most likely: a worker on each would be too many, and none would be its own.
        if grep -Eq '^[^#]*[$][{](CONTROL_CORE|WORKER_CORES)[}]' "$etc/config/flowmob.toml"; then
            say "no cores of its own: $count CPUs are usable ($allowed), ${FLOWMOB_CPUS:-0} were asked for;" \
                "the kubelet needs cpuManagerPolicy: static"
        fi
        return 0
    fi
    own=$(physical_cores "$allowed")
    control=$(echo "$own" | head -n 1)
    workers=$(echo "$own" | tail -n +2)
    # One physical core: its other thread, or the same.
    [ -n "$workers" ] || workers=$(numbers "$allowed" | tail -n 1)
    echo "CONTROL_CORE=$control"
    echo "WORKER_CORES=$(echo "$workers" | paste -s -d , -)"
}

# The configuration with its ${NAME}s replaced, by the values that the process was started with.
render() {
    awk -v values="$run/values" '
        BEGIN {
            while ((getline line < values) > 0)
                value[substr(line, 1, index(line, "=") - 1)] = substr(line, index(line, "=") + 1)
        }
        /^[ \t]*#/ { print; next }
        {
            out = ""
            while (match($0, /[$][{][A-Za-z0-9_-]+[}]/)) {
                name = substr($0, RSTART + 2, RLENGTH - 3)
                if (!(name in value)) {
                    print "flowmob.toml:" NR ": ${" name "} has no value in this pod" > "/dev/stderr"
                    failed = 1
                }
                out = out substr($0, 1, RSTART - 1) value[name]
                $0 = substr($0, RSTART + RLENGTH)
            }
            print out $0
        }
        END { exit failed }
    ' "$etc/config/flowmob.toml"
}

# Copies a file so that the process takes it for a secret: its own, and nobody else may read it. A Secret's file is
# root's, and readable by a group if the process is somebody else.
secret() {
    rm -f "$2.new"
    (umask 377 && cat "$1" >"$2.new")
    mv "$2.new" "$2"
}

# The key files.
keys() {
    mkdir -p "$run/config/keys"
    for file in "$etc/keys"/*; do
        [ ! -f "$file" ] || secret "$file" "$run/config/keys/${file##*/}"
    done
}

# Removes key files that the Secret has no more.
forget_keys() {
    for file in "$run/config/keys"/*; do
        [ -e "$etc/keys/${file##*/}" ] || rm -f "$file"
    done
}

# What the mounted files are by now.
fingerprint() {
    for file in "$etc/config/flowmob.toml" "$etc/keys"/*; do
        [ ! -f "$file" ] || sha256sum "$file"
    done
}
