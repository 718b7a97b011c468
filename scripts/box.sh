#!/bin/bash
# A real systemd in a box: `scripts/box.sh FOLDER` boots one as process 1 of namespaces of its own, over a throw-away overlay of this
# machine's root, and stays until it is told to end (SIGTERM) or systemd has. Needs root and Debian's systemd, nothing else.
#
# FOLDER/units/*          → /etc/systemd/system; the folder as a whole is /run/box
# FOLDER/sysusers.conf    users to make
# FOLDER/binds            lines of SOURCE TARGET: files and folders of this machine to be seen at TARGET
# FOLDER/pid              process 1, as this machine counts; written when systemd is about to run
#
# A command inside: nsenter -t "$(cat FOLDER/pid)" --mount --uts --ipc --net --pid --cgroup COMMAND. Its files: /proc/PID/root/….
# Its network is a loopback of its own; unix sockets reach across.

set -eu
stage=$1

case $stage in
--hold) # in a mount namespace: a control group for the box, the box, and what is left of it
    box=$2
    mkdir -p "$box/cgroup" "$box/root"
    # Mounted anew: on machines with control groups of version 1, version 2 is there and not mounted.
    mount -t cgroup2 cgroup2 "$box/cgroup"
    group=$box/cgroup/cachewarden-box-$$
    mkdir "$group"
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        # Whoever is killed takes the next one along, down to process 1, and with it goes all that it started.
        exec setpriv --pdeathsig KILL unshare --fork --kill-child --pid --mount --uts --ipc --net --cgroup \
            bash "$0" --init "$box"
    ) &
    held=$!
    trap 'kill -KILL $held' TERM INT
    status=0
    wait $held || status=$?
    # Empty once the last process is reaped.
    for _ in $(seq 100); do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
        sleep 0.02
    done
    exit $status
    ;;
--init) # in all of them: the root of the box, and systemd
    box=$2
    read -r pid _ </proc/self/stat # still the machine's /proc, so its count
    echo "$pid" >"$box/pid.new"
    mount --make-rprivate /
    root=$box/root
    mount -t tmpfs -o mode=755,size=1g tmpfs "$root"
    mkdir "$root/upper" "$root/work" "$root/all"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/all"
    cd "$root/all"
    # The loopback is brought up by systemd.
    mount -t proc proc proc
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount --bind proc/sys proc/sys
    mount -o remount,bind,ro proc/sys
    mount -t tmpfs -o mode=755 tmpfs dev
    for node in null zero full random urandom tty; do
        : >dev/$node
        mount --bind /dev/$node dev/$node
    done
    ln -s /proc/self/fd dev/fd
    mkdir dev/shm dev/pts
    mount -t tmpfs tmpfs dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    mount -t tmpfs -o mode=755 tmpfs run
    mkdir run/box
    mount --bind "$box" run/box
    while read -r source target; do
        if [ -d "$source" ]; then mkdir -p ".$target"; else
            mkdir -p ".$(dirname "$target")"
            : >".$target"
        fi
        mount --bind "$source" ".$target"
    done <"$box/binds"
    # Only what the units under test ask for: no logins, no timers, none of this machine's own services.
    rm -rf etc/systemd/system
    mkdir etc/systemd/system
    cp -r "$box"/units/. etc/systemd/system/
    cat >etc/systemd/system/box.target <<'UNIT'
[Unit]
DefaultDependencies=no
Wants=systemd-journald.service systemd-journald.socket
After=systemd-journald.service
UNIT
    : >etc/machine-id
    : >etc/.updated
    : >var/.updated
    pivot_root . mnt
    cd /
    umount -l /mnt
    # Without this LoadCredential= gives an empty folder, silently.
    mount --make-rshared /
    systemd-sysusers /run/box/sysusers.conf
    mv /run/box/pid.new /run/box/pid
    exec env -i container=box PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        /lib/systemd/systemd --unit=box.target --show-status=no
    ;;
*)
    exec unshare --mount --propagation private bash "$(readlink -f "$0")" --hold "$(readlink -f "$stage")"
    ;;
esac
