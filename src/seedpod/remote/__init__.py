"""The wire to a RunPod endpoint; the only importer of ``requests``.

::

    backend thread ─> Gate          gate.py     retries
                       ├─ Turnstile turnstile.py   waits, fails fast, counts; the one lock
                       │    └─ Lanes, CircuitBreaker   lanes.py, breaker.py, policy.py        pure, fed `now`
                       └─ EndpointClient        client.py, transport.py   one request, one answer
                            ├─ trouble.py       every foreign error -> seedpod.errors         pure
                            └─ wire.py          JSON -> JobStatus, EndpointHealth             pure
    polling.py   when to ask for a job next                                                   pure
    secret.py    the key, which nothing shows
"""
