"""redis-py against the daemon: usage `redis_py.py PORT`. See README.md for what it expects there."""

import json
import sys

import redis


def course(number):
    return {"id": number, "title": f"course {number}"}


def check(what, got, wanted):
    if got != wanted:
        sys.exit(f"redis-py, {what}: got {got!r}, wanted {wanted!r}")


def refused(call, start, kind=redis.ResponseError):
    try:
        answer = call()
    except kind as error:
        if not str(error).startswith(start):
            sys.exit(f"redis-py: got the error {error}, wanted {start}…")
    else:
        sys.exit(f"redis-py: got {answer!r}, wanted an error {start}…")


def converse(client, first):
    """Everything a program does with keys of its own, from `first` on."""
    key, other = f"courses:{first}", f"courses:{first + 1}"
    missing = f"courses:{first + 1000}"
    check("PING", client.ping(), True)
    check("EXISTS before", client.exists(key), 0)
    check("TTL before", client.ttl(key), -2)
    check("GET, a miss", json.loads(client.get(key)), course(first))
    check("GET, a hit", json.loads(client.get(key)), course(first))
    check("GET, missing", client.get(missing), None)
    check("EXISTS after", client.exists(key, missing), 1)
    check("TTL after", 500 < client.ttl(key) <= 600, True)
    check("TTL, missing", client.ttl(missing), -2)
    values = client.mget(key, missing, other)
    check("MGET", [value and json.loads(value) for value in values], [course(first), None, course(first + 1)])
    check("DEL", client.delete(key, missing), 1)
    check("EXISTS after DEL", client.exists(key), 0)

    # One refused command in a pipeline leaves its neighbours their answers.
    pipe = client.pipeline(transaction=False)
    pipe.get(key).get("courses:007").exists(key).unlink(other)
    value, refusal, exists, unlinked = pipe.execute(raise_on_error=False)
    check("pipelined GET", json.loads(value), course(first))
    check("pipelined refusal", isinstance(refusal, redis.ResponseError), True)
    check("pipelined EXISTS and UNLINK", (exists, unlinked), (1, 1))

    refused(lambda: client.get("courses:007"), "BADKEY")
    # The client takes a code it knows off the message.
    refused(lambda: client.get("nothing:here"), "no cache is declared")
    refused(lambda: client.set(key, "{}"), "cache", redis.ReadOnlyError)
    check("GET after errors", json.loads(client.get(other)), course(first + 1))


def main(port):
    # The client's own default first, whichever protocol that is.
    for first, settings in [(10, {}), (20, {"protocol": 2}), (30, {"protocol": 3})]:
        with redis.Redis(port=port, **settings) as client:
            converse(client, first)
    print(f"redis-py {redis.__version__}: ok")


main(int(sys.argv[1]))
