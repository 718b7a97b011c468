# Ends private servers and removes their folder when the program that started them is gone.
#
# usage: sh -c "$(cat watchdog.sh)" NAME FOLDER, with a pipe on standard input
# Reads lines `SIGNAL PID`. When the pipe closes (its writer returned, crashed or was killed), sends every PID that
# still runs its SIGNAL, after DEADLINE its SIGKILL, and removes FOLDER.
#
# Why a shell: only another process outlives our SIGKILL, and every machine has this one.

folder=$1
watched=
trap '' HUP INT TERM # not before the work is done

# A number may belong to another process by now: ours have the folder in their command line.
runs() { grep -qF -- "$folder" "/proc/$1/cmdline" 2>/dev/null; }

each() {
    for entry in $watched; do
        pid=${entry#*:}
        runs "$pid" && "$1" "$pid" "${entry%%:*}"
    done
}
ask() {
    # A process that a test has frozen acts on its signal only when it goes on, and so do its children.
    kill -s "$2" "$1"
    for frozen in "$1" $(cat "/proc/$1/task/$1/children"); do kill -s CONT "$frozen"; done
}
force() { kill -s KILL $(cat "/proc/$1/task/$1/children") "$1"; }
count() { alive=yes; }

while read -r signal pid; do watched="$watched $signal:$pid"; done

each ask
tenths=80 # of a second; Postgres kills its own stragglers after 5 s
while [ $tenths -gt 0 ]; do
    alive=no
    each count
    [ $alive = no ] && break
    sleep 0.1
    tenths=$((tenths - 1))
done
each force
rm -rf -- "$folder"
