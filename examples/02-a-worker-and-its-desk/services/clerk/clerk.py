"""Takes one job after the other from the desk. On SIGTERM it ends the one in its hands, and takes no other."""

import http.client
import json
import os
import signal
import sys
import threading
import time

ending = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ending.set())


def ask(path, value=None):
    """By the Host header: not every machine resolves names below localhost."""
    desk = http.client.HTTPConnection("127.0.0.1", int(os.environ["DESK_PORT"]), timeout=10)
    desk.request("POST", path, json.dumps(value), {"Host": os.environ["DESK_HOST"]})
    answer = json.loads(desk.getresponse().read())
    desk.close()
    return answer


while not ending.is_set():
    job = ask("/take")
    if job is None:
        ending.wait(0.05)
        continue
    time.sleep(0.02)  # the work
    ask("/done", {"job": job, "by": os.environ["VERSION"]})
    sys.stdout.write(f"job {job} is done\n")
    sys.stdout.flush()
