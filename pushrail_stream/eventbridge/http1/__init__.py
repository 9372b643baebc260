"""HTTP/1.1 to one server: kept connections, each with one request at a time. It knows nothing of AWS.

aiohttp does the same at three times the cost for each call. This package sends POSTs only, and leaves
redirects, cookies, proxies and compression to its callers.
"""
