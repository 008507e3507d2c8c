"""An embedded RunPod endpoint on loopback: the queue, the client's and the worker's API, and real SDK workers.

::

    owner (optimizer, test)                      embedded.py   stdlib only; holds a pipe, and control.py's hand
      └─ python -m seedpod.endpoint              serve.py      owner gone -> stops the workers, ends
           ├─ aiohttp on 127.0.0.1               client_api.py worker_api.py control_api.py, behind gate.py
           │    └─ Service                       service.py    clock, bell, dispatcher, reaper
           │         └─ JobTable, FaultBook, RateLimits, Fleet         pure: no I/O, time is an argument
           └─ guardian, one per worker           guardian.py   server gone -> kills its worker's whole family
                └─ runpod SDK worker + ping child + trainers

What RunPod does not document and is only inferred is said where it is coded.
"""
