"""HTTP/1.1 to one server: kept connections, each with one request at a time. It knows nothing of AWS.

aiohttp does the same at three times the cost for each call. Requests are POSTs; redirects, cookies, proxies and
compression belong to others.
"""
