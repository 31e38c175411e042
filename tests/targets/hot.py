"""Python that calls Python, C that calls Python back, and threads that wait."""

import json
import re
import threading
import time

done = threading.Event()


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


class Key:
    def __init__(self, value):
        self.value = value

    def __lt__(self, other):
        return self.value < other.value


def work():
    while not done.is_set():
        fib(15)
        sorted([Key(i * 7919 % 1009) for i in range(500)])
        json.dumps(json.loads(json.dumps({"a": [1.5, None, {"b": "c" * 50}] * 50})))
        re.sub(r"(a|b)*c", lambda match: match.group(0).upper(), "abababc" * 200)


def wait():
    done.wait()


def doze():
    while not done.is_set():
        time.sleep(1000)


for target in (wait, doze, work):
    threading.Thread(target=target, daemon=True).start()
print("ready", flush=True)
limit = time.monotonic() + 120
while time.monotonic() < limit:
    fib(20)
